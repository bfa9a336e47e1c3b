"""A logger beside training: told what happened, waited for at the end, and briefly.

It runs in a process of its own, since a thread would share Python's lock with training,
could not be ended, and would be asked by the interpreter to finish at the end. What is
told waits in a queue. A logger that fails, hangs or dies is a line; metrics.csv has all
that it misses.
"""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from ppo_jax.runs.companions import start_companion
from ppo_jax.runs.table import TABLE

MOST_WAITING = 100_000  # messages that a logger has not answered yet
PAUSES = (0.5, 2.0, 10.0)  # seconds before it tries again what failed
SECONDS_UNTIL_SAID = 60.0  # without an answer
SECONDS_TO_END = 60.0  # without an answer, once the run has ended
SECONDS_ALONE = 300.0  # that it may still need, such as to upload a checkpoint
VIDEOS = "videos/*.mp4"
LOGS = "loggers"  # folder of what they print

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
        process = start_companion("ppo_jax.runs.loggers.process", order, file)
    told = _Told(name, process, log, on_note)
    return Logger(
        lambda step, values: told.tell(do="scalars", step=step, values=values),
        lambda path, step: told.tell(do="model", path=str(path), step=step),
        told.close,
    )


def films_in(folder: Path) -> dict[str, float]:
    """Returns the films of a run, and when each was written."""
    return {str(path): path.stat().st_mtime for path in sorted(folder.glob(VIDEOS))}


def log_of(folder: Path, name: str) -> Path:
    """Returns the file that has what a logger prints."""
    return folder / LOGS / f"{name.rpartition(':')[2]}.log"


class _Told:
    """What a logger was told, and what it has said; see `Logger`."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], log: Path, on_note: Note
    ) -> None:
        assert process.stdin is not None and process.stdout is not None  # pipes
        self._name, self._process, self._log, self._note = name, process, log, on_note
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        _in_thread(_feed, process.stdin, self._waiting)
        self._listener = _in_thread(_listen, process.stdout, self._answers)
        self._told, self._answered, self._last_answer = 0, 0, time.monotonic()
        self._is_over = self._is_silent = False

    def tell(self, **message: Any) -> None:
        """Lets a message wait for the logger, unless it is over."""
        self._hear()
        if self._is_over:
            return
        if self._behind >= MOST_WAITING:
            self._is_over = True
            self._process.kill()
            self._say(f"is dropped: it was {MOST_WAITING} behind; {REST}")
            return
        if not self._behind:
            self._last_answer = time.monotonic()
        self._told += 1
        self._waiting.put(message)

    def close(self) -> None:
        """Waits while the logger goes on answering, and then for a minute."""
        self._waiting.put(None)
        self._last_answer, before = time.monotonic(), -1
        while self._process.poll() is None:
            self._hear()
            if self._answered != before:
                self._last_answer, before = time.monotonic(), self._answered
            if time.monotonic() - self._last_answer > SECONDS_TO_END:
                return self._give_up()
            time.sleep(0.02)
        self._hear()

    @property
    def _behind(self) -> int:
        return self._told - self._answered

    def _hear(self) -> None:
        """Passes on what the logger has said; notices that it ended or hangs."""
        ended = self._process.poll() is not None
        if ended:
            self._listener.join(1.0)
        while not self._answers.empty():
            self._take(self._answers.get())
        if self._is_over:
            return
        if ended:
            self._is_over = True
            code = self._process.returncode
            self._say(f"ended by itself ({code}), see {self._log}; {REST}")
        waits = time.monotonic() - self._last_answer if self._behind > 0 else 0.0
        if waits > SECONDS_UNTIL_SAID and not self._is_silent:
            self._is_silent = True
            self._say(f"has not answered for {waits:.0f} s; training goes on")

    def _take(self, answer: dict[str, Any]) -> None:
        self._answered += answer.get("done", 0)
        self._last_answer, self._is_silent = time.monotonic(), False
        if "note" in answer:
            self._note(f"{self._name}: {answer['note']}")
        self._is_over |= "over" in answer

    def _give_up(self) -> None:
        """Ends what hangs; lets alone what has heard all and needs time to end."""
        self._is_over = True
        if self._behind:
            self._process.kill()
            what = f"and was stopped, {self._behind} messages behind"
        else:
            what = f"and goes on alone, for {SECONDS_ALONE:g} s at most"
        self._say(f"did not end within {SECONDS_TO_END:g} s {what}; {REST}")

    def _say(self, what: str) -> None:
        self._note(f"{self._name} {what}")


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
