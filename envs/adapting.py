"""What the adapters of other people's environments share."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.types import Array


def import_package(module: str, package: str, install: str) -> Any:
    """Returns a module that an adapter needs.

    Raises:
      ImportError: it cannot be imported; says what to run.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{package} cannot be imported ({error}): run `uv sync --extra adapters` "
            f"or `pip install {install}`."
        ) from error


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises ValueError, with the nearest of the known names, unless it is one.

    Args:
      what: what there is none of, for instance "gymnax has no environment".
      name: asked for.
      known: all names.
    """
    known = list(known)
    if name not in known:
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)
        raise ValueError(f"{what} {name!r}; try {nearest[0]!r}.")


def cast_like(tree: Any, reference: Any) -> Any:
    """Gives every leaf the dtype of its counterpart, and never a weak one.

    These environments put Python numbers into their state; a scan or a second call
    would see another type than at first.
    """

    def cast(leaf: Any, reference: Any) -> Array:
        return jnp.asarray(leaf, jnp.result_type(reference))

    return jax.tree.map(cast, tree, reference)
