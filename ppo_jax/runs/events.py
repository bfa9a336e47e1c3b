"""TensorBoard's event files: records with checksums, cut and read without TensorBoard.

A record is a length (8 bytes), its checksum (4), an event, its checksum (4).
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

EVENTS = "events.out.tfevents."  # what TensorBoard looks for
EVENTS_AT_ONCE = 4096  # whose checksums are computed together


class EventWriter(NamedTuple):
    """An open event file, or nothing that swallows all."""

    write: Callable[[int, Mapping[str, float], float], None]  # (step, values, time)
    close: Callable[[], None]


NOWHERE = EventWriter(lambda step, values, wall_time: None, lambda: None)


class Found(NamedTuple):
    """What is in an event file before an iteration, and not damaged."""

    iterations: set[int]  # of which there are curves
    size: int  # in bytes; what comes after is newer, torn or damaged


def open_events(folder: Path, first_iteration: int) -> EventWriter:
    """Opens a new event file in a run's folder; (step, {tag: value}, wall time) each.

    `tensorboardX.SummaryWriter` would queue events in another thread, where its flush
    does not reach them: a checkpoint could be safe and the curve before it not.
    """
    from tensorboardX.proto.event_pb2 import Event  # type: ignore

    now = time.time()
    name = f"{EVENTS}{now:.0f}.{socket.gethostname()}.{first_iteration}"
    file = (folder / name).open("ab", buffering=0)

    def append(data: bytes) -> None:
        while data:  # a disk that is almost full takes a part, and refuses the rest
            data = data[file.write(data) :]

    append(_record(Event(wall_time=now, file_version="brain.Event:2")))
    write = lambda step, values, at: append(_event(step, values, at))
    return EventWriter(write, file.close)


def read(path: Path, before: int) -> Found:
    """Reads an event file up to the first scalar of an iteration.

    Events stand in order of writing; an iteration's curves over time come after its
    others, so the first tag that counts iterations marks the place.
    """
    data = path.read_bytes()
    spans = list(_spans(data))
    good = _are_good(data, spans)
    whole = spans[: good.index(False)] if False in good else spans
    end = whole[-1][1] + 4 if whole else 0
    iterations: set[int] = set()
    for start, stop in whole:
        step = _iteration_of(data[start:stop])
        if step is not None and step >= before:
            return Found(iterations, start - 12)
        iterations |= {step} if step is not None else set()
    return Found(iterations, end)


def cut(path: Path, size: int) -> None:
    """Keeps the first bytes of a file."""
    if size < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(size)


def _spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields where each event begins and ends, as far as the lengths lead."""
    start = 0
    while start + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        stop = start + 12 + length
        if stop + 4 > len(data):
            return
        yield start + 12, stop
        start = stop + 4


def _iteration_of(event: bytes) -> int | None:
    """Returns the iteration of an event's scalars; None if it counts something else."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore

    found = Event.FromString(event)
    if any(not value.tag.endswith("/time") for value in found.summary.value):
        return found.step
    return None


def _event(step: int, values: Mapping[str, float], wall_time: float) -> bytes:
    from tensorboardX.proto.event_pb2 import Event  # type: ignore
    from tensorboardX.proto.summary_pb2 import Summary  # type: ignore

    entries = [Summary.Value(tag=tag, simple_value=x) for tag, x in values.items()]
    summary = Summary(value=entries)
    return _record(Event(wall_time=wall_time, step=step, summary=summary))


def _record(event: Any) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    check = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + check[0] + data + check[1]


def _are_good(data: bytes, spans: list[tuple[int, int]]) -> list[bool]:
    """Returns whether each event is as its checksum says.

    Events of one length are looked at together, byte by byte, which takes a hundredth
    of the time that one after the other would take.
    """
    everything = np.frombuffer(data, np.uint8)
    good = np.zeros(len(spans), bool)
    starts, stops = np.array(spans, np.int64).reshape(-1, 2).T
    for length in np.unique(stops - starts):
        all_of_it = np.flatnonzero(stops - starts == length)
        for first in range(0, len(all_of_it), EVENTS_AT_ONCE):
            which = all_of_it[first : first + EVENTS_AT_ONCE]
            events = everything[starts[which, None] + np.arange(length)]
            stored = everything[stops[which, None] + np.arange(4)].view("<u4")
            good[which] = _masked_crc32c(events) == stored[:, 0]
    return good.tolist()


def _masked_crc32c(events: np.ndarray) -> np.ndarray:
    """Returns TensorFlow's checksum of each row: CRC-32C, rotated and shifted.

    Args:
      events: [events, length] of uint8.
    """
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):  # Castagnoli's polynomial, reflected
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    crc = np.full(len(events), 0xFFFFFFFF, np.uint32)
    for column in events.T:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
