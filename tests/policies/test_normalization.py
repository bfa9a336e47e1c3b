"""Running statistics of observations and what the networks read by them."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import RunningStats, init_stats, normalize, update_stats

ROWS = np.random.default_rng(0).normal([1.0, -20.0, 300.0], [1.0, 0.1, 40.0], (60, 3))


def assert_describes(stats, rows):
    """Mean and biased variance, as NumPy has them in float64."""
    np.testing.assert_allclose(stats.mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stats.var, rows.var(axis=0), rtol=2e-4)
    assert stats.count == len(rows)


def test_update_matches_hand_arithmetic(maybe_jit):
    # Rows 1, 3, 8: mean 12 / 3 = 4; biased variance (9 + 1 + 16) / 3 = 26 / 3.
    update = maybe_jit(update_stats)
    stats = update(init_stats(1), jnp.array([[1.0], [3.0]]))
    np.testing.assert_allclose([stats.mean[0], stats.var[0]], [2.0, 1.0], rtol=1e-6)
    stats = update(stats, jnp.array([[8.0]]))
    np.testing.assert_allclose([stats.mean[0], stats.var[0]], [4.0, 26 / 3], rtol=1e-6)
    assert stats.count == 3


def test_the_first_batch_forgets_the_start():
    """At count 0 neither mean 0 nor variance 1 has any weight."""
    start = RunningStats(
        jnp.full(3, 7.0), jnp.full(3, 5.0), jnp.zeros(()), jnp.zeros(3)
    )
    assert_describes(update_stats(start, jnp.asarray(ROWS, jnp.float32)), ROWS)


@pytest.mark.parametrize("parts", [1, 2, 5, 60])
def test_merge_of_parts_is_the_whole(parts):
    batches = [jnp.asarray(part, jnp.float32) for part in np.split(ROWS, parts)]
    assert_describes(reduce(update_stats, batches, init_stats(3)), ROWS)


def test_order_of_parts_does_not_matter():
    a, b = (jnp.asarray(part, jnp.float32) for part in (ROWS[:10], ROWS[10:]))
    forward = update_stats(update_stats(init_stats(3), a), b)
    backward = update_stats(update_stats(init_stats(3), b), a)
    np.testing.assert_allclose(forward.mean, backward.mean, rtol=1e-5)
    np.testing.assert_allclose(forward.var, backward.var, rtol=1e-4)


def test_every_leading_axis_is_rows():
    x = jnp.asarray(ROWS, jnp.float32)
    flat, blocked = (update_stats(init_stats(3), y) for y in (x, x.reshape(4, 15, 3)))
    assert blocked.count == 60
    np.testing.assert_array_equal(flat.mean, blocked.mean)
    np.testing.assert_array_equal(flat.var, blocked.var)


def test_counts_beyond_int32():
    stats = init_stats(1)._replace(count=jnp.float32(4e9))
    stats = update_stats(stats, jnp.full((1024, 1), 100.0))
    assert stats.count > 4e9
    np.testing.assert_allclose(stats.mean, 100.0 * 1024 / 4e9, rtol=1e-5)


def test_normalize_divides_by_std_plus_a_hundredth(maybe_jit):
    stats = RunningStats(
        jnp.array([1.0, 2.0]), jnp.array([4.0, 0.0]), jnp.float32(9), jnp.zeros(2)
    )
    x = maybe_jit(normalize)(stats, jnp.array([[5.0, 2.0], [1.0, 3.0]]))
    # (5 - 1) / (2 + 0.01);  a constant: (3 - 2) / 0.01, nothing is clipped
    np.testing.assert_allclose(x, [[4.0 / 2.01, 0.0], [0.0, 100.0]], rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 2, 3)])
def test_before_any_data_it_divides_by_1_01(shape):
    x = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    np.testing.assert_allclose(normalize(init_stats(3), x), x / 1.01, rtol=1e-6)


def test_normalized_rows_are_standard():
    x = jnp.asarray(ROWS, jnp.float32)
    normalized = np.asarray(normalize(update_stats(init_stats(3), x), x))
    std = ROWS.std(axis=0)
    np.testing.assert_allclose(normalized.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalized.std(axis=0), std / (std + 0.01), rtol=1e-3)


def test_vmap_row_is_the_lone_one():
    x = jnp.asarray(ROWS, jnp.float32).reshape(3, 20, 3)
    stats = jax.vmap(update_stats, in_axes=(None, 0))(init_stats(3), x)
    alone = update_stats(init_stats(3), x[1])
    for row, lone in zip(stats, alone, strict=True):
        np.testing.assert_allclose(row[1], lone, rtol=1e-6)


def test_nan_is_not_hidden_and_stays_in_its_column():
    x = jnp.asarray(ROWS, jnp.float32).at[7, 1].set(jnp.nan)
    stats = update_stats(init_stats(3), x)
    np.testing.assert_array_equal(np.isnan(stats.mean), [False, True, False])
    np.testing.assert_array_equal(np.isnan(stats.var), [False, True, False])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "bfloat16", "float64"])
def test_statistics_are_float32_whatever_the_observations_are(maybe_jit, dtype):
    """Half precision has neither the digits nor the range to sum 2000 rows in."""
    raw = np.random.default_rng(0).uniform(0, 200, (40, 50, 3))
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(raw).astype(dtype)
        stats = maybe_jit(update_stats)(init_stats(3), x)
        normalized = maybe_jit(normalize)(stats, x)
        assert {leaf.dtype for leaf in (*stats, normalized)} == {jnp.dtype("float32")}
    assert_describes(stats, np.asarray(x).astype(np.float64).reshape(-1, 3))
    assert np.abs(normalized).max() < 2.0  # (200 - 100) / (200 / sqrt 12)


@pytest.mark.parametrize("function", [update_stats, normalize])
def test_another_width_is_refused(function):
    with pytest.raises(AssertionError):
        function(init_stats(3), jnp.zeros((4, 1)))
