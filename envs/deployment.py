"""What a robot must know of its task, as lines of text in mjlab's form."""

import math
from collections.abc import Iterable
from typing import Any

LARGE = 0.1  # from here on three decimals are three digits or more


def joined(values: Iterable[Any]) -> str:
    """Returns names or numbers as mjlab writes them into a policy's metadata.

    Numbers have three decimals, small ones four digits: "0.500,0.0004". What is nested
    is separated by semicolons: "-1.000;1.000,-inf;inf".
    """
    return ",".join(_entry(value) for value in values)


def _entry(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return ";".join(_number(x) for x in value)
    return _number(value)


def _number(x: float) -> str:
    text = f"{x:.3f}"
    is_enough = abs(x) >= LARGE or math.isclose(float(text), x, rel_tol=1e-6)
    return text if is_enough or math.isnan(x) else f"{x:.4g}"
