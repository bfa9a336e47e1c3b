"""Whether a function is a symmetry: tried on a few rows before a run starts."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.types import ActionSpace, Array, AugmentFn, Discrete, Obs

NUM_CHECKED = 3  # rows that an augmentation is tried on


def check_augmentation(
    augment: AugmentFn, obs: Obs, action_space: ActionSpace, seed: int = 0
) -> int:
    """Tries a symmetry on a few rows before a run starts, and returns its K.

    Args:
      augment: the symmetry.
      obs: {group: [N, ...]} of the environment, arrays or shapes and types.
      action_space: of the environment.
      seed: of the numbers that it is tried on.

    Raises:
      ValueError: it changes groups or shapes, its first block is not the rows as they
        were, or a row depends on another.
    """
    rng = np.random.default_rng(seed)
    is_discrete = isinstance(action_space, Discrete)

    def rows(shape: tuple[int, ...], dtype: Any) -> Array:
        drawn = rng.normal(size=shape) if np.issubdtype(dtype, np.floating) else None
        drawn = rng.integers(0, 2, shape) if drawn is None else drawn
        return jnp.asarray(drawn.astype(dtype))

    some = {
        group: rows((NUM_CHECKED, *x.shape[1:]), x.dtype) for group, x in obs.items()
    }
    shape = (NUM_CHECKED,) if is_discrete else (NUM_CHECKED, action_space.dim)
    given = (some, rows(shape, np.int32 if is_discrete else np.float32))
    result = augment(*given)
    num_copies = require_blocks(given, result)
    blocks = partial(_blocks, num_copies)
    _require(
        jax.tree.map(lambda x, y: _equal(blocks(y)[0], x), given, result),
        "its first block differs from the rows that it was given: return the "
        "originals first, then each mirrored copy",
    )
    first = augment(*jax.tree.map(lambda x: x[:1], given))
    _require(
        jax.tree.map(lambda x, y: _equal(blocks(x)[:, :1], blocks(y)), result, first),
        "a row depends on the other rows: map each row by itself",
    )
    alone = (augment(given[0], None)[0], augment(None, given[1])[1])
    _require(
        jax.tree.map(_equal, result, alone),
        "it gives something else when observations or actions are None: map one "
        "without the other",
    )
    return num_copies


def require_blocks(given: tuple[Obs, Array], result: Any) -> int:
    """Returns K, of how many blocks an augmentation's result is.

    Raises:
      ValueError: it is not of the same groups and shapes, K times as many rows.
    """
    try:
        pairs = jax.tree.leaves(
            jax.tree.map(lambda x, y: (x.shape, y.shape), given, tuple(result)),
            is_leaf=lambda x: isinstance(x, tuple) and isinstance(x[0], tuple),
        )
    except (TypeError, ValueError, AttributeError):
        raise _wrong(
            f"it must return (obs, action) with the groups "
            f"{', '.join(sorted(given[0]))}: it returned another structure"
        ) from None
    counts = set()
    for before, after in pairs:
        if len(after) != len(before) or after[1:] != before[1:]:
            raise _wrong(f"rows of the shape {before[1:]} came back as {after[1:]}")
        counts.add(after[0] / before[0])
    num_copies = int(min(counts))
    if counts != {num_copies} or num_copies < 2:
        raise _wrong(
            f"it must return K times as many rows, the same K of at least 2 for "
            f"everything: {pairs[0][0][0]} became {sorted({p[1][0] for p in pairs})}"
        )
    return num_copies


def _blocks(num_copies: int, x: Array) -> Array:
    return x.reshape(num_copies, -1, *x.shape[1:])


def _equal(x: Array, y: Array) -> bool:
    return np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=1e-5, atol=1e-5)


def _require(is_right: Any, otherwise: str) -> None:
    if not all(jax.tree.leaves(is_right)):
        raise _wrong(otherwise)


def _wrong(why: str) -> ValueError:
    return ValueError(f"the symmetry's data_augmentation_func is not one: {why}")
