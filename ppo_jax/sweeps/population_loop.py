"""Running a sweep whose members share the environments: `--population P`.

P members at a time go through all their iterations together, in one simulator, and are
saved on the way: every save is a chunk of the sweep's folder. The state of a simulator
cannot be saved; whoever goes on from a save starts new episodes.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax.loops.programs import simulator_errors
from ppo_jax.runs import continuation
from ppo_jax.sweeps import compiling, files
from ppo_jax.sweeps.chunk_loop import Step, Work, rows_of, run_chunks, start_clock
from ppo_jax.sweeps.planning import Chunk, chunks_of, stage_ends
from ppo_jax.sweeps.programs import hyperparams_of
from ppo_jax.types import Env, Hyperparams, Metrics, RunState, Simulator


class Members(NamedTuple):
    """P members on their way."""

    runs: RunState  # [P, ...]
    hparams: Hyperparams  # each [P]; they change where members evolve


def run_populations(work: Work) -> None:
    """Runs all that a sweep's folder does not hold yet."""
    sweep = work.sweep
    everybody = range(len(sweep.settings))
    stages = range(len(stage_ends(sweep, sweep.base)))
    columns = [chunks_of(sweep, work.programs, stage, everybody) for stage in stages]
    populations = list(zip(*columns, strict=True))  # each: its chunks, one per stage
    clock = start_clock(sum(chunk.work for chunks in populations for chunk in chunks))
    for count, chunks in enumerate(populations, start=1):
        text = f"population {count}/{len(populations)}"
        env = work.make_env(work.programs[chunks[0].program].config)
        run_chunk = partial(_run_chunk, work, env)
        clock = run_chunks(work, clock, chunks, lambda _, text=text: text, run_chunk)


def _run_chunk(work: Work, env: Env, step: Step, members: Members | None) -> Members:
    """Takes a chunk's members to its save; None: from the save before."""
    with simulator_errors(env):
        members = members or _begin(work, env, step)
        return _advance(work, env, step, members)


def _begin(work: Work, env: Env, step: Step) -> Members:
    """Returns the members before a chunk: new ones, or those of the last save."""
    chunk, compiled, folder = step.chunk, step.compiled, work.folder
    hparams = hyperparams_of(work.sweep, chunk.members)
    keys = [jax.random.key(member.seed) for member in chunk.members]
    if chunk.stage == 0:
        return Members(compiling.start_members(compiled, keys, hparams), hparams)
    numbers = [member.index for member in chunk.members]
    template, in_simulator = compiled.run, isinstance(env, Simulator)
    if in_simulator:
        template = continuation.without_simulator(template)
    saved = files.load_runs(folder, chunk.stage - 1, numbers, template)
    runs = compiling.place(compiled, saved)
    about = files.read_about(folder, _before(chunk).name)
    if in_simulator:
        continuation.put_back(env, about)
        keys = [jax.random.fold_in(key, chunk.first) for key in keys]
        fresh = compiling.start_members(compiled, keys, hparams)
        runs = continuation.with_simulator(runs, fresh)
    values = about["hparams"].items()
    arrays: dict[str, Any] = {name: np.array(x, np.float32) for name, x in values}
    return Members(runs, Hyperparams(**arrays))


def _advance(work: Work, env: Env, step: Step, members: Members) -> Members:
    """Takes the members to the next save and keeps what came of it."""
    begun, chunk = time.monotonic(), step.chunk
    logs: list[dict[str, float]] = []

    def on_block(iterations: int, metrics: Metrics) -> None:
        logs.append(env.drain_log() if isinstance(env, Simulator) else {})
        step.report(iterations, metrics)

    length = chunk.last - chunk.first
    jax.block_until_ready(members.runs)  # what made them is not counted below
    with simulator_errors(env, length * step.program.config.num_steps_per_env):
        runs, hparams, metrics = compiling.advance_members(
            step.compiled, members.runs, members.hparams, length, on_block
        )
    numbers = np.array([member.index for member in chunk.members], np.int32)
    metrics |= _columns(logs, chunk)
    if "parent" in metrics:
        metrics["parent"] = numbers[metrics["parent"]]  # as the sweep counts them
    saved = continuation.without_simulator(runs) if isinstance(env, Simulator) else runs
    rows = rows_of(work.sweep, chunk, step.program.config, metrics)
    about = {
        "stage": chunk.stage,
        "members": numbers.tolist(),
        "seconds": time.monotonic() - begun,
        "hparams": {name: x.tolist() for name, x in hparams._asdict().items()},
    }
    about |= continuation.about_simulator(env)
    files.save_chunk(work.folder, chunk.name, rows, saved, about)
    files.drop_runs(work.folder, _before(chunk).name)
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
