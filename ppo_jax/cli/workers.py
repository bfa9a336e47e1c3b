"""Processes of this machine that learn one policy: started, watched, ended.

They are the command that was typed, once more each, with the variables of torchrun, so
that they find each other as its processes do. What they say comes from the first. A
signal is passed on to all; when one ends otherwise than well, all do.
"""

import ctypes
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ppo_jax.cli import entry
from ppo_jax.cli.command_line import Arguments, whole_number

WORKER = "PPO_JAX_WORKER"  # set for those that were started here
FLAGS = ("coordinator_address", "num_processes", "process_id")
SECONDS_TO_END = 20  # that the others have when one has ended
PR_SET_PDEATHSIG = 1  # of Linux: a signal when the parent dies


def flags_in(arguments: Arguments) -> set[str]:
    """Returns the flags given that say how this process finds others; none: alone."""
    return {"distributed", *FLAGS} & arguments.flags.keys()


def asked_for(arguments: Arguments) -> int:
    """Returns how many processes are to be started here; 0: this is one of them.

    Raises:
      ValueError: it is not a whole number, or torchrun has started this one.
    """
    if flags_in(arguments) != {"num_processes"} or os.environ.get(WORKER):
        return 0
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError(
            "--num_processes starts processes itself, but torchrun has started this "
            "one: give --distributed instead"
        )
    return whole_number(arguments, "num_processes", 1)


def flag_again(arguments: Arguments) -> str:
    """Returns what is to be typed once more for as many processes."""
    if os.environ.get(WORKER):
        return f" --num_processes {arguments.flags['num_processes']}"
    return " in every process, with its flags" if flags_in(arguments) else ""


def run(count: int) -> int:
    """Runs this command in several processes; returns the exit code of all.

    That is the code of the first that ended otherwise than well, by its own fault.
    """
    port = _free_port()
    children = [_start(rank, count, port) for rank in range(count)]
    try:
        with _passed_on(children):
            rank, code = _watch(children)
    finally:
        for child in children:
            child.kill()
    if code < 0:
        name = signal.Signals(-code).name
        entry.complain(
            f"process {rank} of {count} was ended by {name}, and the others with it: "
            "what was saved is kept, go on with --resume and the same --num_processes"
        )
        return 128 - code
    return code


def _start(rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port - 1,  # torchrun's own, see `cluster`
        WORKER: 1,
    }
    return subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        stdin=subprocess.DEVNULL,
        process_group=0,  # the terminal's signals come through this process, once
        preexec_fn=_end_with_parent,
    )


def _watch(children: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Waits for all; returns the number and code of the first that did not end well.

    One that only says that another has ended may be seen to end before that other.
    """
    bad: tuple[int, int] | None = None
    until = math.inf
    while True:
        codes = [child.poll() for child in children]
        for rank, code in enumerate(codes):
            if code and (bad is None or bad[1] == entry.ANOTHER_ENDED):
                bad = rank, code
                until = min(until, time.monotonic() + SECONDS_TO_END)
        if None not in codes or time.monotonic() > until:
            return bad or (0, 0)
        time.sleep(0.05)


@contextmanager
def _passed_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Passes SIGINT and SIGTERM on to all."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def pass_on(number: int, frame: Any) -> None:
        del frame
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    for number in numbers:
        signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _end_with_parent() -> None:
    """Lets Linux send SIGTERM when the parent dies: the run is saved, and ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
