"""Reading a command line: flags, and fields of the configuration."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ppo_jax.options import closest
from ppo_jax.runs import config_fields
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import find_path, short_name


class Flag(NamedTuple):
    """A command-line flag; without `metavar` it takes no value."""

    name: str
    metavar: str | None
    help: str


class Arguments(NamedTuple):
    """A parsed command line."""

    flags: dict[str, str | bool]  # those given, by name
    overrides: dict[str, str]  # {path of a configuration field: text}
    tokens: list[str]  # KEY=VALUE for somebody else, as typed


def parse(
    argv: Sequence[str],
    flags: Sequence[Flag],
    fields: bool = True,
    foreign: tuple[str, ...] = (),
) -> Arguments:
    """Reads flags and, unless `fields` is False, configuration fields.

    A field is given as `--gamma 0.98`, `--gamma=0.98`, `gamma=0.98` or with its path,
    `agent.algorithm.gamma=0.98`. Dashes and underscores are the same. Words that begin
    as one of `foreign` are kept as they are.

    Raises:
      ValueError: an unknown name, a missing value, or two values of one option.
    """
    known = {flag.name: flag for flag in flags}
    given: dict[str, str | bool] = {}
    tokens = [word for word in argv if foreign and word.startswith(foreign)]
    rest = ["--help" if word == "-h" else word for word in argv if word not in tokens]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") and ("=" not in word or word.startswith("-")):
            raise ValueError(
                f"{word!r} is not understood: give options like --task NAME or "
                "gamma=0.98"
            )
        name, equals, value = word.removeprefix("--").partition("=")
        name = _full_name(name.replace("-", "_"), known, fields)
        flag = known.get(name)
        if flag and flag.metavar is None:
            if equals:
                raise ValueError(f"--{name} takes no value: leave ={value} away")
            given[name] = True
            continue
        if not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        _check_value(name, value, given, flag.metavar if flag else "VALUE")
        given[name] = value
    return Arguments(
        flags={name: value for name, value in given.items() if name in known},
        overrides={n: str(value) for n, value in given.items() if n not in known},
        tokens=tokens,
    )


def _check_value(
    name: str, value: str, given: Mapping[str, str | bool], example: str | None
) -> None:
    """Raises a ValueError if there is no value, or another one already."""
    if not value:
        option = f"--{short_name(name)}"
        raise ValueError(f"{option} needs a value: give {option} {example}")
    if given.get(name, value) != value:
        raise ValueError(
            f"{short_name(name)} is given twice, as {given[name]} and as {value}: "
            "leave one away"
        )


def positional(
    argv: Sequence[str], flags: Sequence[Flag]
) -> tuple[list[str], list[str]]:
    """Returns the words of a command line that are no options, and the others."""
    valued = {flag.name for flag in flags if flag.metavar is not None}
    words, options, rest = [], [], list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        options.append(word)
        if word.removeprefix("--").replace("-", "_") in valued and rest:
            options.append(rest.pop(0))
    return words, options


def with_tokens(argv: Sequence[str], foreign: tuple[str, ...]) -> list[str]:
    """Returns a command line whose words for somebody else are KEY=VALUE.

    Also where they are typed as flags: "--env.scene.num-envs 64".

    Args:
      argv: as typed.
      foreign: how these words begin.

    Raises:
      ValueError: such a flag has no value.
    """
    words, changed = list(argv), []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not (word.startswith("--") and name[2:].startswith(foreign)):
            changed.append(word)
            continue
        if not equals and words and not words[0].startswith("--"):
            value = words.pop(0)
        if not value:
            raise ValueError(f"{name} needs a value: give {name} VALUE")
        changed.append(f"{name[2:].replace('-', '_')}={value}")
    return changed


def peek(argv: Sequence[str], name: str) -> str | None:
    """Returns the value of one option before the rest can be read, or None."""
    words = list(argv)
    for index, word in enumerate(words):
        option, equals, value = word.removeprefix("--").partition("=")
        if option == name and equals:
            return value
        if word == f"--{name}" and index + 1 < len(words):
            return words[index + 1]
    return None


def refuse_others(arguments: Arguments, mode: str, allowed: Collection[str]) -> None:
    """Raises ValueError if something is given that a mode of a script does not use."""
    for name in (*arguments.flags, *arguments.overrides, *arguments.tokens):
        if name not in allowed:
            raise ValueError(f"{mode} has no use for {short_name(name)}: leave it away")


def whole_number(arguments: Arguments, name: str, default: int) -> int:
    """Returns the whole number of a flag.

    Raises:
      ValueError: it is none, or not above 0.
    """
    text = str(arguments.flags.get(name, ""))
    if not text:
        return default
    value = config_fields.parse_literal(text)
    if type(value) is not int or value < 1:
        raise ValueError(f"--{name} {text}: give a whole number above 0")
    return value


def field_flag(path: str, metavar: str) -> Flag:
    """Returns a flag that sets a configuration field, with the field's own help."""
    field = dict(config_fields.fields_of(Config()))[path]
    return Flag(path, metavar, field.metadata["help"])


def _full_name(name: str, flags: Collection[str], fields: bool) -> str:
    """Returns the name of a flag, or the path of a configuration field."""
    by_short_name = {short_name(flag): flag for flag in flags}
    if name in flags or name in by_short_name:
        return by_short_name.get(name, name)
    known = {*flags, *by_short_name}
    if fields:
        try:
            return find_path(name)
        except ValueError as error:
            if "ambiguous" in str(error):
                raise
        paths = {path for path, _ in config_fields.fields_of(Config())}
        known |= {*paths, *map(short_name, paths)}
    match = closest(name, known)
    hint = f"did you mean {match!r}?" if match else "all are in --help"
    raise ValueError(f"there is no option {name!r}: {hint}")
