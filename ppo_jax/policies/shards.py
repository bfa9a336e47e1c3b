"""Numbers over all shards of a mesh axis; without an axis they are one's own.

One policy may learn on many devices: each shard has environments of its own, and runs
the same program. `axis` is the name of the mesh axis that they are along, None where
there is one shard. This is the one module that knows how shards talk; what is learned
stays equal on all of them because all that moves it comes from here.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ppo_jax.types import Array, Key

Axis = str | None


def num_shards(axis: Axis) -> int:
    """Returns how many shards there are."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def mean_over(axis: Axis, tree: Any) -> Any:
    """Returns the mean over all shards of every number, sent as one message."""
    if num_shards(axis) == 1:
        return tree
    numbers, whole = ravel_pytree(tree)
    return whole(jax.lax.pmean(numbers, axis))


def sum_over(axis: Axis, x: Any) -> Any:
    """Returns the sum over all shards of every number."""
    return x if num_shards(axis) == 1 else jax.lax.psum(x, axis)


def first_over(axis: Axis, x: Array) -> Array:
    """Returns the numbers that the first shard has."""
    if num_shards(axis) == 1:
        return x
    return jax.lax.psum(jnp.where(jax.lax.axis_index(axis) == 0, x, 0), axis)


def rows_over(axis: Axis, x: Array) -> Array:
    """Returns the rows of all shards, those of the first one first."""
    return x if num_shards(axis) == 1 else jax.lax.all_gather(x, axis, tiled=True)


def place_of(axis: Axis) -> Array | int:
    """Returns the number of this shard, from 0."""
    return 0 if num_shards(axis) == 1 else jax.lax.axis_index(axis)


def own_key(key: Key, shard: Array | int) -> Key:
    """Returns a key that no other shard has; that of the first is the key as it is.

    Args:
      key: the same on all shards.
      shard: its number.
    """
    if isinstance(shard, int) and shard == 0:
        return key
    return jnp.where(shard == 0, key, jax.random.fold_in(key, shard))
