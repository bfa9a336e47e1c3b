"""What `--help` prints: what a script does, how it is called, what can be set."""

import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo_jax.cli import command_line
from ppo_jax.cli.command_line import Arguments, Flag
from ppo_jax.cli.entry import typed
from ppo_jax.runs import config_fields
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import short_name

NAME_WIDTH = 30  # of the left column of the help


def asked_of_paths(
    title: str, examples: Mapping[str, str], flags: Sequence[Flag]
) -> tuple[list[Path], Arguments] | None:
    """Returns the paths and flags that this command is given; None: it gave help."""
    words, rest = command_line.positional(sys.argv[1:], flags)
    arguments = command_line.parse(rest, flags, fields=False)
    if "help" in arguments.flags:
        print_help(title, examples, flags)
        return None
    return list(map(Path, words)), arguments


def print_help(
    title: str,
    examples: Mapping[str, str],
    flags: Sequence[Flag],
    defaults: Config | None = None,
) -> None:
    """Prints what a script does, how it is called, and what can be set.

    Args:
      title: one line.
      examples: {command: meaning}.
      flags: of the script.
      defaults: lists the fields of a configuration with these values; None: none.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, 100)
    console.print(title, style="bold")
    _print_section(console, "examples")
    for command, meaning in examples.items():
        console.print(f"  {typed(command)}", style="cyan", markup=False)
        console.print(f"      {meaning}", style="dim", markup=False)
    values = config_fields.flatten(defaults) if defaults else {}
    values = {path: _plain(value) for path, value in values.items()}
    _print_section(console, "options")
    for flag in flags:
        value = f" ({values[flag.name]})" if values.get(flag.name) else ""
        left = f"--{short_name(flag.name)} {flag.metavar or ''}".strip()
        _print_row(console, width, left, flag.help + value)
    if defaults is None:
        return
    _print_section(console, f"configuration of {defaults.task}")
    console.print("  set one as gamma=0.98, --gamma 0.98 or algorithm.gamma=0.98")
    names, group = {flag.name for flag in flags}, ""
    for path, field in config_fields.fields_of(defaults):
        if path in names:
            continue
        parent = path.partition(".")[0] if "." in path else "run"
        if parent != group:
            console.print(f"\n  [bold]{parent}[/bold]")
            group = parent
        left = f"{short_name(path)}={values[path]}"
        _print_row(console, width, left, field.metadata["help"])


def _plain(value: Any) -> str:
    """Returns a value as it can be typed, without spaces."""
    if isinstance(value, tuple):
        return f"[{','.join(map(_plain, value))}]"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else str(value)
    return (
        str(value).lower() if value is None or isinstance(value, bool) else str(value)
    )


def _print_section(console: Any, title: str) -> None:
    console.print(f"\n{title}", style="bold", markup=False)


def _print_row(console: Any, width: int, left: str, right: str) -> None:
    """Prints a name and its meaning side by side, or below each other if it is long."""
    from rich.text import Text

    indent = 4 + NAME_WIDTH
    lines = textwrap.wrap(right, max(width - indent, 20))
    if len(left) > NAME_WIDTH:
        console.print(Text(f"  {left}", "green"))
    else:
        padded = Text(f"  {left:<{NAME_WIDTH}}  ", "green")
        console.print(padded + Text(lines.pop(0), "default"))
    for line in lines:
        console.print(Text(" " * indent + line))
