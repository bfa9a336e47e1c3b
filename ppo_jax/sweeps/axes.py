"""The axes of a sweep as they are typed: `gamma=0.97,0.99`, `lam=uniform(0.9,1)`."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ppo_jax.runs import config_fields
from ppo_jax.runs.config_fields import short_name


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
    if len(words) > 1 and path in config_fields.former_options():
        raise ValueError(
            f"{name} = {text!r}: an option of before takes one value; --help lists "
            "those that can be swept"
        )
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
    field = dict(config_fields.possible_fields()).get(path)
    if field is None or field.type not in (float, float | None):
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


def bounds_of(axis: Grid | Range) -> tuple[str, float, float]:
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
