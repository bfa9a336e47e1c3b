"""A sweep: from axes such as `gamma=0.97,0.99` to runs of all members.

A member is a setting (values of the swept fields) with a seed. Settings that differ in
dynamic scalars only share a program and run side by side; other fields fix shapes or
control flow, and every combination of them is a program of its own, one after another.
"""

import itertools
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax import config as configuration
from ppo_jax import population, processes, runner, sweep_folder, sweep_results
from ppo_jax.config import Config, hyperparams, short_name
from ppo_jax.population import Compiled, Population
from ppo_jax.types import Env, Hyperparams, Metrics

MAX_BLOCK = 10  # iterations between two signs of life
NUM_STAGES = 5  # of equal length, when bad settings are stopped between them
MakeEnv = Callable[[Config], Env]


@dataclass(frozen=True)
class Grid:
    """Every one of these values, as they were typed."""

    path: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """Numbers drawn between two, evenly or on a logarithmic scale."""

    path: str
    scale: str  # "uniform" or "log"
    low: float
    high: float


@dataclass(frozen=True)
class Sweep:
    """All that is planned."""

    base: Config  # of every member, but for the swept fields and the seed
    swept: tuple[str, ...]  # paths of fields
    settings: tuple[dict[str, Any], ...]  # {path: plain value}
    num_seeds: int  # base.seed, base.seed + 1, ...
    stop_bad: float = 0.0  # fraction of the settings stopped after each stage
    chunk_limits: tuple[int, ...] = ()  # members at a time, of each program


class Member(NamedTuple):
    """A row of the sweep."""

    index: int
    setting: int
    seed: int


class Program(NamedTuple):
    """Settings that one compiled program can run."""

    config: Config  # without what differs
    settings: tuple[int, ...]


class Chunk(NamedTuple):
    """Members that run side by side through one stage."""

    stage: int
    program: int
    index: int
    rows: int  # members of the largest chunk of this program in this stage
    first: int  # iterations done before the stage
    last: int  # and after it
    members: tuple[Member, ...]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"stage{self.stage}_program{self.program}_chunk{self.index}"

    @property
    def work(self) -> int:
        """Iterations of all its members together."""
        return len(self.members) * (self.last - self.first)


class Progress(NamedTuple):
    """How far a sweep is, in iterations of single members."""

    done: int
    total: int
    where: str  # chunk and iteration, in words
    episode_return: float  # mean over the members of the chunk; NaN: none yet
    seconds_left: float


# --- from axes to settings


def make_sweep(
    defaults: Config,
    axes: Mapping[str, str],
    num_seeds: int = 1,
    samples: int = 0,
    stop_bad: float = 0.0,
) -> Sweep:
    """Returns the plan for axes as they were typed.

    Settings are all combinations of the listed values, each with every one of the
    `samples` draws of the ranges. A field with one value is set, not swept.

    Args:
      defaults: configuration that the axes change; its seed is the first.
      axes: {path: "VALUE,VALUE,...", "log(LOW,HIGH)" or "uniform(LOW,HIGH)"}.
      num_seeds: members of each setting.
      samples: draws of the ranges.
      stop_bad: fraction of the settings that each stage but the last stops.

    Raises:
      ValueError: an axis or a value is wrong; names it and the fix.
    """
    parsed = [parse_axis(path, text) for path, text in axes.items()]
    grids = [axis for axis in parsed if isinstance(axis, Grid) and len(axis.words) > 1]
    ranges = [axis for axis in parsed if isinstance(axis, Range)]
    fixed = {
        a.path: a.words[0] for a in parsed if isinstance(a, Grid) and a not in grids
    }
    _check_samples(ranges, samples)
    swept = tuple(axis.path for axis in parsed if axis in [*grids, *ranges])
    last_seed = defaults.seed + num_seeds - 1
    draws = draw(ranges, samples, defaults.seed)
    settings, first = [], {}
    for words in itertools.product(*(grid.words for grid in grids)):
        listed = dict(zip((grid.path for grid in grids), words, strict=True))
        for drawn in draws:
            values = fixed | listed | drawn
            settings.append(_values(configuration.override(defaults, values), swept))
            first = first or values
    if "algorithm.desired_kl" in swept:  # none would fix the schedule of all others
        del first["algorithm.desired_kl"]
    base = configuration.override(defaults, first)
    configuration.override(base, {"seed": last_seed})
    sweep = Sweep(base, swept, tuple(settings), num_seeds, stop_bad)
    _check_settings(sweep)
    return sweep


def parse_axis(path: str, text: str) -> Grid | Range:
    """Reads what was typed for a field.

    Raises:
      ValueError: a value is missing or given twice, or a range is none.
    """
    name = short_name(path)
    call = re.fullmatch(r"(\w+)\((.*)\)", text.strip())
    if call:
        return _parse_range(path, *call.groups())
    words = tuple(word.strip() for word in split(text))
    if "" in words:
        raise ValueError(f"{name} = {text!r}: a value is missing beside a comma")
    twice = [word for word in words if words.count(word) > 1]
    if twice:
        raise ValueError(f"{name} = {text!r}: leave one {twice[0]} away")
    return Grid(path, words)


def split(text: str) -> Iterator[str]:
    """Yields the parts between the commas that stand in no bracket and no quotes."""
    depth, quote, start = 0, "", 0
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]


def draw(ranges: Sequence[Range], samples: int, seed: int) -> list[dict[str, float]]:
    """Returns {path: number} for each draw; without ranges one that is empty.

    More samples begin with the same numbers.
    """
    if not ranges:
        return [{}]
    fractions = np.random.default_rng(seed).random((samples, len(ranges)))
    return [
        {r.path: _between(r, float(x)) for r, x in zip(ranges, row, strict=True)}
        for row in fractions
    ]


def _between(r: Range, fraction: float) -> float:
    if r.scale == "log":
        return r.low * (r.high / r.low) ** fraction
    return r.low + (r.high - r.low) * fraction


def _parse_range(path: str, scale: str, inside: str) -> Range:
    name, text = short_name(path), f"{scale}({inside})"
    if scale not in ("log", "uniform"):
        raise ValueError(
            f"{name} = {text}: there is no {scale!r}, give log(LOW,HIGH) or "
            "uniform(LOW,HIGH)"
        )
    kind = dict(configuration.fields_of(Config()))[path].type
    if kind not in (float, float | None):
        raise ValueError(
            f"{name} = {text}: ranges are for real numbers, give {name} as a list "
            "such as A,B"
        )
    try:
        low, high = map(float, inside.split(","))
    except ValueError:
        raise ValueError(f"{name} = {text}: give two numbers") from None
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{name} = {text}: give finite numbers, the smaller first")
    if scale == "log" and low <= 0:
        raise ValueError(f"{name} = {text}: a logarithmic range begins above 0")
    return Range(path, scale, low, high)


def _check_samples(ranges: Sequence[Range], samples: int) -> None:
    if ranges and not samples:
        name = short_name(ranges[0].path)
        raise ValueError(f"{name} is a range: say with --samples N how many to draw")
    if samples and not ranges:
        raise ValueError(
            "--samples has nothing to draw: give a range such as "
            "learning_rate=log(1e-4,1e-2), or leave it away"
        )


def _check_settings(sweep: Sweep) -> None:
    """Raises ValueError where stopping makes no sense."""
    if sweep.stop_bad and len(sweep.settings) == 1:
        raise ValueError("--stop_bad needs settings to compare: sweep a field")
    if sweep.stop_bad and "max_iterations" in sweep.swept:
        raise ValueError(
            "--stop_bad compares settings after the same iterations: give one "
            "max_iterations"
        )


def _values(config: Config, paths: Sequence[str]) -> dict[str, Any]:
    """Returns fields as plain values."""
    values = configuration.flatten(config)
    return {path: json.loads(json.dumps(values[path])) for path in paths}


# --- from settings to members and programs


def config_of(sweep: Sweep, setting: int, seed: int | None = None) -> Config:
    """Returns the configuration of a member; without a seed it has the first."""
    values = dict(sweep.settings[setting])
    if seed is not None:
        values["seed"] = seed
    return configuration.override(sweep.base, values)


def members_of(sweep: Sweep, settings: Sequence[int]) -> list[Member]:
    """Returns the members of some settings, numbered as in the whole sweep."""
    n = sweep.num_seeds
    return [
        Member(setting * n + offset, setting, sweep.base.seed + offset)
        for setting in settings
        for offset in range(n)
    ]


def programs_of(sweep: Sweep) -> list[Program]:
    """Groups the settings by what has to be compiled, in order of appearance."""
    groups: dict[str, tuple[Config, list[int]]] = {}
    for index in range(len(sweep.settings)):
        config = config_of(sweep, index)
        algorithm = replace(config.algorithm, **Hyperparams()._asdict())
        config = replace(config, algorithm=algorithm)
        key = json.dumps(configuration.to_dict(config), sort_keys=True)
        groups.setdefault(key, (config, []))[1].append(index)
    return [Program(config, tuple(settings)) for config, settings in groups.values()]


def stage_ends(config: Config, stop_bad: float) -> list[int]:
    """Returns how many iterations are done after each stage."""
    last = config.max_iterations
    if not stop_bad:
        return [last]
    length = -(-last // NUM_STAGES)
    return [*range(length, last, length), last]


def block_length(config: Config, stop_bad: float) -> int:
    """Returns the most iterations, up to MAX_BLOCK, that divide every stage."""
    ends = stage_ends(config, stop_bad)
    common = math.gcd(*np.diff([0, *ends]).tolist())
    return max(n for n in range(1, MAX_BLOCK + 1) if common % n == 0)


def num_kept(num_settings: int, stop_bad: float) -> int:
    """Returns how many settings go on after a stage: at least one."""
    return max(num_settings - math.floor(stop_bad * num_settings), 1)


def chunks_of(
    sweep: Sweep, programs: Sequence[Program], stage: int, settings: Sequence[int]
) -> list[Chunk]:
    """Cuts the members of a stage into what runs side by side."""
    chunks = []
    for number, program in enumerate(programs):
        members = members_of(sweep, [s for s in program.settings if s in settings])
        if not members:
            continue
        ends = [0, *stage_ends(program.config, sweep.stop_bad)]
        rows = population.chunk_rows(len(members), sweep.chunk_limits[number])
        for index, start in enumerate(range(0, len(members), rows)):
            part = tuple(members[start : start + rows])
            first, last = ends[stage], ends[stage + 1]
            chunks.append(Chunk(stage, number, index, rows, first, last, part))
    return chunks


def to_dict(sweep: Sweep) -> dict[str, Any]:
    """Returns the plan as plain values, for the manifest."""
    return {
        "base": configuration.to_dict(sweep.base),
        "swept": list(sweep.swept),
        "settings": list(sweep.settings),
        "num_seeds": sweep.num_seeds,
        "stop_bad": sweep.stop_bad,
        "chunk_limits": list(sweep.chunk_limits),
    }


def from_dict(data: Mapping[str, Any]) -> Sweep:
    """Returns the plan that `to_dict` gave."""
    return Sweep(
        base=configuration.from_dict(data["base"]),
        swept=tuple(data["swept"]),
        settings=tuple(data["settings"]),
        num_seeds=data["num_seeds"],
        stop_bad=data["stop_bad"],
        chunk_limits=tuple(data["chunk_limits"]),
    )


# --- running


Programs = dict[tuple[int, int], Compiled]  # {(program, rows of a chunk): compiled}


def compile_programs(
    sweep: Sweep, make_env: MakeEnv, chunk_size: int = 0
) -> tuple[Sweep, Programs]:
    """Compiles every program for its first stage.

    Args:
      sweep: without chunk limits.
      make_env: returns the environments of a configuration.
      chunk_size: the most members at a time; 0: as many as fit the memory.

    Returns:
      The sweep with its chunk limits, and the programs.
    """
    compiled, limits = {}, []
    for number, program in enumerate(programs_of(sweep)):
        members = len(program.settings) * sweep.num_seeds
        functions = population_of(program, make_env, sweep.stop_bad)
        if chunk_size:
            rows = population.chunk_rows(members, chunk_size)
            made = population.compile_population(functions, rows)
        else:
            made = population.compile_what_fits(functions, members)
            rows = population.chunk_rows(members, min(made.size, members))
        compiled[number, rows] = made
        limits.append(rows)
    return replace(sweep, chunk_limits=tuple(limits)), compiled


def population_of(program: Program, make_env: MakeEnv, stop_bad: float) -> Population:
    """Returns the functions of a program, not compiled.

    Raises:
      ValueError: the configuration does not fit the environment.
    """
    config = program.config
    trainer = runner.make_trainer(config, make_env(config))
    runner.abstract_run(trainer)
    return population.make_population(
        trainer.ppo,
        trainer.env,
        config.num_steps_per_env,
        block_length(config, stop_bad),
        config.init_at_random_ep_len,
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
    num_stages = len(stage_ends(sweep.base, sweep.stop_bad))
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
                clock = _Clock(started, skipped, done, total)
                report = partial(_report, clock, chunk, where, on_progress)
                program, key = programs[chunk.program], (chunk.program, chunk.rows)
                if key not in compiled:
                    on_note(f"compiling for {chunk.rows} members side by side ...")
                    functions = population_of(program, make_env, sweep.stop_bad)
                    made = population.compile_population(functions, chunk.rows)
                    compiled[key] = made
                _run_chunk(sweep, folder, chunk, program, compiled[key], report)
            done += chunk.work
        if stage + 1 < num_stages:
            for chunk in chunks:
                processes.wait_for(sweep_folder.chunk_folder(folder, chunk.name))
            go_on = partial(_those_that_go_on, sweep, folder, stage, settings)
            settings = processes.agree(go_on)
            on_note(f"{len(settings)} of {len(sweep.settings)} settings go on")


def _finished(folder: Path, chunks: Sequence[Chunk]) -> list[str]:
    names = [chunk.name for chunk in chunks]
    return [name for name in names if sweep_folder.is_finished(folder, name)]


class _Clock(NamedTuple):
    """Where a chunk begins, in iterations of single members."""

    started: float  # when this process began
    skipped: int  # what earlier processes have done
    done: int
    total: int


def _report(
    clock: _Clock,
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
        seeds = [member.seed for member in chunk.members]
        runs = population.start_members(compiled, seeds, hparams)
    else:
        runs = sweep_folder.load_runs(folder, chunk.stage - 1, numbers, compiled.run)
        runs = population.place(compiled, runs)
    length = chunk.last - chunk.first
    runs, metrics = population.advance_members(compiled, runs, hparams, length, report)
    runs = jax.tree.map(lambda x: x[: len(numbers)], processes.gather(runs))
    if not processes.is_first():
        return
    rows = _rows(sweep, chunk, program.config, metrics)
    seconds = time.monotonic() - begun
    about = {"stage": chunk.stage, "members": numbers, "seconds": seconds}
    sweep_folder.save_chunk(folder, chunk.name, rows, runs, about)


def _rows(
    sweep: Sweep, chunk: Chunk, config: Config, metrics: Metrics
) -> dict[str, Any]:
    """Returns the columns of the table for one chunk, member by member."""
    members, length = chunk.members, chunk.last - chunk.first
    iterations = np.arange(chunk.first, chunk.last, dtype=np.int32)
    iteration = np.tile(iterations, len(members))
    steps = config.num_envs * config.num_steps_per_env

    def each(values: Sequence[Any]) -> list[Any]:
        return [value for value in values for _ in range(length)]

    finite = runner.is_finite(metrics, config.check_for_nan)
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
        "finite": finite.reshape(-1),
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
    done = stage_ends(sweep.base, sweep.stop_bad)[stage]
    table = sweep_folder.read_rows(folder, num_iterations=done)
    ranked = sweep_results.rank(sweep_results.finals(table), settings)
    if all(math.isnan(score.final_return) for score in ranked):
        return list(settings)
    kept = ranked[: num_kept(len(settings), sweep.stop_bad)]
    return sorted(score.setting for score in kept)


def _later_work(sweep: Sweep, stage: int, num_settings: int) -> int:
    """Returns the iterations of all members in the stages after one."""
    ends, total = stage_ends(sweep.base, sweep.stop_bad), 0
    for length in np.diff(ends[stage:]).tolist():
        num_settings = num_kept(num_settings, sweep.stop_bad)
        total += num_settings * sweep.num_seeds * length
    return total
