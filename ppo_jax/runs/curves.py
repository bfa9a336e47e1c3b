"""Where a run's curves go while it is trained: its folder, and loggers beside it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from ppo_jax.runs import checkpoint, metrics, storage
from ppo_jax.runs.config import Config
from ppo_jax.runs.loggers.beside import start_logger


class Curves(NamedTuple):
    """What of a run goes to its curves, and to its loggers."""

    write: Callable[[int, metrics.Scalars, float], None]  # iteration, values, seconds
    save_model: Callable[[Path, int], None]  # (checkpoint, iteration)


@contextmanager
def open_curves(
    folder: Path,
    config: Config,
    others: Sequence[str],
    first: int,
    on_note: Callable[[str], None],
) -> Iterator[Curves]:
    """Sets aside what is newer than an iteration; gives what writes the curves.

    Args:
      folder: of the run.
      config: of the run.
      others: names of the loggers beside the folder; they never fail.
      first: iteration that comes next.
      on_note: see `run_training`.
    """
    with storage.writing(folder):
        checkpoint.set_aside(folder, after=first)
        writer = metrics.open_writer(folder, config.logger, first)
        values = asdict(config)
        beside = [start_logger(x, folder, first, values, on_note) for x in others]
    for note in writer.notes:
        on_note(note)

    def write(iteration: int, scalars: metrics.Scalars, seconds: float) -> None:
        with storage.writing(folder):
            writer.write(iteration, scalars, seconds)
        if beside:
            values = metrics.tagged(scalars)
            for logger in beside:
                logger.write(iteration, values)

    def save_model(path: Path, iteration: int) -> None:
        if config.upload_model:
            for logger in beside:
                logger.save_model(path, iteration)

    try:
        yield Curves(write, save_model)
    finally:
        for logger in beside:
            logger.close()
        with storage.writing(folder):
            writer.close()
