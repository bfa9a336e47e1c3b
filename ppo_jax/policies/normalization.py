"""Running mean and variance of observations."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from ppo_jax.policies.moments import deviations
from ppo_jax.policies.shards import Axis, first_over, mean_over, num_shards
from ppo_jax.types import Array

STD_OFFSET = 0.01  # added to the standard deviation, as rsl_rl does


class RunningStats(NamedTuple):
    """Mean and biased variance of all rows seen; float32, whatever the rows are."""

    mean: Array  # [D]
    var: Array  # [D]
    count: Array  # [] an int32 would overflow after 2^31 rows
    mean_rest: Array  # [D] what rounding cut off the mean, at most half a last digit


def init_stats(dim: int) -> RunningStats:
    """Returns the statistics before any data: mean 0, variance 1, count 0."""
    zeros = jnp.zeros(dim, jnp.float32)
    return RunningStats(zeros, zeros + 1.0, jnp.zeros((), jnp.float32), zeros)


def update_stats(stats: RunningStats, x: Array, axis: Axis = None) -> RunningStats:
    """Returns the statistics of the rows seen so far together with those of `x`.

        n = count + rows,  rate = rows / n,  d = mean(x) - mean
        mean' = mean + rate * d
        var'  = (1 - rate) * var + rate * (var(x) + (1 - rate) * d^2)

    No term of the variance is negative, so that it cannot become so. The mean carries
    its rounding error along: beside a large one a small step would be lost, in every
    iteration anew. Rows that never change have a variance of exactly 0, and their mean.

    Args:
      stats: of the rows before; at count 0 their mean and variance have no weight.
      x: [..., D] new rows of any type.
      axis: of shards with as many rows each; all of them are counted.

    Source: Chan et al. 1979, the parallel variance, written with the rate; Knuth, The
    Art of Computer Programming 2, 4.2.2, theorem B, the rounding error of a sum.
    """
    chex.assert_axis_dimension(x, -1, stats.mean.shape[-1])
    rows = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    num_rows = rows.shape[0] * num_shards(axis)
    count = stats.count + num_rows
    rate, keep = num_rows / count, stats.count / count
    shift, deviation = deviations(rows, axis)
    delta = (first_over(axis, rows[0]) - stats.mean) + (shift - stats.mean_rest)
    var = mean_over(axis, jnp.square(deviation).mean(axis=0))
    spread = var + keep * jnp.square(delta)
    mean, rest = _add(stats.mean, stats.mean_rest + rate * delta)
    return RunningStats(mean, keep * stats.var + rate * spread, count, rest)


def _add(a: Array, b: Array) -> tuple[Array, Array]:
    """Returns a + b as rounded, and what rounding has cut off."""
    total = a + b
    seen = total - a
    return total, (a - (total - seen)) + (b - seen)


def normalize(stats: RunningStats, x: Array) -> Array:
    """Returns (x - mean) / (std + 0.01); nothing is clipped.

    Before any data this divides by 1.01, as rsl_rl does in its first iteration.

    Args:
      stats: running statistics.
      x: [..., D] raw observation.
    """
    chex.assert_axis_dimension(x, -1, stats.mean.shape[-1])
    shape = (1,) * (x.ndim - 1) + stats.mean.shape
    mean, rest, std = (
        y.reshape(shape) for y in (stats.mean, stats.mean_rest, jnp.sqrt(stats.var))
    )
    return ((x.astype(jnp.float32) - mean) - rest) / (std + STD_OFFSET)
