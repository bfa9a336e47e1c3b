"""A policy at play, one step after the other, for whoever looks at it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppo_jax.learning.algorithm import Algorithm
from ppo_jax.policies.memory import forget
from ppo_jax.types import Array, Env, Key, Obs, TimeStep, TrainState


class Moment(NamedTuple):
    """N environments between two steps."""

    env_state: Any
    obs: Obs  # {group: [N, ...]}
    memory: Any  # of the policy; () without one
    episode_return: Array  # [N] of the current episode, so far
    episode_length: Array  # [N] int32, its steps
    last_return: Array  # [N] of the episode before; NaN: there was none


class Reward(NamedTuple):
    """What a step paid."""

    total: Array  # [N]
    terms: dict[str, Array]  # {name: [N]} whose sum it is; {}: nobody tells


# (env_state, action) -> {name: [N]}, of what the reward of a step consists
Terms = Callable[[Any, Array], dict[str, Array]]


def begin(ppo: Algorithm, env: Env, key: Key) -> Moment:
    """Returns all environments at the start of an episode."""
    env_state, obs = env.reset(key)
    zeros = jnp.zeros(env.num_envs)
    length = jnp.zeros(env.num_envs, jnp.int32)
    memory = ppo.initial_carry(obs)
    return Moment(env_state, obs, memory, zeros, length, zeros + jnp.nan)


def advance(
    ppo: Algorithm, env: Env, terms: Terms | None, learned: TrainState, moment: Moment
) -> tuple[Moment, Reward]:
    """Takes one step with the deterministic policy.

    Args:
      ppo: the algorithm; its functions jitted where the step of `env` cannot be.
      env: the environments.
      terms: tells of what their reward consists; None: they do not.
      learned: what the policy is made of; another one changes nothing else.
      moment: before the step.
    """
    action, memory = ppo.play(learned, moment.obs, moment.memory)
    told = terms(moment.env_state, action) if terms else {}
    env_state, timestep = env.step(moment.env_state, action)
    after = _after(moment, env_state, memory, timestep)
    return after, Reward(timestep.reward, told)


@jax.jit  # one call of many where the loop runs on the host
def _after(moment: Moment, env_state: Any, memory: Any, timestep: TimeStep) -> Moment:
    """Returns the moment after a step, its sums those of the episode that goes on."""
    done = timestep.terminated | timestep.truncated
    episode_return = moment.episode_return + timestep.reward
    return Moment(
        env_state,
        timestep.obs,
        forget(memory, done),
        episode_return=jnp.where(done, 0.0, episode_return),
        episode_length=jnp.where(done, 0, moment.episode_length + 1),
        last_return=jnp.where(done, episode_return, moment.last_return),
    )
