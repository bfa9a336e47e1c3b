"""From axes to a sweep: all combinations of their values, checked together."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ppo_jax.loops.pbt_config import PBTConfig
from ppo_jax.runs import config_fields
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import short_name
from ppo_jax.sweeps.axes import Grid, Range, bounds_of, draw, parse_axis
from ppo_jax.sweeps.planning import Sweep, programs_of

MAX_MEMBERS = 1_000_000
# What all members of a population have in common, with their environments.
SHARED = (
    *("num_envs", "max_iterations", "clip_actions", "simulator."),
    "algorithm.timeout_bootstrap",
)


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
    _check_size(grids, samples, num_seeds)
    draws = draw(ranges, samples, defaults.seed)
    settings, first, seen = [], {}, {}
    for words in itertools.product(*(grid.words for grid in grids)):
        listed = dict(zip((grid.path for grid in grids), words, strict=True))
        for drawn in draws:
            values = fixed | listed | drawn
            config = config_fields.override(defaults, values)
            _check_new(seen, config, listed | drawn)
            settings.append(_values(config, swept))
            first = first or values
    if "algorithm.desired_kl" in swept:  # none would fix the schedule of all others
        del first["algorithm.desired_kl"]
    base = config_fields.override(defaults, first)
    # The last seed has to be one, too.
    config_fields.override(base, {"seed": defaults.seed + num_seeds - 1})
    if population:
        base = config_fields.override(base, {"num_envs": _part(base, population)})
    if pbt:
        pbt = replace(pbt, bounds=tuple(bounds_of(axis) for axis in [*grids, *ranges]))
    sweep = Sweep(base, swept, tuple(settings), num_seeds, stop_bad, population, pbt)
    _check_settings(sweep)
    _check_population(sweep)
    return sweep


def _check_samples(ranges: Sequence[Range], samples: int) -> None:
    if ranges and not samples:
        name = short_name(ranges[0].path)
        raise ValueError(f"{name} is a range: say with --samples N how many to draw")
    if samples and not ranges:
        raise ValueError(
            "--samples has nothing to draw: give a range such as "
            "learning_rate=log(1e-4,1e-2), or leave it away"
        )


def _check_size(grids: Sequence[Grid], samples: int, num_seeds: int) -> None:
    settings = math.prod(len(grid.words) for grid in grids) * max(samples, 1)
    if settings * num_seeds > MAX_MEMBERS:
        raise ValueError(
            f"a sweep of {settings} settings x {num_seeds} seeds is too large: give "
            f"values, --samples and --seeds that make at most {MAX_MEMBERS} members"
        )


def _check_new(
    seen: dict[str, Mapping[str, Any]], config: Config, values: Mapping[str, Any]
) -> None:
    """Raises ValueError if a setting is one that is there, however it was typed."""
    key = json.dumps(config_fields.to_dict(config), sort_keys=True)
    other = seen.setdefault(key, values)
    if other is values:
        return
    differing = [path for path in values if values[path] != other[path]]
    one, two = (
        " ".join(f"{short_name(path)}={x[path]}" for path in differing)
        for x in (other, values)
    )
    raise ValueError(f"{one} and {two} are the same setting: leave one away")


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
    values = config_fields.flatten(config)
    return {path: json.loads(json.dumps(values[path])) for path in paths}
