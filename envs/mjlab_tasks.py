"""mjlab's tasks as an `Env`: the real simulator, through the bridge.

    with closing(make_mjlab_env("mjlab:Mjlab-Cartpole-Balance", 1024)) as env: ...

It is a package like any other: no launcher, several environments in a process if need
be, and the robots of its tasks come with it.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from ppo_jax.envs.bridge import BridgedEnv, bridge
from ppo_jax.envs.dlpack import prepare_jax, require_device
from ppo_jax.envs.mjlab_env import MjlabEnv
from ppo_jax.envs.nested import assign
from ppo_jax.options import nearest

PREFIX = "mjlab:"
PLACEHOLDER = 1  # environments that mjlab's tasks register: whoever trains gives more


def make_mjlab_env(
    task: str,
    num_envs: int,
    device: str = "cpu",
    seed: int = 42,
    overrides: Sequence[str] = (),
    driver: str = "in_jit",
    compute_final_obs: bool | None = None,
    clip_actions: float | None = None,
    play_mode: bool = False,
    film: bool = False,
) -> BridgedEnv:
    """Returns `num_envs` environments of a registered task.

    Args:
      task: name, for instance "mjlab:Mjlab-Cartpole-Balance".
      num_envs: N, how many.
      device: of the simulator, "cpu" or "cuda:0"; JAX has to be on the same.
      seed: of whatever is drawn while the scene is made; `reset` seeds again.
      overrides: changes of the task's configuration, "env.x.y=value".
      driver: "in_jit" or "host", see `ppo_jax.envs.bridge`.
      compute_final_obs: have mjlab leave the resets to us, which costs one observation
        more in steps where an episode ends, so that the value after a time-out is that
        of the state in which it came. None: yes; False: mjlab resets, as for rsl_rl.
      clip_actions: the task sees actions clipped to +- this; None: as is.
      play_mode: what the task changes for playing, such as no noise in observations.
      film: render pictures, which `MjlabEnv.frame` takes.

    Raises:
      ImportError: mjlab is not installed.
      ValueError: there is no such task or option, or the device cannot be used.
    """
    return open_mjlab_env(
        resolve_task(task, overrides, play_mode)[0],
        num_envs,
        device,
        seed,
        driver,
        compute_final_obs,
        clip_actions,
        film,
    )


def open_mjlab_env(
    env_cfg: Any,
    num_envs: int,
    device: str = "cpu",
    seed: int = 42,
    driver: str = "in_jit",
    compute_final_obs: bool | None = None,
    clip_actions: float | None = None,
    film: bool = False,
) -> BridgedEnv:
    """Returns the environments of a configuration; see `make_mjlab_env`."""
    from mjlab.envs import ManagerBasedRlEnv

    require_device(device)
    prepare_jax(device)
    if device == "cpu":  # or Warp and torch start CUDA where there is a GPU
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    env_cfg.scene.num_envs = num_envs
    env_cfg.seed = seed
    env_cfg.auto_reset = compute_final_obs is False
    with contextlib.redirect_stdout(sys.stderr):  # its tables
        render_mode = "rgb_array" if film else None
        mjlab = ManagerBasedRlEnv(env_cfg, device=device, render_mode=render_mode)
    with contextlib.ExitStack() as resources:
        resources.callback(mjlab.close)
        env = bridge(MjlabEnv(mjlab, clip_actions), driver)
        resources.pop_all()
    return env


def resolve_task(
    task: str, overrides: Sequence[str] = (), play_mode: bool = False
) -> tuple[Any, Any]:
    """Returns (env_cfg, agent_cfg) of a task with the overrides applied.

    Args:
      task: a registered one, with or without "mjlab:".
      overrides: "env.x.y=value" and "agent.x.y=value".
      play_mode: as the task is played. Its episodes then have no end where mjlab plays
        them; here they are as long as in training.

    Raises:
      ImportError: mjlab is not installed.
      ValueError: there is no such task or option; names the nearest. Or a value is not
        of the option's type.
    """
    name = require_task(task)
    from mjlab.tasks.registry import load_env_cfg, load_rl_cfg

    env_cfg, agent_cfg = load_env_cfg(name, play=play_mode), load_rl_cfg(name)
    trained = load_env_cfg(name).episode_length_s
    env_cfg.episode_length_s = min(env_cfg.episode_length_s, trained)
    sections = {"env": env_cfg, "agent": agent_cfg}
    for token in overrides:
        path, equals, text = token.partition("=")
        section = path.partition(".")[0]
        if not equals or section not in sections:
            raise ValueError(
                f"{token!r} is no override of a task: give env.path=value or "
                "agent.path=value"
            )
        assign(sections[section], path, text)
    return env_cfg, agent_cfg


def require_task(task: str) -> str:
    """Returns the name by which mjlab knows a task.

    Raises:
      ImportError: mjlab is not installed.
      ValueError: it knows none of this name; names the nearest.
    """
    name, known = task.removeprefix(PREFIX), registered_tasks()
    if name not in known:
        raise ValueError(f"mjlab has no task {name!r}: {nearest(name, known)}")
    return name


def registered_tasks() -> list[str]:
    """Returns the names of mjlab's tasks, with those of installed packages.

    Raises:
      ImportError: mjlab is not installed.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import mjlab.tasks  # noqa: F401 - registers them
            from mjlab.tasks.registry import list_tasks
    except ImportError as error:
        raise ImportError(
            f"this task needs mjlab: uv sync --extra mjlab ({error})"
        ) from error
    return list_tasks()
