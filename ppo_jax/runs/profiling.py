"""A trace of some iterations, in a run's folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import jax

FOLDER = "profile"

Item = TypeVar("Item")


def traced(
    iterations: Iterator[Item],
    folder: Path,
    count: int,
    on_note: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Item]:
    """Passes iterations on, and traces some of them by `jax.profiler`.

    The first is left out where there are more: what runs on the host compiles in it. A
    trace that cannot be written is a sentence, and the run goes on.

    Args:
      iterations: each does its work when it is asked for.
      folder: of the run; the trace goes to `profile` in it.
      count: how many; 0: none.
      on_note: called with a sentence on where the trace is.
    """
    if count:
        yield from _some(iterations, 1)
        path = folder / FOLDER
        jax.profiler.start_trace(str(path), create_perfetto_trace=True)
        done = 0
        try:
            for item in _some(iterations, count):
                done += 1
                yield item
        finally:
            on_note(_stop(path, done))
    yield from iterations


def _some(iterations: Iterator[Item], count: int) -> Iterator[Item]:
    for _ in range(count):
        try:
            yield next(iterations)
        except StopIteration:
            return


def _stop(path: Path, count: int) -> str:
    """Writes the trace; says where it is, or why it is not."""
    try:
        jax.profiler.stop_trace()
    except Exception as error:
        reason = " ".join(str(error).split())
        return f"the profile could not be written to {path}: {reason}"
    return (
        f"profile of {count} iterations in {path}: perfetto_trace.json.gz in it opens "
        "in ui.perfetto.dev, and TensorBoard's profile plugin reads the folder"
    )
