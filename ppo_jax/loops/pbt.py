"""Population-based training: the worst members copy the best, and try other numbers.

Letters in the shape comments: P members.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.loops.episodes import fitness
from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.policies.memory import forget
from ppo_jax.types import Array, Hyperparams, Key, Metrics, RunState

SLOWER, FASTER = 0.8, 1.25  # what a value is multiplied by
DISCOUNTS = ("gamma", "lam")  # of which the distance to 1 is what counts


def evolve(
    config: PBTConfig,
    num_iterations: int,
    runs: RunState,
    hparams: Hyperparams,
    metrics: Metrics,
) -> tuple[RunState, Hyperparams, Metrics]:
    """Lets a population evolve after an iteration, if it is time.

    It is every `perturbation_interval` iterations, but not after the last one, so that
    what a member has learned is what its curve shows.

    Args:
      config: how.
      num_iterations: of the whole training.
      runs: [P, ...] after the iteration.
      hparams: each [P], with which it was done.
      metrics: of it, [P]; "episode_return" says who is good, if "num_recent" episodes
        have ended.

    Returns:
      The runs, where some have the parameters, observation statistics and optimizer of
      others; their hyper-parameters; and metrics [P]: "parent", who each continues, and
      "hparams/<name>", the values of what is explored in this iteration.
    """
    done = runs.train.iteration[0]
    is_time = (done % config.perturbation_interval == 0) & (done < num_iterations)
    exploit_key, explore_key = jax.random.split(jax.random.fold_in(runs.key[0], 0))
    parent = exploit(config, fitness(metrics), exploit_key)
    parent = jnp.where(is_time, parent, jnp.arange(len(parent)))
    explored = {name: getattr(hparams, name) for name, _, _ in config.bounds}
    news = {"parent": parent} | {f"hparams/{k}": x for k, x in explored.items()}
    hparams = explore(config, hparams, parent, explore_key)
    train: Any = jax.tree.map(lambda x: x[parent], runs.train)
    if "learning_rate" in explored:
        train = train._replace(learning_rate=hparams.learning_rate)
    # What another network remembered says nothing to the one that takes its place.
    carry = forget(runs.carry, parent != jnp.arange(len(parent)))
    return runs._replace(train=train, carry=carry), hparams, news


def exploit(config: PBTConfig, fitness: Array, key: Key) -> Array:
    """Returns whom each member continues: itself, or, if it is bad, one of the best.

    Truncation selection: each of the worst quarter draws one of the best quarter, and
    keeps its own place unless that one is better.

    Args:
      config: says how large the quarter is; at least one member.
      fitness: [P], larger is better, NaN is worst.
      key: for the draws.

    Returns:
      [P] int32.

    Source: Jaderberg et al. 2017, section 4.1.2, arXiv:1711.09846.
    """
    num_members = len(fitness)
    count = max(int(config.quantile_fraction * num_members), 1)
    fitness = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    order = jnp.argsort(fitness, descending=True)
    drawn = order[jax.random.randint(key, (count,), 0, count)]
    worst = order[num_members - count :]
    parent = jnp.where(fitness[drawn] > fitness[worst], drawn, worst)
    return jnp.arange(num_members).at[worst].set(parent)


def explore(
    config: PBTConfig, hparams: Hyperparams, parent: Array, key: Key
) -> Hyperparams:
    """Returns the hyper-parameters of all members after an exchange.

    Who continues another has its values, and each that is explored is multiplied by 0.8
    or 1.25; of `gamma` and `lam` it is the distance to 1, hence the horizon. No value
    leaves its bounds.

    Args:
      config: says what is explored, and where.
      hparams: each [P].
      parent: [P], from `exploit`.
      key: for the draws.

    Source: Jaderberg et al. 2017, section 4.1.2, arXiv:1711.09846. Differs: horizons.
    """
    is_new = parent != jnp.arange(len(parent))
    inherited = jax.tree.map(lambda x: x[parent], hparams)
    changed = {}
    for index, (name, low, high) in enumerate(config.bounds):
        value = getattr(inherited, name)
        name_key = jax.random.fold_in(key, index)
        faster = jax.random.bernoulli(name_key, shape=value.shape)
        factor = jnp.where(faster, FASTER, SLOWER)
        moved = 1 - (1 - value) * factor if name in DISCOUNTS else value * factor
        changed[name] = jnp.where(is_new, jnp.clip(moved, low, high), value)
    return inherited._replace(**changed)
