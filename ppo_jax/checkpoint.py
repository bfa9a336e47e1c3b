"""Checkpoints that are never lost: atomic, verified on reading, newest k and the best.

A checkpoint holds three items: `train` (all that is learned), `run` (environments,
random key, episode statistics: what a bit-exact continuation needs) and `meta`, which
lists every array with its shape, type and digest.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo_jax.types import RunState, TrainState

FOLDER = "checkpoints"
NO_RETURN = -1e30  # ranks a checkpoint from before the first finished episode


class Restored(NamedTuple):
    """What was read, and from where."""

    state: Any  # RunState or TrainState
    meta: dict[str, Any]  # what `save` was given
    iteration: int
    skipped: list[str]  # a sentence for each damaged checkpoint passed over


def save(folder: Path, run: RunState, meta: dict[str, Any], keep: int) -> Path:
    """Writes a checkpoint of a run and deletes those no longer kept.

    Args:
      folder: of the run.
      run: everything.
      meta: plain values to keep with it; "episode_return" ranks it.
      keep: how many of the newest stay, beside the best.

    Returns:
      The checkpoint's folder.

    Raises:
      ValueError: a learned number is not finite; nothing is written.
    """
    import orbax.checkpoint as ocp

    items = _items(run)
    bad = [path for path, x in _leaves(items["train"]) if not _is_finite(x)]
    if bad:
        raise ValueError(f"{bad[0]} is not finite: the state is not saved")
    iteration = int(run.train.iteration)
    meta = meta | {"arrays": {name: _manifest(item) for name, item in items.items()}}
    episode_return = meta.get("episode_return")
    score = NO_RETURN if episode_return is None else float(episode_return)
    with _manager(folder, keep) as manager:
        manager.save(
            iteration,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(item) for name, item in items.items()},
                meta=ocp.args.JsonSave(meta),
            ),
            metrics={"episode_return": score},
            force=True,
        )
    return folder / FOLDER / str(iteration)


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


def restore_train(folder: Path, template: TrainState, which: str = "latest") -> Restored:
    """Reads what was learned; see `restore_run`."""
    restored = _restore(folder, {"train": template}, which)
    return restored._replace(state=restored.state["train"])


def iterations(folder: Path) -> list[int]:
    """Returns the iterations of which a finished checkpoint is there, oldest first."""
    if not (folder / FOLDER).is_dir():
        return []
    with _manager(folder) as manager:
        return sorted(manager.all_steps())


def _items(run: RunState) -> dict[str, Any]:
    """Splits a run into the items of a checkpoint."""
    rest = {name: getattr(run, name) for name in run._fields if name != "train"}
    return {"train": run.train, "run": rest}


def _restore(folder: Path, templates: dict[str, Any], which: str) -> Restored:
    """Reads the wanted checkpoint, or the newest before it that is whole."""
    skipped: list[str] = []
    for iteration in _candidates(folder, which):
        try:
            meta = _read_meta(folder, iteration)
        except Exception:
            skipped.append(_damaged(folder, iteration, "its description is missing"))
            continue
        _check_fit(folder, iteration, templates, meta)
        try:
            state = _read_items(folder, iteration, templates)
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            skipped.append(_damaged(folder, iteration, reason[-1]))
            continue
        changed = [
            path
            for name, item in state.items()
            for path, entry in _manifest(item).items()
            if entry != meta["arrays"][name][path]
        ]
        if changed:
            skipped.append(_damaged(folder, iteration, f"{changed[0]} was altered"))
            continue
        return Restored(state, meta, iteration, skipped)
    raise ValueError(
        " ".join(skipped) + f" {folder / FOLDER} holds no checkpoint that can be read: "
        "give another run with --checkpoint, or train anew"
    )


def _candidates(folder: Path, which: str) -> list[int]:
    """Returns the iterations to try, first the wanted one, then older ones."""
    known = iterations(folder)
    if which == "latest" or not known:
        return known[::-1]
    if which == "best":
        with _manager(folder) as manager:
            best = manager.best_step()
        wanted = known[-1] if best is None else best
    elif which.isdigit() and int(which) in known:
        wanted = int(which)
    else:
        raise ValueError(
            f"{folder / FOLDER} has no checkpoint {which!r}: give latest, best or one of "
            f"{', '.join(map(str, known))}"
        )
    return [iteration for iteration in known[::-1] if iteration <= wanted]


def _damaged(folder: Path, iteration: int, reason: str) -> str:
    return f"The checkpoint {folder / FOLDER / str(iteration)} is damaged ({reason})."


def _check_fit(
    folder: Path, iteration: int, templates: dict[str, Any], meta: dict[str, Any]
) -> None:
    """Raises ValueError if a checkpoint is of another network or another task."""
    for name, template in templates.items():
        saved = meta["arrays"][name]
        wanted = {path: _shape(x) for path, x in _leaves(template)}
        for path in sorted(saved.keys() | wanted.keys()):
            there, here = saved.get(path, ["nothing"])[0], wanted.get(path, "nothing")
            if there != here:
                raise ValueError(
                    f"the checkpoint {folder / FOLDER / str(iteration)} does not fit: "
                    f"{path} is {there} there and {here} here; use the configuration "
                    "that it was trained with"
                )


def _read_meta(folder: Path, iteration: int) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    with _manager(folder) as manager:
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = manager.restore(iteration, args=args)["meta"]
    assert "arrays" in meta
    return meta


def _read_items(folder: Path, iteration: int, templates: dict[str, Any]) -> Any:
    import orbax.checkpoint as ocp

    with _manager(folder) as manager:
        restored = manager.restore(
            iteration,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardRestore(t) for name, t in templates.items()}
            ),
        )
    return {name: restored[name] for name in templates}


def _manager(folder: Path, keep: int | None = None) -> Any:
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as policies

    logging.getLogger("absl").setLevel(logging.ERROR)
    score: Callable[[Any], float] = lambda metrics: metrics["episode_return"]
    preserve = policies.AnyPreservationPolicy(
        [policies.LatestN(keep), policies.BestN(get_metric_fn=score, n=1)]
    )
    options = ocp.CheckpointManagerOptions(
        best_fn=score,
        preservation_policy=preserve,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=keep is not None,
        read_only=keep is None,
    )
    return ocp.CheckpointManager((folder / FOLDER).absolute(), options=options)


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in flat]


def _manifest(tree: Any) -> dict[str, list[str]]:
    """Returns {path: [shape and type, digest]} of every array."""
    return {
        path: [_shape(x), hashlib.sha256(_data(x).tobytes()).hexdigest()]
        for path, x in _leaves(tree)
    }


def _shape(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _data(x: jax.Array) -> np.ndarray:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def _is_finite(x: jax.Array) -> bool:
    return bool(np.isfinite(_data(x)).all())
