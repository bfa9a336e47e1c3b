"""Acting: an action from an observation, and of each step what the update needs."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.learning.config import PPOConfig
from ppo_jax.types import (
    ActorCritic,
    Array,
    Key,
    Obs,
    PolicyOutput,
    TimeStep,
    TrainState,
    Transition,
)


def act(
    network: ActorCritic, state: TrainState, obs: Obs, key: Key, carry: Any = ()
) -> PolicyOutput:
    """Draws an action for every environment.

    Args:
      network: policy and value function.
      state: what was learned.
      obs: {group: [N, ...]}.
      key: for the draw.
      carry: memory before the step, from `initial_carry` where episodes begin, and
        through `forget` where they ended; the output holds the memory after it.
    """
    distribution, carry = _step(network, state, obs, carry)
    action = distribution.sample(key)
    return PolicyOutput(action, distribution.log_prob(action), distribution, carry)


def initial_carry(network: ActorCritic, obs: Obs) -> Any:
    """Returns the memory of actor and critic at the start of N episodes.

    Args:
      network: policy and value function.
      obs: {group: [N, ...]}, for N.
    """
    return network.recurrence.initial(obs) if network.recurrence else ()


def mode(network: ActorCritic, state: TrainState, obs: Obs) -> Array:
    """Returns the deterministic action of every environment.

    Raises:
      ValueError: the policy has memory, see `play`.
    """
    if network.recurrence:
        raise ValueError(
            "this policy has memory: call play(state, obs, carry), which returns the "
            "action and the next carry, and begin with initial_carry(obs)"
        )
    return play(network, state, obs, ())[0]


def play(
    network: ActorCritic, state: TrainState, obs: Obs, carry: Any
) -> tuple[Array, Any]:
    """Returns the deterministic action of every environment, and the memory after it.

    Args:
      network: policy and value function.
      state: what was learned.
      obs: {group: [N, ...]}.
      carry: memory before the step, see `act`.
    """
    distribution, carry = _step(network, state, obs, carry)
    return distribution.mode(), carry


def observe(
    network: ActorCritic,
    config: PPOConfig,
    state: TrainState,
    obs: Obs,
    output: PolicyOutput,
    timestep: TimeStep,
) -> Transition:
    """Keeps of one step what the update needs.

    V(final_obs) is taken here, and only when some episode was cut, so that a rollout
    need not store final observations. A critic with memory reads it as the next
    observation of the episode that was cut: its memory is that after `obs`.

    Raises:
      ValueError: `timeout_bootstrap` is "final_obs", but the environment has none.
    """
    final_value: Array | tuple[()] = ()
    if timestep.final_obs is None and config.timeout_bootstrap == "final_obs":
        raise ValueError(
            "timeout_bootstrap = 'final_obs', but the environment gives no final_obs: "
            "give 'last_value' (rsl_rl's rule) or 'auto'"
        )
    if timestep.final_obs is not None and config.timeout_bootstrap in (
        "auto",
        "final_obs",
    ):
        value = partial(_value, network, state, timestep.final_obs, output.carry)
        if jax.default_backend() == "gpu":  # a branch makes its host wait, for more
            final_value = value()
        else:
            zeros = partial(jnp.zeros_like, timestep.reward)
            final_value = jax.lax.cond(timestep.truncated.any(), value, zeros)
    return Transition(
        obs=obs,
        action=output.action,
        log_prob=output.log_prob,
        distribution=output.distribution,
        reward=timestep.reward,
        terminated=timestep.terminated,
        truncated=timestep.truncated,
        final_value=final_value,
    )


def _step(
    network: ActorCritic, state: TrainState, obs: Obs, carry: Any
) -> tuple[Any, Any]:
    """Returns the distribution of the actions, and the memory after the step."""
    inputs = network.prepare(state.obs_stats, obs)
    if network.recurrence:
        return network.recurrence.step(state.params, inputs, carry)
    return network.policy(state.params, inputs), carry


def _value(network: ActorCritic, state: TrainState, obs: Obs, carry: Any) -> Array:
    """Returns what observations are worth after what is remembered."""
    inputs = network.prepare(state.obs_stats, obs)
    if network.recurrence:
        return network.recurrence.value(state.params, inputs, carry)
    return network.value(state.params, inputs)
