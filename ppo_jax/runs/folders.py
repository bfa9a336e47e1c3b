"""Folders of runs: how they are called, found and described."""

import contextlib
import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo_jax.runs import checkpoint, config_fields
from ppo_jax.runs.config import Config

LOG_ROOT = Path("logs") / "ppo_jax"
CONFIG_FILE = Path("params") / "agent.yaml"
MANIFEST = "run.json"
LIBRARIES = ("ppo_jax", "jax", "jaxlib", "flax", "optax", "numpy")  # make the numbers


def new_run_folder(cfg: Config) -> Path:
    """Makes logs/ppo_jax/<experiment>/<date>[_<run_name>] with its description."""
    folder = new_folder(LOG_ROOT / experiment_of(cfg), cfg.run_name)
    config_fields.save(cfg, folder / CONFIG_FILE)
    manifest = {
        "version": 1,
        "library": "ppo_jax",
        "task": cfg.task,
        "created_at": now(),
        "metadata": _circumstances() | {"agent": cfg.simulator.agent},
    }
    _write_manifest(folder, manifest)
    return folder


def record(folder: Path, cfg: Config) -> None:
    """Writes with which configuration, versions and device a run has gone on.

    Those before are kept in its description.
    """
    path = folder / CONFIG_FILE
    text = config_fields.to_yaml(cfg)
    if not path.is_file() or path.read_text() != text:
        config_fields.save(cfg, path)
    manifest, now = read_manifest(folder), _circumstances()
    before = {name: manifest["metadata"].get(name) for name in now} if manifest else now
    if before != now:
        manifest["earlier_versions"] = [*manifest.get("earlier_versions", []), before]
        manifest["metadata"] |= now
        _write_manifest(folder, manifest)


def note_session(folder: Path, first: int, last: int, starting: float) -> None:
    """Notes which iterations a process did, and how long it took to come to them.

    Args:
      folder: of the run.
      first: iterations that were done before.
      last: and afterwards.
      starting: seconds before its first iteration, compiling included.
    """
    manifest = read_manifest(folder)
    if manifest:
        session = {"from": first, "to": last, "starting_seconds": round(starting, 3)}
        manifest["sessions"] = [*sessions(manifest), session]
        _write_manifest(folder, manifest)


def sessions(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what `note_session` has noted; what is no such note is left out."""
    wanted, noted = {"from", "to", "starting_seconds"}, manifest.get("sessions")
    return [
        session
        for session in (noted if isinstance(noted, list) else [])
        if isinstance(session, dict)
        and wanted <= session.keys()
        and all(isinstance(session[name], int | float) for name in wanted)
    ]


def changed_versions(folder: Path) -> str:
    """Returns a sentence if a run was written with other versions than are here."""
    manifest = read_manifest(folder)
    if not manifest:
        return (
            f"{folder / MANIFEST} cannot be read: whether the run goes on bit for bit "
            "is not known."
        )
    there, here = manifest["metadata"], versions()
    changed = [name for name in LIBRARIES if there.get(name) != here[name]]
    if not changed:
        return ""
    words = [f"{name} {there.get(name)}, here {here[name]}" for name in changed]
    said = ", ".join(words)
    return f"{folder} was written with {said}: it goes on, but not bit for bit."


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

    versions = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _circumstances() -> dict[str, str]:
    """Returns what a run's last digits depend on, beside its configuration.

    What `precision = default` means is the device's choice.
    """
    import jax

    device = jax.devices()[0].device_kind
    return versions() | {"device": device, "machine": machine()}


def machine() -> str:
    """Returns which processor, how many of its cores, and which system this is."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [x.partition(":")[2] for x in lines if x.startswith("model name")]
        name = models[0].strip() if models else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def experiment_of(cfg: Config) -> str:
    """Returns the name of the folder that a configuration's runs share."""
    return cfg.experiment_name or cfg.task.replace(":", "-")


def find_run(
    selector: str | None, experiment: str, task: str | None = None
) -> tuple[Path, str]:
    """Returns a run's folder, and which of its checkpoints is meant.

    Args:
      selector: None or "latest" or "best", of the newest run of the experiment; or
        the path of a run, or of one checkpoint in it.
      experiment: folder of the runs, which several tasks may share.
      task: whose newest run is meant; None: of any.

    Raises:
      ValueError: there is no such run, or it has no checkpoint.
    """
    if selector in (None, "latest", "best"):
        parent = LOG_ROOT / experiment
        runs = sorted(parent.iterdir(), reverse=True) if parent.is_dir() else []
        for folder in runs:
            is_meant = task is None or read_manifest(folder).get("task", task) == task
            if is_meant and checkpoint.iterations(folder):
                return folder, selector or "latest"
        whose = f" of {task}" if task else ""
        raise ValueError(
            f"{parent} holds no run{whose} with a checkpoint: train first, "
            "or give --checkpoint PATH"
        )
    path, which = Path(selector), "latest"
    if path.parent.name == checkpoint.FOLDER:
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


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns a run's description; nothing if it is missing or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest if isinstance(manifest["metadata"], dict) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    temporary.replace(folder / MANIFEST)
