"""Statistics of finished episodes, and what there is to say before one has ended."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.policies.shards import Axis, place_of, rows_over, sum_over
from ppo_jax.types import Array, EpisodeStats, Metrics

NUM_RECENT = 100  # episodes that the reported mean is taken over, as in rsl_rl
MOST = 2**30  # episodes that are counted, before the count goes back by whole rings


def init_episodes(num_envs: int) -> EpisodeStats:
    """Returns the statistics before the first step."""
    return EpisodeStats(
        episode_return=jnp.zeros(num_envs),
        episode_length=jnp.zeros(num_envs, jnp.int32),
        recent_return=jnp.zeros(NUM_RECENT),
        recent_length=jnp.zeros(NUM_RECENT),
        num_finished=jnp.zeros((), jnp.int32),
    )


def remember(
    episodes: EpisodeStats, done: Array, episode_return: Array, episode_length: Array
) -> EpisodeStats:
    """Puts the episodes that ended into the ring, by time, then by environment.

    Args:
      episodes: before.
      done: [T, N] bool.
      episode_return: [T, N] read where done.
      episode_length: [T, N] read where done.
    """
    done = done.reshape(-1)
    rank = jnp.cumsum(done) - 1
    num_done = done.sum()
    kept = done & (rank >= num_done - NUM_RECENT)
    slot = jnp.where(kept, (episodes.num_finished + rank) % NUM_RECENT, NUM_RECENT)

    def put(ring: Array, values: Array) -> Array:
        return ring.at[slot].set(values.reshape(-1).astype(ring.dtype), mode="drop")

    num_finished = episodes.num_finished + num_done.astype(jnp.int32)
    whole_rings = (MOST // NUM_RECENT - 1) * NUM_RECENT
    return episodes._replace(
        recent_return=put(episodes.recent_return, episode_return),
        recent_length=put(episodes.recent_length, episode_length),
        num_finished=jnp.where(
            num_finished < MOST, num_finished, num_finished - whole_rings
        ),
    )


def recent_means(episodes: EpisodeStats) -> Metrics:
    """Returns the means over the filled part of the ring, and how much that is."""
    filled = jnp.arange(NUM_RECENT) < episodes.num_finished
    count = filled.sum(dtype=jnp.int32)

    def mean(ring: Array) -> Array:
        return jnp.where(filled, ring, 0.0).sum() / jnp.maximum(count, 1)

    return {
        "episode_return": mean(episodes.recent_return),
        "episode_length": mean(episodes.recent_length),
        "num_recent": count,
    }


def log_means(done: Array, log: Mapping[str, Array]) -> Metrics:
    """Returns the means of what was reported where episodes ended, and their number.

    Args:
      done: [T, N] bool.
      log: {tag: [T] sum over the environments that are done}.
    """
    count = done.sum(dtype=jnp.int32)
    means = {f"log/{tag}": x.sum() / jnp.maximum(count, 1) for tag, x in log.items()}
    return means | {"num_ended": count}


def over_shards(axis: Axis, metrics: Metrics, num_envs: int) -> Metrics:
    """Returns what `collect` says of a rollout, for the rollouts of all shards.

    Means weigh as much as what they were taken over; environments are counted on, from
    shard to shard.

    Args:
      axis: of the shards.
      metrics: of this one's rollout.
      num_envs: N of each.
    """
    if axis is None:
        return metrics
    whole = {
        name: sum_over(axis, metrics[name]) for name in ("num_recent", "num_ended")
    }

    def over(name: str, x: Array) -> Array:
        if name.startswith("nonfinite/"):
            named = jnp.where(x < 0, x, x + num_envs * place_of(axis))
            named = rows_over(axis, named)
            first = jnp.argsort(named < 0, stable=True)[: len(x)]
            return named[first]
        count = "num_ended" if name.startswith("log/") else "num_recent"
        share = metrics[count] / jnp.maximum(whole[count], 1)
        return sum_over(axis, x * share)

    rest = {name: over(name, x) for name, x in metrics.items() if name not in whole}
    return rest | whole


def fitness(metrics: Metrics) -> Array:
    """Returns the mean return, -inf where no episode has ended; in a program."""
    return jnp.where(metrics["num_recent"] > 0, metrics["episode_return"], -jnp.inf)


def with_gaps(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metrics as they are read: NaN where nothing was averaged.

    For what a program has returned, on the host. Inside a program no NaN is made on
    purpose, so that `JAX_DEBUG_NANS` finds those that are not; what has no value yet is
    0 there, and "num_recent" and "num_ended" tell it apart. Both are left out here.

    Args:
      metrics: of `collect`, `iterate` or `train`, with any leading axes.

    Returns:
      {metric: array} on the host.
    """
    values = jax.device_get(dict(metrics))
    num_recent, num_ended = values.pop("num_recent"), values.pop("num_ended")

    def fill(name: str, value: Any) -> Any:
        if name in ("episode_return", "episode_length"):
            return np.where(num_recent > 0, value, np.float32("nan"))
        if name.startswith("log/"):
            return np.where(num_ended > 0, value, np.float32("nan"))
        return value

    return {name: fill(name, value) for name, value in values.items()}
