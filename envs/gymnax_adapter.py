"""gymnax environments as tasks; gymnax is imported when one is made."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.envs.adapting import cast_like, import_package, require_known
from ppo_jax.types import ActionSpace, Array, Continuous, Discrete, Key, Obs

NO_LIMIT = 2**30


class GymnaxState(NamedTuple):
    """The state of a gymnax environment and what it showed last."""

    env_state: Any
    obs: Array  # [D]


@dataclass(frozen=True)
class GymnaxTask:
    """A gymnax environment without its auto-reset and time limit.

    `vectorize` provides both, with the final observation that gymnax 0.0.9 loses.
    Stepping by `step_env` makes the two APIs one: it returns five values in 0.0.9,
    where `step` does too, and in 1.x, where `step` returns six.
    """

    env: Any
    params: Any

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes; a space of any shape is flattened."""
        space = self.env.action_space(self.params)
        if hasattr(space, "n"):
            return Discrete(int(space.n))
        return Continuous(math.prod(space.shape))

    @property
    def max_episode_length(self) -> int:
        """Steps after which the episode is truncated."""
        return int(self.params.max_steps_in_episode)

    @property
    def step_dt(self) -> float:
        """Duration of one step, in s; 1 where the environment has no notion of time."""
        return float(getattr(self.params, "tau", getattr(self.params, "dt", 1.0)))

    def reset(self, key: Key) -> GymnaxState:
        """Draws the state at the start of an episode."""
        obs, env_state = self.env.reset_env(key, self.params)
        return GymnaxState(cast_like(env_state, env_state), _flatten(obs))

    def step(
        self, state: GymnaxState, action: Array, key: Key, common_step: Array
    ) -> tuple[GymnaxState, Array, Array, dict[str, Array]]:
        """Moves on by one step.

        A continuous action is clipped to its space: not every environment does so
        itself, and some that do still charge for the action as it came.
        """
        obs, env_state, reward, terminated, _ = self.env.step_env(
            key, state.env_state, self._native(action), self._untimed_params()
        )
        state = GymnaxState(cast_like(env_state, state.env_state), _flatten(obs))
        reward = jnp.asarray(reward, jnp.float32)
        return state, reward, jnp.asarray(terminated, bool), {}

    def observe(self, state: GymnaxState, key: Key) -> Obs:
        """Returns the observation, flat, as the group "policy"."""
        return {"policy": state.obs}

    def draw(self, state: GymnaxState, figure: Any) -> None:
        """Draws the cart or the pendulum; of other environments the observation."""
        pictures = {"CartPole-v1": _draw_cartpole, "Pendulum-v1": _draw_pendulum}
        picture = pictures.get(self.env.name, _draw_observation)
        picture(state, figure.subplots())

    def _native(self, action: Array) -> Array:
        space = self.env.action_space(self.params)
        if hasattr(space, "n"):
            return action
        return jnp.clip(action.reshape(space.shape), space.low, space.high)

    def _untimed_params(self) -> Any:
        """Lifts the time limit where it hides in `done`: gymnax 0.0.9."""
        if hasattr(self.env, "is_truncated"):
            return self.params
        return self.params.replace(max_steps_in_episode=NO_LIMIT)


def make_gymnax(name: str) -> GymnaxTask:
    """Returns a registered gymnax environment as a task, with its default parameters.

    Raises:
      ImportError: gymnax cannot be imported.
      ValueError: gymnax has no environment of this name.
    """
    gymnax = import_package("gymnax", "gymnax", "gymnax six")
    require_known("gymnax has no environment", name, gymnax.registered_envs)
    return GymnaxTask(*gymnax.make(name))


def _flatten(obs: Any) -> Array:
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(obs)]
    return jnp.concatenate(leaves).astype(jnp.float32)


def _draw_cartpole(state: GymnaxState, axes: Any) -> None:
    x, theta = float(state.env_state.x), float(state.env_state.theta)
    axes.plot([-2.4, 2.4], [0, 0], color="0.7", linewidth=2)
    axes.plot([x - 0.25, x + 0.25], [0, 0], color="0.2", linewidth=14)
    tip = x + np.sin(theta), np.cos(theta)
    axes.plot([x, tip[0]], [0, tip[1]], color="tab:orange", linewidth=6)
    _frame(axes, (-2.6, 2.6), (-0.4, 1.4))


def _draw_pendulum(state: GymnaxState, axes: Any) -> None:
    theta = float(state.env_state.theta)
    axes.plot([0, -np.sin(theta)], [0, np.cos(theta)], color="tab:orange", linewidth=10)
    axes.plot(0, 0, "o", color="0.2", markersize=10)
    _frame(axes, (-1.2, 1.2), (-1.2, 1.2))


def _frame(axes: Any, x_limits: tuple, y_limits: tuple) -> None:
    axes.set(xlim=x_limits, ylim=y_limits, aspect="equal")
    axes.axis("off")


def _draw_observation(state: GymnaxState, axes: Any) -> None:
    obs = np.asarray(state.obs)
    axes.bar(np.arange(obs.size), obs)
    axes.set_title("observation")
