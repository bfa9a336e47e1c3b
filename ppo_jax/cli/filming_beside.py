"""Films of the policy while it is trained, by a process that takes only idle time.

What was learned is sent to it as numbers; it plays, draws and writes into the run's
`videos`. Cores share caches, and often more: so it rests between two films, and of
those that are due meanwhile only the newest is made. Nothing here waits for it but the
end, and nothing it does can fail a training.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ppo_jax.cli.simulators import backend_of
from ppo_jax.runs.companions import start_companion
from ppo_jax.runs.config_fields import from_dict, to_dict
from ppo_jax.runs.recorded import VIDEOS

SECONDS_TO_END = 60.0  # that the last film may take when training has ended
SECONDS_TO_FIRST = 20.0  # before it starts, which takes some five
REST = 9.0  # times what a film took: films have a tenth of the time


class Films(NamedTuple):
    """Films beside a training."""

    show: Callable[[int, Any], None]  # (iterations done, what was learned)
    close: Callable[[float], None]  # (seconds that the last film may take)


NO_FILMS = Films(lambda done, learned: None, lambda seconds: None)


def check(task: str, interval: int) -> None:
    """Raises ValueError if a task cannot be filmed while it is trained."""
    if interval and backend_of(task):
        raise ValueError(
            f"--video_interval {interval}: {task} runs in a simulator, of which there "
            "is one, for training: give --video, it is filmed at the end"
        )


def start_filming(
    trainer: Any, folder: Path, interval: int, on_note: Callable[[str], None]
) -> Films:
    """Starts the process that films; it imports and compiles beside training.

    Args:
      trainer: of a JAX-native task.
      folder: of the run.
      interval: iterations between two films; 0: there are none.
      on_note: called with a sentence if films cannot be made, or not all.
    """
    if not interval:
        return NO_FILMS
    import jax

    order = {"folder": str(folder), "config": to_dict(trainer.config)}
    process = start_companion(__name__, order, subprocess.DEVNULL)
    due, said = _Newest(), list[str]()
    thread = threading.Thread(target=_feed, args=(process, due, said), daemon=True)
    thread.start()

    def tell() -> None:
        while said:
            on_note(said.pop(0))

    def show(done: int, learned: Any) -> None:
        tell()
        if done % interval == 0:
            due.put((done, jax.device_get(jax.tree.leaves(learned))))

    def close(seconds: float) -> None:
        due.put(None)
        thread.join(seconds)
        if thread.is_alive():
            on_note("a film of this training was not ready when it ended")
        tell()
        process.kill()
        process.wait()

    return Films(show, close)


def films_in(folder: Path) -> list[Path]:
    """Returns the films of a run that were made beside training, in their order."""
    paths = (folder / VIDEOS).glob("iteration_*.mp4")
    return sorted(paths, key=lambda path: (len(path.name), path.name))


class _Newest:
    """A place for one thing: what nobody has taken yet is replaced, but by None."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._things: list[Any] = []

    def put(self, thing: Any) -> None:
        with self._changed:
            if thing is not None:
                self._things.clear()
            self._things.append(thing)
            self._changed.notify()

    def take(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._things))
            return self._things.pop(0)

    def rest(self, seconds: float) -> None:
        """Waits; not longer than until the end is there."""
        with self._changed:
            self._changed.wait_for(lambda: None in self._things, seconds)


def _feed(process: subprocess.Popen[bytes], due: _Newest, said: list[str]) -> None:
    """Hands over one film after another; a process that has ended gets no more."""
    assert process.stdin is not None and process.stdout is not None  # they are pipes
    due.rest(SECONDS_TO_FIRST)
    try:
        while (thing := due.take()) is not None:
            begun = time.monotonic()
            pickle.dump(thing, process.stdin)
            process.stdin.flush()
            answer = process.stdout.readline().decode().strip()
            if answer != "filmed":
                reason = answer or "its process ended"
                said.append(f"there are no more films of this training: {reason}")
                return
            due.rest(REST * (time.monotonic() - begun))
    except OSError:
        said.append("there are no more films of this training: its process ended")


def main(order: dict[str, Any]) -> None:
    """Films what comes from stdin until it ends: the other side of `start_filming`."""
    _be_idle()
    out, sys.stdout = sys.stdout, sys.stderr
    from ppo_jax.cli import entry

    entry.find_modules_here()
    film: Callable[..., None] | None = None
    while True:
        try:
            done, leaves = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            film = film or _filmer(order["config"], Path(order["folder"]))
            film(done, leaves)
            answer = "filmed"
        except Exception as error:
            answer = " ".join(str(error).split()) or type(error).__name__
        print(answer, file=out, flush=True)


def _filmer(config: dict[str, Any], folder: Path) -> Callable[[int, Any], None]:
    """Returns a function that films what was learned into a run's folder."""
    import jax

    from ppo_jax.cli import entry, filming, tasks
    from ppo_jax.runs import trainers

    entry.use_compilation_cache()
    trainer = tasks.make_trainer(from_dict(config), num_envs=1)
    structure = jax.tree.structure(trainers.abstract_run(trainer).train)

    def film(done: int, leaves: Any) -> None:
        learned = jax.tree.unflatten(structure, leaves)
        path = folder / VIDEOS / f"iteration_{done}.mp4"
        unfinished = path.with_name(f".{path.name}")  # a logger takes what is whole
        try:
            filming.film(trainer, learned, unfinished, trainer.config.seed)
            unfinished.replace(path)
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()

    return film


def _be_idle() -> None:
    """Takes only the time that nobody else wants, as far as the system can do that."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
