"""Judging a policy: returns of whole episodes, and an episode to look at."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.learning.algorithm import Algorithm
from ppo_jax.loops.rollout import Scan
from ppo_jax.policies.memory import forget
from ppo_jax.types import Array, Env, Key, Obs, TimeStep, TrainState


class Evaluation(NamedTuple):
    """One whole episode of each environment, from its start, with the mode."""

    episode_return: Array  # [N]
    episode_length: Array  # [N] int32
    log: dict[str, Array]  # {tag: [N]} what the environment reported at the end


class Recording(NamedTuple):
    """One episode as the states that it went through."""

    env_state: Any  # [T, 1, ...]
    done: Array  # [T] bool, whether the episode was over before this state


class Observed(NamedTuple):
    """What some environments showed while they were played, step by step."""

    obs: Obs  # {group: [T, N, ...]}
    is_first: Array  # [T, N] bool, whether an episode begins with this observation


def evaluate(
    ppo: Algorithm, env: Env, state: TrainState, key: Key, scan: Scan = jax.lax.scan
) -> Evaluation:
    """Plays the first episode of every environment with the deterministic policy."""

    def step(carry: Any, _: Array) -> tuple[Any, TimeStep]:
        env_state, obs, memory = carry
        action, memory = ppo.play(state, obs, memory)
        env_state, timestep = env.step(env_state, action)
        after = env_state, timestep.obs, _forget(memory, timestep)
        return after, timestep._replace(obs={}, final_obs=None)

    env_state, obs = env.reset(key)
    start = env_state, obs, ppo.initial_carry(obs)
    _, steps = scan(step, start, jnp.arange(env.max_episode_length))
    done = steps.terminated | steps.truncated
    is_first = jnp.cumsum(done, axis=0) - done == 0  # no episode has ended before
    return Evaluation(
        episode_return=jnp.where(is_first, steps.reward, 0.0).sum(axis=0),
        episode_length=is_first.sum(axis=0, dtype=jnp.int32),
        log={
            tag: jnp.where(is_first & done, x, 0).sum(axis=0, dtype=x.dtype)
            for tag, x in steps.log.items()
        },
    )


def record(ppo: Algorithm, env: Env, state: TrainState, key: Key) -> Recording:
    """Plays one environment for the length of an episode and keeps every state."""

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        env_state, obs, memory, over = carry
        action, memory = ppo.play(state, obs, memory)
        next_state, timestep = env.step(env_state, action)
        ended = over | (timestep.terminated | timestep.truncated)[0]
        after = next_state, timestep.obs, _forget(memory, timestep), ended
        return after, Recording(env_state, over)

    env_state, obs = env.reset(key)
    carry = (env_state, obs, ppo.initial_carry(obs), jnp.zeros((), bool))
    _, recording = jax.lax.scan(step, carry, length=env.max_episode_length)
    return recording


def observe_episodes(
    ppo: Algorithm,
    env: Env,
    num_steps: int,
    num_kept: int,
    state: TrainState,
    key: Key,
    scan: Scan = jax.lax.scan,
) -> Observed:
    """Plays with the deterministic policy and keeps what it sees.

    Args:
      ppo: the algorithm.
      env: the environments; all are stepped.
      num_steps: T, how often.
      num_kept: how many environments are kept, the first ones.
      state: what was learned.
      key: of the episodes.
      scan: see `rollout.collect`.
    """

    def step(carry: Any, _: Array) -> tuple[Any, Observed]:
        env_state, obs, memory, is_first = carry
        action, memory = ppo.play(state, obs, memory)
        env_state, timestep = env.step(env_state, action)
        done = timestep.terminated | timestep.truncated
        seen = jax.tree.map(lambda x: x[:num_kept], Observed(obs, is_first))
        return (env_state, timestep.obs, _forget(memory, timestep), done), seen

    env_state, obs = env.reset(key)
    is_first = jnp.ones(env.num_envs, bool)
    carry = (env_state, obs, ppo.initial_carry(obs), is_first)
    return scan(step, carry, jnp.arange(num_steps))[1]


@jax.jit  # one call of many where the loop runs on the host
def _forget(memory: Any, timestep: TimeStep) -> Any:
    return forget(memory, timestep.terminated | timestep.truncated)
