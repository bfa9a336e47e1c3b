"""An Isaac Lab task as an `Env`: the real simulator, through the bridge.

    with closing(make_isaac_env("Isaac-Cartpole-Direct", 1024)) as env: ...

Isaac Lab 3.0 runs one environment at a time in a process; another one can be made
after `close`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from ppo_jax.envs.bridge import BridgedEnv, bridge
from ppo_jax.envs.dlpack import prepare_jax, require_device
from ppo_jax.envs.isaac_env import IsaacLabEnv
from ppo_jax.options import nearest


def make_isaac_env(
    task: str,
    num_envs: int,
    device: str = "cpu",
    seed: int = 42,
    overrides: Sequence[str] = (),
    driver: str = "in_jit",
    compute_final_obs: bool | None = None,
    clip_actions: float | None = None,
    agent_key: str | None = None,
    play_mode: bool = False,
    film: bool = False,
) -> BridgedEnv:
    """Returns `num_envs` environments of a registered task.

    Args:
      task: id, for instance "Isaac-Cartpole-Direct".
      num_envs: N, how many.
      device: of the simulator, "cpu" or "cuda:0"; JAX has to be on the same.
      seed: of whatever is drawn while the scene is made; `reset` seeds again.
      overrides: Isaac Lab's own, for instance "physics=newton_mjwarp".
      driver: "in_jit" or "host", see `ppo_jax.envs.bridge`.
      compute_final_obs: see `open_isaac_env`.
      clip_actions: the task sees continuous actions clipped to +- this; None: as is.
      agent_key: whose presets `overrides` may name as well; see `resolve_task`.
      play_mode: what the task changes for playing, such as no noise in observations.
      film: open a viewer without a window, whose pictures `IsaacLabEnv.frame` takes.

    Raises:
      ImportError: Isaac Lab is not installed.
      ValueError: there is no such task, or it cannot be used; says why.
      RuntimeError: another environment is open in this process.
    """
    env_cfg, _ = resolve_task(task, agent_key, overrides, play_mode)
    env_cfg.scene.num_envs = num_envs
    env_cfg.seed = seed
    if film:
        env_cfg.sim.visualizer_cfgs = [_viewer()]
    return open_isaac_env(
        task, env_cfg, {"device": device}, driver, compute_final_obs, clip_actions
    )


def resolve_task(
    task: str,
    agent_key: str | None,
    overrides: Sequence[str] = (),
    play_mode: bool = False,
) -> tuple[Any, Any]:
    """Returns (env_cfg, agent_cfg) of a task with presets and overrides applied.

    Args:
      task: id of a registered task.
      agent_key: which of the agent configurations that the task registers; None: none.
      overrides: "presets=...", "physics=...", "env.x.y=..." and "agent.x=..." tokens.
      play_mode: as the task is played: fewer environments, no noise.

    Raises:
      ImportError: Isaac Lab is not installed.
      ValueError: there is no such task, preset or override; names the nearest.
    """
    names = registered_tasks()
    name = task.split(":")[-1]
    if name not in names:
        raise ValueError(f"Isaac Lab has no task {task!r}: {nearest(name, names)}")
    from isaaclab_tasks.utils import resolve_task_config

    return resolve_task_config(name, agent_key, play_mode, list(overrides))


def registered_tasks() -> list[str]:
    """Returns the ids of Isaac Lab's tasks, with those of installed packages and ours.

    Raises:
      ImportError: Isaac Lab is not installed.
    """
    try:
        import isaaclab_tasks  # noqa: F401 - registers the stock tasks
        from isaaclab.cli import load_external_tasks
    except ImportError as error:
        raise ImportError(
            "this task needs Isaac Lab 3.0: uv sync --extra isaaclab, with Python 3.12 "
            f"on Linux ({error})"
        ) from error
    import gymnasium

    import ppo_jax.envs.isaac_tasks  # noqa: F401 - registers ours

    load_external_tasks()
    registry = gymnasium.registry.items()
    return sorted(name for name, x in registry if "env_cfg_entry_point" in x.kwargs)


def open_isaac_env(
    task: str,
    env_cfg: Any,
    launcher_args: Any,
    driver: str = "in_jit",
    compute_final_obs: bool | None = None,
    clip_actions: float | None = None,
) -> BridgedEnv:
    """Launches the simulator and returns the environments of a configuration.

    Args:
      task: id of a registered task.
      env_cfg: from `resolve_task`; number of environments and seed are set.
      launcher_args: of Isaac Lab's launcher; a dict, or a namespace from its parser.
        Its device becomes that of the simulation.
      driver: "in_jit" or "host", see `ppo_jax.envs.bridge`.
      compute_final_obs: have Isaac Lab observe once more before each auto-reset, so
        that the value after a time-out is that of the state in which it was cut.
        None: do so unless the task's observations are the simulator's own state.
      clip_actions: the task sees continuous actions clipped to +- this; None: as is.

    Raises:
      ValueError: the device, the spaces or the observations cannot be used; says why.
      RuntimeError: another environment is open in this process.
      FileNotFoundError: an asset is missing; says where it was looked for.
    """
    arguments = (
        launcher_args if isinstance(launcher_args, dict) else vars(launcher_args)
    )
    device = arguments["device"]
    require_device(device)
    prepare_jax(device)
    env_cfg.sim.device = device
    env_cfg.compute_final_obs = compute_final_obs is not False
    with ExitStack() as resources:
        isaac = _launch(task, env_cfg, launcher_args, resources)
        resources.callback(isaac.close)
        torch_env = IsaacLabEnv(task, isaac, clip_actions, compute_final_obs is True)
        env = bridge(torch_env, driver)
        torch_env.resources = resources.pop_all()
    return env


def _launch(task: str, env_cfg: Any, launcher_args: Any, resources: ExitStack) -> Any:
    """Returns the unwrapped Isaac Lab environment."""
    import gymnasium
    from isaaclab.app import launch_simulation
    from isaaclab.sim import SimulationContext

    if SimulationContext.instance() is not None:
        raise RuntimeError(
            "Isaac Lab runs one environment at a time in a process, and one is open: "
            f"close it before making {task!r}"
        )
    resources.enter_context(launch_simulation(env_cfg, launcher_args))
    try:
        return gymnasium.make(task.split(":")[-1], cfg=env_cfg).unwrapped
    except FileNotFoundError as error:
        resources.close()  # before it is raised, or the launcher prints it as well
        raise FileNotFoundError(
            f"{task} needs a file that is not there: set ISAACSIM_ASSET_ROOT to a "
            f"folder with the assets before Python starts ({error})"
        ) from error


def _viewer() -> Any:
    from isaaclab_visualizers.newton import NewtonGLVisualizerCfg

    return NewtonGLVisualizerCfg(headless=True, streaming_view=False)
