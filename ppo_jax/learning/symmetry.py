"""Symmetry: samples mirrored to learn from, and a loss for what is not symmetric.

A symmetry is a map of observations and actions under which the task stays the same, as
left and right of a robot. K copies of every sample come of it, the first the original.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from ppo_jax.learning.config import SymmetryConfig
from ppo_jax.learning.symmetry_check import require_blocks
from ppo_jax.options import load
from ppo_jax.types import (
    ActorCritic,
    Array,
    AugmentFn,
    Batch,
    Hyperparams,
    LossFn,
    Metrics,
    Params,
    TrainState,
    Transition,
)

OF_ORIGINALS = ("entropy", "kl")  # metrics that copies have no part in


class Symmetry(NamedTuple):
    """A task's symmetry and how it is used: an argument of `make_ppo`."""

    augment: AugmentFn
    use_data_augmentation: bool = False
    use_mirror_loss: bool = False
    mirror_loss_coeff: float = 0.0


def symmetry_of(
    config: SymmetryConfig, take_over: Callable[[Any], AugmentFn] | None = None
) -> Symmetry:
    """Returns what a configuration asks for, its function loaded.

    Args:
      config: names the function.
      take_over: makes a function in JAX of one of rsl_rl's, of (env, obs, actions).

    Raises:
      ValueError: there is no such function, or it is one of rsl_rl's and there is
        nothing to take it over.
    """
    field = "symmetry_cfg.data_augmentation_func"
    path = config.data_augmentation_func
    augment = load(path, field)
    in_torch = callable(augment) and "env" in inspect.signature(augment).parameters
    if in_torch and take_over:
        augment = take_over(augment)
    elif in_torch or not callable(augment):
        raise ValueError(
            f"{field} = {path!r} is no function of (obs, action) in JAX, but "
            "rsl_rl's of (env, obs, actions) or no function: give one in JAX"
        )
    return Symmetry(
        cast(AugmentFn, augment),
        config.use_data_augmentation,
        config.use_mirror_loss,
        config.mirror_loss_coeff,
    )


class Copies(NamedTuple):
    """The mirrored samples of a batch, K - 1 of each."""

    obs: Any  # [..., K - 1, ...] as `ActorCritic.prepare` gives them
    action: Array | tuple[()]  # [..., K - 1, A]; () where they are not learned from


def mirrored_copies(
    symmetry: Symmetry, network: ActorCritic, state: TrainState, steps: Transition
) -> Copies:
    """Returns the copies of a rollout's samples, [T, N, K - 1, ...].

    Once for the whole rollout: the statistics stand still during an update, and the
    map is of each row by itself.

    Raises:
      ValueError: the function returns other groups or shapes than it must.
    """
    lead = steps.log_prob.shape
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (steps.obs, steps.action)
    )
    obs, action = symmetry.augment(*flat)
    num_copies = require_blocks(flat, (obs, action))

    def copies(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(num_copies, *lead, *x.shape[1:])[1:], 0, 2)

    inputs = network.prepare(state.obs_stats, jax.tree.map(copies, obs))
    learned = symmetry.use_data_augmentation
    return Copies(inputs, copies(jnp.asarray(action)) if learned else ())


def symmetric_loss(
    symmetry: Symmetry,
    loss_fn: LossFn,
    params: Params,
    network: ActorCritic,
    batch: Batch,
    hparams: Hyperparams,
) -> tuple[Array, Metrics]:
    """Returns the loss over a minibatch with its copies, and the mirror loss.

    With `use_data_augmentation` it is the mean over the K blocks; a copy has the
    log-probability, value, advantage and target of its original. Entropy and KL are
    those of the originals. With `use_mirror_loss`, mirror_loss_coeff times the mirror
    loss is added; "symmetry_loss" in the metrics is without the coefficient.

    Args:
      symmetry: of the task.
      loss_fn: of a minibatch; its entropy bonus reads `hparams.entropy_coef`.
      params: of the network.
      network: policy and value function.
      batch: [B, ...] originals, their copies in `batch.copies`.
      hparams: dynamic scalars.
    """
    copies = batch.copies
    originals = batch._replace(copies=())
    if symmetry.use_data_augmentation:
        loss, metrics = _mean_over_blocks(
            loss_fn, params, network, originals, copies, hparams
        )
    else:
        loss, metrics = loss_fn(params, network, originals, hparams)
    action = network.policy(params, batch.obs).mode()
    if jnp.issubdtype(action.dtype, jnp.integer):
        if symmetry.use_mirror_loss:
            raise ValueError(
                "use_mirror_loss = True, but the actions are discrete and have no "
                "distance: give use_data_augmentation = true instead"
            )
        return loss, metrics
    in_blocks = jax.vmap(
        lambda x: network.policy(params, x).mode(), in_axes=1, out_axes=0
    )
    symmetry_loss = mirror_loss(symmetry.augment, action, in_blocks(copies.obs))
    if symmetry.use_mirror_loss:
        loss = loss + symmetry.mirror_loss_coeff * symmetry_loss
    return loss, metrics | {"symmetry_loss": symmetry_loss}


def mirror_loss(augment: AugmentFn, action: Array, copied_action: Array) -> Array:
    """Returns how far the policy is from symmetric, [].

        mean( (mu(mirror(o)) - stop_gradient(mirror(mu(o))))^2 )

    over samples, copies and action dimensions; mu is the deterministic action.

    Args:
      augment: the symmetry.
      action: [B, A] mu of the original observations.
      copied_action: [K - 1, B, A] mu of the mirrored ones.

    Source: Mittal et al. 2024, arXiv:2403.04359, after Yu et al. 2018,
    arXiv:1801.08093. Differs: the target has no gradient, as in rsl_rl.
    """
    _, mirrored = augment(None, action)
    assert mirrored is not None
    target = mirrored.reshape(-1, *action.shape)[1:]
    return jnp.square(copied_action - jax.lax.stop_gradient(target)).mean()


def _mean_over_blocks(
    loss_fn: LossFn,
    params: Params,
    network: ActorCritic,
    batch: Batch,
    copies: Copies,
    hparams: Hyperparams,
) -> tuple[Array, Metrics]:
    """Returns the mean of the loss over the K blocks.

    The entropy bonus is that of the originals: theirs is K times the coefficient, that
    of the others 0.
    """

    def blocks(x: Array, copied: Array) -> Array:
        return jnp.concatenate([x[None], jnp.moveaxis(copied, 1, 0)])

    obs = jax.tree.map(blocks, batch.obs, copies.obs)
    action = blocks(batch.action, jnp.asarray(copies.action))
    is_original = jnp.arange(len(action)) == 0
    bonus = jnp.where(is_original, len(action) * hparams.entropy_coef, 0.0)

    def loss_of(obs: Any, action: Array, bonus: Array) -> tuple[Array, Metrics]:
        block = batch._replace(obs=obs, action=action)
        return loss_fn(params, network, block, hparams._replace(entropy_coef=bonus))

    loss, metrics = jax.vmap(loss_of)(obs, action, bonus)
    return loss.mean(), {
        name: x[0] if name in OF_ORIGINALS else x.mean(axis=0)
        for name, x in metrics.items()
    }
