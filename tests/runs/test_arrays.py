"""Arrays on a disk: arrays without elements keep their shape and type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.runs import arrays

KEYS = jax.random.split(jax.random.key(3), 2)
EMPTY = {  # every kind of leaf that a state may hold, without an element
    "float": jnp.zeros((0,)),
    "half": jnp.zeros((3, 0, 2), jnp.bfloat16),
    "int": jnp.zeros((0, 4), jnp.int8),
    "bool": jnp.zeros((2, 0), bool),
    "numpy": np.zeros((0, 6), np.float32),
    "key": KEYS[:0],
}
FULL = {"x": jnp.arange(3.0), "keys": KEYS, "nothing": ()}


def described(tree):
    """Returns the structure, and of each leaf its path, type, shape and values."""

    def values(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x).tolist()

    flat, structure = jax.tree.flatten_with_path(tree)
    return structure, [(path, str(x.dtype), x.shape, values(x)) for path, x in flat]


@pytest.mark.parametrize(
    "tree",
    [
        EMPTY,
        {"first": jnp.ones(2), "between": EMPTY, "last": jnp.zeros(1)},
        {"a": [FULL, EMPTY, (EMPTY["int"], FULL)]},
        {"x": jnp.zeros((0,))},
    ],
    ids=["all", "between", "nested", "one"],
)
def test_arrays_without_elements_keep_shape_and_type(tmp_path, tree):
    """read(write(tree)) = tree, wherever in it an array has no element."""
    arrays.write(tmp_path / "tree", tree)
    template = jax.eval_shape(lambda: tree)
    assert described(arrays.read(tmp_path / "tree", template)) == described(tree)
