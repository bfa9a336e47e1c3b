"""How far the curricula of a simulator are: what a resumed run puts back.

Isaac Lab and mjlab alike count the steps of all environments together
(`common_step_counter`), by which curricula choose their stage, and keep of each
environment how hard its terrain is.
"""

from collections.abc import Mapping
from typing import Any

COUNTER, LEVELS = "common_step_counter", "terrain_levels"


class NoCurricula:
    """Stands in for a manager of curricula while nobody is to be moved by them."""

    def compute(self, env_ids: Any = None) -> None:
        """Changes nothing."""

    def reset(self, env_ids: Any = None) -> dict[str, Any]:
        """Reports nothing."""
        return {}


def progress_of(env: Any) -> dict[str, Any]:
    """Returns how far an environment's curricula are, as plain values."""
    progress: dict[str, Any] = {COUNTER: int(env.common_step_counter)}
    if _has_levels(env):
        progress[LEVELS] = env.scene.terrain.terrain_levels.tolist()
    return progress


def reset_with(env: Any, progress: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """Resets an environment whose curricula go on from `progress_of` another.

    Their stages are set first. Then all are reset without them, since a reset that ends
    no episode would promote or degrade every environment; so each starts on the
    terrain that it had come to. Levels of another number of environments are left out.

    Returns:
      What the environment's own `reset` does.
    """
    env.common_step_counter = progress[COUNTER]
    curricula = getattr(env, "curriculum_manager", None)
    if curricula is None:  # a direct task reads the counter itself
        return env.reset(seed=seed)
    import torch

    curricula.compute(env_ids=torch.arange(env.num_envs, device=env.device))
    if LEVELS in progress and _has_levels(env):
        set_levels(env.scene.terrain, progress[LEVELS])
    env.curriculum_manager = NoCurricula()
    try:
        return env.reset(seed=seed)
    finally:
        env.curriculum_manager = curricula


def set_levels(terrain: Any, levels: list[int]) -> None:
    """Puts every environment on the terrain of its level, if there are as many."""
    import torch

    if len(levels) != len(terrain.terrain_levels):
        return
    terrain.terrain_levels[:] = torch.as_tensor(
        levels, dtype=terrain.terrain_levels.dtype, device=terrain.terrain_levels.device
    ).clamp(max=len(terrain.terrain_origins) - 1)
    terrain.env_origins[:] = terrain.terrain_origins[
        terrain.terrain_levels, terrain.terrain_types
    ]


def _has_levels(env: Any) -> bool:
    terrain = getattr(env.scene, "terrain", None)
    return getattr(terrain, "terrain_levels", None) is not None
