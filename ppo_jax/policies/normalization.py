"""Running mean and variance of observations."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from ppo_jax.types import Array

STD_OFFSET = 0.01  # added to the standard deviation, as rsl_rl does


class RunningStats(NamedTuple):
    """Mean and biased variance of all rows seen."""

    mean: Array  # [D]
    var: Array  # [D]
    count: Array  # [] float32: an int32 would overflow after 2^31 rows


def init_stats(dim: int) -> RunningStats:
    """Returns the statistics before any data: mean 0, variance 1, count 0."""
    return RunningStats(jnp.zeros(dim), jnp.ones(dim), jnp.zeros(()))


def update_stats(stats: RunningStats, x: Array) -> RunningStats:
    """Returns the statistics of the rows seen so far together with those of `x`.

        n = count + rows,  rate = rows / n,  d = mean(x) - mean
        mean' = mean + rate * d
        var'  = var + rate * (var(x) - var + d * (mean(x) - mean'))

    Args:
      stats: of the rows before; at count 0 their mean and variance have no weight.
      x: [..., D] new rows.

    Source: Chan et al. 1979, the parallel variance, written with the rate.
    """
    chex.assert_axis_dimension(x, -1, stats.mean.shape[-1])
    rows = x.reshape(-1, x.shape[-1])
    count = stats.count + rows.shape[0]
    rate = rows.shape[0] / count
    batch_mean, batch_var = rows.mean(axis=0), rows.var(axis=0)
    delta = batch_mean - stats.mean
    mean = stats.mean + rate * delta
    var = stats.var + rate * (batch_var - stats.var + delta * (batch_mean - mean))
    return RunningStats(mean, var, count)


def normalize(stats: RunningStats, x: Array) -> Array:
    """Returns (x - mean) / (std + 0.01); nothing is clipped.

    Before any data this divides by 1.01, as rsl_rl does in its first iteration.

    Args:
      stats: running statistics.
      x: [..., D] raw observation.
    """
    chex.assert_axis_dimension(x, -1, stats.mean.shape[-1])
    mean, std = stats.mean, jnp.sqrt(stats.var)
    shape = (1,) * (x.ndim - 1) + mean.shape
    return (x - mean.reshape(shape)) / (std.reshape(shape) + STD_OFFSET)
