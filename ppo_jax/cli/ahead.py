"""What training needs later, done while XLA compiles and while it trains."""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

FOR_CURVES = ("tensorboardX.proto.event_pb2", "tensorboardX.record_writer")
FOR_CHECKPOINTS = ("orbax.checkpoint", "matplotlib.backends.backend_agg")
SECONDS_TO_YIELD = 0.0005


class Ahead(NamedTuple):
    """Waits until what comes next is imported.

    Two threads that import the same at once could each see the other's half.
    """

    curves: Callable[[], None]
    everything: Callable[[], None]  # a checkpoint, and pictures at the end


def start() -> Ahead:
    """Begins to import, in the order in which it is needed.

    From now on a thread that waits for the interpreter has it after half a millisecond,
    not five: the loop that trains asks for it several times an iteration.
    """
    sys.setswitchinterval(SECONDS_TO_YIELD)
    curves = threading.Event()

    def import_all() -> None:
        _import(FOR_CURVES)
        curves.set()
        _import(FOR_CHECKPOINTS)

    thread = threading.Thread(target=import_all)
    thread.start()

    def wait_for_curves() -> None:
        curves.wait()

    return Ahead(wait_for_curves, thread.join)


def begin(*works: Callable[[], object]) -> Callable[[], None]:
    """Does in a thread what makes things faster later; returns what waits for it."""

    def do_all() -> None:
        for work in works:
            with suppress(Exception):  # it is raised again where it is needed
                work()

    thread = threading.Thread(target=do_all)
    thread.start()
    return thread.join


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        with suppress(Exception):  # it is raised again where it is needed
            import_module(name)
