"""Means and deviations that keep their digits, whatever a compiler makes of them."""

import chex
import jax.numpy as jnp

from ppo_jax.policies.shards import Axis, first_over, mean_over
from ppo_jax.types import Array


def deviations(rows: Array, axis: Axis = None) -> tuple[Array, Array]:
    """Returns mean(x) - x[0] and x - mean(x), both over the first axis.

    Everything is taken from x[0], and not from 0: where the mean is large beside the
    spread no digit is lost, and where all rows are equal both are exactly 0, in
    whatever order they are summed.

    Args:
      rows: [R, ...] float32.
      axis: of shards with as many rows each; mean and x[0] are then those of all rows.
    """
    chex.assert_type(rows, jnp.float32)
    from_first = rows - first_over(axis, rows[:1])
    shift = mean_over(axis, from_first.mean(axis=0))
    return shift, from_first - shift[None]


def variance(x: Array, axis: Axis = None) -> Array:
    """Returns the biased variance of all numbers, [] float32: never negative."""
    _, deviation = deviations(x.astype(jnp.float32).ravel(), axis)
    return mean_over(axis, jnp.square(deviation).mean())
