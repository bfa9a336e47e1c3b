"""Isaac Lab's environments on Newton, as Newton's own viewer shows them in viser."""

import sys
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from ppo_jax.envs.solid_scene import set_up

NEAR = 2.5  # sizes of a robot between it and the camera


class NewtonScene:
    """One environment of Isaac Lab, drawn by Newton's viewer for viser.

    It has what every scene of a viewer has: `show`, and `terms`.
    """

    def __init__(self, server: Any, isaac: Any) -> None:
        """Sends the bodies, and places the camera as the task does.

        Raises:
          ValueError: Newton is not the physics of this task.
        """
        from isaaclab_newton.physics import NewtonManager

        model = NewtonManager.get_model()
        if model is None:
            raise ValueError(
                "--viewer shows Isaac Lab's tasks where Newton is their physics: give "
                "physics=newton_mjwarp, or film it with --video"
            )
        self._isaac, self._manager, self._env_index = isaac, NewtonManager, -1
        self._time = 0.0
        self._frame = server.scene.add_frame("/model", show_axes=False)  # of all shapes
        with redirect_stdout(sys.stderr):
            self._viewer = _viewer_on(server)
            self._viewer.set_model(model)
        self._origins = isaac.scene.env_origins.cpu().numpy()
        self._place(server, model)

    def show(self, env_state: Any, env_index: int) -> None:
        """Shows one environment as it is; `env_state` says nothing of it."""
        if self._env_index != env_index:
            self._env_index = env_index
            self._viewer.set_visible_worlds([env_index])
            self._frame.position = -self._origins[env_index]
        self._isaac.sim.forward()
        self._time += self._isaac.step_dt
        self._viewer.begin_frame(self._time)
        self._viewer.log_state(self._manager.get_state_0())
        self._viewer.end_frame()

    def terms(self, env_index: int) -> dict[str, float]:
        """Returns of what the last reward consisted, per second; direct tasks: {}."""
        manager = getattr(self._isaac, "reward_manager", None)
        if manager is None:
            return {}
        terms = manager.get_active_iterable_terms(env_index)
        return {name: float(values[0]) for name, values in terms}

    def _place(self, server: Any, model: Any) -> None:
        """Places the camera where the task has it, but as near as one robot allows."""
        import newton

        self._isaac.sim.forward()
        bodies = self._manager.get_state_0().body_q.numpy()[:, :3]
        own = bodies[model.body_world.numpy() == 0] - self._origins[0]
        middle, size = (own.min(0) + own.max(0)) / 2, np.ptp(own, axis=0).max()
        config = self._isaac.cfg.viewer
        back = np.subtract(config.eye, config.lookat)
        eye = middle + NEAR * max(size, 0.5) * back / np.linalg.norm(back)
        planes = model.shape_type.numpy() == newton.GeoType.PLANE
        heights = model.shape_transform.numpy()[planes, 2]
        set_up(server, eye, middle, float(heights.min(initial=0.0)))


def _viewer_on(server: Any) -> Any:
    """Returns Newton's viewer; where it would open a server, it gets this one."""
    import viser
    from isaaclab_visualizers.viser.viser_visualizer import NewtonViewerViser

    own = viser.ViserServer
    viser.ViserServer = lambda *_, **__: server
    try:
        return NewtonViewerViser(verbose=False)
    finally:
        viser.ViserServer = own
