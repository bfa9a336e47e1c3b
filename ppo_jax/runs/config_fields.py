"""A configuration by its fields: found by name, set strictly, kept as YAML."""

import ast
import contextlib
import dataclasses
import functools
import os
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo_jax.options import nearest, shown
from ppo_jax.runs.config import AlgorithmConfig, Config, DistillationAlgorithm


def from_dict(data: Mapping[str, Any]) -> Config:
    """Returns the configuration that `to_dict` wrote; missing fields take defaults.

    Raises:
      ValueError: an unknown key or a bad value; names it and the nearest valid key.
    """
    return _build(Config, data, "")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns nested dicts of plain values, tuples as lists: ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    return plain(dataclasses.asdict(config))


def to_yaml(config: Config) -> str:
    """Returns the configuration as the text of a YAML file."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False)


def save(config: Config, path: Path) -> None:
    """Writes the configuration as YAML, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(to_yaml(config))
    os.replace(temporary, path)


def load(path: Path) -> Config:
    """Reads a configuration from YAML.

    Raises:
      ValueError: there is no such file, or it holds no valid configuration.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read the configuration {path}: {reason}") from None
    except RecursionError:
        raise ValueError(
            f"cannot read the configuration {path}: it is nested too deeply"
        ) from None
    except Exception as error:  # of a date or a number that is none
        raise ValueError(
            f"cannot read the configuration {path}: it has a value that YAML cannot "
            f"build ({type(error).__name__})"
        ) from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no configuration: it must be a YAML mapping")
    try:
        return from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def override(config: Config, assignments: Mapping[str, Any]) -> Config:
    """Returns the configuration with some fields set.

    Args:
      config: to start from.
      assignments: {name: value}. A name is a path ("algorithm.gamma") or any ending
        of one that no other field has ("gamma"); "agent." in front is ignored. A
        value that is text is read as a Python literal, true, false or none.

    Raises:
      ValueError: an unknown or ambiguous name, or a bad value.
    """
    data = to_dict(config)
    for name, value in assignments.items():
        *parents, leaf = find_path(name).split(".")
        node = data
        for parent in parents:
            if node.get(parent) is None:
                node[parent] = {}
            node = node[parent]
        node[leaf] = value if not isinstance(value, str) else _Text(value)
    _require_same_algorithm(config, data["algorithm"]["class_name"])
    return from_dict(data)


def _require_same_algorithm(config: Config, asked: Any) -> None:
    """Raises ValueError if one algorithm is to become another by its name alone."""
    names = [cls.__dataclass_fields__["class_name"].default for cls in _ALGORITHMS]
    is_one = config.algorithm.class_name
    if asked in names and asked != is_one:
        raise ValueError(
            f"algorithm.class_name = {str(asked)!r}, but the configuration is one of "
            f"{is_one}: start a new run, or make one of it with "
            "runs.students.distillation_of"
        )


def find_path(name: str) -> str:
    """Returns the full path of a field from its path or from an ending of it.

    Raises:
      ValueError: no field is called so, or several are; names the nearest or all.
    """
    wanted = name.removeprefix("agent.")
    paths, groups = _known_paths()
    if wanted in (*paths, *groups):
        return wanted
    for some in paths, groups:  # a group that is not there takes nobody's short name
        matches = [path for path in some if path.endswith(f".{wanted}")]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = " or ".join(sorted(matches))
            raise ValueError(f"{name!r} is ambiguous: say {names}")
    paths += groups
    known = {*paths, *(path.split(".")[-1] for path in paths)}
    raise ValueError(f"there is no option {shown(name)}: {nearest(wanted, known)}")


@functools.cache
def _known_paths() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns all paths, and those in groups that are not there, or of before."""
    paths = tuple(path for path, _ in fields_of(Config()))
    absent = tuple(path for path, _ in possible_fields() if path not in paths)
    return paths, (*absent, *former_options())


@functools.cache
def short_name(path: str) -> str:
    """Returns the shortest ending of a field's path by which it is found."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        ending = ".".join(parts[-count:])
        with contextlib.suppress(ValueError):
            if find_path(ending) == path:
                return ending
    return path


def flatten(config: Config) -> dict[str, Any]:
    """Returns {path: value} of every field, ready for `override`."""
    paths = [path for path, _ in fields_of(config)]
    return {path: functools.reduce(getattr, path.split("."), config) for path in paths}


def fields_of(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields the path and the field of every value in a configuration.

    A group that is not there, as the critic's distribution, has no fields.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{field.name}.")
        elif isinstance(value, dict) or not _dataclasses_in(hints[field.name]):
            yield prefix + field.name, field


def possible_fields(
    group: type = Config, prefix: str = ""
) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields what `fields_of` does if every group were there."""
    hints = typing.get_type_hints(group)
    for field in dataclasses.fields(group):
        path, found = prefix + field.name, {}
        if not _is_named(hints[field.name], only=True):
            for nested in _dataclasses_in(hints[field.name]):
                for inside, its_field in possible_fields(nested, f"{path}."):
                    found.setdefault(inside, its_field)
        yield from found.items() if found else [(path, field)]


def former_options(group: type = Config, prefix: str = "") -> Iterator[str]:
    """Yields the paths of options that are read, but are no fields any more."""
    for name, hint in typing.get_type_hints(group).items():
        nested = _dataclasses_in(hint)
        for group_in_it in nested:
            yield from former_options(group_in_it, f"{prefix}{name}.")
        if nested:
            continue
        if isinstance(hint, dataclasses.InitVar):
            yield prefix + name


class _Text(str):
    """A value that was typed, to be read as the field's type asks."""


def _build(cls: type, data: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    names += [n for n, hint in hints.items() if isinstance(hint, dataclasses.InitVar)]
    values = {}
    for name, value in data.items():
        if name not in names:
            hint = nearest(name, names)
            where = shown(f"{prefix}{name}")
            raise ValueError(f"there is no option {where}: {hint}")
        if isinstance(value, _Text):
            value = _read(value, hints[name])
        groups = _dataclasses_in(hints[name])
        if groups and isinstance(value, Mapping):
            group = _chosen(groups, value)
            value = _build_group(group, hints[name], value, f"{prefix}{name}.")
        values[name] = value
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def _read(text: _Text, hint: Any) -> Any:
    """Returns what was typed as a value; `none` is text where None is not allowed."""
    value, alternatives = parse_literal(text), typing.get_args(hint)
    is_word = value is None and str in alternatives
    if hint is str or (is_word and type(None) not in alternatives):
        return str(text)
    return value


def _build_group(group: type, hint: Any, data: Mapping[str, Any], prefix: str) -> Any:
    """Returns one group of options or, where the hint allows them, {name: group}."""
    if _is_named(hint) and (
        _is_named(hint, only=True) or all(isinstance(x, Mapping) for x in data.values())
    ):
        return {
            name: _build(group, x, f"{prefix}{name}.") if isinstance(x, Mapping) else x
            for name, x in data.items()
        }
    return _build(group, data, prefix)


def _is_named(hint: Any, only: bool = False) -> bool:
    """Says whether a hint allows `dict[str, X]` of groups; `only`: and nothing else."""
    alternatives = [] if only else typing.get_args(hint)
    return any(typing.get_origin(x) is dict for x in (hint, *alternatives))


def parse_literal(text: str) -> Any:
    """Reads a Python literal; true, false, none, null as YAML has them; else text."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is odd, but Python
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, OverflowError):
        return str(text)
    except (RecursionError, MemoryError):  # nested too deeply
        return str(text)


_ALGORITHMS = (AlgorithmConfig, DistillationAlgorithm)


def _dataclasses_in(hint: Any) -> list[type]:
    """Returns the dataclasses that a hint names.

    Such as `X`, `X | None`, `X | Y`, `dict[str, X]`, `X | dict[str, X]`.
    """
    candidates = (hint, *typing.get_args(hint))
    return [c for c in candidates if dataclasses.is_dataclass(c)]  # type: ignore[misc]


def _chosen(groups: Sequence[type], value: Mapping[str, Any]) -> type:
    """Returns the one whose `class_name` the value has, else the first."""
    asked = value.get("class_name")
    for group in groups[1:]:
        if asked == group.__dataclass_fields__["class_name"].default:  # type: ignore[attr-defined]
            return group
    return groups[0]
