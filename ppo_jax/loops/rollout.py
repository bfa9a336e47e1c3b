"""Collecting experience: the one loop body."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.learning.algorithm import Algorithm
from ppo_jax.loops.episodes import log_means, recent_means, remember
from ppo_jax.loops.trail import trail_of
from ppo_jax.policies.memory import forget
from ppo_jax.types import (
    Array,
    Env,
    Key,
    Metrics,
    Obs,
    PolicyOutput,
    Rollout,
    RunState,
    TimeStep,
    TrainState,
    Transition,
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
    ppo: Algorithm,
    env: Env,
    num_steps: int,
    run: RunState,
    key: Key,
    scan: Scan = jax.lax.scan,
    keep_trail: bool = False,
) -> tuple[RunState, Rollout, Metrics]:
    """Steps all environments `num_steps` times with the current policy.

    Args:
      ppo: the algorithm; its parameters stand still meanwhile.
      env: the environments.
      num_steps: T, how many.
      run: where the run stands.
      key: for the actions.
      scan: `jax.lax.scan`, or `host_scan` for an environment that cannot be traced.
      keep_trail: return the states of environments in JAX too, as "trail".

    Returns:
      The run after T steps, the rollout [T, N, ...], and metrics of the episodes:
      "episode_return" and "episode_length" (means of the last "num_recent" finished),
      "log/<tag>" (means over the "num_ended" that ended now), where 0 are averaged 0,
      see `with_gaps`; and "nonfinite/<quantity>" [8]: the first environments where it
      is not finite, or -1.
    """
    if scan is host_scan and isinstance(env, SteppedFromHost):
        return _collect_from_host(ppo, env, num_steps, run, key)

    def step(carry: Any, key: Key) -> Any:
        env_state, before = carry
        kept = env_state if keep_trail else ()
        output = _act(ppo, run.train, before, key)
        with jax.named_scope("step"):
            env_state, timestep = env.step(env_state, output.action)
        after, row = _note(ppo, run.train, before, output, timestep)
        return (env_state, after), (row, kept)

    before, keys = _first_carry(run), jax.random.split(key, num_steps)
    (env_state, after), (rows, states) = scan(step, (run.env_state, before), keys)
    run, rollout, metrics = _finish(run, after, rows)
    if keep_trail:
        metrics["trail"] = trail_of(rollout, states)
    return run._replace(env_state=env_state), rollout, metrics


@runtime_checkable
class SteppedFromHost(Protocol):
    """An environment whose step and what follows it can be one call: no copy more."""

    def step_and(
        self, follow: Callable[..., Any], env_state: Any, action: Array, *args: Any
    ) -> tuple[Any, Array, Any]:
        """Steps; returns `follow(env_state, timestep, *args)`, a jitted function.

        It returns (env_state, next action, the rest), and nothing of the timestep that
        it has not copied: that is only lent.
        """
        ...


def _collect_from_host(
    ppo: Algorithm, env: Any, num_steps: int, run: RunState, key: Key
) -> tuple[RunState, Rollout, Metrics]:
    """Does the same with one program between two steps of the environments."""
    before = _first_carry(run)
    keys, output = _begin(ppo, num_steps, run.train, before, key)
    env_state, action, rows = run.env_state, output.action, []
    for index in range(num_steps):
        follow = _go_on[index + 1 == num_steps]
        args = ppo, run.train, before, output, keys, np.int32(index + 1)
        env_state, action, rest = env.step_and(follow, env_state, action, *args)
        before, output, row = rest
        rows.append(row)
    run, rollout, metrics = _finish_stacked(run, before, rows)
    return run._replace(env_state=env_state), rollout, metrics


# The jits here make one call of many where the loop runs on the host; inside another
# jit they change nothing.


@partial(jax.jit, static_argnums=(0, 1))
def _begin(
    ppo: Algorithm, num_steps: int, train: TrainState, before: StepCarry, key: Key
) -> tuple[Key, PolicyOutput]:
    """Returns a key for each step, and what the first one does."""
    keys = jax.random.split(key, num_steps)
    return keys, _act(ppo, train, before, keys[0])


def _go_on_from(
    is_last: bool,
    env_state: Any,
    timestep: TimeStep,
    ppo: Algorithm,
    train: TrainState,
    before: StepCarry,
    output: PolicyOutput,
    keys: Key,
    index: Array,
) -> tuple[Any, Array, Any]:
    """Notes a step, and acts for the next one unless it was the last."""
    env_state, timestep = jax.tree.map(jnp.copy, (env_state, timestep))
    after, row = _note(ppo, train, before, output, timestep)
    if not is_last:
        output = _act(ppo, train, after, keys[index])
    return env_state, jnp.copy(output.action), (after, output, row)


_go_on = {
    is_last: jax.jit(partial(_go_on_from, is_last), static_argnums=2)
    for is_last in (False, True)
}


def _first_carry(run: RunState) -> StepCarry:
    episodes = run.episodes
    return StepCarry(
        run.obs, run.carry, episodes.episode_return, episodes.episode_length
    )


@jax.named_scope("act")
def _act(
    ppo: Algorithm, train: TrainState, before: StepCarry, key: Key
) -> PolicyOutput:
    return ppo.act(train, before.obs, key, before.memory)


def _note(
    ppo: Algorithm,
    train: TrainState,
    before: StepCarry,
    output: PolicyOutput,
    timestep: TimeStep,
) -> tuple[StepCarry, tuple[Transition, StepRecord]]:
    """Returns what the next step needs, and what is kept of this one."""
    transition = ppo.observe(train, before.obs, output, timestep)
    after, record = _count(before, output, timestep)
    return after, (transition, record)


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
def _finish(
    run: RunState, after: StepCarry, rows: tuple[Transition, StepRecord]
) -> tuple[RunState, Rollout, Metrics]:
    """Returns the run after a rollout, the rollout and its metrics."""
    steps, records = rows
    rollout = Rollout(steps, last_obs=after.obs, first_carry=run.carry)
    episodes = run.episodes._replace(
        episode_return=after.episode_return, episode_length=after.episode_length
    )
    episodes = remember(
        episodes, records.done, records.episode_return, records.episode_length
    )
    metrics = recent_means(episodes) | log_means(records.done, records.log)
    run = run._replace(obs=after.obs, carry=after.memory, episodes=episodes)
    return run, rollout, metrics | _nonfinite(rollout)


@jax.jit
def _finish_stacked(
    run: RunState, after: StepCarry, rows: list[Any]
) -> tuple[RunState, Rollout, Metrics]:
    return _finish(run, after, jax.tree.map(lambda *x: jnp.stack(x), *rows))


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
    """Returns [8] the first places where a [N] bool array is True, then -1."""
    num_envs = len(bad)
    places = jnp.where(bad, jnp.arange(num_envs, dtype=jnp.int32), num_envs)
    first = -jax.lax.top_k(-places, min(NUM_REPORTED, num_envs))[0]
    first = jnp.where(first < num_envs, first, -1)
    return jnp.pad(first, (0, NUM_REPORTED - len(first)), constant_values=-1)
