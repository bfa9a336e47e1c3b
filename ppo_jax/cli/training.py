"""A training as it is seen: what is shown and filmed meanwhile, and said at its end."""

import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppo_jax.cli import (
    ahead,
    command_line,
    dumping,
    entry,
    filming,
    filming_beside,
    workers,
)
from ppo_jax.cli.announcing import decoration, report
from ppo_jax.cli.command_line import Arguments
from ppo_jax.runs import folders

REHEARSAL_AFTER = 0.3  # s of training: a run of a moment has nothing to prepare


def train(
    trainer: Any,
    folder: Path,
    run: Any,
    seconds_before: float,
    started: float,
    arguments: Arguments,
) -> int:
    """Runs the training loop with its display and ends with the result.

    Args:
      trainer: of the task.
      folder: of the run.
      run: to go on from; None starts anew.
      seconds_before: that the run has taken already.
      started: when the command did, by `time.perf_counter`.
      arguments: flags of the command line.

    Returns:
      The exit code.
    """
    from ppo_jax.runs import devices, finite, runner, storage

    first = 0 if run is None else int(run.train.iteration)
    seen = _Seen(trainer, folder, started, arguments)
    try:
        with seen.display.context:
            outcome = runner.run_training(
                trainer,
                folder,
                run,
                seconds_before,
                seen.callbacks(),
                profile=command_line.whole_number(arguments, "profile", 0),
            )
    except (finite.NotFinite, devices.Diverged, storage.Unwritable) as error:
        entry.complain(str(error))
        seen.films.close(0.0)
        return 1
    if seen.writes:
        seen.tell(outcome, first)
    return signalled(outcome.stopped_by)


class _Seen:
    """What a person sees of a training; but for the first process, nothing."""

    def __init__(
        self, trainer: Any, folder: Path, started: float, arguments: Arguments
    ) -> None:
        from ppo_jax.cli import console
        from ppo_jax.runs import processes

        self.trainer, self.folder, self.started = trainer, folder, started
        self.arguments = arguments
        self.imports = ahead.start()
        self.rehearsed: Callable[[], None] | None = None  # waits for it
        self.writes = processes.is_first()
        self.display = console.open_display() if self.writes else console.NO_DISPLAY
        self.compile_seconds = 0.0
        self.video: list[Path] = []
        self.is_filmed = "video" in arguments.flags
        interval = command_line.whole_number(arguments, "video_interval", 0)
        self.interval = interval * self.writes
        self.films = filming_beside.start_filming(
            trainer, folder, self.interval, self.display.note
        )

    def callbacks(self) -> Any:
        """Returns what the run calls."""
        from ppo_jax.runs.callbacks import Callbacks

        return Callbacks(
            on_compiled=self.on_compiled,
            on_iteration=self.on_iteration,
            on_learned=self.films.show,
            on_signal=self.on_signal,
            on_note=self.display.note,
            on_nan=dumping.on_nan(self.trainer, self.folder, self.arguments.flags),
            on_end=self.on_end,
        )

    def on_compiled(self) -> None:
        self.imports.curves()
        self.compile_seconds = time.perf_counter() - self.started
        self.display.note(f"compiled in {self.compile_seconds:.1f} s")

    def on_iteration(self, progress: Any) -> None:
        self.display.show(progress)
        half = max(progress.seconds_left, REHEARSAL_AFTER)
        if self.rehearsed is None and progress.seconds > half:
            self._rehearse(progress)
        done, config = progress.iteration, self.trainer.config
        if done % config.save_interval == 0 or done == config.max_iterations:
            self.imports.everything()  # a checkpoint comes next

    def _rehearse(self, progress: Any) -> None:
        """Has what comes at the end compiled and loaded while it trains.

        Half of the time is gone then: how long all takes, and whether there will be a
        clip, is known.
        """
        works: list[Callable[[], object]] = [self.imports.everything, plots_rehearsed]
        if self._is_clip_due(progress.seconds + progress.seconds_left):
            works.append(lambda: filming.rehearse(self.trainer))
        self.rehearsed = ahead.begin(*works if self.writes else ())

    def on_signal(self, name: str) -> None:
        self.display.note(f"{name}: saving; once more stops at once")
        self.imports.everything()

    def on_end(self, outcome: Any) -> None:
        """Films the policy, while loggers still listen."""
        stopped = outcome.stopped_by
        self.films.close(0.0 if stopped else filming_beside.SECONDS_TO_END)
        if self.writes and self.is_filmed and not stopped:
            self.video += film_run(self.trainer, self.folder, outcome.run.train)

    def tell(self, outcome: Any, first: int) -> None:
        """Notes how this session went, and says what came of it."""
        done = outcome.progress.iteration
        note = lambda: folders.note_session(
            self.folder, first, done, self.compile_seconds
        )
        decoration(note, "run.json")
        if self.rehearsed:
            self.rehearsed()
        if not outcome.stopped_by:
            self._clip(outcome)
        report(outcome, self.trainer.config, self.compile_seconds)
        if outcome.stopped_by:
            again = f"train.py --resume --checkpoint {shlex.quote(str(self.folder))}"
            print(
                f"Stopped by {outcome.stopped_by}; all is saved. Go on with: "
                f"{entry.typed(again)}{workers.flag_again(self.arguments)}"
            )
            return
        if self.interval:
            self.video += filming_beside.films_in(self.folder)[-1:]
        for path in self.video:
            print(f"  video           {path}")

    def _clip(self, outcome: Any) -> None:
        """Films a few seconds for the report, where there is no film and it is due."""
        if self._is_clip_due(outcome.progress.seconds):
            film = lambda: filming.clip(self.trainer, outcome.run.train, self.folder)
            decoration(film, "the clip")

    def _is_clip_due(self, seconds: float) -> bool:
        if self.interval or self.is_filmed:
            return False
        return filming.is_clip_due(self.trainer.config, self.compile_seconds, seconds)


def plots_rehearsed() -> None:
    """Loads what the learning curve is drawn with."""
    from ppo_jax.runs import plots

    plots.rehearse()


def signalled(name: str | None) -> int:
    """Returns the exit code of a run that a signal has stopped; 0 without one."""
    return 128 + signal.Signals[name] if name else 0


def film_run(trainer: Any, folder: Path, learned: Any) -> list[Path]:
    """Films an episode into a run's folder; what fails is a line, and no more."""
    path = folder / "videos" / "play.mp4"
    film = lambda: filming.film(trainer, learned, path, trainer.config.seed)
    return [path] if decoration(film, "the video") else []
