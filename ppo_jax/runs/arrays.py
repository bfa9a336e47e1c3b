"""Trees of arrays in a folder: the one module that knows orbax.

Orbax refuses arrays without elements, of which the state of a simulation may hold
dozens. There is nothing of them to write: their places stay empty, and when read they
are made anew with the shape and the type that the reader asks for.
"""

import errno
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

OVERHEAD = 32_768  # bytes that orbax writes beside the arrays, and more


def write(path: Path, tree: Any) -> None:
    """Writes the arrays of a tree into a new folder.

    Raises:
      OSError: there is no room for them, or the disk refuses them.
    """
    import orbax.checkpoint as ocp

    _require_room(path, sum(x.nbytes for x in jax.tree.leaves(tree)))
    args = ocp.args.StandardSave(_without_empty(tree))
    try:
        with _quiet_threads(), _checkpointer() as checkpointer:
            checkpointer.save(path.absolute(), args=args)
    except ValueError as error:  # tensorstore's name for whatever a disk says
        number = _errno_in(str(error))
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from None


def read(path: Path, template: Any) -> Any:
    """Reads what `write` wrote.

    Args:
      path: the folder.
      template: the tree as shapes and types.

    Raises:
      Exception: orbax documents none; any kind means that the folder is damaged.
    """
    found = _read_directly(path, template)
    return _read_by_orbax(path, template) if found is None else found


def _read_by_orbax(path: Path, template: Any) -> Any:
    import orbax.checkpoint as ocp

    if jax.process_count() > 1:  # each reads all, and nothing of devices
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)
    with _checkpointer() as checkpointer:
        args = ocp.args.StandardRestore(_without_empty(template))
        restored = jax.tree.leaves(checkpointer.restore(path.absolute(), args=args))
    wanted, structure = jax.tree.flatten(template)
    if len(restored) != sum(bool(x.size) for x in wanted):
        raise ValueError(f"{len(restored)} arrays instead of {len(wanted)}")
    filled = iter(restored)
    leaves = [next(filled) if x.size else jnp.empty(x.shape, x.dtype) for x in wanted]
    return jax.tree.unflatten(structure, leaves)


def _read_directly(path: Path, template: Any) -> Any:
    """Returns the arrays by orbax's own reader, without waiting for all of orbax.

    None: there is more than plain arrays, or something is not as it should be, and
    orbax has to say what.
    """
    import tensorstore

    wanted = leaves(template)
    if any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for _, x in wanted):
        return None
    try:
        opened = []
        for name, x in wanted:
            store = {"driver": "ocdbt", "base": path.absolute().as_uri() + "/"}
            spec = {"driver": "zarr", "kvstore": store | {"path": f"{name}/"}}
            opened.append(tensorstore.open(spec, open=True, read=True) if x.size else x)
        reads = [
            future.result().read() if x.size else None
            for future, (_, x) in zip(opened, wanted, strict=True)
        ]
        values = [
            np.zeros(x.shape, x.dtype) if read is None else read.result()
            for read, (_, x) in zip(reads, wanted, strict=True)
        ]
    except ValueError:
        return None
    for value, (_, x) in zip(values, wanted, strict=True):
        if value.shape != x.shape or value.dtype != x.dtype:
            return None
    return jax.tree.unflatten(jax.tree.structure(template), jax.device_put(values))


def _without_empty(tree: Any) -> Any:
    return jax.tree.map(lambda x: x if x.size else (), tree)


def _require_room(path: Path, size: int) -> None:
    """Raises OSError where a disk is too full; orbax would say it in many words."""
    free, needed = shutil.disk_usage(path.parent).free, size + OVERHEAD
    if free < needed:
        words = f"{needed / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, words, str(path))


def leaves(tree: Any) -> list[tuple[str, Any]]:
    """Returns (path, leaf) of a tree, with a path such as "train.params.actor"."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in flat
    ]


def is_finite(x: Any) -> bool:
    """Returns whether an array has finite numbers only; a random key always has."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return True
    return bool(np.isfinite(np.asarray(x)).all())


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Lets threads that find the loop closed, after an error, end without a word.

    On a busy machine that is long after the error, so then these words stay unsaid.
    """
    hook = sys.unraisablehook

    def unless_closed(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    sys.unraisablehook = unless_closed
    try:
        yield
    except BaseException:
        logging.getLogger("asyncio").addFilter(_is_retrieved)  # the error is raised
        raise
    sys.unraisablehook = hook


def _is_retrieved(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()


def _errno_in(message: str) -> int | None:
    found = re.search(r"os_error_code='(\d+)'", message)
    return int(found[1]) if found else None


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp

    # What its threads meet is raised as well: nobody needs their tracebacks.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if jax.process_count() == 1:
        return ocp.Checkpointer(ocp.StandardCheckpointHandler())
    own = jax.process_index()  # or it would wait for processes that do not write
    alone = ocp.options.MultiprocessingOptions(own, active_processes={own})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)
