"""Imports what training needs later, while XLA compiles and while it trains."""

import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

FOR_CURVES = ("tensorboardX.proto.event_pb2", "tensorboardX.record_writer")
FOR_CHECKPOINTS = ("orbax.checkpoint", "matplotlib.backends.backend_agg")


class Ahead(NamedTuple):
    """Waits until what comes next is imported.

    Two threads that import the same at once could each see the other's half.
    """

    curves: Callable[[], None]
    everything: Callable[[], None]  # a checkpoint, and pictures at the end


def start() -> Ahead:
    """Begins to import, in the order in which it is needed."""
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


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        with suppress(Exception):  # it is raised again where it is needed
            import_module(name)
