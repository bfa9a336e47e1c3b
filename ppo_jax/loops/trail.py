"""What a rollout went through, kept to be looked at when something breaks."""

from typing import Any, NamedTuple

from ppo_jax.types import Array, Obs, Rollout


class Trail(NamedTuple):
    """The steps of a rollout, with the states that environments in JAX had in them."""

    env_state: Any  # [T, ...] before each step
    obs: Obs  # {group: [T, N, ...]}, what was acted on
    action: Array  # [T, N, A] or [T, N]
    reward: Array  # [T, N]
    done: Array  # [T, N] bool, an episode ended


def trail_of(rollout: Rollout, env_state: Any) -> Trail:
    """Returns a rollout with the states before its steps, [T, ...]."""
    steps = rollout.steps
    done = steps.terminated | steps.truncated
    return Trail(env_state, steps.obs, steps.action, steps.reward, done)
