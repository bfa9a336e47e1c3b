"""The gradient steps of one iteration, and what each is made of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.learning.advantages import normalize_advantage
from ppo_jax.learning.config import PPOConfig, advantage_axis
from ppo_jax.learning.minibatches import (
    environment_minibatches,
    mean_of_parts,
    micro_batches,
    minibatches,
)
from ppo_jax.learning.optimizers import OPTIMIZERS, clip_gradient, descend
from ppo_jax.learning.packing import pack, pack_learned
from ppo_jax.learning.shared_parts import clip_twice, descend_twice, moves_twice
from ppo_jax.policies.precision import in_bfloat16
from ppo_jax.policies.shards import Axis, mean_over
from ppo_jax.types import (
    ActorCritic,
    Array,
    Batch,
    Hyperparams,
    LossFn,
    Metrics,
    Params,
    Scalar,
    TrainState,
)

MIN_LEARNING_RATE, MAX_LEARNING_RATE = 1e-5, 1e-2


LEARNING_RATE_FACTOR = 1.5


@jax.named_scope("update")
def optimize(
    network: ActorCritic,
    config: PPOConfig,
    loss_fn: LossFn,
    state: TrainState,
    hparams: Hyperparams,
    batch: Batch,
    permutations: Array,
    axis: Axis = None,
) -> tuple[TrainState, Metrics]:
    """Takes all gradient steps of one iteration.

    Args:
      network: policy and value function.
      config: what fixes shapes and control flow.
      loss_fn: of a minibatch.
      state: before the first step.
      hparams: dynamic scalars.
      batch: [T, N, ...] samples.
      permutations: [1 or epochs, M * B] indices of samples in time-major order, or,
        for a network with memory, of environments; one row serves every epoch.
      axis: of the shards that learn together, see `policies.shards`.

    Returns:
      The state after the last step, and metrics of every step, [epochs * M].
    """
    if config.precision == "bfloat16":
        network = in_bfloat16(network)
    same = lambda x: x
    unpack_state, unpack_params, unpack_metrics = same, same, same
    if not moves_twice(network.shared, config):  # that takes parameters by their names
        state, unpack_state, unpack_params = pack_learned(state)

    def loss_of(
        params: Params, network: ActorCritic, batch: Batch, hparams: Hyperparams
    ) -> tuple[Array, Metrics]:
        return loss_fn(unpack_params(params), network, batch, hparams)

    def step(state: TrainState, batch_and_first: Any) -> tuple[TrainState, Any]:
        nonlocal unpack_metrics
        state, metrics = minibatch_step(
            network, config, loss_of, hparams, state, batch_and_first, axis
        )
        metrics, unpack_metrics = pack(metrics)
        return state, metrics

    cut = environment_minibatches if network.recurrence else minibatches
    state, history = _in_epochs(config, step, cut, state, batch, permutations)
    return unpack_state(state), jax.vmap(unpack_metrics)(history)


def _in_epochs(
    config: PPOConfig,
    step: Callable[[TrainState, Any], tuple[TrainState, Any]],
    cut: Callable[[Batch, Array, int], Batch],
    state: TrainState,
    batch: Batch,
    permutations: Array,
) -> tuple[TrainState, Any]:
    """Takes a step for every minibatch of every epoch.

    Returns:
      The state after the last, and what every step has told, [epochs * M, ...].
    """
    num_parts, num_epochs = config.num_mini_batches, config.num_learning_epochs
    num_steps = num_epochs * num_parts
    is_first = (jnp.arange(num_steps) == 0).reshape(num_epochs, num_parts)
    if len(permutations) == 1:
        batches = cut(batch, permutations[0], num_parts)
        state, history = jax.lax.scan(
            lambda state, first: jax.lax.scan(step, state, (batches, first)),
            state,
            is_first,
        )
    else:

        def shuffled(state: TrainState, x: Any) -> tuple[TrainState, Any]:
            order, first = x
            return jax.lax.scan(step, state, (cut(batch, order, num_parts), first))

        state, history = jax.lax.scan(shuffled, state, (permutations, is_first))
    return state, jax.tree.map(lambda x: x.reshape(num_steps, *x.shape[2:]), history)


def minibatch_step(
    network: ActorCritic,
    config: PPOConfig,
    loss_fn: LossFn,
    hparams: Hyperparams,
    state: TrainState,
    batch_and_first: tuple[Batch, Array],
    axis: Axis = None,
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
      axis: of the shards that learn together; the gradient is the mean of theirs, and
        so are the metrics, the KL among them.

    Returns:
      The state after the step, and its metrics.
    """
    batch, is_first = batch_and_first
    if config.normalize_advantage_per_mini_batch:
        advantage = normalize_advantage(batch.advantage, advantage_axis(config, axis))
        batch = batch._replace(advantage=advantage)
    found = gradient_of(network, config, loss_fn, hparams, state.params, batch)
    (loss, metrics), gradients = mean_over(axis, found)
    learning_rate = _rate(config, hparams, state, metrics, is_first)
    state, norms = _descended(
        network, config, state, gradients, learning_rate, hparams.max_grad_norm
    )
    return state, metrics | norms | {"loss": loss, "learning_rate": learning_rate}


def gradient_of(
    network: ActorCritic,
    config: PPOConfig,
    loss_fn: LossFn,
    hparams: Hyperparams,
    params: Params,
    batch: Batch,
) -> tuple[tuple[Array, Metrics], Params]:
    """Returns ((loss, metrics), gradient) of a minibatch, as `jax.value_and_grad` does.

    With `micro_batches` K they are the means of K parts, taken one after another: the
    loss is to be a mean over samples.
    """
    take = jax.value_and_grad(loss_fn, has_aux=True)
    if config.micro_batches == 1:
        return take(params, network, batch, hparams)
    parts = micro_batches(batch, config.micro_batches, 1 if network.recurrence else 0)
    found, _ = mean_of_parts(
        lambda part: (take(params, network, part, hparams), ()), parts
    )
    return found


def _descended(
    network: ActorCritic,
    config: PPOConfig,
    state: TrainState,
    gradients: Params,
    learning_rate: Array,
    max_norm: Scalar,
) -> tuple[TrainState, Metrics]:
    """Returns the state after a step down clipped gradients, and their norms."""
    if moves_twice(network.shared, config):
        gradients, norms = clip_twice(network.shared, gradients, max_norm)
        params, opt_state = descend_twice(
            network.shared,
            config,
            state.opt_state,
            state.params,
            gradients,
            learning_rate,
        )
    else:
        norms = {}
        for part in gradients:  # actor and critic, each with the full norm
            gradients[part], norms[f"grad_norm_{part}"] = clip_gradient(
                gradients[part], max_norm
            )
        optimizer = OPTIMIZERS[config.optimizer]()
        params, opt_state = descend(
            optimizer, state.opt_state, state.params, gradients, learning_rate
        )
    moved = {"params": params, "opt_state": opt_state, "learning_rate": learning_rate}
    return state._replace(**moved), norms


def _rate(
    config: PPOConfig,
    hparams: Hyperparams,
    state: TrainState,
    metrics: Metrics,
    is_first: Array,
) -> Array:
    """Returns the learning rate of a step: as given, or that of the state, moved."""
    if config.schedule != "adaptive":
        return jnp.asarray(hparams.learning_rate, jnp.float32)
    if "kl" not in metrics:
        raise ValueError(
            "schedule = 'adaptive', but the loss reports no metrics['kl']: "
            "report it or give schedule = 'fixed'"
        )
    kl = jnp.where(is_first, 0.0, metrics["kl"])
    return adapt_learning_rate(state.learning_rate, kl, hparams.desired_kl)


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
