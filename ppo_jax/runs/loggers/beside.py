"""A logger beside training: told what happened, waited for at the end, and briefly.

It runs in a process of its own, since a thread would share Python's lock with training,
could not be ended, and would be asked by the interpreter to finish at the end. What is
told waits in a queue. A logger that fails, hangs or dies is a line; metrics.csv has all
that it misses.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from ppo_jax.runs.table import TABLE

MOST_WAITING = 100_000  # messages that a logger has not answered yet
PAUSES = (0.5, 2.0, 10.0)  # seconds before it tries again what failed
SECONDS_UNTIL_SAID = 60.0  # without an answer
SECONDS_TO_END = 60.0  # without an answer, once the run has ended
SECONDS_ALONE = 300.0  # that it may still need, such as to upload a checkpoint
VIDEOS = "videos/*.mp4"
LOGS = "loggers"  # folder of what they print
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from ppo_jax.runs.loggers import process; process.main(json.loads(sys.argv[2]))"
)

Note = Callable[[str], None]


class Logger(NamedTuple):
    """A logger that runs beside training. Nothing here raises or waits, but `close`."""

    write: Callable[[int, Mapping[str, float]], None]  # (iteration, {tag: value})
    save_model: Callable[[Path, int], None]  # (checkpoint, iteration)
    close: Callable[[], None]


def start_logger(
    name: str, folder: Path, first: int, config: Mapping[str, Any], on_note: Note
) -> Logger:
    """Starts a logger in a process of its own.

    Args:
      name: "wandb" or "package.module:Class".
      folder: of the run.
      first: iteration from which on it is told of.
      config: of the run, as plain values.
      on_note: called with a sentence, from where the logger is told something.
    """
    log = log_of(folder, name)
    log.parent.mkdir(exist_ok=True)
    order = {
        "name": name,
        "folder": str(folder),
        "first": first,
        "config": config,
        "pauses": PAUSES,
        "seconds_alone": SECONDS_ALONE,
        "films": films_in(folder),
    }
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(sys.path), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},  # it has no use for a GPU
            start_new_session=True,  # Ctrl-C is for training, which then tells it
        )
    return _logger(name, process, log, on_note)


def films_in(folder: Path) -> dict[str, float]:
    """Returns the films of a run, and when each was written."""
    return {str(path): path.stat().st_mtime for path in sorted(folder.glob(VIDEOS))}


def log_of(folder: Path, name: str) -> Path:
    """Returns the file that has what a logger prints."""
    return folder / LOGS / f"{name.rpartition(':')[2]}.log"


def _logger(
    name: str, process: subprocess.Popen[bytes], log: Path, on_note: Note
) -> Logger:
    waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    assert process.stdin is not None and process.stdout is not None  # they are pipes
    _in_thread(_feed, process.stdin, waiting)
    listener = _in_thread(_listen, process.stdout, answers)
    told, answered, last_answer = 0, 0, time.monotonic()
    is_over = is_silent = False

    def hear() -> None:
        """Passes on what the logger has said; notices that it ended or hangs."""
        nonlocal answered, last_answer, is_over, is_silent
        ended = process.poll() is not None
        if ended:
            listener.join(1.0)
        while not answers.empty():
            answer = answers.get()
            answered += answer.get("done", 0)
            last_answer, is_silent = time.monotonic(), False
            if "note" in answer:
                on_note(f"{name}: {answer['note']}")
            is_over |= "over" in answer
        if is_over:
            return
        if ended:
            is_over = True
            on_note(f"{name} ended by itself ({process.returncode}), see {log}; {REST}")
        waits = time.monotonic() - last_answer if told > answered else 0.0
        if waits > SECONDS_UNTIL_SAID and not is_silent:
            is_silent = True
            on_note(f"{name} has not answered for {waits:.0f} s; training goes on")

    def tell(message: dict[str, Any]) -> None:
        nonlocal told, last_answer, is_over
        hear()
        if is_over:
            return
        if told - answered >= MOST_WAITING:
            is_over = True
            process.kill()
            return on_note(f"{name} is dropped: it was {MOST_WAITING} behind; {REST}")
        last_answer = time.monotonic() if told == answered else last_answer
        told += 1
        waiting.put(message)

    def give_up(behind: int) -> None:
        """Ends what hangs; lets alone what has heard all and needs time to end."""
        if behind:
            process.kill()
            what = f"and was stopped, {behind} messages behind"
        else:
            what = f"and goes on alone, for {SECONDS_ALONE:g} s at most"
        on_note(f"{name} did not end within {SECONDS_TO_END:g} s {what}; {REST}")

    def close() -> None:
        nonlocal last_answer
        waiting.put(None)
        last_answer, before = time.monotonic(), -1
        while process.poll() is None:
            hear()
            if answered != before:
                last_answer, before = time.monotonic(), answered
            if time.monotonic() - last_answer > SECONDS_TO_END:
                return give_up(told - answered)
            time.sleep(0.02)
        hear()

    return Logger(
        lambda step, values: tell({"do": "scalars", "step": step, "values": values}),
        lambda path, step: tell({"do": "model", "path": str(path), "step": step}),
        close,
    )


REST = f"{TABLE} has all curves"


def _in_thread(run: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=run, args=args, daemon=True)
    thread.start()
    return thread


def _feed(pipe: IO[bytes], waiting: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    """Hands over what waits; None closes the pipe, which ends the logger."""
    try:
        with pipe:
            while (message := waiting.get()) is not None:
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()
    except OSError:  # it is gone, which `hear` says
        pass


def _listen(pipe: IO[bytes], answers: "queue.SimpleQueue[dict[str, Any]]") -> None:
    with pipe:
        for line in pipe:
            answers.put(json.loads(line))
