"""Parameters in one vector: as many operations however many arrays there are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    Continuous,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    actor_critic,
    make_ppo,
)
from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.learning.packing import MOST, pack, pack_learned
from tests.learning.test_ppo import random_rollout


def learner(hidden_dims=(3, 2), **config):
    model = ModelConfig(hidden_dims=hidden_dims)
    config = PPOConfig(num_learning_epochs=2, num_mini_batches=2, **config)
    return make_ppo(actor_critic(Continuous(2), model, model), config)


def begun(ppo):
    """A state, of which only the shapes are read."""
    obs = {"policy": jnp.zeros((5, 2))}
    shapes = jax.eval_shape(ppo.init, jax.random.key(0), obs, Hyperparams())
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_comes_back_as_it_was_packed(optimizer):
    state = jax.device_get(begun(learner(optimizer=optimizer)))
    state = jax.tree.map(
        lambda x: x + np.arange(x.size, dtype=x.dtype).reshape(x.shape), state
    )
    packed, unpack, unpack_params = pack_learned(state)

    count = sum(x.size for x in jax.tree.leaves(state.params["actor"]))
    assert packed.params["actor"].shape == (count,)
    jax.tree.map(np.testing.assert_array_equal, unpack(packed), state)
    assert jax.tree.structure(unpack(packed)) == jax.tree.structure(state)
    back = unpack_params(packed.params)
    jax.tree.map(np.testing.assert_array_equal, back, state.params)


def test_what_the_optimizer_keeps_of_each_parameter_is_packed_too():
    packed, _, _ = pack_learned(begun(learner()))
    shapes = jax.tree.map(jnp.shape, packed.params)
    assert jax.tree.map(jnp.shape, packed.opt_state.mu) == shapes
    assert jax.tree.map(jnp.shape, packed.opt_state.nu) == shapes
    assert packed.opt_state.count.shape == ()


def test_of_several_types_nothing_is_packed():
    mixed = {"a": jnp.ones(2), "b": jnp.int32(2**24 + 1)}
    same, unpack = pack(mixed)
    assert same is mixed and unpack(same) is mixed


def test_a_large_tree_stays_as_it_is():
    large = {"a": jnp.zeros(MOST), "b": jnp.zeros(1)}
    assert pack(large)[0] is large
    assert pack({"a": jnp.zeros(MOST)})[0].shape == (MOST,)


def test_a_gradient_step_of_many_layers_has_one_optimizer_for_each_model():
    """Each leaf had a root of its own, in the optimizer."""

    def roots(hidden_dims):
        ppo = learner(hidden_dims)
        state = begun(ppo)
        rollout = jax.eval_shape(partial(random_rollout, ppo), state)
        update = jax.make_jaxpr(ppo.update)
        program = update(state, Hyperparams(), rollout, jax.random.key(1))
        return str(program).count(" sqrt ")

    assert roots((3, 2, 2, 2)) == roots((3,))
