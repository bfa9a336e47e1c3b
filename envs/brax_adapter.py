"""Brax and MuJoCo Playground environments as tasks; imported when one is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.envs.adapting import cast_like, import_package, require_known
from ppo_jax.types import ActionSpace, Array, Continuous, Key, Obs

GROUPS = {"state": "policy", "privileged_state": "critic"}
BACKENDS = ("spring", "positional", "generalized", "mjx")  # of Brax
IMPLS = ("jax", "warp")  # of MJX
SPHERE, CAPSULE, CYLINDER = 2, 3, 5  # mujoco.mjtGeom; planes and height fields: less


@dataclass(frozen=True)
class BraxTask:
    """An unwrapped Brax `Env` or Playground `MjxEnv`; the state is theirs.

    Do not pass a wrapped one: their auto-reset returns to one cached first state and
    overwrites the final observation, and Playground's `full_reset` loses the mark of
    a truncation. `vectorize` draws every episode anew.
    """

    env: Any
    max_episode_length: int = 1000

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes."""
        return Continuous(self.env.action_size)

    @property
    def step_dt(self) -> float:
        """Duration of one control step, in s."""
        return float(self.env.dt)

    def reset(self, key: Key) -> Any:
        """Draws the state at the start of an episode; they read raw keys only."""
        state = self.env.reset(jax.random.key_data(key))
        return cast_like(state, state)

    def step(
        self, state: Any, action: Array, key: Key, common_step: Array
    ) -> tuple[Any, Array, Array, dict[str, Array]]:
        """Moves on by one control step.

        The action is clipped to [-1, 1]: their policies squash it with tanh, so the
        environments do not check. What randomness they need lies in their state.
        Of the metrics the log keeps the scalars, as they stand after the step.
        """
        state = cast_like(self.env.step(state, jnp.clip(action, -1.0, 1.0)), state)
        log = {
            f"Metrics/{name}": jnp.asarray(value, jnp.float32)
            for name, value in state.metrics.items()
            if value.ndim == 0
        }
        return state, state.reward.astype(jnp.float32), state.done.astype(bool), log

    def observe(self, state: Any, key: Key) -> Obs:
        """Returns the observation: "state" as "policy", "privileged_state" as "critic".

        Other entries keep their name; an array is "policy".
        """
        obs = state.obs if isinstance(state.obs, Mapping) else {"state": state.obs}
        return {
            GROUPS.get(name, name): jnp.asarray(value, jnp.float32)
            for name, value in obs.items()
        }

    def draw(self, state: Any, figure: Any) -> None:
        """Draws the longest axis of every geometry of the MuJoCo model."""
        if hasattr(state, "data"):
            model, qpos = self.env.mj_model, state.data.qpos
        else:
            model, qpos = self.env.sys.mj_model, state.pipeline_state.q
        axes = figure.add_subplot(projection="3d")
        for ends in _geometry_axes(model, np.asarray(qpos)):
            axes.plot(*ends.T, linewidth=4, solid_capstyle="round")
        axes.set_aspect("equal")
        axes.axis("off")


def make_brax(
    name: str, *, backend: str = "spring", episode_length: int = 1000
) -> BraxTask:
    """Returns a registered Brax environment as a task.

    Args:
      name: as Brax registers it, for instance "ant", or with its backend, "ant:mjx".
      backend: where the name has none. "spring" is the quickest to compile and run;
        "positional", "generalized" and "mjx" are more exact, and "swimmer" knows
        "generalized" only.
      episode_length: steps after which an episode is truncated.

    Raises:
      ImportError: Brax cannot be imported.
      ValueError: Brax has no environment, or no backend, of this name.
    """
    envs = import_package("brax.envs", "Brax", "brax 'mujoco<4' 'mujoco-mjx<4'")
    name, _, own_backend = name.partition(":")
    backend = own_backend or backend
    require_known("Brax has no environment", name, envs._envs)  # it has no public list
    require_known("Brax has no backend", backend, BACKENDS)
    return BraxTask(envs.get_environment(name, backend=backend), episode_length)


def make_playground(name: str, *, impl: str = "jax") -> BraxTask:
    """Returns a registered MuJoCo Playground environment as a task.

    Its episode length is that of its default configuration.

    Args:
      name: as Playground registers it, for instance "CartpoleBalance", or with an
        implementation, "CartpoleBalance:warp".
      impl: of the physics, where the name has none; "jax" runs everywhere, "warp"
        needs an NVIDIA GPU and cannot be mapped over seeds.

    Raises:
      ImportError: Playground cannot be imported.
      ValueError: Playground has no environment, or no implementation, of this name.
    """
    registry = import_package(
        "mujoco_playground",
        "MuJoCo Playground",
        "playground 'mujoco<4' 'mujoco-mjx<4'",
    ).registry
    name, _, own_impl = name.partition(":")
    impl = own_impl or impl
    require_known("Playground has no environment", name, registry.ALL_ENVS)
    require_known("Playground has no implementation", impl, IMPLS)
    config = registry.get_default_config(name)
    env = registry.load(name, config=config, config_overrides={"impl": impl})
    return BraxTask(env, config.episode_length)


def _geometry_axes(model: Any, qpos: np.ndarray) -> list[np.ndarray]:
    """Returns both ends [2, 3] of the longest axis of each geometry but the ground."""
    mujoco: Any = import_module("mujoco")
    data = mujoco.MjData(model)
    data.qpos = qpos
    mujoco.mj_kinematics(model, data)
    return [
        data.geom_xpos[geom] + np.outer([-1, 1], _half_axis(model, data, geom))
        for geom in range(model.ngeom)
        if model.geom_type[geom] >= SPHERE
    ]


def _half_axis(model: Any, data: Any, geom: int) -> np.ndarray:
    half_size = model.geom_size[geom]
    if model.geom_type[geom] in (CAPSULE, CYLINDER):  # radius, half length along z
        half_size = half_size[[0, 0, 1]]
    longest = half_size.argmax()
    return half_size[longest] * data.geom_xmat[geom].reshape(3, 3)[:, longest]
