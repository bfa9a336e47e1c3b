"""The folder of a sweep: what is planned, the results at the end, and who holds it.

SWEEP/manifest.json says what is planned; the chunks (`files`) lie below it; table,
summary and pictures are made of them at the end. SWEEP/SHA256SUMS lists all but the
chunks, which have their own.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ppo_jax.runs import digests, folders, lock, processes
from ppo_jax.sweeps import files, planning
from ppo_jax.sweeps.planning import Sweep

MANIFEST = "manifest.json"
ENV = "env.yaml"  # how a simulator was configured
TABLE = "table.parquet"
SUMMARY = "summary.csv"


def require_parquet() -> None:
    """Raises ImportError unless the extra `sweep` is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ImportError(
            "a sweep's table needs pyarrow: install the extra with "
            "`uv sync --extra sweep`"
        ) from None


def new_sweep(sweeps: Path, plan: Sweep, name: str) -> Path:
    """Makes the folder of a sweep, among all sweeps, with its manifest."""
    folder = folders.new_folder(sweeps, name)
    manifest = {
        "version": 1,
        "library": "ppo_jax",
        "task": plan.base.task,
        "created_at": folders.now(),
        "metadata": folders.versions(),
        "sweep": planning.to_dict(plan),
    }
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(temporary, folder / MANIFEST)
    seal(folder)
    return folder


def find_sweep(sweeps: Path, selector: str | None) -> Path:
    """Returns the folder that is meant; None: of the newest among all sweeps.

    Raises:
      ValueError: there is none.
    """
    if selector is not None:
        return Path(selector)
    known = sorted(sweeps.iterdir(), reverse=True) if sweeps.is_dir() else []
    for folder in known:
        if not folder.name.startswith(".") and (folder / MANIFEST).is_file():
            return folder
    raise ValueError(
        f"{sweeps} holds no sweep: start one first, or give --sweep FOLDER"
    )


def load_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest.

    Raises:
      ValueError: the folder is not a sweep's, or the manifest is not as it was written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a sweep: give the folder that holds its {MANIFEST}"
        )
    found = digests.damage(folder, [MANIFEST])
    for name in (MANIFEST, digests.SUMS):
        if name in found:
            raise ValueError(
                f"{folder / name} {found[name]}, and what is planned is not certain: "
                "restore it from a copy, or start the sweep again"
            )
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError):
        return {}  # `load_plan` says it


def load_plan(folder: Path, manifest: Any) -> Sweep:
    """Returns the plan of a manifest.

    Raises:
      ValueError: another version of this library has written it.
    """
    try:
        return planning.from_dict(manifest["sweep"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{folder / MANIFEST} holds no plan that this version reads ({reason}): "
            "use the version that wrote it, or start the sweep again"
        ) from None


def require_whole(folder: Path) -> list[str]:
    """Checks what an export reads; returns a sentence for each other damaged file.

    Raises:
      ValueError: a chunk is not as it was written.
    """
    for path, what in files.damage(folder).items():
        raise ValueError(
            f"{path} {what}: make its chunk anew with --resume --sweep {folder}"
        )
    return [
        f"{folder / name} {what}: --resume makes it anew."
        for name, what in digests.damage(folder, [MANIFEST]).items()
    ]


def mend(folder: Path, plan: Sweep) -> list[str]:
    """Sets aside what was damaged, so that going on makes it anew.

    Of a population only the last save has the runs: all its chunks are made anew.

    Returns:
      A sentence for each damaged file.
    """
    found = files.damage(folder)
    damaged = {path.parent.name for path in found}
    if plan.population:
        populations = {name.partition("_")[2] for name in damaged}
        names = files.finished(folder)
        damaged = {name for name in names if name.partition("_")[2] in populations}
    files.set_aside(folder, damaged)
    anew = "its population is" if plan.population else "the chunk is"
    results = digests.damage(folder, [MANIFEST])
    return [
        *(f"{path} {what}: {anew} made anew." for path, what in found.items()),
        *(f"{folder / name} {what}: made anew." for name, what in results.items()),
    ]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a sweep's folder, in process 0, until the block ends.

    Raises:
      ValueError: another process holds it; in all processes.
    """
    with ExitStack() as stack:
        processes.agree(lambda: stack.enter_context(lock.held(folder, "sweep")))
        yield


def save_table(folder: Path, table: Any) -> Path:
    """Writes the table of the whole sweep, whole or not at all."""
    import pyarrow.parquet as pq

    temporary = folder / f".{TABLE}"
    pq.write_table(table, temporary)
    os.replace(temporary, folder / TABLE)
    return folder / TABLE


def save_summary(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes a line for every setting, whole or not at all."""
    temporary = folder / f".{SUMMARY}"
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, folder / SUMMARY)
    return folder / SUMMARY


def seal(folder: Path, results: Sequence[Path] = ()) -> None:
    """Writes the digests of the manifest, of the simulator's and of the results."""
    known = [name for name in (MANIFEST, ENV) if (folder / name).is_file()]
    digests.write(folder, [*known, *(path.name for path in results)])
