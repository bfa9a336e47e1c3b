"""The finished chunks of a sweep on the disk.

SWEEP/chunks/NAME/ holds the rows of the table (Parquet), the members' whole runs (npz),
who they are (json) and SHA256SUMS of all these. It is written under another name and
renamed when it is whole, so that a killed sweep loses only the chunk that it was at.
"""

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.runs import digests
from ppo_jax.runs.arrays import leaves as leaves_of

CHUNKS = "chunks"
SET_ASIDE = "set_aside"  # where a sweep keeps what it does not go on from
NAME = re.compile(r"stage\d+_program\d+_chunk\d+")  # `planning.Chunk.name`
ROWS, RUNS, CHUNK = "rows.parquet", "runs.npz", "chunk.json"


def finished(folder: Path) -> list[str]:
    """Returns the names of the chunks that are there, whole."""
    return [path.name for path in _paths(folder)]


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
    arrays: dict[str, Any] = {path: _plain(x) for path, x in leaves_of(runs)}
    np.savez(unfinished / RUNS, **arrays)
    about = {"name": name} | about
    (unfinished / CHUNK).write_text(json.dumps(about) + "\n")
    digests.write(unfinished)
    unfinished.rename(final)


def damage(folder: Path) -> dict[Path, str]:
    """Returns {file: what has become of it} over all finished chunks."""
    found = {}
    for path in _paths(folder):
        damaged = digests.damage(path, [ROWS, CHUNK])
        if not damaged and _about(path).get("name") != path.name:
            damaged = {CHUNK: f"is of {_about(path).get('name')}"}
        found |= {path / name: what for name, what in damaged.items()}
    return found


def set_aside(folder: Path, names: Collection[str]) -> None:
    """Moves chunks away, so that they are made anew."""
    for name in sorted(names):
        target, count = folder / SET_ASIDE / name, 1
        while target.exists():
            count += 1
            target = target.with_name(f"{name}_{count}")
        target.parent.mkdir(exist_ok=True)
        chunk_folder(folder, name).rename(target)


def read_rows(folder: Path, num_iterations: int | None = None) -> Any:
    """Returns the rows of all finished chunks as one table, by member and iteration.

    Args:
      folder: of the sweep.
      num_iterations: rows of the first so many only; None: all.

    Raises:
      ValueError: there is no finished chunk.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    parts = [pq.read_table(path / ROWS) for path in _paths(folder)]
    if not parts:
        raise ValueError(f"{folder} has no finished chunk yet: go on with --resume")
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

    leaves = [gather(name, leaf) for name, leaf in leaves_of(template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def read_about(folder: Path, name: str) -> dict[str, Any]:
    """Returns what `save_chunk` was told about a chunk."""
    return _about(folder / CHUNKS / name)


def drop_runs(folder: Path, name: str) -> None:
    """Deletes the runs of a chunk that a later one has taken on; its rows stay."""
    path = chunk_folder(folder, name)
    if path.is_dir():
        digests.write(path, [ROWS, CHUNK])
        (path / RUNS).unlink(missing_ok=True)


def seconds_of(folder: Path, member: int) -> float:
    """Returns how long the chunks took that a member was in; others were, too."""
    abouts = [_about(path) for path in _paths(folder)]
    return sum(about["seconds"] for about in abouts if member in about["members"])


def simulator_of(folder: Path, member: int) -> dict[str, Any]:
    """Returns what a member's last chunk says of its simulator; {}: it has none."""
    about = _about(_places(folder, None)[member][0])
    return {name: about[name] for name in ("simulator",) if name in about}


def _paths(folder: Path) -> list[Path]:
    """Returns the finished chunks; what is called otherwise is not ours."""
    paths = (folder / CHUNKS).glob("stage*")
    return sorted(p for p in paths if NAME.fullmatch(p.name) and p.is_dir())


def _about(path: Path) -> dict[str, Any]:
    return json.loads((path / CHUNK).read_text())


def _places(folder: Path, stage: int | None) -> dict[int, tuple[Path, int]]:
    """Returns {member: (chunk, row)} after a stage, or after the last of each."""
    abouts = [(_about(path), path) for path in _paths(folder)]
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


def _plain(x: jax.Array) -> np.ndarray:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


def _like(x: np.ndarray, leaf: Any) -> Any:
    """Undoes what npz does to types that NumPy does not know."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(x), dtype=leaf.dtype)
    return x.view(leaf.dtype) if x.dtype.kind == "V" else x
