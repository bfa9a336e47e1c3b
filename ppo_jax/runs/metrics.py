"""Where curves go: TensorBoard events and a CSV table, both safe to resume.

The x-axis is the index of the iteration, from 0. When a run is resumed, what was
written after the checkpoint is cut off first, so that no curve has a gap or a double.
"""

import csv
import math
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# metric: rsl_rl's tag, or one in its manner where rsl_rl has none
TAGS = {
    "value_loss": "Loss/value",
    "surrogate_loss": "Loss/surrogate",
    "entropy": "Loss/entropy",
    "learning_rate": "Loss/learning_rate",
    "symmetry_loss": "Loss/symmetry",
    "loss": "Loss/total",
    "mean_std": "Policy/mean_std",
    "kl": "Policy/kl",
    "clip_fraction": "Policy/clip_fraction",
    "grad_norm_actor": "Policy/grad_norm_actor",
    "grad_norm_critic": "Value/grad_norm_critic",
    "explained_variance": "Value/explained_variance",
    "episode_return": "Train/mean_reward",
    "episode_length": "Train/mean_episode_length",
    "steps_per_second": "Perf/total_fps",
    "iteration_time": "Perf/iteration_time",
}
OVER_TIME = ("Train/mean_reward", "Train/mean_episode_length")  # also over seconds
TABLE = "metrics.csv"
EVENTS = "events.out.tfevents."  # what TensorBoard looks for

Scalars = Mapping[str, float]  # {metric: value}; NaN means that there is none yet


class Writer(NamedTuple):
    """A place that curves are written to."""

    write: Callable[[int, Scalars, float], None]  # (iteration, scalars, seconds)
    close: Callable[[], None]


def tag_of(metric: str) -> str:
    """Returns the tag of a metric; what an environment logs keeps its own."""
    if metric.startswith("log/"):
        tag = metric.removeprefix("log/")
        return tag if "/" in tag else f"Episode/{tag}"
    return TAGS.get(metric, f"Train/{metric}")


def open_writer(folder: Path, logger: str, first_iteration: int = 0) -> Writer:
    """Opens the table and, for "tensorboard", an event file in a run's folder.

    What is written is handed to the system at once: a killed process loses no line.

    Args:
      folder: of the run.
      logger: "tensorboard" or "none"; the table is always written.
      first_iteration: everything from here on that is already there is cut off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob(f"{EVENTS}*")):
        _truncate_events(path, first_iteration)
    writers = [_csv_writer(folder / TABLE, first_iteration)]
    if logger == "tensorboard":
        writers.append(_tensorboard_writer(folder, first_iteration))

    def write(iteration: int, scalars: Scalars, seconds: float) -> None:
        for writer in writers:
            writer.write(iteration, scalars, seconds)

    def close() -> None:
        for writer in writers:
            writer.close()

    return Writer(write, close)


def read_table(folder: Path) -> dict[str, list[float]]:
    """Returns the columns of a run's table; an empty cell is NaN."""
    with (folder / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else ()
    return {name: [float(row[name] or "nan") for row in rows] for name in names}


def _csv_writer(path: Path, first_iteration: int) -> Writer:
    columns = _truncate_table(path, first_iteration)
    file = path.open("a", newline="")

    def write(iteration: int, scalars: Scalars, seconds: float) -> None:
        nonlocal file
        row = {"iteration": iteration, "seconds": round(seconds, 3), **scalars}
        new = [name for name in row if name not in columns]
        if new:  # at first all; later what an environment reports for the first time
            columns.extend(new)
            file.close()
            _widen_table(path, columns)
            file = path.open("a", newline="")
        cells = [row.get(name, math.nan) for name in columns]
        csv.writer(file).writerow("" if math.isnan(x) else x for x in cells)
        file.flush()

    return Writer(write, lambda: file.close())


def _widen_table(path: Path, columns: list[str]) -> None:
    """Writes the header anew and fills up the rows with empty cells."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    padded = [row + [""] * (len(columns) - len(row)) for row in rows]
    _replace_table(path, [columns, *padded])


def _replace_table(path: Path, rows: list[list[str]]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    temporary.replace(path)


def _truncate_table(path: Path, first_iteration: int) -> list[str]:
    """Keeps the header and the rows before an iteration; returns the header's columns.

    A row that a dying process wrote in part is short, and goes as well: its first
    cell may be a part of a number.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    if first_iteration == 0 or not rows:
        path.unlink()
        return []
    header = rows[0]
    whole = [row for row in rows[1:] if len(row) == len(header)]
    kept = [row for row in whole if int(row[0]) < first_iteration]
    _replace_table(path, [header, *kept])
    return header


def _tensorboard_writer(folder: Path, first_iteration: int) -> Writer:
    """Writes an iteration's scalars as one event, and its curves over time as another.

    `tensorboardX.SummaryWriter` would queue them in another thread, where its flush
    does not reach them: a checkpoint could be safe and the curve before it not.
    """
    from tensorboardX.proto.event_pb2 import Event  # type: ignore
    from tensorboardX.proto.summary_pb2 import Summary  # type: ignore

    now = time.time()
    name = f"{EVENTS}{now:.0f}.{socket.gethostname()}.{first_iteration}"
    file = (folder / name).open("ab", buffering=0)
    file.write(_record(Event(wall_time=now, file_version="brain.Event:2")))

    def event(step: int, values: Mapping[str, float]) -> bytes:
        entries = [Summary.Value(tag=t, simple_value=x) for t, x in values.items()]
        summary = Summary(value=entries)
        return _record(Event(wall_time=time.time(), step=step, summary=summary))

    def write(iteration: int, scalars: Scalars, seconds: float) -> None:
        values = {tag_of(m): x for m, x in scalars.items() if not math.isnan(x)}
        over_time = {f"{tag}/time": values[tag] for tag in OVER_TIME if tag in values}
        data = event(iteration, values)
        file.write(data + event(int(seconds), over_time) if over_time else data)

    return Writer(write, file.close)


def _record(event: Any) -> bytes:
    """Returns length (8 bytes), its checksum (4), the event, its checksum (4)."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    check = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + check[0] + data + check[1]


def _truncate_events(path: Path, first_iteration: int) -> None:
    """Cuts an event file at the first scalar of an iteration, or at a torn record.

    Events stand in order of writing; an iteration's curves over time come after its
    others, so the first tag that counts iterations marks the place.
    """
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event  # type: ignore

    data, start = path.read_bytes(), 0
    while start + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        end = start + 12 + length + 4
        if end > len(data):
            break
        try:
            event = Event.FromString(data[start + 12 : end - 4])
        except DecodeError:
            break
        counts = [v for v in event.summary.value if not v.tag.endswith("/time")]
        if counts and event.step >= first_iteration:
            break
        start = end
    if start < len(data):
        with path.open("r+b") as file:
            file.truncate(start)
