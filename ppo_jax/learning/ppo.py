"""The algorithm: a NamedTuple of pure functions, and these before they are bound."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from ppo_jax.compiling import jit
from ppo_jax.learning.acting import act, initial_carry, mode, observe, play
from ppo_jax.learning.advantages import gae
from ppo_jax.learning.config import PPOConfig
from ppo_jax.learning.gradient_steps import optimize
from ppo_jax.learning.losses import ppo_loss
from ppo_jax.learning.minibatches import (
    draw_environments,
    draw_permutations,
    samples_of,
)
from ppo_jax.learning.rnd import RND
from ppo_jax.learning.shared_parts import init_optimizer
from ppo_jax.learning.symmetry import (
    Symmetry,
    mirrored_copies,
    symmetric_loss,
    symmetry_of,
)
from ppo_jax.learning.targets import learning_batch
from ppo_jax.policies.precision import in_full_float32
from ppo_jax.policies.shards import Axis
from ppo_jax.types import (
    ActorCritic,
    AdvantageFn,
    Array,
    Hyperparams,
    Key,
    LossFn,
    Metrics,
    Obs,
    PolicyOutput,
    Rollout,
    TimeStep,
    TrainState,
    Transition,
)


class PPO(NamedTuple):
    """PPO bound to a network and a configuration.

    Statics are bound; what changes is passed. Every function is pure.
    """

    init: Callable[[Key, Obs, Hyperparams], TrainState]
    initial_carry: Callable[[Obs], Any]  # memory where episodes begin; () without one
    act: Callable[..., PolicyOutput]  # (state, obs, key, carry=())
    mode: Callable[[TrainState, Obs], Array]  # -> the deterministic action
    play: Callable[[TrainState, Obs, Any], tuple[Array, Any]]  # as mode, with a carry
    observe: Callable[[TrainState, Obs, PolicyOutput, TimeStep], Transition]
    update: Callable[
        [TrainState, Hyperparams, Rollout, Key], tuple[TrainState, Metrics]
    ]
    rnd: RND | None = None  # rewards novelty, between the rollout and the update
    update_with_memory: None = None  # memory goes on as it acted, see `Distillation`


def make_ppo(
    network: ActorCritic,
    config: PPOConfig = PPOConfig(),
    loss_fn: LossFn | None = None,
    advantage_fn: AdvantageFn = gae,
    symmetry: Symmetry | None = None,
    rnd: RND | None = None,
    axis: Axis = None,
) -> PPO:
    """Returns PPO as pure functions.

    Args:
      network: policy and value function, from `actor_critic`, `from_modules` or your
        own.
      config: what fixes shapes and control flow.
      loss_fn: of a minibatch; None is `ppo_loss` with the configured value loss. With
        schedule "adaptive" its metrics must hold "kl".
      advantage_fn: judges the actions of a rollout; A + V is the critic's target.
      symmetry: of the task; None is what `config.symmetry_cfg` names, if anything.
      rnd: rewards novelty, from `make_rnd`.
      axis: name of a mesh axis along which `update` runs, each shard with a rollout of
        its own; what is learned is one, and the same on all of them.

    Raises:
      ValueError: a network with memory is to be trained with a symmetry, or
        `config.rnd_cfg` is set, but `rnd` is not given.
    """
    if rnd is None and config.rnd_cfg is not None:
        raise ValueError(
            "rnd_cfg is set, but not what it depends on: give make_ppo "
            "rnd=make_rnd(config.rnd_cfg, env.step_dt, obs_groups)"
        )
    if loss_fn is None:
        loss_fn = partial(
            ppo_loss, use_clipped_value_loss=config.use_clipped_value_loss
        )
    if symmetry is None and config.symmetry_cfg is not None:
        symmetry = symmetry_of(config.symmetry_cfg)
    if symmetry is not None:
        _require_no_memory(network)
        loss_fn = partial(symmetric_loss, symmetry, loss_fn)
    learn = partial(update, network, config, loss_fn, advantage_fn=advantage_fn)
    learn = partial(learn, symmetry=symmetry, rnd=rnd, axis=axis)
    ppo = PPO(
        init=partial(init, network, config, rnd=rnd),
        initial_carry=partial(initial_carry, network),
        act=partial(act, network),
        mode=partial(mode, network),
        play=partial(play, network),
        observe=partial(observe, network, config),
        update=learn,
        rnd=rnd,
    )
    if config.precision == "highest":
        return jax.tree.map(in_full_float32, ppo)
    return ppo


def _require_no_memory(network: ActorCritic) -> None:
    if network.recurrence:
        raise ValueError(
            "symmetry_cfg is set, but the network has memory, and sequences are not "
            "mirrored, as in rsl_rl: leave symmetry_cfg away, or give "
            "class_name = 'MLPModel'"
        )


Functions = TypeVar("Functions", bound=tuple)


def jitted(ppo: Functions) -> Functions:
    """Returns the same functions, each jitted on its own: for a loop on the host."""
    return jax.tree.map(jit, ppo)


def init(
    network: ActorCritic,
    config: PPOConfig,
    key: Key,
    obs: Obs,
    hparams: Hyperparams,
    rnd: RND | None = None,
) -> TrainState:
    """Returns the state before training.

    Args:
      network: policy and value function.
      config: names the optimizer.
      key: for the weights.
      obs: {group: [N, ...]}, for the shapes.
      hparams: gives the learning rate to start from.
      rnd: whose networks are drawn too; those of the policy do not change by it.
    """
    params, obs_stats = network.init(key, obs)
    return TrainState(
        params=params,
        obs_stats=obs_stats,
        opt_state=init_optimizer(network.shared, config, params),
        learning_rate=jnp.asarray(hparams.learning_rate, jnp.float32),
        iteration=jnp.zeros((), jnp.int32),
        rnd=rnd.init(jax.random.fold_in(key, 1), obs) if rnd else (),
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
    symmetry: Symmetry | None = None,
    rnd: RND | None = None,
    axis: Axis = None,
) -> tuple[TrainState, Metrics]:
    """Learns from one rollout.

    The order is rsl_rl's: values and advantages with the statistics that acted, all
    gradient steps, and only then new statistics.

    Args:
      network: policy and value function.
      config: what fixes shapes and control flow.
      loss_fn: of a minibatch; with a symmetry, `symmetric_loss` of it.
      state: that acted.
      hparams: dynamic scalars.
      rollout: [T, N, ...].
      key: for the permutation; another one on each shard.
      advantage_fn: judges the actions.
      symmetry: whose copies the loss reads.
      rnd: whose predictor learns from the same minibatches.
      axis: of the shards that learn together, see `make_ppo`.

    Returns:
      The new state, and means over all minibatches; "mean_std" is of the last one.
    """
    batch, metrics = learning_batch(
        network, config, state, hparams, rollout, advantage_fn, axis
    )
    if symmetry is not None:
        copies = mirrored_copies(symmetry, network, state, rollout.steps)
        batch = batch._replace(copies=copies)
    order, order_of_samples = _draw_orders(network, config, batch.value.shape, key)
    state, history = optimize(
        network, config, loss_fn, state, hparams, batch, order, axis
    )
    if rnd is not None:
        state, history["rnd_loss"] = _learn_novelty(
            rnd, config, state, rollout.steps.obs, order_of_samples
        )
    metrics |= {name: values.mean() for name, values in history.items()}
    if "mean_std" in history:
        metrics["mean_std"] = history["mean_std"][-1]
    metrics["learning_rate"] = state.learning_rate
    along = {"axis": axis} if axis else {}
    state = state._replace(
        obs_stats=network.update_stats(state.obs_stats, rollout.steps.obs, **along),
        iteration=state.iteration + 1,
    )
    return state, metrics


def _draw_orders(
    network: ActorCritic, config: PPOConfig, shape: tuple[int, ...], key: Key
) -> tuple[Array, Array]:
    """Returns the order of what minibatches are made of, and that of its samples.

    Args:
      network: whose memory decides: whole environments, or samples.
      config: says into how many.
      shape: (T, N) of the rollout.
      key: to draw with.
    """
    if not network.recurrence:
        order = draw_permutations(config, shape[0] * shape[1], key)
        return order, order
    order = draw_environments(config, shape[1], key)
    return order, samples_of(order, shape, config.num_mini_batches)


def _learn_novelty(
    rnd: RND, config: PPOConfig, state: TrainState, obs: Obs, permutations: Array
) -> tuple[TrainState, Array]:
    """Returns the state with a better predictor, and the loss of every step."""
    shape = config.num_learning_epochs, permutations.shape[1]
    orders = jnp.broadcast_to(permutations, shape)
    learned, loss = rnd.learn(
        state.rnd, obs, orders, config.num_mini_batches, config.micro_batches
    )
    return state._replace(rnd=learned), loss
