"""Advantage estimation over [T, ...] sequences."""

import chex
import jax
import jax.numpy as jnp

from ppo_jax.policies.moments import deviations
from ppo_jax.policies.shards import Axis, num_shards, sum_over
from ppo_jax.types import Array, Scalar


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    *,
    gamma: Scalar,
    lam: Scalar,
) -> Array:
    """Estimates the advantage of each action by generalised advantage estimation.

        delta[t] = reward[t] + gamma * next_value[t] - value[t]
        A[t]     = delta[t] + gamma * lam * A[t + 1]

    A terminated step has no next value; no sum crosses the end of an episode,
    terminated or truncated. Where both flags are set the step is terminated.

    Args:
      reward: [T, ...] received after each action, in task units.
      value: [T, ...] V(obs), in the units of the discounted return.
      next_value: [T, ...] V of the state each step led to, before auto-reset.
      terminated: [T, ...] bool, the episode ended in a terminal state.
      truncated: [T, ...] bool, the episode was cut, for instance by a time limit.
      gamma: discount per step, in [0, 1].
      lam: 0 gives the one-step TD error, 1 the Monte Carlo advantage.

    Returns:
      [T, ...] advantage, not normalised.

    Source: Schulman et al. 2016, eq. 16, arXiv:1506.02438. Differs: the episode
    ends are ours; the paper has none.
    """
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    chex.assert_type([terminated, truncated], bool)

    td_error = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    ends = terminated | truncated

    def backward(advantage: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        td_error, ends = step
        advantage = td_error + jnp.where(ends, 0.0, gamma * lam * advantage)
        return advantage, advantage

    _, advantage = jax.lax.scan(
        backward,
        jnp.zeros_like(td_error[0]),
        (td_error, ends),
        reverse=True,
        unroll=4,  # the body is a multiplication; the loop would cost more than it
    )
    return advantage


def successor_value(
    value: Array,
    last_value: Array,
    terminated: Array,
    truncated: Array,
    final_value: Array | tuple[()],
    timeout_bootstrap: str,
) -> tuple[Array, Array]:
    """Returns the value after each step, and where there is none.

    Inside an episode it is the value of the next observation. Where an episode was
    cut, the next observation belongs to another episode, and the value is

    * "final_obs": V of the observation before the auto-reset, exact;
    * "last_value": V(o_t), what rsl_rl uses, even where the step also terminated;
    * "none": nothing, as if the episode had terminated.

    Args:
      value: [T, ...] V(obs).
      last_value: [...] V of the observation after the last step.
      terminated: [T, ...] bool.
      truncated: [T, ...] bool.
      final_value: [T, ...] V(final_obs) where truncated; read by "final_obs" only.
      timeout_bootstrap: one of the three.

    Returns:
      [T, ...] next_value and [T, ...] bool terminated, for `gae`.
    """
    next_value = jnp.concatenate([value[1:], last_value[None]])
    if timeout_bootstrap == "final_obs":
        return jnp.where(truncated, jnp.asarray(final_value), next_value), terminated
    if timeout_bootstrap == "last_value":
        return jnp.where(truncated, value, next_value), terminated & ~truncated
    return next_value, terminated | truncated


def normalize_advantage(advantage: Array, axis: Axis = None) -> Array:
    """Returns (A - mean) / (std + 1e-8), with the unbiased std; 0 where all are equal.

    Args:
      advantage: [...], at least two.
      axis: of shards with as many each; mean and std are then those of all.
    """
    _, deviation = deviations(advantage.ravel(), axis)
    squares = sum_over(axis, jnp.square(deviation).sum())
    std = jnp.sqrt(squares / (deviation.size * num_shards(axis) - 1))
    return (deviation / (std + 1e-8)).reshape(advantage.shape)
