"""From one environment to N: the Task interface, and `vectorize` with auto-reset."""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ppo_jax.types import (
    ActionSpace,
    Array,
    Continuous,
    Env,
    EnvInfo,
    Key,
    Obs,
    TimeStep,
)


class Task(Protocol):
    """One environment as pure functions of one state, without batch axis.

    A task says when its MDP ends; how long an episode may last is counted and cut
    by `vectorize`. States are pytrees of strongly typed arrays.
    """

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes."""
        ...

    @property
    def max_episode_length(self) -> int:
        """Steps after which the episode is truncated."""
        ...

    @property
    def step_dt(self) -> float:
        """Duration of one control step, in s."""
        ...

    def reset(self, key: Key) -> Any:
        """Draws the state at the start of an episode."""
        ...

    def step(
        self, state: Any, action: Array, key: Key, common_step: Array
    ) -> tuple[Any, Array, Array, dict[str, Array]]:
        """Moves on by one control step.

        Args:
          state: of the task.
          action: [A] or [], as the policy gave it.
          key: for commands and disturbances.
          common_step: [] int32, control steps since training began; for curricula.

        Returns:
          The state, the reward [], terminated [] bool (or a number, 0 or 1), and
          {tag: []}: what to report of the episode if it ends here.
        """
        ...

    def observe(self, state: Any, key: Key) -> Obs:
        """Returns {group: [...]}; noise, if any, comes from the key."""
        ...

    def draw(self, state: Any, figure: Any) -> None:
        """Draws the state into an empty matplotlib figure.

        A task that inherits from `ppo_jax.envs.drawing.Painted` returns a `scene`
        instead, which is painted many times faster.
        """
        ...


class VectorState(NamedTuple):
    """The state of N environments."""

    task_state: Any  # [N, ...]
    episode_length: Array  # [N] int32, steps taken in the current episode
    common_step: Array  # [] int32, steps taken by all together
    key: Key


@dataclass(frozen=True)
class VectorEnv(Env):
    """N copies of a task that reset themselves and keep the final observation.

    A done environment starts a freshly drawn episode in the same step: `obs` is the
    first of the new episode, `final_obs` the last of the old one.
    """

    task: Task
    info: EnvInfo
    clip_actions: float | None = None  # the task sees continuous ones clipped to +- it

    def reset(self, key: Key) -> tuple[VectorState, Obs]:
        """Draws N episode starts."""
        key, reset_key, obs_key = jax.random.split(key, 3)
        task_state = jax.vmap(self.task.reset)(self._split(reset_key))
        obs = jax.vmap(self.task.observe)(task_state, self._split(obs_key))
        state = VectorState(
            task_state=task_state,
            episode_length=jnp.zeros(self.num_envs, jnp.int32),
            common_step=jnp.zeros((), jnp.int32),
            key=key,
        )
        return state, obs

    def reward_terms(self, env_state: VectorState, action: Array) -> dict[str, Array]:
        """Returns of what the reward of the next step will consist, {name: [N]}.

        Nothing, if the task has no `reward_terms` of (state, action, common_step).
        """
        tell = getattr(self.task, "reward_terms", None)
        if tell is None:
            return {}
        state, action = env_state.task_state, self._clipped(action)
        common_step = env_state.common_step + 1
        return jax.vmap(tell, in_axes=(0, 0, None))(state, action, common_step)

    def randomize_episode_length(self, env_state: VectorState, key: Key) -> VectorState:
        """Draws how many steps of each episode count as taken, uniformly."""
        shape = (self.num_envs,)
        length = jax.random.randint(key, shape, 0, self.max_episode_length, jnp.int32)
        return env_state._replace(episode_length=length)

    def step(
        self, env_state: VectorState, action: Array
    ) -> tuple[VectorState, TimeStep]:
        """Steps all; resets those that are done."""
        # One draw for what every task needs: small programs spend most time on draws.
        keys = jax.random.split(env_state.key, 2 + self.num_envs)
        key, noise_key, reset_keys = keys[0], keys[1], keys[2:]
        step_key, obs_key, first_key = jax.random.split(noise_key, 3)
        action = self._clipped(action)
        common_step = env_state.common_step + 1
        episode_length = env_state.episode_length + 1

        state, reward, terminated, log = jax.vmap(
            self.task.step, in_axes=(0, 0, 0, None)
        )(env_state.task_state, action, self._split(step_key), common_step)
        reward = _as_scalar("the reward", reward, jnp.float32)
        terminated = _as_scalar("terminated", terminated, jnp.bool_)
        log = {tag: _as_scalar(f"log[{tag!r}]", x, None) for tag, x in log.items()}
        final_obs = jax.vmap(self.task.observe)(state, self._split(obs_key))
        truncated = episode_length >= self.max_episode_length
        done = terminated | truncated

        def restart() -> tuple[Any, Obs]:
            first_state = jax.vmap(self.task.reset)(reset_keys)
            first_obs = jax.vmap(self.task.observe)(first_state, self._split(first_key))
            return _where(done, (first_state, first_obs), (state, final_obs))

        # With few environments most steps end no episode, and reset nothing.
        state, obs = jax.lax.cond(done.any(), restart, lambda: (state, final_obs))

        timestep = TimeStep(
            obs=obs,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            final_obs=final_obs,
            log=log,
        )
        episode_length = jnp.where(done, 0, episode_length)
        return VectorState(state, episode_length, common_step, key), timestep

    def _clipped(self, action: Array) -> Array:
        """Returns what the task sees; the index of a discrete action stays."""
        limit = self.clip_actions
        if limit is None or not isinstance(self.action_space, Continuous):
            return action
        return jnp.clip(action, -limit, limit)

    def _split(self, key: Key) -> Key:
        return jax.random.split(key, self.num_envs)


def vectorize(
    task: Task, num_envs: int, clip_actions: float | None = None
) -> VectorEnv:
    """Returns `num_envs` auto-resetting copies of a task.

    Args:
      task: one environment.
      num_envs: N, how many.
      clip_actions: the task sees continuous actions clipped to +- this; None: as is.

    Raises:
      ValueError: by `step`, when it is traced: what the task returns has another shape
        or type than `Task.step` says.
    """
    info = EnvInfo(num_envs, task.action_space, task.max_episode_length, task.step_dt)
    return VectorEnv(task, info, clip_actions)


def total(terms: dict[str, Array]) -> Array:
    """Returns the sum of what a reward consists of, in its order."""
    return reduce(add, terms.values())


def _where(done: Array, new: Any, old: Any) -> Any:
    """Selects `new` where done, leaf by leaf, whatever the trailing axes."""

    def select(new: Array, old: Array) -> Array:
        return jnp.where(done.reshape(done.shape + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(select, new, old)


def _as_scalar(name: str, value: Any, dtype: Any) -> Array:
    """Returns what a task gives [N] times in a type; None: in its own.

    A number as a flag is true unless it is 0; whole and half-precision numbers are
    exact in float32 (beyond 2^24, whole ones to 1 part in 2^24).

    Raises:
      ValueError: it is no scalar of the task, or a type in which digits would be lost.
    """
    value = jnp.asarray(value)
    is_lossy = dtype == jnp.float32 and value.dtype.itemsize > 4
    if value.ndim == 1 and not is_lossy and not jnp.iscomplexobj(value):
        return value if dtype is None else value.astype(dtype)
    wanted = "a scalar" if dtype is None else f"a scalar, {jnp.dtype(dtype)}"
    raise ValueError(
        f"{name} of the task is {value.dtype} {list(value.shape[1:])}, not {wanted}: "
        "cast or reduce it in the task's step"
    )
