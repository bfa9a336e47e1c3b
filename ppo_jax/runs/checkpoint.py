"""Checkpoints that are never lost: atomic, verified before they are read, pruned last.

RUN/checkpoints/150/ holds `train` (all that is learned) and `run` (environments, random
key, episode statistics: what a bit-exact continuation needs), both written by orbax;
`meta.json`, which lists every array; and `SHA256SUMS` of all these files. It is written
under another name and renamed when it is whole. Orbax's own manager would commit before
the sums are there, and answers a damaged file with pages of tracebacks.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.runs import arrays, digests
from ppo_jax.types import RunState, TrainState

FOLDER = "checkpoints"
SET_ASIDE = "set_aside"  # where a run keeps what it does not go on from
META = "meta.json"


class Restored(NamedTuple):
    """What was read, and from where."""

    state: Any  # RunState or TrainState
    meta: dict[str, Any]  # what `save` was given
    iteration: int
    skipped: list[str]  # a sentence for each damaged checkpoint passed over


class NotFinite(ValueError):
    """A learned array is not finite and was not saved; `path` names it."""

    def __init__(self, path: str) -> None:
        """Keeps the array's path."""
        self.path = path
        super().__init__(f"{path} is not finite: the state is not saved")


def save(folder: Path, run: RunState, meta: dict[str, Any], keep: int) -> Path:
    """Writes a checkpoint of a run, then deletes those no longer kept.

    Args:
      folder: of the run.
      run: everything.
      meta: plain values to keep with it; "episode_return", a number or None, ranks it.
      keep: how many of the newest stay, beside the best.

    Returns:
      The checkpoint's folder.

    Raises:
      NotFinite: a learned number is NaN or infinite; nothing is written.
    """
    for path, x in _leaves(run.train):
        if not _is_finite(x):
            raise NotFinite(path)
    final = path_of(folder, int(run.train.iteration))
    unfinished = final.with_name(f".{final.name}.unfinished")
    for leftover in final.parent.glob(".*"):
        shutil.rmtree(leftover)
    unfinished.mkdir(parents=True)
    shapes = {}
    for name, item in _items(run).items():
        arrays.write(unfinished / name, item)
        shapes[name] = {path: _shape(x) for path, x in _leaves(item)}
    (unfinished / META).write_text(json.dumps(meta | {"arrays": shapes}, indent=1))
    digests.write(unfinished)
    unfinished.rename(final)
    _prune(folder, keep)
    return final


def restore_run(folder: Path, template: RunState, which: str = "latest") -> Restored:
    """Reads a whole run.

    Args:
      folder: of the run.
      template: the run as shapes and types, from `jax.eval_shape`.
      which: "latest", "best", or an iteration's number.

    Raises:
      ValueError: there is no checkpoint that can be read, or it does not fit.
    """
    restored = _restore(folder, _items(template), which)
    run = restored.state["run"]
    state = RunState(train=restored.state["train"], **run)
    return restored._replace(state=state)


def restore_train(
    folder: Path, template: TrainState, which: str = "latest"
) -> Restored:
    """Reads what was learned; see `restore_run`."""
    restored = _restore(folder, {"train": template}, which)
    return restored._replace(state=restored.state["train"])


def iterations(folder: Path) -> list[int]:
    """Returns the iterations of which a finished checkpoint is there, oldest first."""
    if not (folder / FOLDER).is_dir():
        return []
    names = (path.name for path in (folder / FOLDER).iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isdigit())


def path_of(folder: Path, iteration: int) -> Path:
    """Returns where a run's checkpoint is."""
    return folder / FOLDER / str(iteration)


def best_iteration(folder: Path) -> int:
    """Returns the iteration of the checkpoint with the best return, the newest such."""

    def rank(iteration: int) -> tuple[float, int]:
        try:
            score = _read_meta(path_of(folder, iteration))["episode_return"]
        except (OSError, ValueError, KeyError):  # damaged
            score = None
        return -math.inf if score is None else score, iteration

    return max(iterations(folder), key=rank)


def set_aside(folder: Path, after: int) -> list[Path]:
    """Moves checkpoints newer than an iteration away, so that a run can go on there.

    Returns:
      Where they are now.
    """
    moved = []
    for iteration in iterations(folder):
        if iteration > after:
            target, count = folder / SET_ASIDE / str(iteration), 1
            while target.exists():
                count += 1
                target = target.with_name(f"{iteration}_{count}")
            target.parent.mkdir(exist_ok=True)
            moved.append(path_of(folder, iteration).rename(target))
    return moved


def _items(run: RunState) -> dict[str, Any]:
    """Splits a run into the items of a checkpoint."""
    rest = {name: getattr(run, name) for name in run._fields if name != "train"}
    return {"train": run.train, "run": rest}


def _prune(folder: Path, keep: int) -> None:
    """Deletes all but the newest and the best; half deleted is not a checkpoint."""
    known = iterations(folder)
    for iteration in set(known[:-keep]) - {best_iteration(folder)}:
        path = path_of(folder, iteration)
        shutil.rmtree(path.rename(path.with_name(f".{iteration}.deleted")))


def _restore(folder: Path, templates: dict[str, Any], which: str) -> Restored:
    """Reads the wanted checkpoint, or the newest before it that is whole."""
    skipped: list[str] = []
    for iteration in _candidates(folder, which):
        path = path_of(folder, iteration)
        try:
            digests.verify(path, META)
            meta = _read_meta(path)
            _check_fit(path, templates, meta)
            state = {
                name: _read_arrays(path / name, t) for name, t in templates.items()
            }
        except digests.Damaged as damage:
            skipped.append(f"The checkpoint {path} is damaged: {damage}.")
            continue
        return Restored(state, meta, iteration, skipped)
    raise ValueError(
        " ".join([*skipped, f"{folder / FOLDER} holds no checkpoint that can be read"])
        + ": give another run with --checkpoint, or train anew"
    )


def _candidates(folder: Path, which: str) -> list[int]:
    """Returns the iterations to try, first the wanted one, then older ones."""
    known = iterations(folder)
    if which == "latest" or not known:
        return known[::-1]
    if which == "best":
        wanted = best_iteration(folder)
    elif which.isdigit() and int(which) in known:
        wanted = int(which)
    else:
        raise ValueError(
            f"{folder / FOLDER} has no checkpoint {which!r}: give latest, best or one "
            f"of {', '.join(map(str, known))}"
        )
    return [iteration for iteration in known[::-1] if iteration <= wanted]


def _check_fit(path: Path, templates: dict[str, Any], meta: dict[str, Any]) -> None:
    """Raises ValueError if a checkpoint is of another network or another task."""
    for name, template in templates.items():
        saved = meta["arrays"][name]
        wanted = {array: _shape(x) for array, x in _leaves(template)}
        for array in wanted | saved:
            there, here = saved.get(array, "nothing"), wanted.get(array, "nothing")
            if there != here:
                raise ValueError(
                    f"the checkpoint {path} does not fit: {array} is {there} there and "
                    f"{here} here; use the configuration that it was trained with"
                )


def _read_meta(path: Path) -> dict[str, Any]:
    return json.loads((path / META).read_text())


def _read_arrays(path: Path, template: Any) -> Any:
    try:
        return arrays.read(path, template)
    except Exception as error:  # orbax documents none
        raise digests.Damaged(" ".join(str(error).split())[:200]) from error


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in flat
    ]


def _shape(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _is_finite(x: jax.Array) -> bool:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return True
    return bool(np.isfinite(np.asarray(x)).all())
