"""Isaac Lab tasks of our own, registered when this module is imported.

Importing it needs Isaac Lab; `ppo_jax.envs.isaac_lab` does so before it looks for a
task.
"""

import gymnasium
import isaaclab_tasks  # noqa: F401 - registers the stock tasks
from isaaclab.utils import configclass
from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg
from isaaclab_tasks.contrib.lift.config.franka.joint_pos_env_cfg import (
    FrankaCubeLiftEnvCfg,
)

STOCK_LIFT = "IsaacContrib-Lift-Cube-Franka"
NEWTON_LIFT = "IsaacContrib-Lift-Cube-Franka-Newton"


@configclass
class NewtonFrankaCubeLiftEnvCfg(FrankaCubeLiftEnvCfg):
    """The stock task, which knows only PhysX, with Newton physics: needs no Kit."""

    def __post_init__(self) -> None:
        """Replaces the physics and nothing else of the task."""
        super().__post_init__()
        solver = MJWarpSolverCfg(
            njmax=200,  # constraints and contacts per environment
            nconmax=60,
            cone="pyramidal",
            impratio=1,
            integrator="implicitfast",
        )
        self.sim.physics = NewtonCfg(solver_cfg=solver, num_substeps=2)
        self.scene.robot.spawn.variants["Physics"] = "mujoco"
        self.commands.object_pose.debug_vis = False


gymnasium.register(
    id=NEWTON_LIFT,
    entry_point="isaaclab.envs:ManagerBasedRLEnv",
    disable_env_checker=True,
    kwargs=gymnasium.spec(STOCK_LIFT).kwargs
    | {"env_cfg_entry_point": f"{__name__}:NewtonFrankaCubeLiftEnvCfg"},
)
