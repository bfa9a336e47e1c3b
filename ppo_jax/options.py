"""Configuration fields that explain and check themselves.

A configuration is a frozen dataclass whose fields are made by `option`; `check_options`
in its `__post_init__` turns a wrong value into one sentence.
"""

import contextlib
import ctypes
import dataclasses
import difflib
import functools
import importlib
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Iterator
from typing import Any

MAX_INT32 = 2**31 - 1
TINY = 2.0**-126  # the smallest number that float32 has with all digits

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
        return dataclasses.field(
            default_factory=lambda: dict(default), metadata=metadata
        )
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
        except (TypeError, OverflowError):
            right = _right(value, hints[field.name], field.metadata.get("check"))
            raise ValueError(f"{field.name} = {shown(value)}: give {right}") from None
        check = field.metadata.get("check")
        fix = check(value) if check and value is not None else None
        if fix:
            raise ValueError(
                f"{field.name} = {shown(value)} is not allowed: give {fix}"
            )
        _check_in_float32(field.name, value, check)
        object.__setattr__(config, field.name, value)


def _right(value: Any, hint: Any, check: Check | None) -> str:
    """Returns what to give in place of a value of another type."""
    if hint is str and check:  # text may have to be one of some words
        with contextlib.suppress(TypeError):
            return check(value) or type_name(hint)
    return type_name(hint)


def _check_in_float32(name: str, value: Any, check: Check | None) -> None:
    """Refuses what is right in Python, but not as the float32 that programs get."""
    for number in _floats(value):
        rounded = in_float32(number)
        if not math.isfinite(rounded) or (rounded == 0.0) != (number == 0.0):
            raise ValueError(
                f"{name} = {shown(value)} is not allowed: computed in float32, where "
                f"{number!r} is {rounded!r}: give one of 1.2e-38 to 3.4e38 in size"
            )
    rounded = in_float32(value)
    fix = check(rounded) if check and value is not None else None
    if fix:
        raise ValueError(
            f"{name} = {shown(value)} is not allowed: computed in float32, where it "
            f"is {rounded!r}: give {fix}"
        )


def in_float32(value: Any) -> Any:
    """Returns a value with every float as programs see it, XLA's zeros included.

    Numbers that float32 has with fewer digits only (subnormal ones) are taken for 0.
    """
    if isinstance(value, tuple):
        return tuple(map(in_float32, value))
    if not isinstance(value, float):
        return value
    rounded = ctypes.c_float(value).value
    return rounded if abs(rounded) >= TINY else 0.0 * rounded


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _floats(item)
    elif isinstance(value, float):
        yield value


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
        for alternative in (a for a in arguments if a is not type(None)):
            with contextlib.suppress(TypeError):
                return convert(value, alternative)
        raise TypeError(f"give {type_name(hint)}")
    if origin is typing.Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise TypeError(f"give {type_name(hint)}")
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(convert(item, arguments[0]) for item in value)
        if len(value) == len(arguments):
            return tuple(map(convert, value, arguments))
    elif origin is dict and isinstance(value, dict):
        return {
            convert(k, arguments[0]): convert(v, arguments[1]) for k, v in value.items()
        }
    elif isinstance(value, bool):  # an int, to Python
        if hint is bool:
            return value
    elif hint is float and isinstance(value, int | float):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    raise TypeError(f"give {type_name(hint)}")


def type_name(hint: Any) -> str:
    """Says in words what a value of this type looks like."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(type_name, arguments))
    if origin is typing.Literal:
        return " or ".join(arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            example = _EXAMPLES.get(arguments[0], "[256, 128]")
            return f"a list, each {type_name(arguments[0])}, such as {example}"
        return f"a list of {len(arguments)}, each {type_name(arguments[0])}"
    if origin is dict and dataclasses.is_dataclass(arguments[1]):
        return f"a dictionary of groups, each of them {type_name(arguments[1])}"
    if origin is dict:
        return "a dictionary of lists, such as {'actor': ['policy']}"
    if dataclasses.is_dataclass(hint):
        names = ", ".join(field.name for field in dataclasses.fields(hint))
        return f"a group of options: {names}"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        types.NoneType: "none",
    }
    return words.get(hint, getattr(hint, "__name__", str(hint)))


_EXAMPLES = {str: "['policy']", bool: "[true, false]"}


class _Shortened(reprlib.Repr):
    """Shows the beginning and the end of what is long, in whatever is nested."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 80, 80, 40
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 8

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write numbers of thousands of digits."""
        if x.bit_length() > 14_000:
            return f"a number of about {round(x.bit_length() * math.log10(2))} digits"
        return super().repr_int(x, level)


def shown(value: Any) -> str:
    """Returns a value as a sentence shows it: `repr`, shortened where it is long."""
    return _Shortened().repr(value)


def nearest(name: Any, known: Collection[str]) -> str:
    """Returns a hint: the nearest known name, or all of them when none is near."""
    match = closest(name, known)
    return f"did you mean {match!r}?" if match else f"known: {', '.join(sorted(known))}"


def closest(name: Any, known: Collection[str]) -> str | None:
    """Returns the known name that is spelt most alike, or None if none is near."""
    lowered = {k.lower(): k for k in known}
    match = difflib.get_close_matches(str(name).lower(), sorted(lowered), 1, cutoff=0.5)
    return lowered[match[0]] if match else None


def positive(value: float) -> str | None:
    """Allows finite numbers above 0; whole ones as far as programs can count."""
    if isinstance(value, int) and value > MAX_INT32:
        return f"a whole number from 1 to {MAX_INT32}"
    return None if 0 < value < math.inf else "a number above 0"


def not_negative(value: float) -> str | None:
    """Allows finite numbers from 0 on."""
    return None if 0 <= value < math.inf else "0 or a number above it"


def fraction(value: float) -> str | None:
    """Allows numbers from 0 to 1."""
    return None if 0 <= value <= 1 else "a number from 0 to 1"


def seed_number(value: int) -> str | None:
    """Allows what `jax.random.key` tells apart: 32 bits."""
    return None if 0 <= value < 2**32 else f"a whole number from 0 to {2**32 - 1}"


def rising_pair(value: tuple[float, float]) -> str | None:
    """Allows pairs whose second number is the larger."""
    return None if value[0] < value[1] else "the smaller number first"


def dotted_path(value: str) -> str | None:
    """Allows the path of something in a module, as `load` reads it."""
    right = re.fullmatch(r"[\w.]+:[\w.]+", value)
    return None if right else "a path such as 'package.module:name'"


def load(path: str, field: str) -> Any:
    """Returns what a path names, such as "package.module:function".

    Args:
      path: of a module that Python finds, a colon, and a name in it.
      field: whose value the path is, for the message.

    Raises:
      ValueError: there is no such module, or nothing of that name in it.
    """
    module, _, name = path.partition(":")
    errors: list[Exception] = []
    for spelling in spellings(module):
        try:
            found = importlib.import_module(spelling)
            return functools.reduce(getattr, name.split("."), found)
        except (ImportError, AttributeError) as error:
            errors.append(error)
    raise ValueError(
        f"{field} = {path!r} cannot be loaded ({errors[0]}): give 'module:name' of "
        "something that Python can import from here"
    )


def spellings(module: str) -> tuple[str, ...]:
    """Returns the names that a module may have which somebody wrote down.

    Our `envs` and `configs` once were packages of their own, and runs of then name
    them so. Who has packages of these names has theirs.
    """
    once_ours = module.partition(".")[0] in ("envs", "configs")
    return (module, f"ppo_jax.{module}") if once_ours else (module,)


def one_of(*allowed: str) -> Check:
    """Allows these words only."""

    def check(value: str) -> str | None:
        if value in allowed:
            return None
        match = closest(value, allowed)
        hint = f" (did you mean {match!r}?)" if match else ""
        return f"one of {', '.join(allowed)}{hint}"

    return check
