"""What the command-line scripts share: arguments, help, run folders, clear errors."""

import datetime
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from ppo_jax import checkpoint, config
from ppo_jax.config import Config, find_path
from ppo_jax.options import nearest

LOG_ROOT = Path("logs") / "ppo_jax"
CONFIG_FILE = Path("params") / "agent.yaml"
USAGE_ERROR = 2


class Flag(NamedTuple):
    """A command-line flag; without `metavar` it takes no value."""

    name: str
    metavar: str | None
    help: str


class Arguments(NamedTuple):
    """A parsed command line."""

    flags: dict[str, str | bool]  # those given, by name
    overrides: dict[str, str]  # {path of a configuration field: text}


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a script; a user's mistake ends in one sentence and exit code 2."""
    try:
        sys.exit(main() or 0)
    except (ValueError, ImportError) as error:
        if os.environ.get("PPO_JAX_TRACEBACK"):
            raise
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        print("stopped at once; nothing was saved after the last checkpoint")
        sys.exit(130)


def parse(argv: Sequence[str], flags: Sequence[Flag]) -> Arguments:
    """Reads flags and configuration fields.

    A field is given as `--gamma 0.98`, `--gamma=0.98`, `gamma=0.98` or with its path,
    `agent.algorithm.gamma=0.98`. Dashes and underscores are the same.

    Raises:
      ValueError: an unknown name or a missing value; names the nearest.
    """
    known = {flag.name: flag for flag in flags}
    given: dict[str, str | bool] = {}
    overrides: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") and "=" not in word:
            raise ValueError(
                f"{word!r} is not understood: options look like --task NAME or gamma=0.98"
            )
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        flag = known.get(name)
        if flag and flag.metavar is None:
            if equals:
                raise ValueError(f"--{name} takes no value: leave ={value} away")
            given[name] = True
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"--{name} {_expects(name, flag)}")
            value = rest.pop(0)
        if flag:
            given[name] = value
        else:
            overrides[_field(name, known)] = value
    return Arguments(given, overrides)


def print_help(title: str, examples: Mapping[str, str], flags: Sequence[Flag]) -> None:
    """Prints what the script does, how it is called, and every field it can set."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{title}[/bold]\n")
    for command, meaning in examples.items():
        console.print(f"  [cyan]{command}[/cyan]", soft_wrap=True)
        console.print(f"      [dim]{meaning}[/dim]")
    table = Table(title="flags", title_justify="left", box=None, show_header=False)
    for flag in flags:
        name = f"--{flag.name}" + (f" {flag.metavar}" if flag.metavar else "")
        table.add_row(f"[green]{name}[/green]", flag.help.replace("[", r"\["))
    console.print()
    console.print(table)
    table = Table(
        title="configuration fields: --gamma 0.98, gamma=0.98, algorithm.gamma=0.98",
        title_justify="left",
        box=None,
    )
    for header in ("field", "default", "meaning"):
        table.add_column(header, justify="left", style="green" if header == "field" else "")
    defaults = config.to_dict(Config())
    for path, field in config.fields_of(Config):
        value = defaults
        for part in path.split("."):
            value = value[part] if value is not None else None
        table.add_row(path, str(value).replace("[", r"\["), field.metadata["help"])
    console.print()
    console.print(table)
    console.print(
        "\n[dim]Defaults are those without a task; each task's own are in configs/.[/dim]"
    )


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the second run starts at once."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        folder = str(Path(cache) / "ppo_jax" / "xla")
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def new_run_folder(cfg: Config) -> Path:
    """Makes logs/ppo_jax/<experiment>/<date>[_<run_name>] with its description."""
    parent = LOG_ROOT / experiment_of(cfg)
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    name = f"{stamp}_{cfg.run_name}" if cfg.run_name else stamp
    folder, count = parent / name, 1
    while folder.exists():
        count += 1
        folder = parent / f"{name}_{count}"
    folder.mkdir(parents=True)
    config.save(cfg, folder / CONFIG_FILE)
    manifest = {
        "version": 1,
        "library": "ppo_jax",
        "task": cfg.task,
        "created_at": datetime.datetime.now().astimezone().isoformat(),
        "metadata": _versions(),
    }
    (folder / "run.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return folder


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
            f"{parent} holds no run with a checkpoint: train first "
            f"(train.py --task ...), or give --checkpoint PATH"
        )
    path = Path(selector)
    if not path.exists():
        raise ValueError(f"--checkpoint {selector}: there is no such file or folder")
    which = "latest"
    if path.name.isdigit() and path.parent.name == checkpoint.FOLDER:
        path, which = path.parent.parent, path.name
    elif path.name == checkpoint.FOLDER:
        path = path.parent
    if not (path / CONFIG_FILE).is_file():
        raise ValueError(
            f"--checkpoint {selector} is not a run: it must be a run's folder, or a "
            "checkpoint in it such as RUN/checkpoints/150"
        )
    if not checkpoint.iterations(path):
        raise ValueError(f"the run {path} has no finished checkpoint: train anew")
    return path, which


def load_config(folder: Path) -> Config:
    """Reads the configuration that a run was made with."""
    return config.load(folder / CONFIG_FILE)


def _expects(name: str, flag: Flag | None) -> str:
    if flag:
        return f"needs a value: {flag.help}"
    return f"needs a value, such as --{find_path(name).split('.')[-1]} VALUE"


def _field(name: str, flags: Mapping[str, Flag]) -> str:
    try:
        return find_path(name)
    except ValueError as error:
        if "no option" not in str(error):
            raise
        leaves = {path.split(".")[-1] for path, _ in config.fields_of(Config)}
        hint = nearest(name, leaves | flags.keys())
        raise ValueError(f"there is no option {name!r}: {hint}") from None


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    names = ("ppo_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    versions = {"python": sys.version.split()[0]}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
