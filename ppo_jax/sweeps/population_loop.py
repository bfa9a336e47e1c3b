"""Running a sweep whose members share the environments: `--population P`.

P members at a time go through all their iterations together, in one simulator, and are
saved on the way: every save is a chunk of the sweep's folder. The state of a simulator
cannot be saved; whoever goes on from a save starts new episodes.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax.runs import continuation, trainers
from ppo_jax.sweeps import compiling, files
from ppo_jax.sweeps.chunk_loop import (
    Clock,
    MakeEnv,
    Programs,
    Progress,
    compiled_for,
    hyperparams_of,
    report_progress,
    rows_of,
)
from ppo_jax.sweeps.compiling import Compiled
from ppo_jax.sweeps.planning import (
    Chunk,
    Program,
    Sweep,
    chunks_of,
    programs_of,
    stage_ends,
)
from ppo_jax.types import Env, Hyperparams, Metrics, RunState, Simulator


class Members(NamedTuple):
    """P members on their way."""

    runs: RunState  # [P, ...]
    hparams: Hyperparams  # each [P]; they change where members evolve


def run_populations(
    sweep: Sweep,
    folder: Path,
    make_env: MakeEnv,
    compiled: Programs | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> None:
    """Runs all that a sweep's folder does not hold yet; see `sweep_run.run_sweep`."""
    programs, compiled = programs_of(sweep), dict(compiled or {})
    everybody = range(len(sweep.settings))
    stages = range(len(stage_ends(sweep, sweep.base)))
    columns = [chunks_of(sweep, programs, stage, everybody) for stage in stages]
    populations = list(zip(*columns, strict=True))  # each: its chunks, one per stage
    total = sum(chunk.work for chunks in populations for chunk in chunks)
    started, skipped, done = time.monotonic(), 0, 0
    for count, chunks in enumerate(populations, start=1):
        program = programs[chunks[0].program]
        env, members = make_env(program.config), None
        for chunk in chunks:
            if files.is_finished(folder, chunk.name):
                skipped, done = skipped + chunk.work, done + chunk.work
                continue
            made = compiled_for(sweep, chunk, program, make_env, compiled, on_note)
            where = f"population {count}/{len(populations)}"
            clock = Clock(started, skipped, done, total)
            report = partial(report_progress, clock, chunk, where, on_progress)
            with trainers.simulator_errors(env):
                members = members or _begin(sweep, folder, chunk, made, env)
                members = _run_chunk(
                    sweep, folder, chunk, program, made, env, members, report
                )
            done += chunk.work


def _begin(
    sweep: Sweep, folder: Path, chunk: Chunk, compiled: Compiled, env: Env
) -> Members:
    """Returns the members before a chunk: new ones, or those of the last save."""
    hparams = hyperparams_of(sweep, chunk.members)
    keys = [jax.random.key(member.seed) for member in chunk.members]
    if chunk.stage == 0:
        return Members(compiling.start_members(compiled, keys, hparams), hparams)
    numbers = [member.index for member in chunk.members]
    template, in_simulator = compiled.run, isinstance(env, Simulator)
    if in_simulator:
        template = continuation.without_simulator(template)
    saved = files.load_runs(folder, chunk.stage - 1, numbers, template)
    runs = compiling.place(compiled, saved)
    if in_simulator:
        keys = [jax.random.fold_in(key, chunk.first) for key in keys]
        fresh = compiling.start_members(compiled, keys, hparams)
        runs = continuation.with_simulator(runs, fresh)
    values = files.read_about(folder, _before(chunk).name)["hparams"]
    arrays: dict[str, Any] = {k: np.array(x, np.float32) for k, x in values.items()}
    return Members(runs, Hyperparams(**arrays))


def _run_chunk(
    sweep: Sweep,
    folder: Path,
    chunk: Chunk,
    program: Program,
    compiled: Compiled,
    env: Env,
    members: Members,
    report: Callable[[int, Metrics], None],
) -> Members:
    """Takes the members to the next save and keeps what came of it."""
    begun = time.monotonic()
    logs: list[dict[str, float]] = []

    def on_block(iterations: int, metrics: Metrics) -> None:
        logs.append(env.drain_log() if isinstance(env, Simulator) else {})
        report(iterations, metrics)

    length = chunk.last - chunk.first
    runs, hparams, metrics = compiling.advance_members(
        compiled, members.runs, members.hparams, length, on_block
    )
    numbers = np.array([member.index for member in chunk.members], np.int32)
    metrics |= _columns(logs, chunk)
    if "parent" in metrics:
        metrics["parent"] = numbers[metrics["parent"]]  # as the sweep counts them
    saved = continuation.without_simulator(runs) if isinstance(env, Simulator) else runs
    rows = rows_of(sweep, chunk, program.config, metrics)
    about = {
        "stage": chunk.stage,
        "members": numbers.tolist(),
        "seconds": time.monotonic() - begun,
        "hparams": {name: x.tolist() for name, x in hparams._asdict().items()},
    }
    files.save_chunk(folder, chunk.name, rows, saved, about)
    files.drop_runs(folder, _before(chunk).name)
    return Members(runs, hparams)


def _before(chunk: Chunk) -> Chunk:
    """Returns the save before a chunk's, by its name."""
    return chunk._replace(stage=chunk.stage - 1)


def _columns(logs: Sequence[dict[str, float]], chunk: Chunk) -> dict[str, Any]:
    """Returns what a simulator logged as metrics [P, I]: a mean over all members.

    It is known per block of iterations only; NaN where a tag was not logged.
    """
    tags = {tag for log in logs for tag in log}
    length = (chunk.last - chunk.first) // len(logs)
    return {
        f"simulator/{tag}": np.tile(
            np.repeat([log.get(tag, np.nan) for log in logs], length),
            (len(chunk.members), 1),
        )
        for tag in sorted(tags)
    }
