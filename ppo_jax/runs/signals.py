"""SIGINT and SIGTERM: noted, so that a run can end at a good moment."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying; a second one acts as usual."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        previous = {number: signal.getsignal(number) for number in numbers}

        def remember(number: int, frame: Any) -> None:
            del frame
            received.append(number)
            for other in numbers:
                signal.signal(other, previous[other])

        for number in numbers:
            signal.signal(number, remember)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield received
        return
    try:
        yield received
    finally:
        for number in numbers:
            signal.signal(number, previous[number])
