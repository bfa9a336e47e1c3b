"""What `train.py --dump_nan` keeps of environments that went wrong."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppo_jax.cli import entry
from ppo_jax.cli.simulators import backend_of
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import to_dict

NUM_ITERATIONS = 2  # of which the states are kept


def check(config: Config, in_processes: bool) -> None:
    """Raises ValueError if a run could not keep what leads to a NaN."""
    if config.devices != 1 or in_processes:
        raise ValueError(
            "--dump_nan keeps the environments of one device in one process: leave it "
            "away, or give --devices 1 and no --num_processes"
        )
    if not config.check_for_nan:
        raise ValueError(
            "--dump_nan: with check_for_nan = false nobody says which environments "
            "went wrong: leave one of them away"
        )


def remember(env: Any, config: Config) -> None:
    """Has a simulator keep its last states, as those of a task in JAX are kept.

    Raises:
      ValueError: it does not tell its state.
    """
    if not hasattr(env.torch_env, "guard_nan"):
        env.remember(NUM_ITERATIONS * config.num_steps_per_env)


def on_nan(trainer: Any, folder: Path, flags: Mapping[str, Any]) -> Callable[..., str]:
    """Returns what writes the states when a run breaks, and says where they are.

    Args:
      trainer: of the run.
      folder: of the run.
      flags: without "dump_nan" nothing is written.
    """
    import numpy as np

    from ppo_jax.runs import nan_dump

    if "dump_nan" not in flags:
        return lambda error, trails, run: ""

    torch_env: Any = getattr(trainer.env, "torch_env", None)
    has_own = hasattr(torch_env, "guard_nan")
    if has_own:
        torch_env.guard_nan(folder.absolute() / nan_dump.FOLDER)

    def keep(error: Any, trails: list[Any], run: Any) -> str:
        if has_own:
            path = torch_env.dump_nan(error.envs)
        else:
            about = about_run(trainer.config, error.iteration, error.what)
            if torch_env is None:
                dump = nan_dump.dump_of(trails, run, error.envs, about)
            else:
                ids, trail = np.array(error.envs), torch_env.trail_of(error.envs)
                dump = nan_dump.Dump(about=about, env_ids=ids, shared={}, **trail)
            path = nan_dump.save(folder, dump)
        words = f"play.py --dump_nan {shlex.quote(str(path))}"
        return f"What led to it can be played back: {entry.typed(words)}"

    return keep


def about_run(config: Config, iteration: int, what: str) -> dict[str, Any]:
    """Returns what a dump says of itself, as JSON has it."""
    from ppo_jax.runs import folders

    return {
        "task": config.task,
        "simulator": backend_of(config.task) is not None,
        "num_envs": config.num_envs,
        "iteration": iteration,
        "what": what,
        "config": to_dict(config),
        "versions": folders.versions(),
    }
