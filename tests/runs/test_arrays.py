"""Arrays on a disk: arrays without elements keep their shape and type."""

import logging
import sys

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


def test_plain_arrays_are_read_without_orbax(tmp_path, monkeypatch):
    """The same bits and types, also of bfloat16, of scalars and without elements."""
    tree = {
        "a": jnp.linspace(0, 1, 7, dtype=jnp.bfloat16),
        "b": [jnp.int32(3), (jnp.zeros((0, 2)), jnp.array([True, False]))],
        "c": jnp.float32(jnp.nan),
    }
    arrays.write(tmp_path / "x", tree)
    template = jax.eval_shape(lambda: tree)
    by_orbax = arrays._read_by_orbax(tmp_path / "x", template)
    monkeypatch.setattr(arrays, "_read_by_orbax", None)
    directly = arrays.read(tmp_path / "x", template)
    assert jax.tree.structure(directly) == jax.tree.structure(by_orbax)
    for found, wanted in zip(*map(jax.tree.leaves, (directly, by_orbax)), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()


@pytest.mark.parametrize("change", ["shape", "type", "name", "key"])
def test_what_is_not_plain_is_left_to_orbax(tmp_path, monkeypatch, change):
    tree = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    if change == "key":
        tree["b"] = jax.random.key(0)
    arrays.write(tmp_path / "x", tree)
    wanted = {
        "shape": {"a": jnp.zeros(4), "b": jnp.zeros(2)},
        "type": {"a": jnp.zeros(3, int), "b": jnp.zeros(2)},
        "name": {"a": jnp.zeros(3), "c": jnp.zeros(2)},
        "key": tree,
    }[change]
    asked = []
    monkeypatch.setattr(arrays, "_read_by_orbax", lambda *x: asked.append(x))
    arrays.read(tmp_path / "x", jax.eval_shape(lambda: wanted))
    assert len(asked) == 1


def test_threads_that_end_after_a_failed_write_say_nothing(monkeypatch, capfd, caplog):
    """On a busy machine they find the event loop closed long after the error."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    logger = logging.getLogger("asyncio")
    monkeypatch.setattr(logger, "filters", [])

    class Late:
        def __init__(self, message):
            self.message = message

        def __del__(self):
            raise RuntimeError(self.message)

    with pytest.raises(OSError), arrays._quiet_threads():
        raise OSError
    Late("Event loop is closed")
    logger.error("Future exception was never retrieved")
    assert capfd.readouterr().err == ""
    Late("something else")
    assert "something else" in capfd.readouterr().err
    logger.error("something else")
    assert caplog.messages == ["something else"]
