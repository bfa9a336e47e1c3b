"""A sweep: from its settings to members, programs and chunks.

A member is a setting (values of the swept fields) with a seed. Settings that differ in
dynamic scalars only share a program and run side by side; other fields fix shapes or
control flow, and every combination of them is a program of its own, one after another.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.runs import config_fields
from ppo_jax.runs.config import Config
from ppo_jax.types import Hyperparams

MAX_BLOCK = 10  # iterations between two signs of life
NUM_STAGES = 5  # of equal length, when bad settings are stopped between them


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


def config_of(sweep: Sweep, setting: int, seed: int | None = None) -> Config:
    """Returns the configuration of a member; without a seed it has the first."""
    values = dict(sweep.settings[setting])
    if seed is not None:
        values["seed"] = seed
    return config_fields.override(sweep.base, values)


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
        algorithm, defaults = config.algorithm, Hyperparams()._asdict()
        numbers = {k: x for k, x in defaults.items() if hasattr(algorithm, k)}
        config = replace(config, algorithm=replace(algorithm, **numbers))
        key = json.dumps(config_fields.to_dict(config), sort_keys=True)
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
        rows = chunk_rows(len(members), sweep.chunk_limits[number])
        for index, start in enumerate(range(0, len(members), rows)):
            part = tuple(members[start : start + rows])
            first, last = ends[stage], ends[stage + 1]
            chunks.append(Chunk(stage, number, index, rows, first, last, part))
    return chunks


def chunk_rows(num_members: int, limit: int) -> int:
    """Returns how many members a chunk has, if no chunk may have more than a limit.

    As few chunks as possible, and all of nearly the same size.
    """
    num_chunks = -(-num_members // limit)
    return -(-num_members // num_chunks)


def to_dict(sweep: Sweep) -> dict[str, Any]:
    """Returns the plan as plain values, for the manifest."""
    return {
        "base": config_fields.to_dict(sweep.base),
        "swept": list(sweep.swept),
        "settings": list(sweep.settings),
        "num_seeds": sweep.num_seeds,
        "stop_bad": sweep.stop_bad,
        "population": sweep.population,
        "pbt": config_fields.to_dict(sweep.pbt) if sweep.pbt else None,
        "chunk_limits": list(sweep.chunk_limits),
    }


def from_dict(data: Mapping[str, Any]) -> Sweep:
    """Returns the plan that `to_dict` gave."""
    return Sweep(
        base=config_fields.from_dict(data["base"]),
        swept=tuple(data["swept"]),
        settings=tuple(data["settings"]),
        num_seeds=data["num_seeds"],
        stop_bad=data["stop_bad"],
        population=data["population"],
        pbt=PBTConfig(**data["pbt"]) if data["pbt"] else None,
        chunk_limits=tuple(data["chunk_limits"]),
    )
