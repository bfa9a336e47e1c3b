"""Lays runs over each other: `ppo-jax compare RUN RUN ...`."""

import os
from pathlib import Path

from ppo_jax.cli import help_page
from ppo_jax.cli.command_line import Flag

FLAGS = [
    Flag("out", "FILE", "the page (compare.html in the folder that all runs share)"),
    Flag("help", None, "show this"),
]
EXAMPLES = {
    "compare.py logs/ppo_jax/Cartpole": "all runs of a task, seeds grouped",
    "compare.py RUN RUN RUN --out mine.html": "some runs",
}


def main() -> int:
    """Compares the runs that the command line names; returns the exit code."""
    asked = help_page.asked_of_paths("Compare runs.", EXAMPLES, FLAGS)
    if asked is None:
        return 0
    paths, arguments = asked
    from ppo_jax.sweeps import compare_page, comparison

    runs = comparison.read_runs(paths)
    if len(runs) < 2:
        raise ValueError(
            "which runs? give the folders of two or more, or one with them"
        )
    groups = comparison.groups_of(runs)
    for line in aligned([comparison.COLUMNS, *comparison.rows_of(groups)]):
        print(line)
    shared = os.path.commonpath([run.folder.absolute().parent for run in runs])
    default = Path(os.path.relpath(shared)) / compare_page.COMPARE
    page = compare_page.write_comparison(
        Path(str(arguments.flags.get("out", default))), groups
    )
    print(f"Curves: {page}")
    return 0


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Returns the lines of a table; all columns but the first stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{x:>{w}}" for x, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return lines
