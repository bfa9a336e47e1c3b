"""Somebody's nested configuration: its fields, found and set by path as text.

What is nested are dataclasses, mappings and sequences: `env.rewards.pose.weight`,
`env.sim.mujoco.timestep`, `agent.actor.hidden_dims`.
"""

import ast
import dataclasses
import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ppo_jax.options import nearest, shown

WORDS = {"true": True, "false": False, "none": None, "null": None}


def require_path(cfg: Any, path: str) -> None:
    """Raises ValueError unless a configuration has a path; names the nearest.

    Args:
      cfg: what the first word of the path stands for.
      path: "env.sim.dt".
    """
    _find(cfg, path)


def assign(cfg: Any, path: str, text: str) -> None:
    """Sets what a path leads to, as the type of what is there.

    A number of an integer field may be a float where it is a field of floats; lists
    and tuples are the same; a member of an enumeration is given by its name; a part
    that a task may lack, an entry of a mapping for instance, by `none`.

    Raises:
      ValueError: there is no such path, or the value is of another type.
    """
    parent, name, old = _find(cfg, path)
    try:
        value = _as(old, text, may_be_none=_may_be_none(parent, name))
    except (ValueError, TypeError, SyntaxError) as error:
        raise ValueError(f"{path} = {shown(text)}: give {error}") from None
    if isinstance(parent, Mapping):
        parent[name] = value  # type: ignore[index]
    else:
        setattr(parent, name, value)


def _find(cfg: Any, path: str) -> tuple[Any, str, Any]:
    """Returns what holds a path's last part, that part, and what it leads to."""
    so_far, *parts = path.split(".")
    if not parts:
        raise ValueError(f"{path!r} has no alternatives: give a path inside it")
    parent = cfg
    for part in parts:
        names = _names(cfg)
        if part not in names:
            hint = nearest(part, names) if names else f"{so_far!r} holds no options"
            raise ValueError(f"there is no option {path!r}: {hint}")
        parent = cfg
        cfg = cfg[part] if isinstance(cfg, Mapping) else getattr(cfg, part)
        so_far = f"{so_far}.{part}"
    return parent, parts[-1], cfg


def _names(cfg: Any) -> Collection[str]:
    if isinstance(cfg, Mapping):
        return [str(name) for name in cfg]
    return list(vars(cfg)) if dataclasses.is_dataclass(cfg) else ()


def _may_be_none(parent: Any, name: str) -> bool:
    """Says whether a field can be left empty: its type says so, or it is an entry."""
    if isinstance(parent, Mapping):
        return True
    types = {field.name: str(field.type) for field in dataclasses.fields(parent)}
    return "None" in types.get(name, "") or "Optional" in types.get(name, "")


def _as(old: Any, text: str, may_be_none: bool) -> Any:
    """Returns a text as what takes the place of `old`.

    Raises:
      ValueError: it cannot; says what would.
    """
    if text.lower() in ("none", "null") and (may_be_none or old is None):
        return None
    if isinstance(old, str):
        return text
    if isinstance(old, enum.Enum):
        members = {name.lower(): x for name, x in type(old).__members__.items()}
        if text.lower() not in members:
            raise ValueError(f"one of {', '.join(type(old).__members__)}")
        return members[text.lower()]
    if dataclasses.is_dataclass(old) or callable(old):
        extra = ", or none to leave it out" if may_be_none else ""
        raise ValueError(f"a path inside it{extra}; it is no single value")
    return _like(old, literal(text))


def literal(text: str) -> Any:
    """Reads a Python literal, or true, false, none; else what was typed."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _like(old: Any, value: Any) -> Any:
    """Returns a value in the type of another; raises ValueError where that loses."""
    if old is None:
        return value
    if isinstance(old, bool):
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")
    if isinstance(old, int | float):
        return _number(old, value)
    if isinstance(old, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
        raise ValueError("a dictionary such as {'a':1}")
    if isinstance(old, Sequence):
        if not isinstance(value, list | tuple):
            raise ValueError(f"a sequence such as {list(old)}")
        return type(old)(value if not old else [_like(old[0], x) for x in value])  # type: ignore[call-arg]
    if type(value) is type(old):
        return value
    raise ValueError(f"a {type(old).__name__}")


def _number(old: float, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(old, int) and is_number and value == int(value):
        return int(value)
    if isinstance(old, float) and is_number:
        return float(value)
    raise ValueError("a whole number" if isinstance(old, int) else "a number")
