"""Trees of arrays in a folder: the one module that knows orbax.

Orbax refuses arrays without elements, of which the state of a simulation may hold
dozens. There is nothing of them to write: their places stay empty, and when read they
are made anew with the shape and the type that the reader asks for.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp


def write(path: Path, tree: Any) -> None:
    """Writes the arrays of a tree into a new folder."""
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer:
        args = ocp.args.StandardSave(_without_empty(tree))
        checkpointer.save(path.absolute(), args=args)


def read(path: Path, template: Any) -> Any:
    """Reads what `write` wrote.

    Args:
      path: the folder.
      template: the tree as shapes and types.

    Raises:
      Exception: orbax documents none; any kind means that the folder is damaged.
    """
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer:
        args = ocp.args.StandardRestore(_without_empty(template))
        restored = jax.tree.leaves(checkpointer.restore(path.absolute(), args=args))
    wanted, structure = jax.tree.flatten(template)
    if len(restored) != sum(bool(x.size) for x in wanted):
        raise ValueError(f"{len(restored)} arrays instead of {len(wanted)}")
    filled = iter(restored)
    leaves = [next(filled) if x.size else jnp.empty(x.shape, x.dtype) for x in wanted]
    return jax.tree.unflatten(structure, leaves)


def _without_empty(tree: Any) -> Any:
    return jax.tree.map(lambda x: x if x.size else (), tree)


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())
