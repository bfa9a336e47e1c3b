"""Collecting experience: the one loop body."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.learning.ppo import PPO
from ppo_jax.loops.episodes import log_means, recent_means, remember
from ppo_jax.policies.memory import forget
from ppo_jax.types import (
    Array,
    Env,
    EpisodeStats,
    Key,
    Metrics,
    Obs,
    PolicyOutput,
    Rollout,
    RunState,
    TimeStep,
)

Scan = Callable[..., tuple[Any, Any]]  # the contract of jax.lax.scan

NUM_REPORTED = 8  # environments named when something is not finite


class StepCarry(NamedTuple):
    """What one step hands to the next, apart from the environments themselves."""

    obs: Obs  # {group: [N, ...]}
    memory: Any  # of a recurrent policy; () without one
    episode_return: Array  # [N] so far
    episode_length: Array  # [N] so far


class StepRecord(NamedTuple):
    """What the statistics need of one step."""

    done: Array  # [N] bool
    episode_return: Array  # [N] up to and including this step
    episode_length: Array  # [N]
    log: dict[str, Array]  # {tag: [] sum over the environments that are done}


def host_scan(f: Callable[..., Any], init: Any, xs: Any) -> tuple[Any, Any]:
    """Does what `jax.lax.scan(f, init, xs)` does, as a Python loop.

    For environments that cannot be traced; `f` sees real arrays.
    """
    carry, outputs = init, []
    for index in range(len(jax.tree.leaves(xs)[0])):
        carry, output = f(carry, jax.tree.map(lambda x: x[index], xs))  # noqa: B023
        outputs.append(output)
    return carry, _stack(outputs)


def collect(
    ppo: PPO,
    env: Env,
    num_steps: int,
    run: RunState,
    key: Key,
    scan: Scan = jax.lax.scan,
) -> tuple[RunState, Rollout, Metrics]:
    """Steps all environments `num_steps` times with the current policy.

    Args:
      ppo: the algorithm; its parameters stand still meanwhile.
      env: the environments.
      num_steps: T, how many.
      run: where the run stands.
      key: for the actions.
      scan: `jax.lax.scan`, or `host_scan` for an environment that cannot be traced.

    Returns:
      The run after T steps, the rollout [T, N, ...], and metrics of the episodes:
      "episode_return" and "episode_length" (means of the last "num_recent" finished),
      "log/<tag>" (means over the "num_ended" that ended now), where 0 are averaged 0,
      see `with_gaps`; and "nonfinite/<quantity>" [8]: the first environments where it
      is not finite, or -1.
    """

    def step(carry: Any, key: Key) -> Any:
        env_state, before = carry
        output = ppo.act(run.train, before.obs, key, before.memory)
        env_state, timestep = env.step(env_state, output.action)
        transition = ppo.observe(run.train, before.obs, output, timestep)
        after, record = _count(before, output, timestep)
        return (env_state, after), (transition, record)

    episodes = run.episodes
    before = StepCarry(
        run.obs, run.carry, episodes.episode_return, episodes.episode_length
    )
    keys = jax.random.split(key, num_steps)
    (env_state, after), (steps, records) = scan(step, (run.env_state, before), keys)
    rollout = Rollout(steps, last_obs=after.obs, first_carry=run.carry)
    episodes, metrics = _summarize(episodes, after, rollout, records)
    run = run._replace(
        env_state=env_state, obs=after.obs, carry=after.memory, episodes=episodes
    )
    return run, rollout, metrics


# The jits here make one call of many where the loop runs on the host; inside another
# jit they change nothing.


@jax.jit
def _count(
    before: StepCarry, output: PolicyOutput, timestep: TimeStep
) -> tuple[StepCarry, StepRecord]:
    """Adds a step to its episodes; returns what the next step needs, and the record."""
    done = timestep.terminated | timestep.truncated
    episode_return = before.episode_return + timestep.reward
    episode_length = before.episode_length + 1
    after = StepCarry(
        timestep.obs,
        forget(output.carry, done),
        jnp.where(done, 0.0, episode_return),
        jnp.where(done, 0, episode_length),
    )
    log = {tag: jnp.where(done, x, 0.0).sum() for tag, x in timestep.log.items()}
    return after, StepRecord(done, episode_return, episode_length, log)


@jax.jit
def _summarize(
    episodes: EpisodeStats, after: StepCarry, rollout: Rollout, records: StepRecord
) -> tuple[EpisodeStats, Metrics]:
    """Returns the statistics after a rollout, and its metrics."""
    episodes = episodes._replace(
        episode_return=after.episode_return, episode_length=after.episode_length
    )
    episodes = remember(
        episodes, records.done, records.episode_return, records.episode_length
    )
    metrics = recent_means(episodes) | log_means(records.done, records.log)
    return episodes, metrics | _nonfinite(rollout)


@jax.jit
def _stack(outputs: list[Any]) -> Any:
    return jax.tree.map(lambda *ys: jnp.stack(ys), *outputs)


def _nonfinite(rollout: Rollout) -> Metrics:
    """Names the environments that gave something that is not a finite number."""
    bad = {
        f"obs[{group!r}]": _bad_envs(x) | _bad_envs(rollout.last_obs[group][None])
        for group, x in rollout.steps.obs.items()
    }
    bad["reward"] = _bad_envs(rollout.steps.reward)
    return {f"nonfinite/{name}": _first_envs(envs) for name, envs in bad.items()}


def _bad_envs(x: Array) -> Array:
    """Returns [N] bool of a [T, N, ...] array; integers are always finite."""
    other_axes = (0, *range(2, x.ndim))
    return (~jnp.isfinite(x)).any(axis=other_axes)


def _first_envs(bad: Array) -> Array:
    return jnp.nonzero(bad, size=NUM_REPORTED, fill_value=-1)[0].astype(jnp.int32)
