"""Checkpoints that are never lost: atomic, verified before they are read, pruned last.

RUN/checkpoints/150/ holds `train` (all that is learned) and `run` (environments, random
key, episode statistics: what a bit-exact continuation needs), both written by orbax;
`meta.json`, which lists every array; and `SHA256SUMS` of all these files. It is written
under another name and renamed when it is whole. Orbax's own manager would commit before
the sums are there, and answers a damaged file with pages of tracebacks.
"""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ppo_jax.runs import digests

if TYPE_CHECKING:
    from ppo_jax.types import RunState, TrainState

FOLDER = "checkpoints"
SET_ASIDE = "set_aside"  # where a run keeps what it does not go on from
META = "meta.json"
NUMBER = re.compile(r"0|[1-9][0-9]*")  # names of checkpoints: "0007" is somebody else's
LEFTOVER = re.compile(rf"\.({NUMBER.pattern})\.(unfinished|deleted)")


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


def save(
    folder: Path,
    run: "RunState",
    meta: dict[str, Any],
    keep: int,
    on_written: Callable[[], None] = lambda: None,
) -> Path:
    """Writes a checkpoint of a run, then deletes those no longer kept.

    Args:
      folder: of the run, which is there.
      run: everything.
      meta: plain values to keep with it; "episode_return", a number or None, ranks it.
      keep: how many of the newest stay, beside the best.
      on_written: called when all is on the disk, right before it counts.

    Returns:
      The checkpoint's folder.

    Raises:
      NotFinite: a learned number is NaN or infinite; nothing is written.
      OSError: the disk is full or gone; what was written of it is deleted.
    """
    from ppo_jax.runs import arrays

    for path, x in arrays.leaves(run.train):
        if not arrays.is_finite(x):
            raise NotFinite(path)
    iteration = int(run.train.iteration)
    final = path_of(folder, iteration)
    unfinished = final.with_name(f".{final.name}.unfinished")
    _clean(final.parent)
    try:
        final.parent.mkdir(exist_ok=True)  # and not the run's folder, if that is gone
        unfinished.mkdir()
        _write(unfinished, run, meta | {"iteration": iteration})
        on_written()
        unfinished.rename(final)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _prune(folder, keep)
    return final


def restore_run(
    folder: Path, template: "RunState", which: str = "latest", num_shards: int = 1
) -> Restored:
    """Reads a whole run, or what it learned if it was on another number of devices.

    Args:
      folder: of the run.
      template: the run as shapes and types, from `jax.eval_shape`.
      which: "latest", "best", or an iteration's number.
      num_shards: devices that are to go on with it, see `runs.devices`.

    Returns:
      A `RunState`; a `TrainState` if it was on another number of devices.

    Raises:
      ValueError: there is no checkpoint that can be read, or it does not fit.
    """
    restored = _restore(folder, _items(template), which, num_shards)
    if "run" not in restored.state:
        return restored._replace(state=restored.state["train"])
    run = restored.state["run"]
    from ppo_jax.types import RunState

    state = RunState(train=restored.state["train"], **run)
    return restored._replace(state=state)


def restore_train(
    folder: Path, template: "TrainState", which: str = "latest"
) -> Restored:
    """Reads what was learned; see `restore_run`."""
    restored = _restore(folder, {"train": template}, which)
    return restored._replace(state=restored.state["train"])


def iterations(folder: Path) -> list[int]:
    """Returns the iterations of which a finished checkpoint is there, oldest first."""
    if not (folder / FOLDER).is_dir():
        return []
    paths = [path for path in (folder / FOLDER).iterdir() if path.is_dir()]
    return sorted(int(path.name) for path in paths if NUMBER.fullmatch(path.name))


def path_of(folder: Path, iteration: int) -> Path:
    """Returns where a run's checkpoint is."""
    return folder / FOLDER / str(iteration)


def last_good(folder: Path) -> str:
    """Returns a sentence on what can be used of a run that broke off."""
    saved = iterations(folder)
    if saved:
        return f"The last good checkpoint is {path_of(folder, saved[-1])}."
    return "There is no checkpoint yet: give a smaller save_interval to have one."


def best_iteration(folder: Path) -> int:
    """Returns the iteration of the checkpoint with the best return, the newest such."""

    def rank(iteration: int) -> tuple[float, int]:
        try:
            score = _meta_of(folder, iteration)["episode_return"]
        except (digests.Damaged, KeyError):
            score = None
        return -math.inf if score is None else score, iteration

    return max(iterations(folder), key=rank)


def set_aside(folder: Path, after: int) -> list[Path]:
    """Moves checkpoints newer than an iteration away, so that a run can go on there.

    Returns:
      Where they are now.
    """
    moved = []
    for path in sorted((folder / FOLDER).glob("*")):
        if NUMBER.fullmatch(path.name) and int(path.name) > after:
            target, count = folder / SET_ASIDE / path.name, 1
            while target.exists():
                count += 1
                target = target.with_name(f"{path.name}_{count}")
            target.parent.mkdir(exist_ok=True)
            moved.append(path.rename(target))
    return moved


def _items(run: "RunState") -> dict[str, Any]:
    """Splits a run into the items of a checkpoint."""
    rest = {name: getattr(run, name) for name in run._fields if name != "train"}
    return {"train": run.train, "run": rest}


def _write(path: Path, run: "RunState", meta: dict[str, Any]) -> None:
    """Writes the files of a checkpoint into a folder."""
    from ppo_jax.runs import arrays

    shapes = {}
    for name, item in _items(run).items():
        arrays.write(path / name, item)
        shapes[name] = {array: _shape(x) for array, x in arrays.leaves(item)}
    (path / META).write_text(json.dumps(meta | {"arrays": shapes}, indent=1))
    digests.write(path)


def _clean(checkpoints: Path) -> None:
    """Deletes what deaths have left behind here of ours, and nothing else."""
    for path in checkpoints.glob(".*"):
        if LEFTOVER.fullmatch(path.name):
            _delete(path)


def _prune(folder: Path, keep: int) -> None:
    """Deletes all but the newest and the best; half deleted is not a checkpoint."""
    known = iterations(folder)
    for iteration in set(known[:-keep]) - {best_iteration(folder)}:
        path = path_of(folder, iteration)
        _delete(path.rename(path.with_name(f".{iteration}.deleted")))


def _delete(path: Path) -> None:
    """Deletes a folder as far as that goes; on NFS what is open stays for a while."""
    shutil.rmtree(path, ignore_errors=True)


def _restore(
    folder: Path, templates: dict[str, Any], which: str, num_shards: int | None = None
) -> Restored:
    """Reads the wanted checkpoint, or the newest before it that is whole."""
    skipped: list[str] = []
    for iteration in _candidates(folder, which):
        path = path_of(folder, iteration)
        try:
            digests.verify(path, META)
            meta = _meta_of(folder, iteration)
            wanted = templates
            if num_shards not in (None, meta.get("shards", 1)):
                wanted = {"train": templates["train"]}
            _check_fit(path, wanted, meta)
            state = {name: _read_arrays(path / name, t) for name, t in wanted.items()}
            _check_number(iteration, int(state["train"].iteration), "arrays")
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
    elif which in map(str, known):
        wanted = int(which)
    else:
        raise ValueError(
            f"{folder / FOLDER} has no checkpoint {which!r}: give latest, best or one "
            f"of {', '.join(map(str, known))}"
        )
    return [iteration for iteration in known[::-1] if iteration <= wanted]


def _check_fit(path: Path, templates: dict[str, Any], meta: dict[str, Any]) -> None:
    """Raises ValueError if a checkpoint is of another network or another task."""
    from ppo_jax.runs import arrays

    for name, template in templates.items():
        saved = meta["arrays"][name]
        wanted = {array: _shape(x) for array, x in arrays.leaves(template)}
        for array in wanted | saved:
            there, here = saved.get(array, "nothing"), wanted.get(array, "nothing")
            if there != here:
                raise ValueError(
                    f"the checkpoint {path} does not fit: {array} is {there} there and "
                    f"{here} here; use the configuration that it was trained with"
                )


def _meta_of(folder: Path, iteration: int) -> dict[str, Any]:
    """Reads what a checkpoint says of itself; raises Damaged if it is another's."""
    try:
        meta = json.loads((path_of(folder, iteration) / META).read_text())
        found = meta["iteration"]
    except (OSError, ValueError, TypeError, KeyError):
        raise digests.Damaged(f"{META} cannot be read") from None
    _check_number(iteration, found, META)
    return meta


def _check_number(name: int, found: int, where: str) -> None:
    if name != found:
        raise digests.Damaged(f"it is called {name}, and its {where} say {found}")


def _read_arrays(path: Path, template: Any) -> Any:
    from ppo_jax.runs import arrays

    try:
        return arrays.read(path, template)
    except Exception as error:  # orbax documents none
        raise digests.Damaged(" ".join(str(error).split())[:200]) from error


def _shape(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"
