"""Judging a policy: returns of whole episodes, and an episode to look at."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.ppo import PPO
from ppo_jax.types import Array, Env, Key, TrainState


class Evaluation(NamedTuple):
    """One whole episode of each environment, from its start, with the mode."""

    episode_return: Array  # [N]
    episode_length: Array  # [N] int32
    log: dict[str, Array]  # {tag: [N]} what the environment reported at the end


class Recording(NamedTuple):
    """One episode as the states that it went through."""

    env_state: Any  # [T, 1, ...]
    done: Array  # [T] bool, whether the episode was over before this state


def evaluate(ppo: PPO, env: Env, state: TrainState, key: Key) -> Evaluation:
    """Plays the first episode of every environment with the deterministic policy."""

    def step(carry: Any, _: None) -> tuple[Any, None]:
        env_state, obs, over, result = carry
        env_state, timestep = env.step(env_state, ppo.mode(state, obs))
        ends = (timestep.terminated | timestep.truncated) & ~over
        result = Evaluation(
            episode_return=result.episode_return + jnp.where(over, 0, timestep.reward),
            episode_length=result.episode_length + jnp.where(over, 0, 1),
            log={
                tag: jnp.where(ends, value, result.log[tag])
                for tag, value in timestep.log.items()
            },
        )
        return (env_state, timestep.obs, over | ends, result), None

    env_state, obs = env.reset(key)
    action = jax.eval_shape(ppo.mode, state, obs)
    _, timestep = jax.eval_shape(env.step, env_state, action)
    start = Evaluation(
        episode_return=jnp.zeros(env.num_envs),
        episode_length=jnp.zeros(env.num_envs, jnp.int32),
        log={tag: jnp.zeros(x.shape, x.dtype) for tag, x in timestep.log.items()},
    )
    over = jnp.zeros(env.num_envs, bool)
    carry = (env_state, obs, over, start)
    (_, _, _, result), _ = jax.lax.scan(step, carry, length=env.max_episode_length)
    return result


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
