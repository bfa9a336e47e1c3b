"""What train.py says before a run, and when it has ended."""

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppo_jax.cli import entry
from ppo_jax.cli import report as reports
from ppo_jax.cli.simulators import backend_of
from ppo_jax.runs import folders
from ppo_jax.runs.config import Config
from ppo_jax.runs.loggers.names import names_of


def announce(config: Config) -> None:
    """Prints what is about to be trained."""
    backend = backend_of(config.task)
    print(
        f"{config.task}: {config.num_envs} environments x {config.num_steps_per_env} "
        f"steps, {config.max_iterations} iterations, seed {config.seed}; "
        f"{f'starting {backend.title} and ' if backend else ''}compiling ...",
        flush=True,
    )


def report(outcome: Any, config: Config, compile_seconds: float) -> None:
    """Prints the result and where to look."""
    from ppo_jax.runs import checkpoint, plots

    progress, folder = outcome.progress, outcome.folder
    draw = lambda: plots.save_learning_curve(folder, config.task, config.solved_return)
    picture = decoration(draw, "the learning curve")
    video = folders.experiment_of(config).lower() + ".mp4"
    print(
        f"\nTrained {progress.iteration} iterations ({progress.env_steps:,} steps) in "
        f"{progress.seconds:.1f} s, after {compile_seconds:.1f} s of compiling."
    )
    print(f"  run             {folder}")
    print(f"  checkpoint      {checkpoint.path_of(folder, progress.iteration)}")
    page = decoration(lambda: reports.write(folder), "the report")
    if picture:
        print(f"  learning curve  {picture}")
    if page:
        print(f"  report          {page}")
    where = shlex.quote(str(folder))
    play = f"play.py --checkpoint {where} --video {shlex.quote(video)}"
    print(f"  watch it        {entry.typed(play)}")
    if "tensorboard" in names_of(config.logger):
        print(f"  curves          uv run tensorboard --logdir {folder.parent}")
    print(verdict(folder, progress.scalars["episode_return"], config.solved_return))


def decoration(make: Callable[[], Path | None], what: str) -> Path | None:
    """Returns what only decorates a run; nothing but a warning if it cannot be made."""
    try:
        return make()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        entry.complain(f"{what} could not be made, the run is complete: {reason}")
        return None


def verdict(folder: Path, episode_return: float, goal: float | None) -> str:
    """Returns the result in a sentence: the return, and when it first was enough."""
    from ppo_jax.runs import metrics

    if math.isnan(episode_return):
        return "No episode has ended yet: train longer."
    sentence = f"Mean return of the last 100 episodes: {episode_return:.2f}"
    if goal is None:
        return f"{sentence}."
    try:
        table = metrics.read_table(folder)
    except (ValueError, OSError) as error:
        return f"{sentence}. The goal is {goal:g}; when it was reached: {error}."
    rows = zip(table["iteration"], table["episode_return"], strict=True)
    reached = [int(iteration) + 1 for iteration, value in rows if value >= goal]
    if not reached:
        return f"{sentence}. Not solved: the goal is {goal:g}."
    return f"{sentence}. Solved: {goal:g} at iteration {reached[0]}."
