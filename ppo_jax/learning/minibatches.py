"""A rollout's samples in a drawn order, cut into minibatches, and these into parts."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppo_jax.learning.config import PPOConfig
from ppo_jax.types import Array, Batch, Key


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
    return order_of(draws)


def order_of(draws: Array) -> Array:
    """Returns `argsort` of uint32 draws over the last axis; equal ones as they come.

    Draw and place are sorted as one number of 64 bits. XLA compares plain numbers by
    itself, but calls a compiled function for each pair of a key and what goes with it:
    on a CPU that takes four times as long.
    """
    with jax.enable_x64(True):
        place = jax.lax.broadcasted_iota(jnp.uint64, draws.shape, draws.ndim - 1)
        numbers = draws.astype(jnp.uint64) << jnp.uint64(32) | place
        numbers = jax.lax.sort(numbers, is_stable=False)
        return (numbers & jnp.uint64(0xFFFFFFFF)).astype(jnp.int32)


def draw_environments(config: PPOConfig, num_envs: int, key: Key) -> Array:
    """Returns the order of environments, [1, M * n], or [epochs, M * n] if reshuffling.

    For networks with memory, which learn from whole sequences: n = num_envs // M
    environments a minibatch, the last ones left out. As in rsl_rl they come as they
    are; only reshuffling draws an order.

    Raises:
      ValueError: there are fewer environments than minibatches.
    """
    size = num_envs // config.num_mini_batches
    if size < 1:
        raise ValueError(
            f"num_mini_batches = {config.num_mini_batches}, but a network with memory "
            f"learns from whole environments, and there are only {num_envs}: give "
            "fewer minibatches or more environments"
        )
    order = jnp.arange(size * config.num_mini_batches)
    if not config.reshuffle_each_epoch:
        return order[None]
    keys = jax.random.split(key, config.num_learning_epochs)
    return jax.vmap(jax.random.permutation, in_axes=(0, None))(keys, order)


def samples_of(environments: Array, shape: tuple[int, ...], num_parts: int) -> Array:
    """Returns the order of samples that an order of environments means, [..., M * B].

    Args:
      environments: [..., M * n] from `draw_environments`.
      shape: (T, N) of the rollout, whose samples count in time-major order.
      num_parts: M; a minibatch is all T steps of its n environments.
    """
    num_steps, num_envs = shape
    lead = environments.shape[:-1]
    parts = environments.reshape(*lead, num_parts, 1, -1)
    start = (jnp.arange(num_steps) * num_envs).reshape((1,) * (len(lead) + 1) + (-1, 1))
    return (start + parts).reshape(*lead, -1)


def environment_minibatches(batch: Batch, order: Array, num_mini_batches: int) -> Batch:
    """Returns [M, T, n, ...] sequences of a [T, N, ...] batch in the given order."""

    def gather(x: Array) -> Array:
        size = len(order) // num_mini_batches  # not -1: an axis may have no elements
        x = x[:, order].reshape(len(x), num_mini_batches, size, *x.shape[2:])
        return x.swapaxes(0, 1)

    chex.assert_rank(batch.value, 2)
    return jax.tree.map(gather, batch)


def minibatches(batch: Batch, order: Array, num_mini_batches: int) -> Batch:
    """Returns [M, B, ...] samples of a [T, N, ...] batch in the given order."""

    def gather(x: Array) -> Array:
        rows = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[order]
        size = len(order) // num_mini_batches
        return rows.reshape(num_mini_batches, size, *x.shape[2:])

    chex.assert_rank(batch.value, 2)
    return jax.tree.map(gather, batch)


def micro_batches(batch: Any, num_parts: int, axis: int) -> Any:
    """Returns a minibatch in [K, ...] parts of the same size.

    Args:
      batch: [B, ...] samples, or [T, n, ...] sequences, in any tree.
      num_parts: K.
      axis: of samples, 0, or of sequences, 1.

    Raises:
      ValueError: it cannot be cut into K equal parts.
    """

    def cut(x: Array) -> Array:
        size = x.shape[axis]
        if size % num_parts:
            what = "environments" if axis else "samples"
            raise ValueError(
                f"micro_batches = {num_parts}, but a gradient step has {size} {what}, "
                "which cannot be cut into as many equal parts: give a divisor of it"
            )
        shape = (*x.shape[:axis], num_parts, size // num_parts, *x.shape[axis + 1 :])
        return jnp.moveaxis(x.reshape(shape), axis, 0)

    return jax.tree.map(cut, batch)


def mean_of_parts(take: Callable[[Any], tuple[Any, Any]], parts: Any) -> Any:
    """Calls a function with one part after another.

    Args:
      take: part -> (numbers, rows): gradients, such as means over samples, and what is
        to be kept, [B / K, ...].
      parts: [K, ...] from `micro_batches`.

    Returns:
      The means of the numbers over all parts, and the rows of all, [B, ...].
    """

    def add(total: Any, part: Any) -> tuple[Any, Any]:
        numbers, rows = take(part)
        return jax.tree.map(jnp.add, total, numbers), rows

    first = jax.tree.map(lambda x: x[0], parts)
    shapes, _ = jax.eval_shape(take, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, rows = jax.lax.scan(add, zeros, parts)
    num_parts = len(jax.tree.leaves(parts)[0])
    return (
        jax.tree.map(lambda x: x / num_parts, total),
        jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows),
    )
