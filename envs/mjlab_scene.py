"""mjlab's own scene on a page of viser."""

from typing import Any

import numpy as np

FIELD_OF_VIEW = 45.0  # degrees, vertical, where the task names none


class MjlabScene:
    """One environment of mjlab as mjlab shows it: bodies, terrain, commands as arrows.

    It has what every scene of a viewer has: `show`, and `terms`. The first body that
    moves stays in the middle, and the ground passes by.
    """

    def __init__(self, server: Any, mjlab: Any) -> None:
        """Sends the bodies, and places the camera as the task does."""
        from mjlab.viewer.viser import MjlabViserScene

        sim, self._mjlab = mjlab.sim, mjlab
        self._scene = MjlabViserScene(
            server, sim.mj_model, mjlab.num_envs, sim.model, sim.expanded_fields
        )
        self._scene.show_only_selected = True
        self._scene.debug_visualization_enabled = True
        place_camera(server.initial_camera, mjlab.cfg.viewer)

    def show(self, env_state: Any, env_index: int) -> None:
        """Shows one environment as it is; `env_state` says nothing of it."""
        scene = self._scene
        if scene.env_idx != env_index:
            scene.clear_debug_all()
            scene.env_idx = env_index
        scene.clear()  # the arrows of the step before
        self._mjlab.update_visualizers(scene)
        scene.update(self._mjlab.sim.data, env_index)

    def terms(self, env_index: int) -> dict[str, float]:
        """Returns of what the last reward consisted, per second."""
        terms = self._mjlab.reward_manager.get_active_iterable_terms(env_index)
        return {name: float(values[0]) for name, values in terms}


def place_camera(camera: Any, config: Any) -> None:
    """Places a camera at a task's distance and angles from the middle."""
    elevation, azimuth = np.radians([config.elevation, config.azimuth])
    level = np.cos(elevation)
    ahead = level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)
    camera.position, camera.look_at = -config.distance * np.array(ahead), np.zeros(3)
    camera.fov = np.radians(config.fovy or FIELD_OF_VIEW)
