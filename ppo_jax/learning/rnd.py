"""Random network distillation: a reward for what has not been seen.

A target network with random weights stands still; a predictor learns to do the same.
Where it does not yet, the observation is new. What is learned of it is part of
`TrainState`, the sums that normalise and weigh the reward are part of `RunState`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.learning.config import RNDConfig, WeightSchedule
from ppo_jax.learning.minibatches import mean_of_parts, micro_batches
from ppo_jax.learning.optimizers import descend, scale_by_adam
from ppo_jax.policies.groups import concatenate, resolve_obs_groups
from ppo_jax.policies.mlp import MLP, Linear
from ppo_jax.policies.normalization import (
    RunningStats,
    init_stats,
    normalize,
    update_stats,
)
from ppo_jax.policies.shards import Axis, mean_over
from ppo_jax.types import Array, Key, Metrics, Obs, Params, Rollout

GROUPS = "rnd_state"  # what obs_groups calls the observations of which novelty is told
DISCOUNT = 0.99  # of the sum of novelty, whose spread normalises it
MAX_ROWS = 1e8  # after which RND's statistics stand still, as in rsl_rl


class RNDState(NamedTuple):
    """What is learned: part of `TrainState`."""

    predictor: Params
    target: Params  # random, and never changed
    opt_state: Any  # of the predictor
    obs_stats: RunningStats | tuple[()]


class RNDSums(NamedTuple):
    """What the next reward depends on: part of `RunState`."""

    novelty: Array  # [N] discounted sum, not reset where an episode ends
    stats: RunningStats  # of that sum, over all environments and steps
    step: Array  # [] int32, steps of each environment so far; weighs the reward


class RND(NamedTuple):
    """Random network distillation as pure functions: an argument of `make_ppo`."""

    init: Callable[[Key, Obs], RNDState]
    start: Callable[[Obs], RNDSums]
    reward: Callable[[RNDState, RNDSums, Rollout], tuple[RNDSums, Rollout, Metrics]]
    # (state, obs, orders, num_mini_batches, micro_batches=1)
    learn: Callable[..., tuple[RNDState, Array]]


class Embedding(nn.Module):
    """Hidden layers and a linear one: the predictor or the target."""

    hidden_dims: tuple[int, ...]
    num_outputs: int
    activation: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to [..., num_outputs]."""
        x = MLP(self.hidden_dims, self.activation, name="mlp")(x)
        return Linear(self.num_outputs, name="head")(x)


def make_rnd(
    config: RNDConfig,
    step_dt: float,
    obs_groups: Mapping[str, Sequence[str]] | None = None,
    axis: Axis = None,
) -> RND:
    """Returns random network distillation for an environment.

    Args:
      config: its settings.
      step_dt: duration of an environment's step, s; the weight is times it.
      obs_groups: {"rnd_state": groups} whose novelty is rewarded, else "policy".
      axis: of the shards that learn together, see `make_ppo`.
    """
    groups = {k: v for k, v in (obs_groups or {}).items() if k == GROUPS}

    def networks() -> tuple[Embedding, Embedding]:
        predictor, target = config.predictor_hidden_dims, config.target_hidden_dims
        rest = (config.num_outputs, config.activation)
        return Embedding(predictor, *rest), Embedding(target, *rest)

    def select(obs: Obs) -> Array:
        return concatenate(obs, resolve_obs_groups(groups, obs, (GROUPS,))[GROUPS])

    weight = partial(weight_at, config.weight * step_dt, config.weight_schedule)
    return RND(
        init=partial(_init, config, networks, select),
        start=_start,
        reward=partial(_add_reward, config, networks, select, weight, axis),
        learn=partial(_learn, config, networks, select, axis),
    )


def novelty_of(target: Array, predicted: Array) -> Array:
    """Returns the Euclidean distance of two outputs, [...] of [..., O].

    Source: Burda et al. 2018, section 2.2, arXiv:1810.12894. Differs: not squared.
    """
    return jnp.sqrt(jnp.square(target - predicted).sum(axis=-1))


def distillation_loss(target: Array, predicted: Array) -> Array:
    """Returns the mean squared difference over samples and outputs, []."""
    return jnp.square(predicted - jax.lax.stop_gradient(target)).mean()


def weight_at(initial: float, schedule: WeightSchedule | None, step: Array) -> Array:
    """Returns the weight of the intrinsic reward in a step; the first step is 1.

        step:    initial before final_step, then final_value
        linear:  from initial at initial_step to final_value at final_step

    Args:
      initial: weight at the start, with the step's duration in it.
      schedule: None is constant.
      step: [...] number of the step.
    """
    constant = jnp.full(step.shape, initial, jnp.float32)
    if schedule is None or schedule.mode == "constant":
        return constant
    if schedule.mode == "step":
        return jnp.where(step < schedule.final_step, constant, schedule.final_value)
    length = schedule.final_step - schedule.initial_step
    progress = jnp.clip((step - schedule.initial_step) / length, 0.0, 1.0)
    return constant + (schedule.final_value - initial) * progress


def normalized_novelty(
    sums: RNDSums, novelty: Array, axis: Axis = None
) -> tuple[RNDSums, Array]:
    """Returns the novelty [N] of a step over the spread of its discounted sum.

    G' = 0.99 G + i, never reset; the spread is that of all G so far, this step's too;
    while it is 0 nothing is divided.
    """
    discounted = DISCOUNT * sums.novelty + novelty
    stats = _bounded_update(sums.stats, discounted[:, None], axis)
    std = jnp.sqrt(stats.var)  # [1]
    novelty = jnp.where(std > 0.0, novelty / jnp.where(std > 0.0, std, 1.0), novelty)
    return sums._replace(novelty=discounted, stats=stats), novelty


def _init(
    config: RNDConfig, networks: Callable[[], Any], select: Any, key: Key, obs: Obs
) -> RNDState:
    x = select(obs)
    if x.ndim != 2:
        raise ValueError(
            f"obs_groups['{GROUPS}'] has the shape {x.shape[1:]}, but RND reads "
            "vectors: name groups of one axis"
        )
    predictor_key, target_key = jax.random.split(key)
    predictor, target = networks()
    params = predictor.init(predictor_key, x)["params"]
    return RNDState(
        predictor=params,
        target=target.init(target_key, x)["params"],
        opt_state=scale_by_adam().init(params),
        obs_stats=init_stats(x.shape[-1]) if config.state_normalization else (),
    )


def _start(obs: Obs) -> RNDSums:
    num_envs = len(jax.tree.leaves(obs)[0])
    return RNDSums(jnp.zeros(num_envs), init_stats(1), jnp.zeros((), jnp.int32))


def _add_reward(
    config: RNDConfig,
    networks: Callable[[], Any],
    select: Any,
    weight: Callable[[Array], Array],
    axis: Axis,
    state: RNDState,
    sums: RNDSums,
    rollout: Rollout,
) -> tuple[RNDSums, Rollout, Metrics]:
    """Adds the intrinsic reward of the observation that each step returned.

    Returns:
      The sums after the rollout, the rollout with both rewards, and metrics.
    """
    steps = rollout.steps
    following = jax.tree.map(
        lambda x, last: jnp.concatenate([x[1:], last[None]]),
        steps.obs,
        rollout.last_obs,
    )
    novelty = novelty_of(*_outputs(networks, state, _inputs(state, select(following))))
    if config.reward_normalization:
        normalized = partial(normalized_novelty, axis=axis)
        sums, novelty = jax.lax.scan(normalized, sums, novelty)
    weights = weight(sums.step + 1 + jnp.arange(len(novelty)))
    intrinsic = novelty * weights[:, None]
    metrics = {
        "extrinsic_reward": mean_over(axis, steps.reward.mean()),
        "intrinsic_reward": mean_over(axis, intrinsic.mean()),
        "rnd_weight": weights[-1],
    }
    steps = steps._replace(reward=steps.reward + intrinsic)
    sums = sums._replace(step=sums.step + len(novelty))
    return sums, rollout._replace(steps=steps), metrics


def _learn(
    config: RNDConfig,
    networks: Callable[[], Any],
    select: Any,
    axis: Axis,
    state: RNDState,
    obs: Obs,
    orders: Array,
    num_mini_batches: int,
    num_parts: int = 1,
) -> tuple[RNDState, Array]:
    """Takes the predictor's gradient steps, and then moves the statistics.

    Args:
      config: of RND.
      networks: makes predictor and target.
      select: picks RND's observations.
      axis: of the shards that learn together.
      state: before.
      obs: {group: [T, N, ...]} that were acted on.
      orders: [epochs, M * B] of samples, those of the policy's minibatches.
      num_mini_batches: M.
      num_parts: K of a minibatch, one after another.

    Returns:
      The state after, and the loss of every step, [epochs * M].
    """
    raw = select(obs)
    x = _inputs(state, raw).reshape(-1, raw.shape[-1])
    target, _ = _outputs(networks, state, x)
    predictor, adam = networks()[0], scale_by_adam()

    @jax.value_and_grad
    def take(params: Params, rows: Array) -> Array:
        output = predictor.apply({"params": params}, x[rows])
        return distillation_loss(target[rows], output)

    def gradient_of(params: Params, rows: Array) -> tuple[Array, Params]:
        if num_parts == 1:
            return take(params, rows)
        parts = micro_batches(rows, num_parts, 0)
        return mean_of_parts(lambda rows: (take(params, rows), ()), parts)[0]

    def step(carry: Any, rows: Array) -> tuple[Any, Array]:
        params, opt_state = carry
        loss, gradient = mean_over(axis, gradient_of(params, rows))
        learned = descend(adam, opt_state, params, gradient, config.learning_rate)
        return learned, loss

    rows = orders.reshape(len(orders) * num_mini_batches, -1)
    (params, opt_state), losses = jax.lax.scan(
        step, (state.predictor, state.opt_state), rows
    )
    stats = state.obs_stats
    if isinstance(stats, RunningStats):
        stats = _bounded_update(stats, raw, axis)
    learned = {"predictor": params, "opt_state": opt_state, "obs_stats": stats}
    return state._replace(**learned), losses


def _inputs(state: RNDState, x: Array) -> Array:
    stats = state.obs_stats
    return normalize(stats, x) if isinstance(stats, RunningStats) else x


def _outputs(
    networks: Callable[[], Any], state: RNDState, x: Array
) -> tuple[Array, Array]:
    """Returns what the target gives for inputs, and what the predictor does."""
    predictor, target = networks()
    return (
        target.apply({"params": state.target}, x),
        predictor.apply({"params": state.predictor}, x),
    )


def _bounded_update(stats: RunningStats, x: Array, axis: Axis) -> RunningStats:
    return jax.tree.map(
        lambda old, new: jnp.where(stats.count >= MAX_ROWS, old, new),
        stats,
        update_stats(stats, x, axis),
    )
