"""Judging a policy: returns of whole episodes, and an episode to look at."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.learning.ppo import PPO
from ppo_jax.loops.rollout import Scan
from ppo_jax.types import Array, Env, Key, TimeStep, TrainState


class Evaluation(NamedTuple):
    """One whole episode of each environment, from its start, with the mode."""

    episode_return: Array  # [N]
    episode_length: Array  # [N] int32
    log: dict[str, Array]  # {tag: [N]} what the environment reported at the end


class Recording(NamedTuple):
    """One episode as the states that it went through."""

    env_state: Any  # [T, 1, ...]
    done: Array  # [T] bool, whether the episode was over before this state


def evaluate(
    ppo: PPO, env: Env, state: TrainState, key: Key, scan: Scan = jax.lax.scan
) -> Evaluation:
    """Plays the first episode of every environment with the deterministic policy."""

    def step(carry: Any, _: Array) -> tuple[Any, TimeStep]:
        env_state, obs = carry
        env_state, timestep = env.step(env_state, ppo.mode(state, obs))
        return (env_state, timestep.obs), timestep._replace(obs={}, final_obs=None)

    _, steps = scan(step, env.reset(key), jnp.arange(env.max_episode_length))
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


def record(ppo: PPO, env: Env, state: TrainState, key: Key) -> Recording:
    """Plays one environment for the length of an episode and keeps every state."""

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        env_state, obs, over = carry
        next_state, timestep = env.step(env_state, ppo.mode(state, obs))
        ended = over | (timestep.terminated | timestep.truncated)[0]
        return (next_state, timestep.obs, ended), Recording(env_state, over)

    env_state, obs = env.reset(key)
    carry = (env_state, obs, jnp.zeros((), bool))
    _, recording = jax.lax.scan(step, carry, length=env.max_episode_length)
    return recording
