"""The algorithm: a NamedTuple of pure functions, and the steps it is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ppo_jax.learning.advantages import gae, successor_value
from ppo_jax.learning.losses import ppo_loss
from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.options import check_options, one_of, option, positive
from ppo_jax.policies.actor_critic import in_bfloat16
from ppo_jax.types import (
    ActorCritic,
    AdvantageFn,
    Array,
    Batch,
    Hyperparams,
    Key,
    LossFn,
    Metrics,
    Obs,
    Params,
    PolicyOutput,
    Rollout,
    Scalar,
    TimeStep,
    TrainState,
    Transition,
)

MIN_LEARNING_RATE, MAX_LEARNING_RATE = 1e-5, 1e-2
LEARNING_RATE_FACTOR = 1.5


@dataclass(frozen=True)
class PPOConfig:
    """What fixes shapes and control flow; another value is another program."""

    num_learning_epochs: int = option(5, "passes over each rollout", positive)
    num_mini_batches: int = option(4, "gradient steps per pass", positive)
    schedule: str = option(
        "adaptive",
        "learning rate: follows the KL, or stays",
        one_of("adaptive", "fixed"),
    )
    optimizer: str = option("adam", "optimizer", one_of(*OPTIMIZERS))
    use_clipped_value_loss: bool = option(True, "limit how far one update moves V")
    normalize_advantage_per_mini_batch: bool = option(
        False, "normalise advantages in each minibatch, not over the rollout"
    )
    timeout_bootstrap: str = option(
        "auto",
        "value after a time-out: V(final_obs) exact, V(o_t) as rsl_rl, none; "
        "auto is final_obs where the environment gives it, else last_value",
        one_of("auto", "final_obs", "last_value", "none"),
    )
    reshuffle_each_epoch: bool = option(
        False, "a new permutation for each pass, not one per rollout"
    )
    use_mixed_precision: bool = option(
        False, "bfloat16 matrix products in the update; acting stays float32"
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)


class PPO(NamedTuple):
    """PPO bound to a network and a configuration.

    Statics are bound; what changes is passed. Every function is pure.
    """

    init: Callable[[Key, Obs, Hyperparams], TrainState]
    act: Callable[..., PolicyOutput]  # (state, obs, key, carry=())
    mode: Callable[[TrainState, Obs], Array]  # -> the deterministic action
    observe: Callable[[TrainState, Obs, PolicyOutput, TimeStep], Transition]
    update: Callable[
        [TrainState, Hyperparams, Rollout, Key], tuple[TrainState, Metrics]
    ]


def make_ppo(
    network: ActorCritic,
    config: PPOConfig = PPOConfig(),
    loss_fn: LossFn | None = None,
    advantage_fn: AdvantageFn = gae,
) -> PPO:
    """Returns PPO as pure functions.

    Args:
      network: policy and value function, from `actor_critic`, `from_modules` or your
        own.
      config: what fixes shapes and control flow.
      loss_fn: of a minibatch; None is `ppo_loss` with the configured value loss. With
        schedule "adaptive" its metrics must hold "kl".
      advantage_fn: judges the actions of a rollout; A + V is the critic's target.
    """
    if loss_fn is None:
        loss_fn = partial(
            ppo_loss, use_clipped_value_loss=config.use_clipped_value_loss
        )
    return PPO(
        init=partial(init, network, config),
        act=partial(act, network),
        mode=partial(mode, network),
        observe=partial(observe, network, config),
        update=partial(update, network, config, loss_fn, advantage_fn=advantage_fn),
    )


def jitted(ppo: PPO) -> PPO:
    """Returns the same functions, each jitted on its own: for a loop on the host."""
    return PPO(*map(jax.jit, ppo))


def init(
    network: ActorCritic, config: PPOConfig, key: Key, obs: Obs, hparams: Hyperparams
) -> TrainState:
    """Returns the state before training.

    Args:
      network: policy and value function.
      config: names the optimizer.
      key: for the weights.
      obs: {group: [N, ...]}, for the shapes.
      hparams: gives the learning rate to start from.
    """
    params, obs_stats = network.init(key, obs)
    return TrainState(
        params=params,
        obs_stats=obs_stats,
        opt_state=OPTIMIZERS[config.optimizer]().init(params),
        learning_rate=jnp.asarray(hparams.learning_rate, jnp.float32),
        iteration=jnp.zeros((), jnp.int32),
    )


def act(
    network: ActorCritic, state: TrainState, obs: Obs, key: Key, carry: Any = ()
) -> PolicyOutput:
    """Draws an action for every environment."""
    distribution = network.policy(state.params, network.prepare(state.obs_stats, obs))
    action = distribution.sample(key)
    return PolicyOutput(action, distribution.log_prob(action), distribution, carry)


def mode(network: ActorCritic, state: TrainState, obs: Obs) -> Array:
    """Returns the deterministic action of every environment."""
    inputs = network.prepare(state.obs_stats, obs)
    return network.policy(state.params, inputs).mode()


def observe(
    network: ActorCritic,
    config: PPOConfig,
    state: TrainState,
    obs: Obs,
    output: PolicyOutput,
    timestep: TimeStep,
) -> Transition:
    """Keeps of one step what the update needs.

    V(final_obs) is taken here, and only when some episode was cut, so that a rollout
    need not store final observations.

    Raises:
      ValueError: `timeout_bootstrap` is "final_obs", but the environment has none.
    """
    final_value: Array | tuple[()] = ()
    if timestep.final_obs is None and config.timeout_bootstrap == "final_obs":
        raise ValueError(
            "timeout_bootstrap = 'final_obs', but the environment gives no final_obs: "
            "give 'last_value' (rsl_rl's rule) or 'auto'"
        )
    if timestep.final_obs is not None and config.timeout_bootstrap in (
        "auto",
        "final_obs",
    ):
        final_obs = timestep.final_obs
        final_value = jax.lax.cond(
            timestep.truncated.any(),
            lambda: network.value(
                state.params, network.prepare(state.obs_stats, final_obs)
            ),
            lambda: jnp.zeros_like(timestep.reward),
        )
    return Transition(
        obs=obs,
        action=output.action,
        log_prob=output.log_prob,
        distribution=output.distribution,
        reward=timestep.reward,
        terminated=timestep.terminated,
        truncated=timestep.truncated,
        final_value=final_value,
    )


def update(
    network: ActorCritic,
    config: PPOConfig,
    loss_fn: LossFn,
    state: TrainState,
    hparams: Hyperparams,
    rollout: Rollout,
    key: Key,
    advantage_fn: AdvantageFn = gae,
) -> tuple[TrainState, Metrics]:
    """Learns from one rollout.

    The order is rsl_rl's: values and advantages with the statistics that acted, all
    gradient steps, and only then new statistics.

    Args:
      network: policy and value function.
      config: what fixes shapes and control flow.
      loss_fn: of a minibatch.
      state: that acted.
      hparams: dynamic scalars.
      rollout: [T, N, ...].
      key: for the permutation.
      advantage_fn: judges the actions.

    Returns:
      The new state, and means over all minibatches; "mean_std" is of the last one.
    """
    batch, metrics = learning_batch(
        network, config, state, hparams, rollout, advantage_fn
    )
    permutations = draw_permutations(config, batch.value.size, key)
    state, history = optimize(
        network, config, loss_fn, state, hparams, batch, permutations
    )
    metrics |= {name: values.mean() for name, values in history.items()}
    if "mean_std" in history:
        metrics["mean_std"] = history["mean_std"][-1]
    metrics["learning_rate"] = state.learning_rate
    state = state._replace(
        obs_stats=network.update_stats(state.obs_stats, rollout.steps.obs),
        iteration=state.iteration + 1,
    )
    return state, metrics


def learning_batch(
    network: ActorCritic,
    config: PPOConfig,
    state: TrainState,
    hparams: Hyperparams,
    rollout: Rollout,
    advantage_fn: AdvantageFn = gae,
) -> tuple[Batch, Metrics]:
    """Returns the rollout as [T, N, ...] samples with targets and advantages.

    The target of the value is A + V. Advantages are then normalised over all T x N
    samples, unless each minibatch does it.

    Raises:
      ValueError: `advantage_fn` returns another shape than [T, N].
    """
    steps = rollout.steps
    inputs = network.prepare(state.obs_stats, steps.obs)
    value = network.value(state.params, inputs)
    last_inputs = network.prepare(state.obs_stats, rollout.last_obs)
    last_value = network.value(state.params, last_inputs)
    next_value, terminated = successor_value(
        value,
        last_value,
        steps.terminated,
        steps.truncated,
        steps.final_value,
        _bootstrap_rule(config, steps),
    )
    advantage = advantage_fn(
        steps.reward,
        value,
        next_value,
        terminated,
        steps.truncated,
        gamma=hparams.gamma,
        lam=hparams.lam,
    )
    if advantage.shape != value.shape:
        raise ValueError(
            f"advantage_fn returned the shape {advantage.shape}, but the rollout has "
            f"{value.shape}: return one number for each step of each environment"
        )
    value_target = advantage + value
    advantage = value_target - value  # rounds as rsl_rl does
    if not config.normalize_advantage_per_mini_batch:
        advantage = normalize_advantage(advantage)

    batch = Batch(
        obs=inputs,
        action=steps.action,
        log_prob=steps.log_prob,
        distribution=steps.distribution,
        value=value,
        value_target=value_target,
        advantage=advantage,
    )
    unexplained = (value_target - value).var() / (value_target.var() + 1e-8)
    return batch, {"explained_variance": 1.0 - unexplained}


def normalize_advantage(advantage: Array) -> Array:
    """Returns (A - mean) / (std + 1e-8), with the unbiased std."""
    return (advantage - advantage.mean()) / (advantage.std(ddof=1) + 1e-8)


def draw_permutations(config: PPOConfig, num_samples: int, key: Key) -> Array:
    """Returns the order of samples, [1, M * B], or [epochs, M * B] when reshuffling.

    B = num_samples // M; the remainder, the last rows in time-major order, is left out.

    Raises:
      ValueError: there are fewer samples than minibatches need.
    """
    size = num_samples // config.num_mini_batches
    least = 2 if config.normalize_advantage_per_mini_batch else 1
    if size < least:
        raise ValueError(
            f"num_mini_batches = {config.num_mini_batches}, but a rollout has only "
            f"{num_samples} samples, and a minibatch needs {least}: give fewer "
            "minibatches or more environments"
        )
    num_orders = config.num_learning_epochs if config.reshuffle_each_epoch else 1
    draws = jax.random.bits(key, (num_orders, size * config.num_mini_batches))
    return jnp.argsort(draws, axis=-1, stable=False)


def optimize(
    network: ActorCritic,
    config: PPOConfig,
    loss_fn: LossFn,
    state: TrainState,
    hparams: Hyperparams,
    batch: Batch,
    permutations: Array,
) -> tuple[TrainState, Metrics]:
    """Takes all gradient steps of one iteration.

    Args:
      network: policy and value function.
      config: what fixes shapes and control flow.
      loss_fn: of a minibatch.
      state: before the first step.
      hparams: dynamic scalars.
      batch: [T, N, ...] samples.
      permutations: [1 or epochs, M * B] indices of samples in time-major order; one
        row serves every epoch.

    Returns:
      The state after the last step, and metrics of every step, [epochs * M].
    """
    if config.use_mixed_precision:
        network = in_bfloat16(network)
    step = partial(minibatch_step, network, config, loss_fn, hparams)
    num_steps = config.num_learning_epochs * config.num_mini_batches

    def epoch(state: TrainState, batches_and_first: Any) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(step, state, batches_and_first)

    is_first = jnp.arange(num_steps) == 0
    is_first = is_first.reshape(config.num_learning_epochs, config.num_mini_batches)
    if len(permutations) == 1:
        batches = _minibatches(batch, permutations[0], config.num_mini_batches)
        state, history = jax.lax.scan(
            lambda state, first: epoch(state, (batches, first)), state, is_first
        )
    else:

        def shuffled(state: TrainState, x: Any) -> tuple[TrainState, Metrics]:
            order, first = x
            batches = _minibatches(batch, order, config.num_mini_batches)
            return epoch(state, (batches, first))

        state, history = jax.lax.scan(shuffled, state, (permutations, is_first))
    return state, jax.tree.map(lambda x: x.reshape(num_steps, *x.shape[2:]), history)


def minibatch_step(
    network: ActorCritic,
    config: PPOConfig,
    loss_fn: LossFn,
    hparams: Hyperparams,
    state: TrainState,
    batch_and_first: tuple[Batch, Array],
) -> tuple[TrainState, Metrics]:
    """Takes one gradient step; the learning rate moves before it, as in rsl_rl.

    Args:
      network: policy and value function.
      config: what fixes shapes and control flow.
      loss_fn: of the minibatch.
      hparams: dynamic scalars.
      state: before the step.
      batch_and_first: the minibatch [B, ...], and whether no step has been taken since
        the rollout: the policy is then the one that acted, so its KL is 0 and what
        rounding (TF32, bfloat16) makes of it must not move the learning rate.

    Returns:
      The state after the step, and its metrics.
    """
    batch, is_first = batch_and_first
    if config.normalize_advantage_per_mini_batch:
        batch = batch._replace(advantage=normalize_advantage(batch.advantage))
    (loss, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params, network, batch, hparams
    )
    learning_rate = state.learning_rate
    if config.schedule == "adaptive":
        if "kl" not in metrics:
            raise ValueError(
                "schedule = 'adaptive', but the loss reports no metrics['kl']: "
                "report it or give schedule = 'fixed'"
            )
        kl = jnp.where(is_first, 0.0, metrics["kl"])
        learning_rate = adapt_learning_rate(learning_rate, kl, hparams.desired_kl)

    norms = {}
    for part in gradients:  # actor and critic, each with the full norm
        gradients[part], norms[f"grad_norm_{part}"] = clip_gradient(
            gradients[part], hparams.max_grad_norm
        )
    direction, opt_state = OPTIMIZERS[config.optimizer]().update(
        gradients, state.opt_state, state.params
    )
    params = jax.tree.map(lambda p, d: p - learning_rate * d, state.params, direction)
    state = state._replace(
        params=params, opt_state=opt_state, learning_rate=learning_rate
    )
    return state, metrics | norms | {"loss": loss, "learning_rate": learning_rate}


def adapt_learning_rate(learning_rate: Array, kl: Array, desired_kl: Scalar) -> Array:
    """Returns the learning rate that keeps the KL near the desired one.

    kl > 2 desired_kl divides by 1.5, kl < desired_kl / 2 multiplies by 1.5, within
    [1e-5, 1e-2]. A KL at rounding level counts as 0, and 0 (or NaN) changes nothing.

    Args:
      learning_rate: [] before.
      kl: [] KL(old || new) of the minibatch, in nats.
      desired_kl: target, above 0.

    Source: rsl_rl 5.5; the idea is Schulman et al. 2017, section 4, for the penalty.
    """
    slower = jnp.maximum(learning_rate / LEARNING_RATE_FACTOR, MIN_LEARNING_RATE)
    faster = jnp.minimum(learning_rate * LEARNING_RATE_FACTOR, MAX_LEARNING_RATE)
    rounding = 16 * float(jnp.finfo(jnp.float32).eps) ** 2  # the KL is a square
    learning_rate = jnp.where(kl > 2.0 * desired_kl, slower, learning_rate)
    return jnp.where((kl > rounding) & (kl < 0.5 * desired_kl), faster, learning_rate)


def clip_gradient(gradient: Params, max_norm: Scalar) -> tuple[Params, Array]:
    """Returns the gradient scaled to a global norm of at most `max_norm`, and its norm.

    The scale is min(1, max_norm / (norm + 1e-6)), as torch has it.
    """
    norm = optax.global_norm(gradient)
    scale = jnp.minimum(1.0, max_norm / (norm + 1e-6))
    return jax.tree.map(lambda g: g * scale, gradient), norm


def _bootstrap_rule(config: PPOConfig, steps: Transition) -> str:
    if config.timeout_bootstrap != "auto":
        return config.timeout_bootstrap
    return "last_value" if isinstance(steps.final_value, tuple) else "final_obs"


def _minibatches(batch: Batch, order: Array, num_mini_batches: int) -> Batch:
    """Returns [M, B, ...] samples of a [T, N, ...] batch in the given order."""

    def gather(x: Array) -> Array:
        rows = x.reshape(-1, *x.shape[2:])[order]
        return rows.reshape(num_mini_batches, -1, *x.shape[2:])

    chex.assert_rank(batch.value, 2)
    return jax.tree.map(gather, batch)
