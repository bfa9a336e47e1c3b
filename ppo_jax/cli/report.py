"""Writes report.html of runs: `ppo-jax report RUN`."""

from pathlib import Path

from ppo_jax.cli import help_page, weights
from ppo_jax.cli.command_line import Flag
from ppo_jax.cli.simulators import backend_of
from ppo_jax.cli.tasks import default_config, open_trainer
from ppo_jax.runs import folders
from ppo_jax.runs.config import Config
from ppo_jax.runs.recorded import read_run

FLAGS = [
    Flag("clip", None, "film the policy for it, where a task draws itself"),
    Flag("help", None, "show this"),
]
EXAMPLES = {
    "report.py logs/ppo_jax/Cartpole/DATE": "write report.html into the run's folder",
}


def main() -> int:
    """Writes the reports that the command line names; returns the exit code."""
    asked = help_page.asked_of_paths("Write a report of a run.", EXAMPLES, FLAGS)
    if asked is None:
        return 0
    paths, arguments = asked
    if not paths:
        raise ValueError(
            "which run? give its folder, such as logs/ppo_jax/Cartpole/DATE"
        )
    for path in paths:
        if "clip" in arguments.flags:
            film(path)
        print(f"Report: {write(path)}")
    return 0


def film(folder: Path) -> None:
    """Films a few seconds of the newest checkpoint of a run, for its report.

    Raises:
      ValueError: the run has no checkpoint, or runs in a simulator.
    """
    config = read_run(folder).config
    if backend_of(config.task):
        raise ValueError(
            f"--clip: {config.task} runs in a simulator: film it with play.py --video"
        )
    folder, which = folders.find_run(str(folder), "")
    from ppo_jax.cli import filming

    with open_trainer(config, num_envs=1) as trainer:
        filming.clip(trainer, weights.load_checkpoint(trainer, folder, which), folder)


def write(folder: Path) -> Path:
    """Writes the report of a run; returns its path.

    Raises:
      ValueError: the folder holds no run that can be told of.
    """
    from ppo_jax.runs.report import write_report

    config = read_run(folder).config
    reason = "" if simulator_of(config) else "No film: ppo-jax report --clip makes one."
    return write_report(folder, defaults_of(config), reason)


def simulator_of(config: Config) -> str | None:
    """Returns in which simulator a run's task is; None: in JAX, or it is not known."""
    from ppo_jax.envs import simulator_of

    try:
        return simulator_of(config.task)
    except ImportError as error:
        return str(error)


def defaults_of(config: Config) -> Config | None:
    """Returns what a run's task has without a change; None: it is not known here.

    Its simulator may not be installed where a report is written, or its module is gone.
    """
    try:
        return default_config(config.task, config.simulator.agent)
    except Exception:
        return None
