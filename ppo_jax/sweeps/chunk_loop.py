"""The one loop over chunks: passed over if finished, else compiled, run and kept."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ppo_jax.runs import finite, processes
from ppo_jax.runs.config import Config
from ppo_jax.sweeps import compiling, files
from ppo_jax.sweeps.compiling import Compiled
from ppo_jax.sweeps.planning import Chunk, Program, Sweep, programs_of
from ppo_jax.sweeps.programs import MakeEnv, Programs, population_of
from ppo_jax.types import Metrics

Carry = TypeVar("Carry")  # what a chunk leaves for the next one, in memory


class Progress(NamedTuple):
    """How far a sweep is, in iterations of single members."""

    done: int
    total: int
    where: str  # chunk and iteration, in words
    episode_return: float  # mean over the members of the chunk; NaN: none yet
    seconds_left: float


class Work(NamedTuple):
    """A sweep that is being run."""

    sweep: Sweep
    folder: Path
    make_env: MakeEnv
    programs: list[Program]
    compiled: Programs  # grows as chunks need more
    on_progress: Callable[[Progress], None]
    on_note: Callable[[str], None]


class Clock(NamedTuple):
    """How far a sweep is, in iterations of single members."""

    started: float  # when this process began
    skipped: int  # what earlier processes have done
    done: int
    total: int


class Step(NamedTuple):
    """A chunk that is to be run, with all that this takes."""

    chunk: Chunk
    program: Program
    compiled: Compiled
    report: Callable[[int, Metrics], None]  # (iterations done, metrics of the last)


def open_work(
    sweep: Sweep,
    folder: Path,
    make_env: MakeEnv,
    compiled: Programs | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Work:
    """Returns what running a sweep takes.

    Args:
      sweep: the plan, with its chunk limits.
      folder: of the sweep; every finished chunk is kept there.
      make_env: returns the environments of a configuration.
      compiled: programs that are compiled already.
      on_progress: called after every block of iterations.
      on_note: called with a sentence on what a person should know.
    """
    programs, compiled = programs_of(sweep), dict(compiled or {})
    return Work(sweep, folder, make_env, programs, compiled, on_progress, on_note)


def start_clock(total: int = 0) -> Clock:
    """Returns the clock of a sweep that begins now."""
    return Clock(time.monotonic(), skipped=0, done=0, total=total)


def run_chunks(
    work: Work,
    clock: Clock,
    chunks: Sequence[Chunk],
    where: Callable[[int], str],
    run_chunk: Callable[[Step, Carry | None], Carry],
) -> Clock:
    """Runs those of some chunks that the folder does not hold, in their order.

    Args:
      work: the sweep.
      clock: before them.
      chunks: one after another.
      where: (number of a chunk, from 1) -> where the sweep then is, in words.
      run_chunk: runs a chunk and keeps what came of it; it is given what the chunk
        before has returned, None if that was not run now.

    Returns:
      The clock after them.
    """
    finished = processes.agree(partial(files.finished, work.folder))
    carry = None
    for count, chunk in enumerate(chunks, start=1):
        if chunk.name in finished:
            clock, carry = clock._replace(skipped=clock.skipped + chunk.work), None
        else:
            report = partial(_report, work, clock, chunk, where(count))
            program = work.programs[chunk.program]
            step = Step(chunk, program, _compiled_for(work, chunk, program), report)
            carry = run_chunk(step, carry)
        clock = clock._replace(done=clock.done + chunk.work)
    return clock


def rows_of(
    sweep: Sweep, chunk: Chunk, config: Config, metrics: Metrics
) -> dict[str, Any]:
    """Returns the columns of the table for one chunk, member by member."""
    members, length = chunk.members, chunk.last - chunk.first
    iterations = np.arange(chunk.first, chunk.last, dtype=np.int32)
    iteration = np.tile(iterations, len(members))
    steps = config.num_envs * config.num_steps_per_env

    def each(values: Sequence[Any]) -> list[Any]:
        return [value for value in values for _ in range(length)]

    is_finite = finite.is_finite(metrics, config.check_for_nan)
    return {
        "member": np.array(each([m.index for m in members]), np.int32),
        "setting": np.array(each([m.setting for m in members]), np.int32),
        "seed": np.array(each([m.seed for m in members]), np.uint32),
        **{
            path: each([sweep.settings[m.setting][path] for m in members])
            for path in sweep.swept
        },
        "iteration": iteration,
        "env_steps": (iteration.astype(np.int64) + 1) * steps,
        "finite": is_finite.reshape(-1),
        **{
            name: x.reshape(-1)
            for name, x in metrics.items()
            if not name.startswith("nonfinite/")
        },
    }


def _compiled_for(work: Work, chunk: Chunk, program: Program) -> Compiled:
    """Returns what runs a chunk; compiles and keeps what is not compiled yet."""
    key = chunk.program, chunk.rows
    if key not in work.compiled:
        work.on_note(f"compiling for {chunk.rows} members side by side ...")
        functions = population_of(work.sweep, program, work.make_env)
        work.compiled[key] = compiling.compile_population(functions, chunk.rows)
    return work.compiled[key]


def _report(
    work: Work, clock: Clock, chunk: Chunk, where: str, done: int, metrics: Metrics
) -> None:
    """Says how far a sweep is after some iterations of a chunk."""
    work_done = clock.done + len(chunk.members) * done
    speed = (work_done - clock.skipped) / (time.monotonic() - clock.started)
    returns = metrics["episode_return"][:, -1]
    known = returns[np.isfinite(returns)]
    progress = Progress(
        done=work_done,
        total=clock.total,
        where=f"{where}  iteration {chunk.first + done}",
        episode_return=float(known.mean()) if len(known) else math.nan,
        seconds_left=(clock.total - work_done) / speed,
    )
    work.on_progress(progress)
