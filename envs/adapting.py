"""What the adapters of other people's environments share."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.types import Array


def unknown_name(package: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error that names the nearest of the known names."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.0)
    return ValueError(f"{package} has no environment {name!r}; try {nearest[0]!r}.")


def cast_like(tree: Any, reference: Any) -> Any:
    """Gives every leaf the dtype of its counterpart, and never a weak one.

    These environments put Python numbers into their state; a scan or a second call
    would see another type than at first.
    """

    def cast(leaf: Any, reference: Any) -> Array:
        return jnp.asarray(leaf, jnp.result_type(reference))

    return jax.tree.map(cast, tree, reference)
