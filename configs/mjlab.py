"""The configuration of an mjlab task: what it registers for rsl_rl, as ours.

overrides = ["env.scene.num_envs=4096", "agent.algorithm.gamma=0.98"]
config, env_cfg = mjlab_config("mjlab:Mjlab-Cartpole-Balance", overrides)
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ppo_jax.envs.mjlab_tasks import PLACEHOLDER, PREFIX, require_task, resolve_task
from ppo_jax.envs.nested import require_path
from ppo_jax.rsl_rl.configurations import IGNORED, config_from_rsl_rl
from ppo_jax.runs.config import Config, SimulatorConfig
from ppo_jax.runs.config_fields import find_path, override


def mjlab_config(
    task: str, overrides: Sequence[str] = (), play_mode: bool = False
) -> tuple[Config, Any]:
    """Returns the configuration of a run and that of the task's environment.

    Args:
      task: a registered one, with or without "mjlab:".
      overrides: "env.x.y=value" and "agent.x.y=value". An "agent.x" that only `Config`
        has is set there.
      play_mode: as the task is played: no noise, no pushes.

    Returns:
      (config, env_cfg). `config` has as many environments as `env_cfg`, or our default
      where that has the one that every task registers; and it remembers the overrides,
      so that the same environments are made when the run is resumed or played.

    Raises:
      ImportError: mjlab is not installed.
      UnsupportedFeature: the agent needs what is not here; names it.
      ValueError: there is no such task, option or value.
    """
    name = require_task(task)
    theirs, ours = _split(name, overrides)
    env_cfg, agent_cfg = resolve_task(name, theirs, play_mode)
    num_envs = env_cfg.scene.num_envs
    sizes = {} if num_envs == PLACEHOLDER else {"num_envs": num_envs}
    config = config_from_rsl_rl(
        dataclasses.asdict(agent_cfg), task=PREFIX + name, **sizes
    )
    simulator = SimulatorConfig(overrides=tuple(overrides))
    return override(dataclasses.replace(config, simulator=simulator), ours), env_cfg


def _split(task: str, overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the overrides of mjlab's configurations, and {path: value} of `Config`.

    Raises:
      ValueError: an override names what is nowhere, or what the task decides.
    """
    theirs, ours = [], {}
    for token in overrides:
        path, _, text = token.partition("=")
        section, _, inside = path.partition(".")
        if section == "agent" and inside in ("task", "num_envs"):
            raise ValueError(
                f"{token!r} is not the agent's: give --task NAME or --num_envs N"
            )
        full_path = _only_ours(task, path, inside) if section == "agent" else None
        if full_path is None:
            theirs.append(token)
        else:
            ours[full_path] = text
    return theirs, ours


def _only_ours(task: str, path: str, inside: str) -> str | None:
    """Returns the path in `Config` of what mjlab's agent has not or leaves unread."""
    try:
        full_path = find_path(inside)
    except ValueError:
        return None
    try:
        require_path(resolve_task(task)[1], path)
    except ValueError:
        return full_path
    return full_path if full_path in IGNORED else None
