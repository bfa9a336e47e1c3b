"""Solids on a page of viser: how a task in JAX is looked at in a browser."""

from typing import Any

import jax
import numpy as np

from ppo_jax.envs.solids import Bar, Box, Solid, Spatial

GROUND, LINES = "#aab4bd", "#98a3ad"  # legible on white and on black
FIELD_OF_VIEW = 42.0  # degrees, vertical


class SolidScene:
    """The solids of one environment; each is sent once, and then where it is.

    It has what every scene of a viewer has: `show`, and `terms`.
    """

    def __init__(self, server: Any, task: Spatial) -> None:
        """Puts up light, floor and camera."""
        self._server, self._task = server, task
        self._shown: dict[str, tuple[Solid, Any]] = {}  # by name, and its handle
        set_up(server, *task.stage)

    def show(self, env_state: Any, env_index: int) -> None:
        """Shows one environment of a `VectorState` as it is."""
        states = jax.device_get(env_state.task_state)
        state = jax.tree.map(lambda x: x[env_index], states)
        solids = self._task.solids(state)
        with self._server.atomic():
            for name in self._shown.keys() - solids.keys():
                self._shown.pop(name)[1].remove()
            for name, solid in solids.items():
                self._shown[name] = solid, self._placed(name, solid)

    def terms(self, env_index: int) -> dict[str, float]:
        """Returns nothing: of what a reward consists the task itself tells."""
        return {}

    def _placed(self, name: str, solid: Solid) -> Any:
        """Returns the handle of a solid, made anew only if it has another shape."""
        before, handle = self._shown.get(name, (None, None))
        same = before and (before.shape, before.alpha) == (solid.shape, solid.alpha)
        if before is None or handle is None or not same:
            return _added(self._server, f"/solids/{name}", solid)
        if not np.array_equal(before.position, solid.position):
            handle.position = solid.position
        if not np.array_equal(before.rotation, solid.rotation):
            handle.wxyz = _quaternion(solid.rotation)
        if before.color != solid.color:
            handle.color = _rgb(solid.color)
        return handle


def set_up(server: Any, eye: Any, target: Any, ground: float) -> None:
    """Puts up light and floor, and the camera of whoever opens the page; m, z up."""
    scene, camera = server.scene, server.initial_camera
    scene.set_up_direction("+z")
    camera.position, camera.look_at = eye, target
    camera.fov = np.radians(FIELD_OF_VIEW)
    scene.add_grid(
        "/ground",
        infinite_grid=True,
        cell_size=0.5,
        section_size=1.0,
        cell_color=_rgb(LINES),
        section_color=_rgb(LINES),
        section_thickness=1.5,
        fade_distance=30.0,
        fade_strength=2.0,
        plane_color=_rgb(GROUND),
        plane_opacity=0.8,
        shadow_opacity=0.3,
        position=(0.0, 0.0, ground),
    )


def _added(server: Any, name: str, solid: Solid) -> Any:
    """Returns the handle of a solid that the page did not have, or not so."""
    how: dict[str, Any] = {
        "color": _rgb(solid.color),
        "position": solid.position,
        "wxyz": _quaternion(solid.rotation),
        "opacity": solid.alpha if solid.alpha < 1 else None,
        "cast_shadow": solid.alpha == 1,
        "receive_shadow": solid.alpha == 1,
    }
    scene, shape = server.scene, solid.shape
    if isinstance(shape, Box):
        return scene.add_box(name, dimensions=2 * np.array(shape.half_size), **how)
    if isinstance(shape, Bar):
        from trimesh.creation import capsule

        mesh = capsule(shape.length, shape.radius, count=[24, 24])
        middle = mesh.vertices - mesh.bounds.mean(axis=0)
        return scene.add_mesh_simple(name, middle, mesh.faces, **how)
    return scene.add_icosphere(name, shape.radius, **how)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    from viser.transforms import SO3

    return SO3.from_matrix(rotation).wxyz


def _rgb(color: str) -> tuple[int, int, int]:
    """Returns "#rrggbb" as three numbers up to 255."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
