"""Folders of runs: how they are called, found and described."""

import datetime
import json
import sys
from pathlib import Path

from ppo_jax.runs import checkpoint, config_fields
from ppo_jax.runs.config import Config

LOG_ROOT = Path("logs") / "ppo_jax"
CONFIG_FILE = Path("params") / "agent.yaml"


def new_run_folder(cfg: Config) -> Path:
    """Makes logs/ppo_jax/<experiment>/<date>[_<run_name>] with its description."""
    folder = new_folder(LOG_ROOT / experiment_of(cfg), cfg.run_name)
    config_fields.save(cfg, folder / CONFIG_FILE)
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
    return config_fields.load(folder / CONFIG_FILE)
