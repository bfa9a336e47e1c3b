"""Configuration fields that explain and check themselves.

A configuration is a frozen dataclass whose fields are made by `option`; `check_options`
in its `__post_init__` turns a wrong value into one sentence.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[[Any], str | None]  # value -> what would be right, or None if it is


def option(default: Any, help: str, check: Check | None = None) -> Any:
    """Returns a dataclass field with a default, a line of help and a check.

    Args:
      default: its value where nothing is said; a dataclass instance is fine.
      help: one line for `--help`, without a full stop.
      check: returns what a right value would be, or None if the value is right.
    """
    metadata = {"help": help, "check": check}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_options(config: Any) -> None:
    """Converts and checks every field of a frozen dataclass, in place.

    Raises:
      ValueError: a value has the wrong type or is not allowed; names field, value, fix.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        try:
            value = convert(value, hints[field.name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{field.name} = {value!r}: {error}") from None
        check = field.metadata.get("check")
        fix = check(value) if check and value is not None else None
        if fix:
            raise ValueError(f"{field.name} = {value!r} is not allowed: give {fix}")
        object.__setattr__(config, field.name, value)


def convert(value: Any, hint: Any) -> Any:
    """Returns the value as the type that the hint asks for.

    Integers become floats and lists become tuples; nothing else is converted.

    Raises:
      TypeError: the value is of another type; the message says which is wanted.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return convert(value, next(a for a in arguments if a is not type(None)))
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(convert(item, arguments[0]) for item in value)
        if len(value) == len(arguments):
            return tuple(map(convert, value, arguments))
    elif origin is dict and isinstance(value, dict):
        return {convert(k, arguments[0]): convert(v, arguments[1]) for k, v in value.items()}
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    elif isinstance(hint, type) and hint not in (int, float) and isinstance(value, hint):
        return value
    raise TypeError(f"give {type_name(hint)}")


def type_name(hint: Any) -> str:
    """Says in words what a value of this type looks like."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        named = [type_name(a) for a in arguments if a is not type(None)]
        return " or ".join([*named, "none"])
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list, each {type_name(arguments[0])}, such as [256, 128]"
        return f"a list of {len(arguments)}, each {type_name(arguments[0])}"
    if origin is dict:
        return "a dictionary of lists, such as {'actor': ['policy']}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a hint: the nearest known name, or all of them when none is near."""
    known = sorted(known)
    lowered = {k.lower(): k for k in known}
    match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    if match:
        return f"did you mean {lowered[match[0]]!r}?"
    return f"known: {', '.join(known)}"


def positive(value: float) -> str | None:
    """Allows finite numbers above 0."""
    return None if 0 < value < math.inf else "a number above 0"


def not_negative(value: float) -> str | None:
    """Allows finite numbers from 0 on."""
    return None if 0 <= value < math.inf else "0 or a number above it"


def fraction(value: float) -> str | None:
    """Allows numbers from 0 to 1."""
    return None if 0 <= value <= 1 else "a number from 0 to 1"


def positive_items(value: Iterable[float]) -> str | None:
    """Allows lists of numbers above 0."""
    return None if all(item > 0 for item in value) else "numbers above 0"


def rising_pair(value: tuple[float, float]) -> str | None:
    """Allows pairs whose second number is the larger."""
    return None if value[0] < value[1] else "the smaller number first"


def one_of(*allowed: str) -> Check:
    """Allows these words only."""

    def check(value: str) -> str | None:
        if value in allowed:
            return None
        return f"one of {', '.join(allowed)} ({nearest(value, allowed)})"

    return check
