"""Where curves go: TensorBoard events and a CSV table, both safe to resume.

The x-axis is the index of the iteration, from 0. When a run is resumed, what was
written after the checkpoint is cut off first, so that no curve has a gap or a double.
Events that are damaged or missing are filled again from the table.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ppo_jax.runs import events, table
from ppo_jax.runs.events import EVENTS
from ppo_jax.runs.loggers.names import names_of
from ppo_jax.runs.table import TABLE, Table, check_table, read_table

__all__ = [
    "EVENTS",
    "TABLE",
    "TAGS",
    "Writer",
    "check_table",
    "open_writer",
    "read_table",
    "tag_of",
    "tagged",
]

# metric: rsl_rl's tag, or one in its manner where rsl_rl has none
TAGS = {
    "value_loss": "Loss/value",
    "surrogate_loss": "Loss/surrogate",
    "entropy": "Loss/entropy",
    "behavior_loss": "Loss/behavior",
    "learning_rate": "Loss/learning_rate",
    "rnd_loss": "Loss/rnd",
    "extrinsic_reward": "Rnd/mean_extrinsic_reward",
    "intrinsic_reward": "Rnd/mean_intrinsic_reward",
    "rnd_weight": "Rnd/weight",
    "symmetry_loss": "Loss/symmetry",
    "loss": "Loss/total",
    "mean_std": "Policy/mean_std",
    "kl": "Policy/kl",
    "clip_fraction": "Policy/clip_fraction",
    "grad_norm_actor": "Policy/grad_norm_actor",
    "grad_norm_critic": "Value/grad_norm_critic",
    "grad_norm_student": "Policy/grad_norm_student",
    "explained_variance": "Value/explained_variance",
    "episode_return": "Train/mean_reward",
    "episode_length": "Train/mean_episode_length",
    "steps_per_second": "Perf/total_fps",
    "iteration_time": "Perf/iteration_time",
    "collection_time": "Perf/collection_time",  # where the loop runs on the host
    "learning_time": "Perf/learning_time",
}
OVER_TIME = ("Train/mean_reward", "Train/mean_episode_length")  # also over seconds

Scalars = Mapping[str, float]  # {metric: value}; NaN means that there is none yet


class Writer(NamedTuple):
    """A place that curves are written to."""

    write: Callable[[int, Scalars, float], None]  # (iteration, scalars, seconds)
    close: Callable[[], None]
    notes: tuple[str, ...]  # a sentence for all that was lost, or filled again


def tag_of(metric: str) -> str:
    """Returns the tag of a metric; what an environment logs keeps its own."""
    if metric.startswith("log/"):
        tag = metric.removeprefix("log/")
        return tag if "/" in tag else f"Episode/{tag}"
    return TAGS.get(metric, f"Train/{metric}")


def tagged(scalars: Scalars) -> dict[str, float]:
    """Returns the values that there are, by tag."""
    return {tag_of(m): x for m, x in scalars.items() if not math.isnan(x)}


def open_writer(folder: Path, logger: str, first_iteration: int = 0) -> Writer:
    """Opens the table and, for "tensorboard", an event file in a run's folder.

    What is written is handed to the system at once: a killed process loses no line.

    Args:
      folder: of the run.
      logger: as `Config.logger` has it; events are written where "tensorboard" is one
        of its names, the table always. Others are not opened here.
      first_iteration: everything from here on that is already there is cut off.

    Raises:
      ValueError: the table that is there is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = table.before(folder / TABLE, first_iteration)
    rows = table.open_table(folder / TABLE, kept)
    is_full = "tensorboard" in names_of(logger)
    curves, notes = _open_curves(folder, first_iteration, kept, is_full)

    def write(iteration: int, scalars: Scalars, seconds: float) -> None:
        rows.write(iteration, scalars, seconds)
        _write_curves(curves, iteration, scalars, seconds)

    def close() -> None:
        rows.close()
        curves.close()

    lacking = first_iteration - len(kept.rows)
    if lacking:
        notes.append(
            f"{folder / TABLE} lacks {lacking} of the {first_iteration} iterations "
            "before this one."
        )
    return Writer(write, close, tuple(notes))


def _open_curves(
    folder: Path, first: int, kept: Table, is_written: bool
) -> tuple[events.EventWriter, list[str]]:
    """Cuts a run's event files, and opens a new one where curves are to be written.

    Returns:
      What writes, and a sentence for what was lost or filled again.
    """
    paths = sorted(folder.glob(f"{EVENTS}*"))
    found = {path: events.read(path, first) for path in paths}
    there = set().union(*(x.iterations for x in found.values()))
    in_table = {int(row[0]) for row in kept.rows}
    lost = in_table - there
    is_replaced = is_written and bool(lost) and there <= in_table
    for path, x in found.items():
        path.unlink() if is_replaced else events.cut(path, x.size)
    words = (
        f"TensorBoard's files in {folder} lacked the curves of {len(lost)} iterations"
    )
    if not is_written:
        way = "logger=tensorboard fills them again"
        return events.NOWHERE, [f"{words}: {way}."] if paths and lost else []
    writer = events.open_events(folder, first)
    _refill(writer, kept, in_table if is_replaced else lost)
    return writer, [f"{words}: filled again from {TABLE}."] if lost else []


def _refill(writer: events.EventWriter, kept: Table, wanted: set[int]) -> None:
    """Writes the rows of some iterations as events, at the times that they had."""
    if not wanted:
        return
    rows = [kept.scalars(row) for row in kept.rows]
    last = rows[-1]["seconds"]
    for row in rows:
        iteration, seconds = int(row.pop("iteration")), row.pop("seconds")
        if iteration in wanted:
            wall_time = time.time() - (last - seconds)
            _write_curves(writer, iteration, row, seconds, wall_time)


def _write_curves(
    writer: events.EventWriter,
    iteration: int,
    scalars: Scalars,
    seconds: float,
    wall_time: float | None = None,
) -> None:
    """Writes an iteration's scalars as one event, its curves over time as another."""
    values = tagged(scalars)
    over_time = {f"{tag}/time": values[tag] for tag in OVER_TIME if tag in values}
    wall_time = time.time() if wall_time is None else wall_time
    writer.write(iteration, values, wall_time)
    if over_time:
        writer.write(int(seconds), over_time, wall_time)
