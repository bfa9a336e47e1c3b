"""A sweep: from axes such as `gamma=0.97,0.99` to runs of all members.

A member is a setting (values of the swept fields) with a seed. Settings that differ in
dynamic scalars only share a program and run side by side; other fields fix shapes or
control flow, and every combination of them is a program of its own, one after another.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ppo_jax import config as configuration
from ppo_jax import population
from ppo_jax.config import Config, short_name
from ppo_jax.pbt import PBTConfig
from ppo_jax.types import Hyperparams

MAX_BLOCK = 10  # iterations between two signs of life
NUM_STAGES = 5  # of equal length, when bad settings are stopped between them
# What all members of a population have in common, with their environments.
SHARED = (
    *("num_envs", "max_iterations", "clip_actions", "simulator."),
    "algorithm.timeout_bootstrap",
)


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
    population: int = 0  # members that share the environments; 0: each has its own
    pbt: PBTConfig | None = None  # how a population evolves; None: it does not
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


# --- from axes to settings


def make_sweep(
    defaults: Config,
    axes: Mapping[str, str],
    num_seeds: int = 1,
    samples: int = 0,
    stop_bad: float = 0.0,
    population: int = 0,
    pbt: PBTConfig | None = None,
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
      population: members that the environments are split among; 0: each has all.
      pbt: how a population evolves, without bounds: they are those of the axes.

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
    if population:
        base = configuration.override(base, {"num_envs": _part(base, population)})
    if pbt:
        pbt = replace(pbt, bounds=tuple(_bounds(axis) for axis in [*grids, *ranges]))
    sweep = Sweep(base, swept, tuple(settings), num_seeds, stop_bad, population, pbt)
    _check_settings(sweep)
    _check_population(sweep)
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


def _part(base: Config, population: int) -> int:
    """Returns how many of the environments a member of a population has."""
    if base.num_envs % population:
        raise ValueError(
            f"num_envs = {base.num_envs} cannot be split among --population "
            f"{population}: give a multiple of it"
        )
    return base.num_envs // population


def _bounds(axis: Grid | Range) -> tuple[str, float, float]:
    """Returns between what a swept field is explored.

    Raises:
      ValueError: it is no number.
    """
    name = axis.path.rpartition(".")[2]
    if isinstance(axis, Range):
        return name, axis.low, axis.high
    try:
        values = [float(word) for word in axis.words]
    except ValueError:
        raise ValueError(
            f"{name} = {','.join(axis.words)} cannot be explored by --pbt: give numbers"
        ) from None
    return name, min(values), max(values)


def _check_population(sweep: Sweep) -> None:
    """Raises ValueError where sharing or evolving makes no sense."""
    population, base = sweep.population, sweep.base
    if sweep.pbt and population < 2:
        raise ValueError("--pbt needs members to compare: give --population P above 1")
    if not population:
        return
    if sweep.stop_bad:
        raise ValueError(
            "--stop_bad would leave environments of a --population unused: give --pbt, "
            "which replaces bad members, or leave it away"
        )
    for path in sweep.swept:
        if path.startswith(SHARED):
            name = short_name(path)
            raise ValueError(f"a --population has one {name} for all: give one value")
    for program in programs_of(sweep):
        members = len(program.settings) * sweep.num_seeds
        if members % population:
            raise ValueError(
                f"--population {population} cannot be filled with {members} members of "
                "a program: give values and --seeds that make a multiple of it"
            )
    explored = [name for name, _, _ in sweep.pbt.bounds] if sweep.pbt else []
    if "learning_rate" in explored and base.algorithm.schedule == "adaptive":
        raise ValueError(
            "learning_rate follows the KL and cannot be explored by --pbt: sweep "
            "desired_kl, or give schedule=fixed"
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


def stage_ends(sweep: Sweep, config: Config) -> list[int]:
    """Returns how many iterations are done after each stage of a program.

    A stage ends where bad settings are stopped, or a population is saved.
    """
    last = config.max_iterations
    if sweep.population:
        length = config.save_interval
    elif sweep.stop_bad:
        length = -(-last // NUM_STAGES)
    else:
        length = last
    return [*range(length, last, length), last]


def block_length(sweep: Sweep, config: Config) -> int:
    """Returns the most iterations, up to MAX_BLOCK, that divide every stage."""
    common = math.gcd(*np.diff([0, *stage_ends(sweep, config)]).tolist())
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
        ends = [0, *stage_ends(sweep, program.config)]
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
        "population": sweep.population,
        "pbt": configuration.to_dict(sweep.pbt) if sweep.pbt else None,
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
        population=data["population"],
        pbt=PBTConfig(**data["pbt"]) if data["pbt"] else None,
        chunk_limits=tuple(data["chunk_limits"]),
    )
