"""The configuration of an Isaac Lab task: what it registers for rsl_rl, as ours.

    overrides = ["physics=newton_mjwarp", "agent.algorithm.gamma=0.98"]
    config, env_cfg = isaac_config("Isaac-Velocity-Rough-AnymalD", overrides=overrides)

A task needs nothing more to be trained here. One that is to be trained otherwise
registers "ppo_jax_cfg_entry_point" beside it: a `Config`, a function that returns one,
or a YAML file of ours.
"""

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ppo_jax.envs.isaac_lab import registered_tasks, resolve_task
from ppo_jax.envs.nested import require_path
from ppo_jax.options import nearest
from ppo_jax.rsl_rl.configurations import IGNORED, config_from_rsl_rl
from ppo_jax.runs.config import Config, SimulatorConfig
from ppo_jax.runs.config_fields import find_path, from_dict, override

OUR_KEY, RSL_RL_KEY = "ppo_jax_cfg_entry_point", "rsl_rl_cfg_entry_point"
SECTIONS = ("env", "agent")
SELECTORS = ("presets", "physics", "renderer")

# Fields of `Config` that the environment's configuration decides.
DECIDED = {"task": "the task's own name", "num_envs": "env.scene.num_envs=N"}


def isaac_config(
    task: str,
    agent_key: str | None = None,
    overrides: Sequence[str] = (),
    play_mode: bool = False,
) -> tuple[Config, Any]:
    """Returns the configuration of a run and that of the task's environment.

    Args:
      task: id of a registered task.
      agent_key: which of the agent configurations that the task registers; None: ours
        where it has one, else rsl_rl's.
      overrides: Isaac Lab's own, which its resolver applies to both: "presets=a,b",
        "physics=...", "renderer=...", "env.x.y=...", "agent.x=...". An "agent.x" that
        only `Config` has is set there.
      play_mode: as the task is played: fewer environments, no noise.

    Returns:
      (config, env_cfg), where `config` has the number of environments that `env_cfg`
      has, and remembers what the same environments are made from.

    Raises:
      ImportError: Isaac Lab is not installed.
      UnsupportedFeature: the agent needs what is not here; names it.
      ValueError: there is no such task, agent configuration, preset, option or value.
    """
    name = task.split(":")[-1]
    key = _agent_key(name, agent_key)
    theirs, ours = _split(name, key, overrides, play_mode)
    env_cfg, agent_cfg = resolve_task(name, key, theirs, play_mode)
    config = _translate(name, key, agent_cfg, env_cfg.scene.num_envs)
    simulator = SimulatorConfig(agent=key, overrides=tuple(overrides))
    config = dataclasses.replace(config, simulator=simulator)
    return override(config, ours), env_cfg


def _agent_key(task: str, asked: str | None) -> str:
    """Returns the key of the agent's configuration among what the task registers.

    Raises:
      ValueError: there is no such task, or none of its configurations can be used.
    """
    tasks = registered_tasks()
    if task not in tasks:
        raise ValueError(f"Isaac Lab has no task {task!r}: {nearest(task, tasks)}")
    import gymnasium

    registered = [
        key
        for key, value in gymnasium.spec(task).kwargs.items()
        if key.endswith("_cfg_entry_point") and key != "env_cfg_entry_point" and value
    ]
    for key in (OUR_KEY, RSL_RL_KEY) if asked is None else (asked,):
        if key in registered:
            return key
    if asked is not None and registered:
        raise ValueError(
            f"{task} registers no agent configuration {asked!r}: "
            f"{nearest(asked, registered)}"
        )
    raise ValueError(
        f"{task} registers no agent configuration of ppo_jax or rsl_rl, but "
        f"{', '.join(registered) or 'none at all'}: register {OUR_KEY!r} with the task"
    )


def _translate(task: str, key: str, agent_cfg: Any, num_envs: int) -> Config:
    """Returns what an agent configuration means, whatever form it has."""
    if isinstance(agent_cfg, Config):
        return dataclasses.replace(agent_cfg, task=task, num_envs=num_envs)
    if isinstance(agent_cfg, Mapping) and key == OUR_KEY:
        return from_dict({**agent_cfg, "task": task, "num_envs": num_envs})
    if not isinstance(agent_cfg, Mapping) and hasattr(agent_cfg, "to_dict"):
        agent_cfg = agent_cfg.to_dict()
    if not isinstance(agent_cfg, Mapping) or "algorithm" not in agent_cfg:
        raise ValueError(
            f"{key!r} of {task} is no configuration of ppo_jax or rsl_rl: it has no "
            "'algorithm'; name another one as the agent"
        )
    return config_from_rsl_rl(agent_cfg, task=task, num_envs=num_envs)


def _split(
    task: str, key: str, overrides: Sequence[str], play_mode: bool
) -> tuple[list[str], dict[str, str]]:
    """Returns the overrides for Isaac Lab's resolver, and {path: value} for `Config`.

    Isaac Lab sets whatever path it is given. So the paths are looked up first, in what
    comes out without them, but with all that selects or replaces whole parts.

    Raises:
      ValueError: an override cannot be read, or names what is nowhere.
    """
    settings = [token for token in overrides if _section(token) in SECTIONS]
    if not settings:
        return list(overrides), {}
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it reads, each time
        choices = _choices(task, key)
        values = [token for token in settings if _path(token) not in choices]
        base = [token for token in overrides if token not in values]
        found = _resolve_choices(task, key, base, play_mode)

    ours = {}
    for token in values:
        section, _, inside = _path(token).partition(".")
        if section == "agent" and inside in DECIDED:
            raise ValueError(f"{token!r} is not the agent's: give {DECIDED[inside]}")
        if section == "agent" and _is_ours(inside, found["agent"]):
            ours[token] = inside
        else:
            require_path(found[section], _path(token))
    theirs = [token for token in overrides if token not in ours]
    return theirs, {path: token.partition("=")[2] for token, path in ours.items()}


def _resolve_choices(
    task: str, key: str, overrides: Sequence[str], play_mode: bool
) -> dict[str, Any]:
    """Returns {section: configuration} where overrides choose among alternatives."""
    try:
        cfgs = resolve_task(task, key, overrides, play_mode)
    except (AttributeError, KeyError) as error:  # in a part that another choice has
        chosen = [token for token in overrides if _section(token) in SECTIONS]
        if not chosen:
            raise
        raise ValueError(
            f"{' '.join(chosen)}: {task} has no such part as it is chosen, {error}; "
            "leave it out or choose what has it"
        ) from error
    return dict(zip(SECTIONS, cfgs, strict=True))


def _section(token: str) -> str:
    """Returns what an override is about; "" if it is in Hydra's own language.

    Raises:
      ValueError: it is about nothing that there is.
    """
    if token.startswith(("+", "~")):
        return ""
    section = _path(token).split(".")[0]
    if "=" not in token or section not in SECTIONS + SELECTORS:
        examples = (
            "env.path=value, agent.path=value, presets=a,b, physics=a, renderer=a"
        )
        raise ValueError(f"{token!r} is no override of a task: give {examples}")
    return section


def _path(token: str) -> str:
    return token.partition("=")[0].lstrip("-")


def _choices(task: str, key: str) -> set[str]:
    """Returns the paths where a task offers alternatives by name."""
    from isaaclab_tasks.utils.hydra import collect_presets
    from isaaclab_tasks.utils.parse_cfg import load_cfg_from_registry

    keys = dict(zip(SECTIONS, ("env_cfg_entry_point", key), strict=True))
    return {
        path
        for section, key in keys.items()
        for path in collect_presets(load_cfg_from_registry(task, key), section)
    }


def _is_ours(path: str, agent_cfg: Any) -> bool:
    """Says whether a path is one of `Config` that the agent's own has no use for."""
    try:
        full_path = find_path(path)
    except ValueError:
        return False
    if isinstance(agent_cfg, Config) or full_path in IGNORED:
        return True
    try:
        require_path(agent_cfg, f"agent.{path}")
    except ValueError:
        return True
    return False
