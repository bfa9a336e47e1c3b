"""Running a sweep stage by stage: bad settings may be stopped between two stages."""

import math
import time
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from ppo_jax.runs import processes
from ppo_jax.sweeps import compiling, files, ranking
from ppo_jax.sweeps.chunk_loop import Step, Work, rows_of, run_chunks, start_clock
from ppo_jax.sweeps.planning import Chunk, Sweep, chunks_of, num_kept, stage_ends
from ppo_jax.sweeps.programs import hyperparams_of


def run_stages(work: Work) -> None:
    """Runs all that a sweep's folder does not hold yet."""
    sweep = work.sweep
    settings = list(range(len(sweep.settings)))
    num_stages = len(stage_ends(sweep, sweep.base))
    clock = start_clock()
    for stage in range(num_stages):
        chunks = chunks_of(sweep, work.programs, stage, settings)
        total = clock.done + sum(chunk.work for chunk in chunks)
        total += _later_work(sweep, stage, len(settings))
        clock = clock._replace(total=total)
        where = partial(_where, stage, num_stages, chunks)
        clock = run_chunks(work, clock, chunks, where, partial(_run_chunk, work))
        if stage + 1 < num_stages:
            for chunk in chunks:
                processes.wait_for(files.chunk_folder(work.folder, chunk.name))
            go_on = partial(_those_that_go_on, work, stage, settings)
            settings = processes.agree(go_on)
            work.on_note(f"{len(settings)} of {len(sweep.settings)} settings go on")


def _where(stage: int, num_stages: int, chunks: Sequence[Chunk], count: int) -> str:
    """Says at which chunk a sweep is."""
    text = f"chunk {count}/{len(chunks)}  {len(chunks[count - 1].members)} members"
    return text if num_stages == 1 else f"stage {stage + 1}/{num_stages}  {text}"


def _run_chunk(work: Work, step: Step, before: None) -> None:
    """Takes a chunk's members through its stage and keeps what came of it."""
    begun, folder = time.monotonic(), work.folder
    chunk, compiled = step.chunk, step.compiled
    numbers = [member.index for member in chunk.members]
    hparams = hyperparams_of(work.sweep, chunk.members)
    if chunk.stage == 0:
        keys = [jax.random.key(member.seed) for member in chunk.members]
        runs = compiling.start_members(compiled, keys, hparams)
    else:
        runs = files.load_runs(folder, chunk.stage - 1, numbers, compiled.run)
        runs = compiling.place(compiled, runs)
    length = chunk.last - chunk.first
    runs, _, metrics = compiling.advance_members(
        compiled, runs, hparams, length, step.report
    )
    runs = jax.tree.map(lambda x: x[: len(numbers)], processes.gather(runs))
    if not processes.is_first():
        return
    rows = rows_of(work.sweep, chunk, step.program.config, metrics)
    seconds = time.monotonic() - begun
    about = {"stage": chunk.stage, "members": numbers, "seconds": seconds}
    files.save_chunk(folder, chunk.name, rows, runs, about)


def _those_that_go_on(work: Work, stage: int, settings: Sequence[int]) -> list[int]:
    """Returns the settings that a stage does not stop, in their order.

    Where no episode has ended yet there is nothing to compare, and all go on. What
    later stages have left there is not looked at: a resumed sweep decides the same.
    """
    sweep = work.sweep
    done = stage_ends(sweep, sweep.base)[stage]
    table = files.read_rows(work.folder, num_iterations=done)
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
