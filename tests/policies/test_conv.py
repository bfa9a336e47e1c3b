"""Encoders of images: sizes, what surrounds them, the order of their features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import Continuous, ModelConfig, actor_critic
from ppo_jax.policies.conv import CNN, expected_position, max_pool, padding_of
from ppo_jax.policies.models import CNNConfig

SIGHT = CNNConfig(output_channels=(3, 2), kernel_size=(3,), stride=(2, 1))
SEES = ModelConfig("CNNModel", (8,), cnn_cfg=SIGHT, obs_normalization=True)
GROUPS = {"actor": ("image", "policy"), "critic": ("policy",)}


# ceil((s floor(in / s) - in - s + d (k - 1) + 1) / 2); in / s comes out of it.
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "padding"),
    [(12, 5, 2, 1, 2), (10, 3, 1, 1, 1), (10, 3, 1, 2, 2), (11, 3, 2, 1, 0)],
)
def test_padding_is_rsl_rls(size, kernel, stride, dilation, padding):
    assert padding_of(size, kernel, stride, dilation) == padding
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    assert out in (size // stride, size // stride + 1)


def test_max_pooling_takes_three_and_steps_two():
    x = jnp.array([[[[1.0, 5.0, 2.0], [0.0, 0.0, 0.0], [3.0, 0.0, 9.0]]]])
    np.testing.assert_array_equal(max_pool(x), [[[[5.0, 5.0], [3.0, 9.0]]]])


@pytest.mark.slow
def test_images_stand_behind_the_vector_and_are_not_scaled_or_normalised():
    """uint8 is taken as it is; leading axes [T, N] are those of [T N]."""
    network = actor_critic(Continuous(2), SEES, ModelConfig(), GROUPS)
    image = jax.random.randint(jax.random.key(0), (4, 3, 2, 9, 8), 0, 256, jnp.uint8)
    obs = {"policy": jnp.ones((4, 3, 5)), "image": image}
    rows = {name: x.reshape(12, *x.shape[2:]) for name, x in obs.items()}
    params, stats = network.init(jax.random.key(1), rows)
    # 9 x 8 -> 4 x 3 -> 2 x 1 of 2 channels, behind 5 numbers
    assert params["actor"]["mlp"]["layer_0"]["kernel"].shape == (5 + 4, 8)
    inputs = network.prepare(stats, obs)
    assert inputs["actor"].images["image"].dtype == jnp.uint8
    mean = network.policy(params, inputs).mean
    alone = network.policy(params, network.prepare(stats, rows)).mean
    np.testing.assert_allclose(mean.reshape(12, 2), alone, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_several_images_keep_their_order_in_a_compiled_program():
    """It is that of obs_groups, which is not that of the alphabet."""
    groups = {"actor": ("wrist", "policy", "base"), "critic": ("base", "wrist")}
    network = actor_critic(Continuous(2), SEES, SEES, groups)
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"policy": (5,), "wrist": (2, 9, 8), "base": (1, 7, 7)}
    obs = {
        name: jax.random.normal(key, (4, *shape))
        for (name, shape), key in zip(shapes.items(), keys, strict=True)
    }
    params, stats = network.init(jax.random.key(1), obs)
    inputs = network.prepare(stats, obs)
    for function in network.policy, network.value:
        jax.tree.map(
            lambda alone, compiled: np.testing.assert_allclose(
                alone, compiled, rtol=1e-5, atol=1e-6
            ),
            function(params, inputs),
            jax.jit(function)(params, inputs),
        )


@pytest.mark.slow
def test_a_shared_encoder_is_the_actors_and_learns_from_both():
    groups = {"actor": ("image", "policy"), "critic": ("policy", "image")}
    network = actor_critic(Continuous(2), SEES, SEES, groups, share_cnn_encoders=True)
    obs = {"policy": jnp.ones((3, 5)), "image": jnp.ones((3, 2, 9, 8))}
    params, stats = network.init(jax.random.key(1), obs)
    assert network.shared == ("cnns",)
    assert params["actor"].keys() == {"cnns", "mlp", "head"}
    assert params["critic"].keys() == {"mlp", "head"}
    inputs = network.prepare(stats, obs)
    of_value = jax.grad(lambda p: network.value(p, inputs).sum())(params)["actor"]
    assert all(jnp.any(x != 0) for x in jax.tree.leaves(of_value["cnns"]))
    assert not any(jnp.any(x != 0) for x in jax.tree.leaves(of_value["mlp"]))


@pytest.mark.parametrize(
    ("critic", "groups", "message"),
    [
        (ModelConfig(), GROUPS, "are a CNNModel and a MLPModel: give both"),
        (
            ModelConfig("CNNModel", cnn_cfg=CNNConfig((3, 4))),
            GROUPS,
            "critic.cnn_cfg is another one than actor.cnn_cfg: give the critic",
        ),
        (SEES, {"actor": ("image",), "critic": ("other",)}, "see the same groups"),
        (SEES, {"actor": ("image",), "critic": ("small",)}, "see the same groups"),
    ],
)
def test_what_cannot_be_shared_is_refused(critic, groups, message):
    obs = {"policy": jnp.zeros((1, 5)), "image": jnp.zeros((1, 2, 9, 8))}
    obs |= {"other": obs["image"], "small": obs["image"][:, :1]}
    with pytest.raises(ValueError, match=message):
        network = actor_critic(
            Continuous(2), SEES, critic, groups, share_cnn_encoders=True
        )
        jax.eval_shape(network.init, jax.random.key(0), obs)


def test_what_cannot_be_seen_is_refused_by_name():
    with pytest.raises(ValueError, match=r"norm = 'batch'.*none or layer"):
        CNNConfig(norm="batch")
    with pytest.raises(ValueError, match="there is no cnn_cfg"):
        ModelConfig("CNNModel")
    remembers = ModelConfig("RNNModel")
    with pytest.raises(ValueError, match="sequences of images are not read"):
        actor_critic(Continuous(2), SEES, remembers)
    network = actor_critic(Continuous(2), SEES, ModelConfig())
    with pytest.raises(ValueError, match="a CNNModel sees images, but policy"):
        network.init(jax.random.key(0), {"policy": jnp.zeros((3, 5))})


def test_the_spatial_softmax_of_mjlab_tells_where_a_channel_is_large():
    """Down and across in turn, each from -1 to 1; colder is sharper."""
    features = jnp.zeros((1, 2, 3, 5)).at[0, 0, 2, 1].set(50.0).at[0, 1, 1, 4].set(9.0)
    (down, across) = expected_position(features, 1.0)
    np.testing.assert_allclose(down, [[1.0, 0.0]], atol=2e-3)
    np.testing.assert_allclose(across, [[-0.5, 1.0]], atol=4e-3)
    warm = expected_position(features, 100.0)[1]
    assert abs(warm[0, 0]) < abs(across[0, 0])
    config = CNNConfig((2,), (1,), spatial_softmax="mjlab", activation="identity")
    one = {"layer_0": {"kernel": jnp.eye(2)[:, :, None, None], "bias": jnp.zeros(2)}}
    out = jax.jit(CNN(config).apply)({"params": one}, features)
    np.testing.assert_allclose(out, [[1.0, -0.5, 0.0, 1.0]], atol=4e-3)


def test_each_image_may_have_an_encoder_of_its_own():
    given = {"wrist": SIGHT, "base": CNNConfig((5,), global_pool="max")}
    model = ModelConfig("CNNModel", (8,), cnn_cfg=given)
    groups = {"actor": ("wrist", "policy", "base"), "critic": ("policy",)}
    network = actor_critic(Continuous(2), model, ModelConfig(), groups)
    obs = {"policy": jnp.zeros((3, 5)), "wrist": jnp.zeros((3, 2, 9, 8))}
    obs["base"] = jnp.zeros((3, 1, 7, 7))
    params, _ = jax.eval_shape(network.init, jax.random.key(0), obs)
    encoders = params["actor"]["cnns"]
    assert encoders["base"].keys() == {"layer_0"}
    assert encoders["wrist"].keys() == {"layer_0", "layer_1"}
    for some in ({"wrist"}, {"wrist", "base", "other"}):
        encoders = dict.fromkeys(some, SIGHT)
        model = ModelConfig("CNNModel", (8,), cnn_cfg=encoders)
        network = actor_critic(Continuous(2), model, ModelConfig(), groups)
        with pytest.raises(ValueError, match="images are wrist, base: give one for"):
            network.init(jax.random.key(0), obs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": ("none", "batch")}, "none or layer: a batch norm"),
        ({"norm": ("none",) * 3}, "norm has 3 values, but output_channels has 2"),
        ({"max_pool": (True,) * 3}, "max_pool has 3 values"),
        ({"norm": 3}, "norm = 3: give text or a list"),
        ({"spatial_softmax": "mjlab", "global_pool": "avg"}, "forgets where things"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        CNNConfig(**change)


def test_an_image_that_is_smaller_than_a_kernel_is_refused():
    with pytest.raises(ValueError, match=r"4 x 9 with kernel_size = 5.* leaves noth"):
        CNN(CNNConfig((2,), (5,))).init(jax.random.key(0), jnp.zeros((1, 2, 4, 9)))
