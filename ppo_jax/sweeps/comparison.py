"""Runs side by side: seeds that share a configuration are a group, with an interval."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ppo_jax.runs import folders
from ppo_jax.runs.charts import short
from ppo_jax.runs.config_fields import flatten, short_name
from ppo_jax.runs.recorded import Recorded, read_run
from ppo_jax.sweeps.intervals import Interval, mean_interval

LAST_SHARE = (
    0.1  # of the iterations, that a final return is the mean over, as in sweeps
)
# What says nothing of how a run learns.
ASIDE = {
    *("seed", "run_name", "experiment_name", "max_iterations", "logger"),
    *("wandb_project", "upload_model"),
    *("save_interval", "keep_checkpoints", "check_for_nan", "solved_return"),
}
COLUMNS = (
    *("configuration", "seeds", "iterations", "final return", "95 % interval"),
    *("goal reached", "after iterations", "steps/s", "time"),
)


class Group(NamedTuple):
    """Runs that differ by their seed alone."""

    label: str  # what this group has and others have not
    runs: list[Recorded]

    def final_return(self) -> Interval:
        """Returns the mean over the seeds, and its t interval."""
        return mean_interval([final_return(run) for run in self.runs])


def read_runs(paths: Iterable[Path]) -> list[Recorded]:
    """Reads runs; a folder that holds runs stands for all of them.

    Raises:
      ValueError: a path is neither, one is named twice, or a run cannot be read.
    """
    found: dict[Path, Recorded] = {}
    for path in paths:
        inside = sorted(x.parents[1] for x in path.glob(f"*/{folders.CONFIG_FILE}"))
        for folder in [path] if (path / folders.CONFIG_FILE).is_file() else inside:
            if folder.resolve() in found:
                raise ValueError(f"{folder} is named twice: leave it away once")
            found[folder.resolve()] = read_run(folder)
        if not inside and not (path / folders.CONFIG_FILE).is_file():
            raise ValueError(
                f"{path} is not a run: give the folder of one, or one that holds runs, "
                f"such as {folders.LOG_ROOT / 'Cartpole'}"
            )
    return list(found.values())


def groups_of(runs: Sequence[Recorded]) -> list[Group]:
    """Returns runs by configuration, the best mean final return first."""
    settings = [flatten(run.config) for run in runs]
    settings = [{k: v for k, v in s.items() if k not in ASIDE} for s in settings]
    paths = dict.fromkeys(path for s in settings for path in s)
    differing = [p for p in paths if len({str(s.get(p)) for s in settings}) > 1]
    members: dict[str, list[Recorded]] = {}
    for run, setting in zip(runs, settings, strict=True):
        words = [
            f"{short_name(p)}={_shown(setting[p])}" for p in differing if p in setting
        ]
        members.setdefault(", ".join(words) or run.config.task, []).append(run)
    groups = [Group(label, part) for label, part in members.items()]
    means = {id(group): group.final_return().mean for group in groups}
    worst_last = lambda g: math.inf if math.isnan(means[id(g)]) else -means[id(g)]
    return sorted(groups, key=worst_last)


def final_return(run: Recorded) -> float:
    """Returns the mean over the last tenth of the iterations; NaN: no episode ended."""
    column = run.curves.get("episode_return", ())
    count = max(round(LAST_SHARE * len(column)), 1)
    known = [x for x in column[-count:] if math.isfinite(x)]
    return statistics.fmean(known) if known else math.nan


def rows_of(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Returns what a table says of each group, in the order of `COLUMNS`."""
    return [_row(group) for group in groups]


def curves_of(group: Group, name: str) -> tuple[list[float], list[Interval]]:
    """Returns a curve over the seeds of a group, as far as all of them have come.

    Args:
      group: of runs.
      name: of a column that each of them has.

    Returns:
      Environment steps, and the mean with its interval there.
    """
    length = min(len(run.curves[name]) for run in group.runs)
    steps = steps_of(group.runs[0])[:length]
    rows = zip(*(run.curves[name][:length] for run in group.runs), strict=True)
    return steps, [mean_interval(row) for row in rows]


def steps_of(run: Recorded) -> list[float]:
    """Returns the environment steps of a run after each of its iterations."""
    return [done * run.steps_per_iteration for done in run.iterations]


def _row(group: Group) -> tuple[str, ...]:
    runs, final = group.runs, group.final_return()
    lengths = [run.iterations[-1] for run in runs]
    solved = [run.solved_at() for run in runs]
    reached = [x for x in solved if x is not None]
    has_goal = any(run.config.solved_return is not None for run in runs)
    speeds = [
        x for run in runs for x in run.curves.get("steps_per_second", ()) if x > 0
    ]
    seconds = statistics.fmean(run.curves["seconds"][-1] for run in runs)
    few, many = min(lengths), max(lengths)
    return (
        group.label,
        str(len(runs)),
        str(few) if few == many else f"{few} to {many}",
        _number(final.mean),
        "-" if math.isnan(final.low) else f"{final.low:.4g} to {final.high:.4g}",
        f"{len(reached)} of {len(runs)}" if has_goal else "-",
        f"{statistics.median(reached):g}" if reached else "-",
        short(statistics.median(speeds)) if speeds else "-",
        f"{seconds:.4g} s",
    )


def _shown(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
