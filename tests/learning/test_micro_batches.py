"""A minibatch in parts: the same gradient, with less memory."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from drawn import drawn

from ppo_jax import (
    Batch,
    Continuous,
    Gaussian,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    actor_critic,
    ppo_loss,
)
from ppo_jax.learning.config import RNDConfig
from ppo_jax.learning.gradient_steps import gradient_of
from ppo_jax.learning.rnd import make_rnd

MLP = ModelConfig(hidden_dims=(64, 64))
RNN = ModelConfig(class_name="RNNModel", rnn_hidden_dim=4, hidden_dims=(8,))


def minibatch(network, lead, dim=3):
    """[*lead, ...] random samples, whose policy is another one than the network's."""
    keys = iter(jax.random.split(jax.random.key(0), 9))
    normal = lambda *shape: jax.random.normal(next(keys), (*lead, *shape))
    obs, action, mean = {"policy": normal(dim)}, normal(2), normal(2)
    old = Gaussian(mean, jnp.full_like(mean, 1.5))
    first = {"policy": obs["policy"].reshape(-1, dim)[: lead[-1]]}
    params, stats = drawn(network.init, jax.random.key(1), first)
    inputs = network.prepare(stats, obs)
    if network.recurrence:
        carry = network.recurrence.initial(first)
        is_first = jax.random.bernoulli(next(keys), 0.3, lead)
        inputs = network.recurrence.unroll(inputs, carry, is_first)
    value, target, advantage = normal(), normal(), normal()
    batch = Batch(inputs, action, old.log_prob(action), old, value, target, advantage)
    return params, batch


def compiled(network, params, batch, num_parts):
    config = PPOConfig(micro_batches=num_parts)
    take = partial(gradient_of, network, config, ppo_loss, Hyperparams())
    return jax.jit(take).lower(params, batch).compile()


@pytest.mark.slow
@pytest.mark.parametrize(("model", "lead"), [(MLP, (60,)), (RNN, (5, 12))])
@pytest.mark.parametrize("num_parts", [4])
def test_the_gradient_is_that_of_the_whole(model, lead, num_parts):
    """Loss and metrics too, to rounding; sequences are not cut in time."""
    network = actor_critic(Continuous(2), model, model)
    params, batch = minibatch(network, lead)
    whole = compiled(network, params, batch, 1)(params, batch)
    parts = compiled(network, params, batch, num_parts)(params, batch)
    chex.assert_trees_all_close(parts, whole, rtol=2e-5, atol=1e-6)
    assert abs(whole[1]["actor"]["head"]["mean"]["kernel"]).max() > 1e-3


@pytest.mark.slow
def test_rnds_predictor_learns_from_parts_as_from_the_whole():
    """Weights, optimizer and losses to rounding, and with less memory."""
    config = RNDConfig(predictor_hidden_dims=(64, 64), state_normalization=True)
    rnd = make_rnd(config, step_dt=0.1)
    obs = {"policy": jax.random.normal(jax.random.key(0), (16, 256, 3))}
    state = rnd.init(jax.random.key(1), {"policy": obs["policy"][0]})
    orders = jax.random.permutation(jax.random.key(2), 16 * 256)[None]
    whole, parts = (
        jax.jit(partial(rnd.learn, num_mini_batches=2, num_parts=k))
        .lower(state, obs, orders)
        .compile()
        for k in (1, 16)
    )
    learned, losses = whole(state, obs, orders)
    chex.assert_trees_all_close(
        parts(state, obs, orders), (learned, losses), rtol=2e-5, atol=2e-6
    )
    moved = learned.predictor["head"]["kernel"] - state.predictor["head"]["kernel"]
    assert abs(moved).max() > 1e-4
    sizes = [x.memory_analysis().temp_size_in_bytes for x in (whole, parts)]
    assert sizes[1] < sizes[0] / 4


@pytest.mark.slow
def test_parts_need_less_memory():
    """What each layer has computed is kept for one part only."""
    network = actor_critic(Continuous(2), MLP, MLP)
    params, batch = minibatch(network, (4096,))
    programs: Any = [compiled(network, params, batch, k) for k in (1, 16)]
    sizes = [x.memory_analysis().temp_size_in_bytes for x in programs]
    assert sizes[1] < sizes[0] / 8


@pytest.mark.parametrize(
    ("model", "lead", "what"), [(MLP, (60,), "60 samples"), (RNN, (5, 12), "12 envir")]
)
def test_parts_that_are_not_equal_are_refused(model, lead, what):
    network = actor_critic(Continuous(2), model, model)
    params, batch = jax.eval_shape(partial(minibatch, network, lead))
    with pytest.raises(ValueError, match=f"micro_batches = 7, .* {what}.*a divisor"):
        compiled(network, params, batch, 7)
