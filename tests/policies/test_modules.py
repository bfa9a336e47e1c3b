"""Extras of networks: norms, initialisation, encoders of single groups, own classes."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import Continuous, Discrete, ModelConfig, actor_critic
from ppo_jax.policies import conv, mlp
from ppo_jax.policies.distributions import Gaussian
from ppo_jax.policies.mlp import MLP
from ppo_jax.policies.models import DistributionConfig, EncoderConfig
from ppo_jax.types import ActionSpace

OBS = {"policy": jnp.ones((3, 5)), "goal": jnp.zeros((3, 2))}
GROUPS = {"actor": ("policy", "goal"), "critic": ("policy", "goal")}
SPACE, PLAIN = Continuous(2), ModelConfig()


def init(actor=PLAIN, critic=PLAIN, space=SPACE, **how):
    network = actor_critic(space, actor, critic, GROUPS, **how)
    return network, network.init(jax.random.key(0), OBS)


def test_layer_norm_stands_between_layer_and_activation():
    x = jax.random.normal(jax.random.key(1), (4, 6))
    module = MLP((7,), "identity", layer_norm=True)
    params = module.init(jax.random.key(0), x)["params"]
    assert params["norm_0"]["scale"].shape == (7,)
    y = jax.jit(module.apply)({"params": params}, x)
    np.testing.assert_allclose(y.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=1), 1.0, rtol=1e-3)
    plain = MLP((7,), "identity").apply({"params": params}, x)
    np.testing.assert_allclose(
        y,
        (plain - plain.mean(1)[:, None]) / plain.std(1)[:, None],
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(mlp.LayerNorm(), (64, 256)), (conv.LayerNorm(), (64, 4, 8, 8))],
)
def test_a_layer_norm_keeps_its_digits_beside_a_large_mean(layer, shape):
    """E[x^2] - E[x]^2 would give spreads between 0.2 and 1000 here."""
    x = 1e4 + jax.random.normal(jax.random.key(1), shape)
    params = layer.init(jax.random.key(0), x)
    y = np.asarray(jax.jit(layer.apply)(params, x)).reshape(64, -1)
    np.testing.assert_allclose(y.std(axis=1), 1.0, rtol=1e-3)
    np.testing.assert_allclose(y.mean(axis=1), 0.0, atol=2e-3)  # 1e4's digits


@pytest.mark.slow
def test_orthogonal_kernels_have_their_gains():
    model = ModelConfig(
        hidden_dims=(4,), initialization="orthogonal", hidden_gain=3.0, output_gain=0.5
    )
    _, (params, _) = init(model, model)
    kernel = params["actor"]["mlp"]["layer_0"]["kernel"]
    np.testing.assert_allclose(kernel.T @ kernel, 9.0 * np.eye(4), atol=1e-5)
    for part in (params["actor"]["head"]["mean"], params["critic"]["head"]):
        kernel = part["kernel"]
        width = kernel.shape[1]
        np.testing.assert_allclose(kernel.T @ kernel, 0.25 * np.eye(width), atol=1e-6)
        assert not part["bias"].any()


@pytest.mark.slow
@pytest.mark.parametrize("class_name", ["BetaDistribution", "TanhGaussianDistribution"])
def test_bounded_actions_stay_in_their_range(class_name):
    spread = DistributionConfig(class_name, action_range=(-0.5, 2.0), init_std=5.0)
    network, (params, stats) = init(ModelConfig(distribution_cfg=spread))
    policy = network.policy(params, network.prepare(stats, OBS))
    action = policy.sample(jax.random.key(0))
    assert action.shape == (3, 2)
    assert ((action >= -0.5) & (action <= 2.0)).all()
    assert np.isfinite(policy.log_prob(action)).all()


# --- encoders of single groups

APART = {"goal": EncoderConfig((4,), 3, "elu", "tanh")}


@pytest.mark.slow
def test_a_group_with_an_encoder_joins_the_others_behind_it():
    model = ModelConfig(hidden_dims=(8,), encoder_cfg=APART, obs_normalization=True)
    network, (params, stats) = init(model, model)
    assert stats["actor"].mean.shape == (5,)  # what is encoded is not normalised
    assert params["actor"]["mlp"]["layer_0"]["kernel"].shape == (5 + 3, 8)
    assert params["actor"]["encoders"]["goal"]["head"]["kernel"].shape == (4, 3)
    inputs = network.prepare(stats, OBS)
    assert network.value(params, inputs).shape == (3,)
    changed = network.prepare(stats, OBS | {"goal": OBS["goal"] + 1.0})
    assert (network.value(params, inputs) != network.value(params, changed)).all()


def test_encoders_of_vectors_can_be_shared():
    model = ModelConfig(hidden_dims=(8,), encoder_cfg=APART)
    network, (params, stats) = init(model, model, share_cnn_encoders=True)
    assert network.shared == ("encoders",)
    assert "encoders" not in params["critic"]
    assert network.value(params, network.prepare(stats, OBS)).shape == (3,)


def test_an_encoder_of_a_group_that_is_not_read_is_refused():
    model = ModelConfig(encoder_cfg={"other": EncoderConfig()})
    with pytest.raises(ValueError, match=r"actor.encoder_cfg has an encoder for 'oth"):
        init(model)
    with pytest.raises(ValueError, match=r"encoder_cfg = .* read by an MLPModel only"):
        ModelConfig("RNNModel", encoder_cfg=APART)


# --- classes of one's own


class MyActor(nn.Module):
    """A linear policy with the std that the configuration names."""

    config: ModelConfig
    action_space: ActionSpace
    width_off: int = 0

    @nn.compact
    def __call__(self, x):
        mean = nn.Dense(self.action_space.dim + self.width_off)(x)
        return Gaussian(mean, jnp.full_like(mean, 0.5))


class MyCritic(nn.Module):
    """A linear value."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)[..., 0]


class TooWide(MyActor):
    """Returns an action too many."""

    width_off: int = 1


class KeepsAxis(MyCritic):
    """Returns [N, 1]."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)


class Fails(MyCritic):
    """Reads what is not there."""

    @nn.compact
    def __call__(self, x):
        return x.reshape(7, 7)


class NeedsMore(nn.Module):
    """Has a field that nobody gives."""

    config: ModelConfig
    secret: int


def function(config, action_space):
    """No class."""


def own(cls, **model):
    return ModelConfig(f"{__name__}:{cls.__name__}", **model)


def test_a_class_of_ones_own_is_found_by_its_path():
    actor = ModelConfig(f"{__name__}.MyActor", obs_normalization=True)
    assert actor.class_name == f"{__name__}:MyActor"
    network, (params, stats) = init(actor, own(MyCritic))
    assert params["actor"]["Dense_0"]["kernel"].shape == (7, 2)
    assert stats["actor"].mean.shape == (7,)
    assert network.policy(params, network.prepare(stats, OBS)).mode().shape == (3, 2)


@pytest.mark.parametrize(
    ("actor", "critic", "message"),
    [
        (ModelConfig("no.such:Thing"), None, "actor.class_name = .* cannot be loaded"),
        (ModelConfig(f"{__name__}:Nobody"), None, "cannot be loaded"),
        (own(function), None, "is no flax module: give a subclass of flax.linen"),
        (own(Gaussian), None, "cannot be loaded|is no flax module"),
        (None, own(NeedsMore), "critic.class_name = .* cannot be made .*'secret'"),
        (own(TooWide), None, r"gives a mode\(\) of the shape \[3, 3\] .* \[3, 2\]"),
        (None, own(KeepsAxis), r"critic.*value of the shape \[3, 1\] .* \[3\]"),
        (None, own(Fails), "cannot read what the environments observe"),
        (own(MyCritic), None, "actor.class_name = .* cannot be made"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_before_the_run(actor, critic, message):
    with pytest.raises(ValueError, match=message) as error:
        init(actor or PLAIN, critic or PLAIN)
    assert "\n" not in str(error.value)


def test_a_class_of_ones_own_acts_discretely_only_if_it_does():
    with pytest.raises(ValueError, match="cannot read what the environments observe"):
        init(own(MyActor), space=Discrete(4))


def test_another_name_that_is_none_says_what_there_is():
    with pytest.raises(ValueError, match=r"one of MLPModel, RNNModel, CNNModel.* flax"):
        ModelConfig("TransformerModel")
    assert replace(own(MyCritic), rnn_hidden_dim=3).rnn_hidden_dim == 3
