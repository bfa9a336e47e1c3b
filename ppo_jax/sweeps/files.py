"""What a sweep keeps: the plan, every finished chunk, and the tables at the end.

SWEEP/manifest.json says what is planned. SWEEP/chunks/NAME/ holds the rows of the table
(Parquet), the members' whole runs (npz) and who they are (json); it is written under
another name and renamed when it is whole, so that a killed sweep loses only the chunk
that it was at.
"""

import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MANIFEST = "manifest.json"
TABLE = "table.parquet"
SUMMARY = "summary.csv"
CHUNKS = "chunks"
ROWS, RUNS, CHUNK = "rows.parquet", "runs.npz", "chunk.json"


def require_parquet() -> None:
    """Raises ImportError unless the extra `sweep` is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ImportError(
            "a sweep's table needs pyarrow: install the extra with "
            "`uv sync --extra sweep`"
        ) from None


def save_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the plan, whole or not at all."""
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(temporary, folder / MANIFEST)


def load_manifest(folder: Path) -> dict[str, Any]:
    """Reads the plan.

    Raises:
      ValueError: the folder is not a sweep's.
    """
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(
            f"{folder} is not a sweep: give the folder that holds its {MANIFEST}"
        ) from None


def is_finished(folder: Path, name: str) -> bool:
    """Returns whether a chunk is there, whole."""
    return chunk_folder(folder, name).is_dir()


def chunk_folder(folder: Path, name: str) -> Path:
    """Returns where a chunk is, once it is finished."""
    return folder / CHUNKS / name


def save_chunk(
    folder: Path, name: str, rows: Mapping[str, Any], runs: Any, about: dict[str, Any]
) -> None:
    """Keeps a chunk.

    Args:
      folder: of the sweep.
      name: of the chunk.
      rows: columns of the table.
      runs: RunState [P, ...].
      about: "stage", "members" (numbers, in the order of the runs) and "seconds", and
        what else is to be known.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    final = chunk_folder(folder, name)
    unfinished = final.with_name(f".{name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    columns = {column: pa.array(_cells(x)) for column, x in rows.items()}
    pq.write_table(pa.table(columns), unfinished / ROWS)
    arrays: dict[str, Any] = {path: _plain(x) for path, x in _leaves(runs)}
    np.savez(unfinished / RUNS, **arrays)
    (unfinished / CHUNK).write_text(json.dumps(about) + "\n")
    unfinished.rename(final)


def read_rows(folder: Path, num_iterations: int | None = None) -> Any:
    """Returns the rows of all finished chunks as one table, by member and iteration.

    Args:
      folder: of the sweep.
      num_iterations: rows of the first so many only; None: all.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    parts = [pq.read_table(path / ROWS) for path in _finished(folder)]
    table = pa.concat_tables(parts, promote_options="permissive")
    if num_iterations is not None:
        table = table.filter(pc.field("iteration") < num_iterations)
    order = [("member", "ascending"), ("iteration", "ascending")]
    return table.sort_by(order).combine_chunks()


def load_runs(
    folder: Path, stage: int | None, members: Sequence[int], template: Any
) -> Any:
    """Reads the runs of some members.

    Args:
      folder: of the sweep.
      stage: after which they are wanted; None: the last that each went through.
      members: their numbers.
      template: RunState of any shapes, for structure and types.

    Returns:
      RunState [P, ...] in the order of the members.
    """
    places = _places(folder, stage)
    missing = [member for member in members if member not in places]
    if missing:
        raise ValueError(f"{folder} holds no run of member {missing[0]} yet")
    wanted = [places[member] for member in members]
    files = {}
    for path in {path for path, _ in wanted}:
        with np.load(path / RUNS) as file:
            files[path] = dict(file)

    def gather(name: str, leaf: Any) -> Any:
        rows = [files[path][name][row] for path, row in wanted]
        return _like(np.stack(rows), leaf)

    leaves = [gather(name, leaf) for name, leaf in _leaves(template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def read_about(folder: Path, name: str) -> dict[str, Any]:
    """Returns what `save_chunk` was told about a chunk."""
    return _about(folder / CHUNKS / name)


def drop_runs(folder: Path, name: str) -> None:
    """Deletes the runs of a chunk that a later one has taken on; its rows stay."""
    (folder / CHUNKS / name / RUNS).unlink(missing_ok=True)


def seconds_of(folder: Path, member: int) -> float:
    """Returns how long the chunks took that a member was in; others were, too."""
    abouts = [_about(path) for path in _finished(folder)]
    return sum(about["seconds"] for about in abouts if member in about["members"])


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


def _finished(folder: Path) -> list[Path]:
    paths = (folder / CHUNKS).glob("[!.]*")
    return sorted(path for path in paths if path.is_dir())


def _about(path: Path) -> dict[str, Any]:
    return json.loads((path / CHUNK).read_text())


def _places(folder: Path, stage: int | None) -> dict[int, tuple[Path, int]]:
    """Returns {member: (chunk, row)} after a stage, or after the last of each."""
    abouts = [(_about(path), path) for path in _finished(folder)]
    abouts.sort(key=lambda pair: pair[0]["stage"])
    return {
        member: (path, row)
        for about, path in abouts
        if stage in (None, about["stage"])
        for row, member in enumerate(about["members"])
    }


def _cells(values: Any) -> Any:
    """Returns a column; what is neither number, truth nor text is written as text."""
    if isinstance(values, np.ndarray):
        return values
    simple = all(isinstance(x, bool | int | float | str | None) for x in values)
    return values if simple else [json.dumps(x) for x in values]


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in flat
    ]


def _plain(x: jax.Array) -> np.ndarray:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


def _like(x: np.ndarray, leaf: Any) -> Any:
    """Undoes what npz does to types that NumPy does not know."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(x), dtype=leaf.dtype)
    return x.view(leaf.dtype) if x.dtype.kind == "V" else x
