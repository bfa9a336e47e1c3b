"""The optimizers against torch's formulas, written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.learning.config import OPTIMIZER_NAMES
from ppo_jax.learning.optimizers import OPTIMIZERS

LEARNING_RATE = 1e-3


# torch's documented algorithms: (parameter, gradients) -> the parameter after each step
def adam(p, gradients, weight_decay=0.0):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        p = p * (1 - LEARNING_RATE * weight_decay)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        p = p - LEARNING_RATE * m_hat / (np.sqrt(v_hat) + 1e-8)
        yield p


def adamw(p, gradients):
    return adam(p, gradients, weight_decay=0.01)


def rmsprop(p, gradients):
    v = 0.0
    for g in gradients:
        v = 0.99 * v + 0.01 * g**2
        p = p - LEARNING_RATE * g / (np.sqrt(v) + 1e-8)
        yield p


def sgd(p, gradients):
    for g in gradients:
        p = p - LEARNING_RATE * g
        yield p


TORCH = {"adam": adam, "adamw": adamw, "rmsprop": rmsprop, "sgd": sgd}

START = np.array([1.0, -2.0, 0.5, 3.0, 100.0], np.float32)
GRADIENTS = np.array(
    [
        [1.0, -3.0, 0.0, 1e-8, 1e4],
        [-2.0, -3.0, 0.0, 1e-8, 1e4],
        [0.1, 5.0, 1.0, 1e-8, -1.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 1e-3, -7.0, 1e-8, 2.0],
    ],
    np.float32,
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torch(maybe_jit, name):
    """Incl. gradients as small as epsilon, which tell where epsilon is added."""
    optimizer = OPTIMIZERS[name]()
    params, update = {"x": jnp.asarray(START)}, maybe_jit(optimizer.update)
    state = optimizer.init(params)
    expected = TORCH[name](np.float64(START), np.float64(GRADIENTS))
    for gradient, wanted in zip(GRADIENTS, expected, strict=True):
        direction, state = update({"x": jnp.asarray(gradient)}, state, params)
        params = {"x": params["x"] - LEARNING_RATE * direction["x"]}
        moved, wanted_move = params["x"] - START, wanted - START
        np.testing.assert_allclose(params["x"], wanted, rtol=2e-7)
        np.testing.assert_allclose(moved, wanted_move, rtol=1e-3, atol=1e-5)


def test_every_optimizer_has_its_formula():
    assert OPTIMIZERS.keys() == TORCH.keys()
    assert tuple(OPTIMIZERS) == OPTIMIZER_NAMES


@pytest.mark.parametrize("step", [1, 2, 10, 1000])
def test_bias_correction_of_adam_keeps_its_digits(step):
    """A constant gradient gives the direction 1; 1 - 0.999^t in float32 misses it."""
    optimizer = OPTIMIZERS["adam"]()
    state = optimizer.init({"x": jnp.zeros(3)})
    state = state._replace(
        count=jnp.int32(step - 1),
        mu={"x": jnp.full(3, 1 - 0.9 ** (step - 1))},
        nu={"x": jnp.full(3, 1 - 0.999 ** (step - 1))},
    )
    direction, state = optimizer.update({"x": jnp.ones(3)}, state)
    np.testing.assert_allclose(direction["x"], 1.0, rtol=5e-6)
    assert state.count == step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_keeps_its_structure_and_types(name):
    """So that it can be carried by a scan and donated."""
    optimizer = OPTIMIZERS[name]()
    params = {"actor": {"w": jnp.ones((2, 3))}, "critic": {"b": jnp.ones(3)}}
    state = optimizer.init(params)
    direction, after = jax.eval_shape(optimizer.update, params, state, params)
    assert jax.tree.structure(direction) == jax.tree.structure(params)
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert described(after) == described(state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nan_stays_in_its_parameter(name):
    optimizer = OPTIMIZERS[name]()
    params = jnp.ones(3)
    gradient = jnp.array([1.0, jnp.nan, 1.0])
    direction, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_array_equal(np.isnan(direction), [False, True, False])
