"""Networks as torch starts them, distribution heads, and observation groups."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from ppo_jax import (
    Categorical,
    Continuous,
    Discrete,
    DistributionConfig,
    Gaussian,
    ModelConfig,
    actor_critic,
    from_modules,
    init_stats,
    normalize,
)
from ppo_jax.policies.activations import ACTIVATIONS
from ppo_jax.policies.groups import resolve_obs_groups
from ppo_jax.policies.models import ACTIVATION_NAMES
from ppo_jax.policies.precision import in_bfloat16

WIDE = 64
OBS = {"policy": jax.ShapeDtypeStruct((5, WIDE), jnp.float32)}


def observation(seed=0, num_envs=5, dim=WIDE):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_envs, dim)).astype(np.float32)


def actor_with(num_actions=3, hidden_dims=(8,), activation="elu", **distribution):
    """A network whose actor has this distribution, and its initial parameters."""
    config = ModelConfig(
        hidden_dims=hidden_dims,
        activation=activation,
        distribution_cfg=DistributionConfig(**distribution),
    )
    network = actor_critic(
        Continuous(num_actions), config, ModelConfig(hidden_dims=(8,))
    )
    params, _ = network.init(jax.random.key(0), {"policy": observation()})
    return network, params


def policy_of(network, params, x=None):
    x = observation() if x is None else x
    return network.policy(params, {"actor": jnp.asarray(x)})


# --- initial weights


def test_weights_and_biases_start_uniform_within_one_over_sqrt_fan_in():
    """torch's default for every layer; nothing orthogonal, no small last layer."""
    _, params = actor_with(hidden_dims=(WIDE, WIDE))
    for model, widths in [("actor", [WIDE, WIDE, WIDE]), ("critic", [WIDE, 8])]:
        mlp = params[model]["mlp"]
        layers = [mlp[f"layer_{index}"] for index in range(len(widths) - 1)]
        head = params[model]["head"]
        layers.append(head["mean"] if model == "actor" else head)
        for fan_in, layer in zip(widths, layers, strict=True):
            limit = fan_in**-0.5
            for x in layer.values():
                assert np.abs(x).max() <= limit
                if x.size >= 16:  # spread over the whole range, centred
                    assert np.abs(x).max() > 0.8 * limit
                    error = 6 * limit / np.sqrt(3 * x.size)
                    np.testing.assert_allclose(x.mean(), 0.0, atol=error)
                if x.size >= 128:
                    np.testing.assert_allclose(x.std(), limit / 3**0.5, rtol=0.2)
    square = params["actor"]["mlp"]["layer_1"]["kernel"]
    singular = np.linalg.svd(square, compute_uv=False)
    assert singular.max() > 3 * singular.min()


def test_actor_and_critic_start_apart_and_by_the_key():
    model = ModelConfig(hidden_dims=(8,))
    network = actor_critic(Continuous(3), model, model)
    obs = {"policy": observation()}
    params, again, other = (network.init(jax.random.key(k), obs)[0] for k in (0, 0, 1))
    kernel = lambda params, model: params[model]["mlp"]["layer_0"]["kernel"]
    assert not np.array_equal(kernel(params, "actor"), kernel(params, "critic"))
    assert not np.array_equal(kernel(params, "actor"), kernel(other, "actor"))
    np.testing.assert_array_equal(kernel(params, "actor"), kernel(again, "actor"))


def test_all_parameters_are_float32():
    for distribution in ("GaussianDistribution", "BetaDistribution"):
        _, params = actor_with(class_name=distribution)
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))


# --- layers

REFERENCES = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))
    ),
    "relu": lambda x: np.maximum(x, 0),
    "crelu": lambda x: np.maximum(x, 0) + np.minimum(0, np.expm1(x)),  # CELU
    "lrelu": lambda x: np.where(x > 0, x, 0.01 * x),
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "gelu": lambda x: 0.5 * x * (1 + scipy.special.erf(x / 2**0.5)),  # exact
    "swish": lambda x: x * scipy.special.expit(x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "identity": lambda x: x,
}


def test_activations_have_the_names_that_a_configuration_knows():
    assert tuple(ACTIVATIONS) == ACTIVATION_NAMES


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_torch(name):
    x = np.linspace(-4.0, 4.0, 33)
    actual = ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(actual, REFERENCES[name](x), rtol=1e-5, atol=1e-6)


def test_slope_of_elu_is_one_above_zero_and_the_exponential_below():
    """Also far off, where the exponential of the other branch overflows."""
    x = np.array([-200.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 200.0], np.float32)
    slope = jax.vmap(jax.grad(ACTIVATIONS["elu"]))(jnp.asarray(x))
    np.testing.assert_allclose(slope, np.exp(np.minimum(x, 0)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("activation", ["elu", "ELU", "Tanh"])
def test_the_network_is_its_formula(activation):
    """x W + b, activation, x W + b in float64; the name's case does not matter."""
    network, params = actor_with(hidden_dims=(8, 8), activation=activation)
    x, actor = np.float64(observation()), jax.tree.map(np.float64, params["actor"])
    for index in range(2):
        layer = actor["mlp"][f"layer_{index}"]
        x = REFERENCES[activation.lower()](x @ layer["kernel"] + layer["bias"])
    mean = x @ actor["head"]["mean"]["kernel"] + actor["head"]["mean"]["bias"]
    np.testing.assert_allclose(
        policy_of(network, params).mean, mean, rtol=1e-5, atol=1e-6
    )


def test_width_minus_one_is_the_width_of_the_input():
    config = ModelConfig(hidden_dims=(-1, 16, -1))
    network = actor_critic(Continuous(2), config, config)
    params, _ = jax.eval_shape(network.init, jax.random.key(0), OBS)
    shapes = [params["critic"]["mlp"][f"layer_{i}"]["kernel"].shape for i in range(3)]
    assert shapes == [(WIDE, WIDE), (WIDE, 16), (16, WIDE)]
    assert params["critic"]["head"]["kernel"].shape == (WIDE, 1)


@pytest.mark.parametrize("hidden_dims", [(), (0,), (8, -2)])
def test_impossible_widths_are_refused(hidden_dims):
    with pytest.raises(ValueError, match="hidden_dims"):
        ModelConfig(hidden_dims=hidden_dims)


def test_an_unknown_activation_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'lrelu'"):
        ModelConfig(activation="leakyrelu")


def test_value_has_one_number_per_observation():
    network, params = actor_with()
    x = jnp.asarray(observation()).reshape(1, 5, WIDE)
    assert network.value(params, {"critic": x}).shape == (1, 5)


def test_every_leading_axis_is_a_batch():
    network, params = actor_with()
    x = observation(num_envs=6)
    flat = policy_of(network, params, x)
    block = policy_of(network, params, x.reshape(2, 3, WIDE))
    assert block.mean.shape == block.std.shape == (2, 3, 3)
    np.testing.assert_allclose(block.mean.reshape(6, 3), flat.mean, rtol=1e-5)


# --- distribution heads


@pytest.mark.parametrize(
    ("std_type", "parameter"),
    [("scalar", 0.3), ("log", -1.203973), ("sigmoid", np.log(0.1 / 0.2))],
)
def test_std_is_learned_as_itself_or_as_its_logarithm(std_type, parameter):
    limits = (0.2, 0.5) if std_type == "sigmoid" else (1e-6, 1e6)
    network, params = actor_with(std_type=std_type, init_std=0.3, std_range=limits)
    np.testing.assert_allclose(params["actor"]["head"]["spread"], parameter, rtol=1e-6)
    np.testing.assert_allclose(policy_of(network, params).std, 0.3, rtol=1e-6)
    params["actor"]["head"]["spread"] += 0.1
    expected = {
        "scalar": 0.4,
        "log": 0.3 * np.exp(0.1),
        "sigmoid": 0.2 + 0.3 / (1.0 + 2.0 * np.exp(-0.1)),
    }[std_type]
    np.testing.assert_allclose(policy_of(network, params).std, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("std_type", ["scalar", "log"])
def test_std_stays_in_its_range_with_the_gradient_of_torch(maybe_jit, std_type):
    """0 outside the range, but not on its limits, where `jax.lax.clamp` has 0."""
    network, params = actor_with(
        num_actions=5, std_type=std_type, std_range=(0.25, 2.0)
    )
    wanted = np.array([0.1, 0.25, 1.0, 2.0, 3.0], np.float32)
    raw = wanted if std_type == "scalar" else np.log(wanted)

    def total(raw):
        head = params["actor"]["head"] | {"spread": raw}
        actor = params["actor"] | {"head": head}
        std = policy_of(network, params | {"actor": actor}, observation(num_envs=1)).std
        return std.sum(), std[0]

    gradient, std = maybe_jit(jax.grad(total, has_aux=True))(jnp.asarray(raw))
    np.testing.assert_allclose(std, [0.25, 0.25, 1.0, 2.0, 2.0], rtol=1e-6)
    slope = 1.0 if std_type == "scalar" else wanted  # of exp, on the logarithm
    np.testing.assert_allclose(gradient, slope * np.array([0, 1, 1, 1, 0]), rtol=1e-6)


@pytest.mark.parametrize("std_type", ["scalar", "log"])
def test_std_is_at_least_a_millionth(std_type):
    network, params = actor_with(std_type=std_type, std_range=(0.0, 1.0))
    params["actor"]["head"]["spread"] -= 50.0
    np.testing.assert_allclose(policy_of(network, params).std, 1e-6, rtol=1e-4)


@pytest.mark.parametrize("learn_std", [True, False])
def test_a_std_that_is_not_learned_has_no_gradient(learn_std):
    network, params = actor_with(learn_std=learn_std)
    log_prob = lambda params: (
        policy_of(network, params).log_prob(jnp.ones((5, 3))).sum()
    )
    gradient = jax.jit(jax.grad(log_prob))(params)["actor"]["head"]
    assert (np.any(gradient["spread"] != 0.0)) == learn_std
    assert (gradient["mean"]["kernel"] != 0.0).all()


@pytest.mark.parametrize("std_type", ["scalar", "log"])
def test_a_std_of_the_observation_starts_as_a_constant(std_type):
    network, params = actor_with(
        class_name="HeteroscedasticGaussianDistribution",
        init_std=0.5,
        std_type=std_type,
    )
    policy = policy_of(network, params)
    np.testing.assert_allclose(policy.std, 0.5, rtol=1e-6)
    assert np.std(policy.mean, axis=0).min() > 0.0
    bias = {"scalar": 0.5, "log": np.log(0.5)}[std_type]
    spread = params["actor"]["head"]["spread"]
    assert (spread["kernel"] == 0.0).all()
    np.testing.assert_allclose(spread["bias"], bias, rtol=1e-6)
    spread["kernel"] += 0.1
    assert np.std(policy_of(network, params).std, axis=0).min() > 0.0


def test_beta_starts_with_a_constant_beta_above_one():
    network, params = actor_with(
        class_name="BetaDistribution", action_range=(-2.0, 3.0)
    )
    policy = policy_of(network, params)
    np.testing.assert_allclose(policy.beta, 1 + np.log(2.0), rtol=1e-6)  # softplus(0)
    assert (policy.alpha > 1.0).all()
    assert np.std(policy.alpha, axis=0).min() > 0.0
    assert (policy.low == -2.0).all()
    assert (policy.high == 3.0).all()
    params["actor"]["head"]["beta"]["bias"] -= 100.0
    assert (policy_of(network, params).beta >= 1.0).all()


def test_a_discrete_space_gets_logits():
    model = ModelConfig(hidden_dims=(8,))
    network = actor_critic(Discrete(3), model, model)
    obs = {"policy": observation()}
    params, _ = network.init(jax.random.key(0), obs)
    policy = network.policy(params, {"actor": jnp.asarray(obs["policy"])})
    assert isinstance(policy, Categorical)
    assert policy.logits.shape == (5, 3)
    assert policy.sample(jax.random.key(1)).shape == (5,)


# --- observations

GROUPS = {
    "policy": np.array([[1.0, 2.0]], np.float32),
    "critic": np.array([[7.0, 8.0, 9.0]], np.float32),
    "height": np.array([[5.0]], np.float32),
}


@pytest.mark.parametrize(
    ("obs_groups", "actor", "critic"),
    [
        (None, [1, 2], [7, 8, 9]),  # unset: the critic takes the group of its name
        ({"critic": ["policy"]}, [1, 2], [1, 2]),
        ({"actor": ["policy", "height"]}, [1, 2, 5], [7, 8, 9]),
        ({"actor": ["height", "policy"]}, [5, 1, 2], [7, 8, 9]),  # in the order given
        ({"critic": ["critic", "policy", "height"]}, [1, 2], [7, 8, 9, 1, 2, 5]),
    ],
)
def test_groups_are_joined_in_the_order_given(obs_groups, actor, critic):
    network = actor_critic(Continuous(1), obs_groups=obs_groups)
    inputs = network.prepare({"actor": (), "critic": ()}, GROUPS)
    np.testing.assert_array_equal(inputs["actor"], [actor])
    np.testing.assert_array_equal(inputs["critic"], [critic])


@pytest.mark.parametrize(
    ("obs_groups", "available", "expected"),
    [
        ({}, ["policy"], ("policy", "policy")),
        ({}, ["policy", "critic"], ("policy", "critic")),
        ({}, ["policy", "critic", "actor"], ("actor", "critic")),
        ({"critic": ["height"]}, ["policy", "critic", "height"], ("policy", "height")),
    ],
)
def test_a_missing_set_is_the_group_of_its_name_or_policy(
    obs_groups, available, expected
):
    actor, critic = expected
    groups = resolve_obs_groups(obs_groups, available)
    assert groups == {"actor": (actor,), "critic": (critic,)}


@pytest.mark.parametrize(
    ("obs_groups", "available", "message"),
    [
        ({"actor": []}, ["policy"], r"'actor'.*no group at all.*policy"),
        ({"critic": ["camera"]}, ["policy", "height"], r"'camera'.*height, policy"),
        ({}, ["height"], r"'policy'.*observes height"),
        ({"critc": ["policy"]}, ["policy"], r"'critc'.*did you mean 'critic'"),
    ],
)
def test_impossible_groups_are_refused_by_name(obs_groups, available, message):
    with pytest.raises(ValueError, match=message):
        resolve_obs_groups(obs_groups, available)


def test_the_critic_may_see_more_than_the_actor():
    network = actor_critic(Continuous(1))
    params, _ = jax.eval_shape(network.init, jax.random.key(0), GROUPS)
    assert params["actor"]["mlp"]["layer_0"]["kernel"].shape[0] == 2
    assert params["critic"]["mlp"]["layer_0"]["kernel"].shape[0] == 3


@pytest.mark.parametrize("model", ["actor", "critic"])
def test_each_model_has_its_own_normalizer(model):
    on, off = ModelConfig(obs_normalization=True), ModelConfig()
    models = {"actor": off, "critic": off} | {model: on}
    other = "critic" if model == "actor" else "actor"
    network = actor_critic(Continuous(1), **models)
    stats = {"actor": (), "critic": ()} | {
        model: init_stats(2 if model == "actor" else 3)
    }
    shapes = jax.eval_shape(network.init, jax.random.key(0), GROUPS)[1]
    assert jax.tree.structure(shapes) == jax.tree.structure(stats)

    raw = GROUPS["policy"] if model == "actor" else GROUPS["critic"]
    first = network.prepare(stats, GROUPS)
    np.testing.assert_allclose(first[model], raw / 1.01, rtol=1e-6)
    np.testing.assert_array_equal(
        first[other], GROUPS["critic" if model == "actor" else "policy"]
    )
    obs = {name: np.tile(x, (3, 4, 1)) for name, x in GROUPS.items()}  # [T, N, D]
    stats = network.update_stats(stats, obs)
    assert stats[other] == ()
    assert stats[model].count == 12
    np.testing.assert_allclose(network.prepare(stats, GROUPS)[model], 0.0, atol=1e-4)


def test_joined_groups_share_one_normalizer():
    config = ModelConfig(obs_normalization=True)
    groups = {"actor": ["height", "policy"]}
    network = actor_critic(Continuous(1), config, obs_groups=groups)
    stats = {"actor": init_stats(3), "critic": ()}
    stats = network.update_stats(stats, GROUPS)
    np.testing.assert_array_equal(stats["actor"].mean, [5.0, 1.0, 2.0])


# --- mixed precision


def test_bfloat16_products_are_near_float32_and_the_rest_stays():
    network, params = actor_with(hidden_dims=(WIDE, WIDE))
    x, action = jnp.asarray(observation()), jnp.full((5, 3), 0.2)

    def outputs(network, params):
        inputs = {"actor": x, "critic": x}
        log_prob = network.policy(params, inputs).log_prob(action)
        value = network.value(params, inputs)
        return (log_prob + value).sum(), (log_prob, value)

    def both(params):
        gradient = jax.grad(outputs, argnums=1, has_aux=True)
        return gradient(network, params), gradient(in_bfloat16(network), params)

    params["actor"]["head"]["spread"] += 0.3
    std = in_bfloat16(network).policy(params, {"actor": x}).std
    np.testing.assert_allclose(std, 1.3, rtol=1e-6)  # 1.296875 in bfloat16

    exact, near = jax.jit(both)(params)
    for x, y in zip(jax.tree.leaves(near), jax.tree.leaves(exact), strict=True):
        assert x.dtype == jnp.float32
        assert np.linalg.norm(x - y) < 0.05 * np.linalg.norm(y)
    for x, y in zip(near[1], exact[1], strict=True):
        assert not np.array_equal(x, y)


def test_a_distribution_for_discrete_actions_is_refused():
    """It would have no effect: the policy is categorical."""
    model = ModelConfig(distribution_cfg=DistributionConfig(init_std=2.0))
    with pytest.raises(ValueError, match="leave it away"):
        actor_critic(Discrete(3), model)


# --- own modules


class Scale(nn.Module):
    start: float

    @nn.compact
    def __call__(self, x):
        return x * self.param("scale", nn.initializers.constant(self.start), ())


class OwnActor(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Gaussian(Scale(2.0)(x), jnp.ones_like(x))


class OwnCritic(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Scale(3.0)(x).sum(axis=-1)


def test_own_modules_read_their_groups_and_are_normalised_where_asked():
    """mean = 2 obs of the group "policy"; value = 3 sum of the normalised "camera"."""
    groups = {"critic": ["camera"]}
    network = from_modules(OwnActor(), OwnCritic(), groups, ["critic"])
    seen, unseen = observation(0), observation(1)
    obs = {"policy": jnp.asarray(seen), "camera": jnp.asarray(unseen)}
    params, stats = network.init(jax.random.key(0), obs)
    stats = network.update_stats(stats, jax.tree.map(lambda x: x[None], obs))
    assert stats["actor"] == ()
    inputs = network.prepare(stats, obs)
    mean, value = network.policy(params, inputs).mean, network.value(params, inputs)
    np.testing.assert_allclose(mean, 2 * seen, rtol=1e-6)
    wanted = 3 * normalize(stats["critic"], obs["camera"]).sum(axis=-1)
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)
