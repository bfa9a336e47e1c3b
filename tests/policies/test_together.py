"""Actor and critic through a sequence at once: as each by itself."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import Continuous, ModelConfig, actor_critic, from_modules
from ppo_jax.learning.losses import ppo_loss
from ppo_jax.policies.modules import RecurrentActor
from ppo_jax.policies.precision import in_bfloat16
from ppo_jax.types import Batch, Hyperparams

T, N, D = 24, 64, 48
LSTM = ModelConfig(class_name="RNNModel", rnn_hidden_dim=128, hidden_dims=(32,))
GRU = ModelConfig(
    class_name="RNNModel",
    rnn_type="gru",
    rnn_hidden_dim=96,
    rnn_num_layers=2,
    hidden_dims=(32,),
)
MLP = ModelConfig(hidden_dims=(32,))


class Own(nn.Module):
    """A critic of somebody's own, with memory: the mean of all that it has seen."""

    @nn.compact
    def __call__(self, x, memory, is_first=None):
        if is_first is None:
            memory = memory + x.mean(axis=-1)
            return memory * self.param("scale", nn.initializers.ones, ()), memory
        seen = memory[None] + jnp.cumsum(x.mean(axis=-1), axis=0)
        return seen * self.param("scale", nn.initializers.ones, ()), seen[-1]

    def initial_memory(self, num_envs):
        return jnp.zeros(num_envs)


def sequences(network):
    """Parameters, and what policy and value read: ends inside, a memory before."""
    rng = np.random.default_rng(0)
    obs = {
        "policy": rng.standard_normal((T, N, D), np.float32),
        "critic": rng.standard_normal((T, N, D + 3), np.float32),
    }
    is_first = rng.random((T, N)) < 0.1
    assert is_first[1:].any() and not is_first.all()
    first_obs = jax.tree.map(lambda x: x[0], obs)
    params, stats = jax.jit(network.init)(jax.random.key(0), first_obs)
    carry = jax.tree.map(lambda m: m + 0.3, network.recurrence.initial(first_obs))
    unroll = network.recurrence.unroll
    return params, unroll(network.prepare(stats, obs), carry, is_first)


def each(network, params, inputs):
    return network.policy(params, inputs), network.value(params, inputs)


def at_once(network, params, inputs):
    return network.policy_and_value(params, inputs)


def value_and_gradient(read, network, inputs, params):
    def loss(params):
        policy, value = read(network, params, inputs)
        log_prob = policy.log_prob(jnp.ones_like(policy.mean))
        return (log_prob**2).mean() + (value**2).mean(), (policy.mean, value)

    return jax.value_and_grad(loss, has_aux=True)(params)


NETWORKS = {
    "lstm and lstm": (LSTM, LSTM),
    "lstm and two of gru": (LSTM, GRU),
    "two of gru and mlp": (GRU, MLP),
    "mlp and lstm": (MLP, LSTM),
}


@pytest.mark.slow
@pytest.mark.parametrize("models", NETWORKS.values(), ids=NETWORKS)
def test_both_at_once_are_each_by_itself(models):
    """Means, values and the gradient of all weights, compiled, of unequal networks."""
    groups = {"actor": ["policy"], "critic": ["policy", "critic"]}
    network = actor_critic(Continuous(3), *models, obs_groups=groups)
    params, inputs = sequences(network)
    together, apart = (
        jax.jit(partial(value_and_gradient, read, network))(inputs, params)
        for read in (at_once, each)
    )
    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)
    jax.tree.map(close, together, apart)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(together[1]))


@pytest.mark.slow
def test_a_module_of_ones_own_is_applied_by_itself():
    """It has memory, but no recurrent layers that ours could take along."""
    network = from_modules(RecurrentActor(LSTM, Continuous(3)), Own())
    params, inputs = sequences(network)
    policy, value = network.policy_and_value(params, inputs)
    mean, own = each(network, params, inputs)
    np.testing.assert_allclose(policy.mean, mean.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(value, own)


@pytest.mark.slow
def test_products_of_both_are_taken_in_bfloat16():
    """`in_bfloat16` reaches what reads both: as each, and not as in float32."""
    network = actor_critic(Continuous(3), LSTM, LSTM)
    params, inputs = sequences(network)
    half = in_bfloat16(network)
    together, apart = (
        jax.jit(partial(value_and_gradient, read, half))(inputs, params)
        for read in (at_once, each)
    )
    close = partial(np.testing.assert_allclose, rtol=0.05, atol=2e-3)
    jax.tree.map(close, together, apart)
    policy, _ = jax.jit(network.policy_and_value)(params, inputs)
    assert np.abs(together[0][1][0] - policy.mean).max() > 1e-4


def test_the_loss_goes_through_time_once():
    """One loop forward and one backward, not two for each network."""
    network = actor_critic(Continuous(3), LSTM, LSTM)
    params, inputs = jax.eval_shape(partial(sequences, network))
    policy, value = jax.eval_shape(network.policy_and_value, params, inputs)
    rows = dict.fromkeys(("log_prob", "advantage", "value", "value_target"), value)
    batch = Batch(obs=inputs, action=policy.mean, distribution=policy, **rows)
    take = jax.grad(partial(ppo_loss, use_clipped_value_loss=True), has_aux=True)
    program = jax.make_jaxpr(lambda p, batch: take(p, network, batch, Hyperparams()))
    assert str(program(params, batch)).count(" scan[") == 2
