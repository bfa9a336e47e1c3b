"""Writes report.html of runs: `ppo-jax report RUN`."""

import sys
from pathlib import Path

from ppo_jax.cli import command_line, help_page
from ppo_jax.cli.command_line import Flag
from ppo_jax.cli.tasks import default_config
from ppo_jax.runs.config import Config
from ppo_jax.runs.recorded import read_run

FLAGS = [Flag("help", None, "show this")]
EXAMPLES = {
    "report.py logs/ppo_jax/Cartpole/DATE": "write report.html into the run's folder",
}


def main() -> int:
    """Writes the reports that the command line names; returns the exit code."""
    paths, rest = command_line.positional(sys.argv[1:], FLAGS)
    arguments = command_line.parse(rest, FLAGS, fields=False)
    if "help" in arguments.flags:
        help_page.print_help("Write a report of a run.", EXAMPLES, FLAGS)
        return 0
    if not paths:
        raise ValueError(
            "which run? give its folder, such as logs/ppo_jax/Cartpole/DATE"
        )
    for path in paths:
        print(f"Report: {write(Path(path))}")
    return 0


def write(folder: Path) -> Path:
    """Writes the report of a run; returns its path.

    Raises:
      ValueError: the folder holds no run that can be told of.
    """
    from ppo_jax.runs.report import write_report

    return write_report(folder, defaults_of(read_run(folder).config))


def defaults_of(config: Config) -> Config | None:
    """Returns what a run's task has without a change; None: it is not known here.

    Its simulator may not be installed where a report is written, or its module is gone.
    """
    try:
        return default_config(config.task, config.simulator.agent)
    except Exception:
        return None
