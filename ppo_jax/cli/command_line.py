"""What the command-line scripts share: arguments, help, run folders, clear errors."""

import datetime
import json
import os
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ppo_jax import checkpoint, config
from ppo_jax.config import Config, find_path, short_name
from ppo_jax.options import closest

LOG_ROOT = Path("logs") / "ppo_jax"
CONFIG_FILE = Path("params") / "agent.yaml"
USAGE_ERROR = 2
NAME_WIDTH = 30  # of the left column of the help


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


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a script; a user's mistake ends in one sentence and exit code 2."""
    try:
        code = main() or 0
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (ValueError, ImportError, OSError) as error:
        if os.environ.get("PPO_JAX_TRACEBACK"):
            raise
        complain(" ".join(str(error).split()))
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        complain("stopped at once; what was saved last is the newest checkpoint")
        sys.exit(130)


def complain(sentence: str) -> None:
    """Prints a sentence to stderr, with the script's name before it."""
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr, flush=True)


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
        if not value:
            option = f"--{short_name(name)}"
            example = flag.metavar if flag else "VALUE"
            raise ValueError(f"{option} needs a value: give {option} {example}")
        if given.get(name, value) != value:
            raise ValueError(
                f"{short_name(name)} is given twice, as {given[name]} and as {value}: "
                "leave one away"
            )
        given[name] = value
    return Arguments(
        flags={name: value for name, value in given.items() if name in known},
        overrides={n: str(value) for n, value in given.items() if n not in known},
        tokens=tokens,
    )


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


def field_flag(path: str, metavar: str) -> Flag:
    """Returns a flag that sets a configuration field, with the field's own help."""
    field = dict(config.fields_of(Config()))[path]
    return Flag(path, metavar, field.metadata["help"])


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
        console.print(f"  {command}", style="cyan", markup=False)
        console.print(f"      {meaning}", style="dim", markup=False)
    values = config.flatten(defaults) if defaults else {}
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
    for path, field in config.fields_of(defaults):
        if path in names:
            continue
        parent = path.partition(".")[0] if "." in path else "run"
        if parent != group:
            console.print(f"\n  [bold]{parent}[/bold]")
            group = parent
        left = f"{short_name(path)}={values[path]}"
        _print_row(console, width, left, field.metadata["help"])


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the second run starts at once."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = str(Path(cache) / "ppo_jax" / "xla")
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def new_run_folder(cfg: Config) -> Path:
    """Makes logs/ppo_jax/<experiment>/<date>[_<run_name>] with its description."""
    folder = new_folder(LOG_ROOT / experiment_of(cfg), cfg.run_name)
    config.save(cfg, folder / CONFIG_FILE)
    manifest = {
        "version": 1,
        "library": "ppo_jax",
        "task": cfg.task,
        "created_at": now(),
        "metadata": versions() | {"agent": cfg.simulator.agent},
    }
    (folder / "run.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return folder


def new_folder(parent: Path, name: str = "") -> Path:
    """Makes PARENT/<date>[_<name>], new even if two are made in one second."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = candidate = parent / (f"{stamp}_{name}" if name else stamp)
    count = 1
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            count += 1
            candidate = folder.with_name(f"{folder.name}_{count}")


def now() -> str:
    """Returns the time as manifests have it."""
    return datetime.datetime.now().astimezone().isoformat()


def versions() -> dict[str, str]:
    """Returns the versions of what numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("ppo_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    versions = {"python": sys.version.split()[0]}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def experiment_of(cfg: Config) -> str:
    """Returns the name of the folder that a configuration's runs share."""
    return cfg.experiment_name or cfg.task.replace(":", "-")


def find_run(selector: str | None, experiment: str) -> tuple[Path, str]:
    """Returns a run's folder, and which of its checkpoints is meant.

    Args:
      selector: None or "latest" or "best", of the newest run of the experiment; or
        the path of a run, or of one checkpoint in it.
      experiment: folder of the runs.

    Raises:
      ValueError: there is no such run, or it has no checkpoint.
    """
    if selector in (None, "latest", "best"):
        parent = LOG_ROOT / experiment
        runs = sorted(parent.iterdir(), reverse=True) if parent.is_dir() else []
        for folder in runs:
            if checkpoint.iterations(folder):
                return folder, selector or "latest"
        raise ValueError(
            f"{parent} holds no run with a checkpoint: train first, "
            "or give --checkpoint PATH"
        )
    path, which = Path(selector), "latest"
    if path.name.isdigit() and path.parent.name == checkpoint.FOLDER:
        path, which = path.parent.parent, path.name
    elif path.name == checkpoint.FOLDER:
        path = path.parent
    if not path.exists():
        raise ValueError(
            f"--checkpoint {selector}: there is no such file or folder; give a run's "
            f"folder, such as {LOG_ROOT / experiment}/DATE, latest or best"
        )
    if not (path / CONFIG_FILE).is_file():
        raise ValueError(
            f"--checkpoint {selector} is not a run: give a run's folder, or a "
            "checkpoint in it such as RUN/checkpoints/150"
        )
    if not checkpoint.iterations(path):
        raise ValueError(
            f"--checkpoint {selector}: the run has no finished checkpoint; give "
            "another run, or train anew"
        )
    return path, which


def load_config(folder: Path) -> Config:
    """Reads the configuration that a run was made with."""
    return config.load(folder / CONFIG_FILE)


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
        paths = {path for path, _ in config.fields_of(Config())}
        known |= {*paths, *map(short_name, paths)}
    match = closest(name, known)
    hint = f"did you mean {match!r}?" if match else "all are in --help"
    raise ValueError(f"there is no option {name!r}: {hint}")


def _plain(value: Any) -> str:
    """Returns a value as it can be typed, without spaces."""
    if isinstance(value, tuple):
        return f"[{','.join(map(_plain, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
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
