"""The process of a logger: takes messages from stdin until it ends, and answers each.

What fails is tried again, then left out; a logger that leaves out too much is dropped.
What a logger prints goes to its file: stdout is for the answers.
"""

import fcntl
import inspect
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ppo_jax.options import load
from ppo_jax.runs.loggers.beside import films_in, log_of
from ppo_jax.runs.loggers.names import WRITERS

MOST_LEFT_OUT = 3  # messages in a row
SECONDS_BETWEEN_LOOKS = 5.0  # at the folder of films

Answer = Callable[..., None]


class Dropped(Exception):
    """The logger cannot be used."""


@dataclass(frozen=True)
class Simulator:
    """What rsl_rl hands to `store_config` as the configuration of the environment."""

    task: str

    def to_dict(self) -> dict[str, str]:
        """Returns it as plain values."""
        return {"task": self.task}


def main(order: dict[str, Any]) -> None:
    """Makes a logger, and hands on what comes until stdin ends.

    Args:
      order: what `beside.start_logger` says.
    """
    answer = _answers()
    try:
        with _alone(order):
            _serve(order, answer)
    except Dropped as reason:
        answer(note=f"{reason}; it is dropped")
    answer(over=True)


def _answers() -> Answer:
    """Returns what answers on stdout; whatever else is printed goes to stderr."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        with suppress(OSError):  # training was killed: what it told is still logged
            print(json.dumps(values), file=out, flush=True)

    return answer


@contextmanager
def _alone(order: dict[str, Any]) -> Iterator[None]:
    """Waits until the logger of a run that was killed has ended, for a while."""
    with log_of(Path(order["folder"]), order["name"]).open("ab") as file:
        until = time.monotonic() + order["seconds_alone"]
        while time.monotonic() < until:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        yield


def _serve(order: dict[str, Any], answer: Answer) -> None:
    patiently = partial(_patiently, order["pauses"], answer, set())
    made: list[Any] = []
    if not patiently("its start", lambda: made.append(_make(order))):
        raise Dropped("it could not be started")
    (writer,) = made
    if sentence := getattr(writer, "note", ""):
        answer(note=sentence)
    configure = getattr(writer, "store_config", None)
    if configure:
        simulator = Simulator(order["config"]["task"])
        patiently("store_config", lambda: configure(simulator, order["config"]))
    show_films = _films(order, writer, patiently)
    left_out, step = 0, order["first"]
    for line in sys.stdin:
        message = json.loads(line)
        step = message["step"]
        left_out = 0 if patiently(*_calls(writer, message)) else left_out + 1
        if left_out == MOST_LEFT_OUT:
            raise Dropped(f"{left_out} calls in a row failed")
        show_films(step, SECONDS_BETWEEN_LOOKS)
        answer(done=1)
    signal.setitimer(signal.ITIMER_REAL, order["seconds_alone"])  # ends any hang
    show_films(step, 0.0)
    for name in ("stop", "close", "flush"):  # the last two are SummaryWriter's
        if callable(end := getattr(writer, name, None)):
            patiently(name, end)
            break


def _patiently(
    pauses: Sequence[float],
    answer: Answer,
    said: set[str],
    what: str,
    action: Callable[[], Any],
) -> bool:
    """Tries something again and again; returns whether it went well in the end.

    Args:
      pauses: between two tries, s.
      answer: tells of the first failure of each thing.
      said: what has failed before.
      what: is tried, in words.
      action: does it.
    """
    for pause in (*pauses, None):
        try:
            action()
            return True
        except Exception as error:
            traceback.print_exc()
            reason = " ".join(str(error).split()) or type(error).__name__
        if what not in said:
            answer(note=f"{what} failed ({reason}); it is tried again")
            said.add(what)
        if pause is not None:
            time.sleep(pause)
    return False


def _make(order: dict[str, Any]) -> Any:
    """Makes a writer; of what else we know it is given what it has arguments for."""
    name: str = order["name"]
    cls = load(WRITERS.get(name, name), "logger")
    offered = {
        "project_name": order["config"].get("wandb_project") or "ppo_jax",
        "first_iteration": order["first"],
    }
    parameters = inspect.signature(cls).parameters
    known = {key: x for key, x in offered.items() if key in parameters}
    return cls(log_dir=order["folder"], **known)


def _calls(writer: Any, message: dict[str, Any]) -> tuple[str, Callable[[], None]]:
    """Returns the name of what a message asks for, and what does it.

    What has been done is not done again when it is tried again.
    """
    step = message["step"]
    if message["do"] == "model":
        save = getattr(writer, "save_model", lambda path, step: None)
        return "save_model", lambda: save(message["path"], step)
    left = list(message["values"].items())

    def add() -> None:
        while left:
            writer.add_scalar(*left[0], step)
            del left[0]

    return "add_scalar", add


def _films(
    order: dict[str, Any],
    writer: Any,
    patiently: Callable[[str, Callable[[], Any]], bool],
) -> Callable[[int, float], None]:
    """Returns what hands on each film that is new in a run's folder, once.

    It takes the iteration, and the seconds for which a film must not have grown.
    """
    save: Any = getattr(writer, "save_video", None)
    seen = order["films"]
    looked = time.monotonic()

    def show(step: int, seconds: float) -> None:
        nonlocal looked
        if save is None or time.monotonic() - looked < seconds:
            return
        looked = time.monotonic()
        for path, changed in films_in(Path(order["folder"])).items():
            if seen.get(path) != changed and time.time() - changed >= seconds:
                seen[path] = changed
                patiently("save_video", lambda path=Path(path): save(path, step))

    return show
