"""Running a sweep: programs are compiled, chunks go through them and onto the disk."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax.loops.pbt import evolve
from ppo_jax.loops.population import Population, make_population
from ppo_jax.runs import finite, processes, trainers
from ppo_jax.runs.config import Config, hyperparams
from ppo_jax.sweeps import compiling, files, ranking
from ppo_jax.sweeps.compiling import Compiled
from ppo_jax.sweeps.planning import (
    Chunk,
    Member,
    Program,
    Sweep,
    block_length,
    chunk_rows,
    chunks_of,
    config_of,
    num_kept,
    programs_of,
    stage_ends,
)
from ppo_jax.types import Env, Hyperparams, Metrics

MakeEnv = Callable[[Config], Env]


class Progress(NamedTuple):
    """How far a sweep is, in iterations of single members."""

    done: int
    total: int
    where: str  # chunk and iteration, in words
    episode_return: float  # mean over the members of the chunk; NaN: none yet
    seconds_left: float


Programs = dict[tuple[int, int], Compiled]  # {(program, rows of a chunk): compiled}


def compile_programs(
    sweep: Sweep, make_env: MakeEnv, chunk_size: int = 0
) -> tuple[Sweep, Programs]:
    """Compiles every program for its first stage.

    Args:
      sweep: without chunk limits.
      make_env: returns the environments of a configuration.
      chunk_size: the most members at a time; 0: as many as fit the memory, or, of a
        population, all of them.

    Returns:
      The sweep with its chunk limits, and the programs.
    """
    compiled, limits = {}, []
    chunk_size = chunk_size or sweep.population
    for number, program in enumerate(programs_of(sweep)):
        members = len(program.settings) * sweep.num_seeds
        functions = population_of(sweep, program, make_env)
        if chunk_size:
            rows = chunk_rows(members, chunk_size)
            made = compiling.compile_population(functions, rows)
        else:
            made = compiling.compile_what_fits(functions, members)
            rows = chunk_rows(members, min(made.size, members))
        compiled[number, rows] = made
        limits.append(rows)
    return replace(sweep, chunk_limits=tuple(limits)), compiled


def population_of(sweep: Sweep, program: Program, make_env: MakeEnv) -> Population:
    """Returns the functions of a program, not compiled.

    A population runs on one device: that of its simulator, or where its members meet.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    config = program.config
    trainer = trainers.make_trainer(config, make_env(config))
    trainers.abstract_run(trainer)
    return make_population(
        trainer.ppo,
        trainer.env,
        config.num_steps_per_env,
        block_length(sweep, config),
        config.init_at_random_ep_len,
        devices=jax.local_devices()[:1] if sweep.population else None,
        evolve=partial(evolve, sweep.pbt, config.max_iterations) if sweep.pbt else None,
    )


def hyperparams_of(sweep: Sweep, members: Sequence[Member]) -> Hyperparams:
    """Returns the dynamic scalars of some members, each [P]."""
    of_setting = {
        setting: hyperparams(config_of(sweep, setting).algorithm)
        for setting in {member.setting for member in members}
    }
    rows = [of_setting[member.setting] for member in members]
    return Hyperparams(*np.array(rows, np.float32).T)


def run_sweep(
    sweep: Sweep,
    folder: Path,
    make_env: MakeEnv,
    compiled: Programs | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> None:
    """Runs all that a sweep's folder does not hold yet.

    Args:
      sweep: the plan, with its chunk limits.
      folder: of the sweep; every finished chunk is kept there.
      make_env: returns the environments of a configuration.
      compiled: programs that are compiled already.
      on_progress: called after every block of iterations.
      on_note: called with a sentence on what a person should know.
    """
    programs, compiled = programs_of(sweep), dict(compiled or {})
    settings = list(range(len(sweep.settings)))
    num_stages = len(stage_ends(sweep, sweep.base))
    started, skipped, done = time.monotonic(), 0, 0
    for stage in range(num_stages):
        chunks = chunks_of(sweep, programs, stage, settings)
        total = done + sum(chunk.work for chunk in chunks)
        total += _later_work(sweep, stage, len(settings))
        finished = processes.agree(partial(_finished, folder, chunks))
        for count, chunk in enumerate(chunks, start=1):
            if chunk.name in finished:
                skipped += chunk.work
            else:
                where = f"chunk {count}/{len(chunks)}  {len(chunk.members)} members"
                if num_stages > 1:
                    where = f"stage {stage + 1}/{num_stages}  {where}"
                clock = Clock(started, skipped, done, total)
                report = partial(report_progress, clock, chunk, where, on_progress)
                program = programs[chunk.program]
                made = compiled_for(sweep, chunk, program, make_env, compiled, on_note)
                _run_chunk(sweep, folder, chunk, program, made, report)
            done += chunk.work
        if stage + 1 < num_stages:
            for chunk in chunks:
                processes.wait_for(files.chunk_folder(folder, chunk.name))
            go_on = partial(_those_that_go_on, sweep, folder, stage, settings)
            settings = processes.agree(go_on)
            on_note(f"{len(settings)} of {len(sweep.settings)} settings go on")


def _finished(folder: Path, chunks: Sequence[Chunk]) -> list[str]:
    names = [chunk.name for chunk in chunks]
    return [name for name in names if files.is_finished(folder, name)]


def compiled_for(
    sweep: Sweep,
    chunk: Chunk,
    program: Program,
    make_env: MakeEnv,
    compiled: Programs,
    on_note: Callable[[str], None],
) -> Compiled:
    """Returns what runs a chunk; compiles and adds what `compiled` does not hold."""
    key = chunk.program, chunk.rows
    if key not in compiled:
        on_note(f"compiling for {chunk.rows} members side by side ...")
        functions = population_of(sweep, program, make_env)
        compiled[key] = compiling.compile_population(functions, chunk.rows)
    return compiled[key]


class Clock(NamedTuple):
    """Where a chunk begins, in iterations of single members."""

    started: float  # when this process began
    skipped: int  # what earlier processes have done
    done: int
    total: int


def report_progress(
    clock: Clock,
    chunk: Chunk,
    where: str,
    on_progress: Callable[[Progress], None],
    iterations: int,
    metrics: Metrics,
) -> None:
    """Says how far a sweep is after some iterations of a chunk."""
    done = clock.done + len(chunk.members) * iterations
    speed = (done - clock.skipped) / (time.monotonic() - clock.started)
    returns = metrics["episode_return"][:, -1]
    known = returns[np.isfinite(returns)]
    progress = Progress(
        done=done,
        total=clock.total,
        where=f"{where}  iteration {chunk.first + iterations}",
        episode_return=float(known.mean()) if len(known) else math.nan,
        seconds_left=(clock.total - done) / speed,
    )
    on_progress(progress)


def _run_chunk(
    sweep: Sweep,
    folder: Path,
    chunk: Chunk,
    program: Program,
    compiled: Compiled,
    report: Callable[[int, Metrics], None],
) -> None:
    """Takes a chunk's members through its stage and keeps what came of it."""
    begun = time.monotonic()
    numbers = [member.index for member in chunk.members]
    hparams = hyperparams_of(sweep, chunk.members)
    if chunk.stage == 0:
        keys = [jax.random.key(member.seed) for member in chunk.members]
        runs = compiling.start_members(compiled, keys, hparams)
    else:
        runs = files.load_runs(folder, chunk.stage - 1, numbers, compiled.run)
        runs = compiling.place(compiled, runs)
    length = chunk.last - chunk.first
    runs, _, metrics = compiling.advance_members(
        compiled, runs, hparams, length, report
    )
    runs = jax.tree.map(lambda x: x[: len(numbers)], processes.gather(runs))
    if not processes.is_first():
        return
    rows = rows_of(sweep, chunk, program.config, metrics)
    seconds = time.monotonic() - begun
    about = {"stage": chunk.stage, "members": numbers, "seconds": seconds}
    files.save_chunk(folder, chunk.name, rows, runs, about)


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


def _those_that_go_on(
    sweep: Sweep, folder: Path, stage: int, settings: Sequence[int]
) -> list[int]:
    """Returns the settings that a stage does not stop, in their order.

    Where no episode has ended yet there is nothing to compare, and all go on. What
    later stages have left there is not looked at: a resumed sweep decides the same.
    """
    done = stage_ends(sweep, sweep.base)[stage]
    table = files.read_rows(folder, num_iterations=done)
    ranked = ranking.rank(ranking.finals(table), settings)
    if all(math.isnan(score.final_return) for score in ranked):
        return list(settings)
    kept = ranked[: num_kept(len(settings), sweep.stop_bad)]
    return sorted(score.setting for score in kept)


def _later_work(sweep: Sweep, stage: int, num_settings: int) -> int:
    """Returns the iterations of all members in the stages after one."""
    ends, total = stage_ends(sweep, sweep.base), 0
    for length in np.diff(ends[stage:]).tolist():
        num_settings = num_kept(num_settings, sweep.stop_bad)
        total += num_settings * sweep.num_seeds * length
    return total
