"""rsl_rl's state dicts as parameters, and back."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import Continuous, Discrete, RunningStats, actor_critic
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.rsl_rl import params_from_rsl_rl, params_to_rsl_rl
from ppo_jax.runs.config import Config

NUM_OBS, NUM_ACTIONS = 5, 3
HEADS = {
    "scalar": DistributionConfig(std_type="scalar"),
    "log": DistributionConfig(std_type="log", init_std=0.5),
    "hetero": DistributionConfig("HeteroscedasticGaussianDistribution"),
    "beta": DistributionConfig("BetaDistribution", action_range=(-2.0, 2.0)),
}


def config_with(distribution, obs_normalization=True):
    return Config(
        actor=ModelConfig(
            hidden_dims=(8, 6),
            obs_normalization=obs_normalization,
            distribution_cfg=distribution,
        ),
        critic=ModelConfig(hidden_dims=(4,), obs_normalization=obs_normalization),
    )


def torch_layers(rng, *widths):
    """Weights as torch.nn.Sequential names and lays them out: [out, in]."""
    state = {}
    for index, (width, out) in enumerate(pairwise(widths)):
        state[f"mlp.{2 * index}.weight"] = rng.normal(size=(out, width))
        state[f"mlp.{2 * index}.bias"] = rng.normal(size=out)
    return state


def state_dicts(name, seed=0):
    """State dicts of actor and critic as rsl_rl saves them, with random values."""
    rng = np.random.default_rng(seed)
    rows = 2 if name in ("hetero", "beta") else 1
    actor = torch_layers(rng, NUM_OBS, 8, 6, rows * NUM_ACTIONS)
    critic = torch_layers(rng, NUM_OBS, 4, 1)
    if name == "scalar":
        actor["distribution.std_param"] = rng.uniform(0.5, 1.0, NUM_ACTIONS)
    if name == "log":
        actor["distribution.log_std_param"] = rng.normal(size=NUM_ACTIONS)
    for state in (actor, critic):
        var = rng.uniform(0.5, 2.0, (1, NUM_OBS))
        state["obs_normalizer._mean"] = rng.normal(size=(1, NUM_OBS))
        state["obs_normalizer._var"] = var
        state["obs_normalizer._std"] = np.sqrt(var)
        state["obs_normalizer.count"] = np.array(4096)
    as_float32 = lambda x: x if x.dtype == np.int64 else x.astype(np.float32)
    return (
        {key: as_float32(x) for key, x in state.items()} for state in (actor, critic)
    )


@pytest.mark.parametrize("name", HEADS)
def test_state_dicts_make_the_round_trip(name):
    config, (actor, critic) = config_with(HEADS[name]), state_dicts(name)
    params, stats = params_from_rsl_rl(config, actor, critic)
    for written, wanted in zip(
        params_to_rsl_rl(config, params, stats), (actor, critic), strict=True
    ):
        assert written.keys() == wanted.keys()
        for key, value in wanted.items():
            assert written[key].shape == value.shape, key
            assert written[key].dtype == value.dtype, key
            np.testing.assert_allclose(written[key], value, rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("obs_normalization", [True, False])
def test_parameters_make_the_round_trip(name, obs_normalization):
    """And have the structure and types that the network starts with."""
    config = config_with(HEADS[name], obs_normalization)
    network = actor_critic(Continuous(NUM_ACTIONS), config.actor, config.critic)
    obs = {"policy": np.zeros((1, NUM_OBS), np.float32)}
    wanted = jax.eval_shape(network.init, jax.random.key(0), obs)
    rng = np.random.default_rng(0)
    wanted = jax.tree.map(lambda x: np.float32(rng.uniform(0.5, 1, x.shape)), wanted)
    if obs_normalization:
        actor, critic = wanted[1]["actor"], wanted[1]["critic"]
        count, rest = np.float32(300.0), np.zeros(NUM_OBS, np.float32)
        wanted = (
            wanted[0],
            {
                "actor": actor._replace(count=count, mean_rest=rest),
                "critic": critic._replace(count=count, mean_rest=rest),
            },
        )
    actual = params_from_rsl_rl(config, *params_to_rsl_rl(config, *wanted))
    assert jax.tree.structure(actual) == jax.tree.structure(wanted)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_parameters_make_the_round_trip(kind):
    """And are torch's: [gates * H, in], named by layer, after the MLP's."""
    rnn = {"class_name": "RNNModel", "rnn_type": kind, "rnn_hidden_dim": 7}
    config = config_with(HEADS["scalar"])
    config = replace(
        config,
        actor=replace(config.actor, rnn_num_layers=2, **rnn),
        critic=replace(config.critic, **rnn),
    )
    network = actor_critic(Continuous(NUM_ACTIONS), config.actor, config.critic)
    obs = {"policy": jnp.zeros((1, NUM_OBS))}
    params, stats = network.init(jax.random.key(0), obs)
    actor, critic = params_to_rsl_rl(config, params, stats)
    width = {"lstm": 4, "gru": 3}[kind] * 7
    assert [name for name in actor if name.startswith("rnn")] == list(actor)[-8:]
    assert actor["rnn.rnn.weight_ih_l0"].shape == (width, NUM_OBS)
    assert actor["rnn.rnn.weight_ih_l1"].shape == (width, 7)
    assert actor["rnn.rnn.weight_hh_l1"].shape == (width, 7)
    assert actor["mlp.0.weight"].shape == (8, 7)
    read, read_stats = params_from_rsl_rl(config, actor, critic)
    assert jax.tree.structure(read) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, (read, read_stats), (params, stats))

    actor["rnn.rnn.weight_hh_l0"] = actor["rnn.rnn.weight_hh_l0"][:, :3]
    with pytest.raises(ValueError, match="rnn_hidden_dim = 7"):
        params_from_rsl_rl(config, actor, critic)


def softplus(x):
    return np.log1p(np.exp(x))


# From the output rows of the last layer to what the network's distribution holds.
MEANING = {
    "scalar": lambda rows, state: (rows[0], state["distribution.std_param"]),
    "log": lambda rows, state: (rows[0], np.exp(state["distribution.log_std_param"])),
    "hetero": lambda rows, state: (rows[0], np.clip(rows[1], 1e-6, 1e6)),
    "beta": lambda rows, state: (softplus(rows[0]) + 1, softplus(rows[1]) + 1),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_network_computes_what_torch_would(name):
    """W x + b and ELU on (x - mean) / (std + 0.01), in float64."""
    config, (actor, critic) = config_with(HEADS[name]), state_dicts(name)
    obs = np.random.default_rng(1).normal(size=(7, NUM_OBS)).astype(np.float32)
    network = actor_critic(Continuous(NUM_ACTIONS), config.actor, config.critic)
    params, stats = params_from_rsl_rl(config, actor, critic)
    inputs = network.prepare(stats, {"policy": jnp.asarray(obs)})

    def forward(state, num_layers):
        state = {key: np.float64(x) for key, x in state.items()}
        x = obs - state["obs_normalizer._mean"]
        x = x / (state["obs_normalizer._std"] + 0.01)
        for index in range(num_layers):
            x = x @ state[f"mlp.{2 * index}.weight"].T + state[f"mlp.{2 * index}.bias"]
            if index < num_layers - 1:
                x = np.where(x > 0, x, np.expm1(x))
        return x

    rows = forward(actor, 3).reshape(7, -1, NUM_ACTIONS).swapaxes(0, 1)
    policy = jax.jit(network.policy)(params, inputs)
    for x, wanted in zip(policy[:2], MEANING[name](rows, actor), strict=True):
        wanted = np.broadcast_to(wanted, x.shape)
        np.testing.assert_allclose(x, wanted, rtol=1e-4, atol=1e-5)
    value = jax.jit(network.value)(params, inputs)
    np.testing.assert_allclose(value, forward(critic, 2)[:, 0], rtol=1e-4, atol=1e-5)


def test_statistics_are_read():
    config, (actor, critic) = config_with(HEADS["scalar"]), state_dicts("scalar")
    _, stats = params_from_rsl_rl(config, actor, critic)
    assert isinstance(stats["actor"], RunningStats)
    np.testing.assert_array_equal(stats["actor"].mean, actor["obs_normalizer._mean"][0])
    np.testing.assert_array_equal(stats["critic"].var, critic["obs_normalizer._var"][0])
    assert stats["critic"].count == 4096


@pytest.mark.parametrize(
    "entry", ["mlp.2.bias", "distribution.std_param", "mlp.4.weight"]
)
def test_a_missing_entry_is_named(entry):
    actor, critic = state_dicts("scalar")
    del actor[entry]
    with pytest.raises(ValueError, match=f"has no '{entry}': was it saved by another"):
        params_from_rsl_rl(config_with(HEADS["scalar"]), actor, critic)


def test_an_entry_too_many_is_named():
    actor, critic = state_dicts("scalar")
    critic["mlp.4.weight"] = np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match=r"holds 'mlp.4.weight', not used here"):
        params_from_rsl_rl(config_with(HEADS["scalar"]), actor, critic)


def test_statistics_that_the_configuration_does_not_want_are_left_over():
    config = config_with(HEADS["scalar"], obs_normalization=False)
    with pytest.raises(ValueError, match="holds 'obs_normalizer"):
        params_from_rsl_rl(config, *state_dicts("scalar"))


def test_state_dicts_are_not_changed():
    actor, critic = state_dicts("scalar")
    keys = set(actor), set(critic)
    params_from_rsl_rl(config_with(HEADS["scalar"]), actor, critic)
    assert (set(actor), set(critic)) == keys


@pytest.mark.parametrize(
    ("model", "hidden_dims", "message"),
    [
        ("actor", (8, 16), r"'mlp.2.weight' of the actor .*\[6, 8\].* \[16, 8\] with"),
        ("actor", (9, 6), r"'mlp.0.weight' of the actor .*\[8, 5\].* \[9, 5\] with"),
        ("actor", (-1, 6), r"'mlp.0.weight' of the actor .*\[8, 5\].* \[5, 5\] with"),
        ("critic", (5,), r"'mlp.0.weight' of the critic .*critic.hidden_dims = \[5\]"),
    ],
)
def test_another_width_is_named_with_both_shapes(model, hidden_dims, message):
    """[8, 6] and [4] were saved, with 5 observations and 3 actions."""
    config = config_with(HEADS["scalar"])
    model_config = replace(getattr(config, model), hidden_dims=hidden_dims)
    config = replace(config, **{model: model_config})
    with pytest.raises(ValueError, match=message):
        params_from_rsl_rl(config, *state_dicts("scalar"))


@pytest.mark.parametrize(
    ("entry", "shape", "message"),
    [
        ("mlp.0.bias", 7, r"'mlp.0.bias' of the actor .*\[7\] .* \[8\] with"),
        ("mlp.4.weight", (3, 7), r"'mlp.4.weight' .*\[3, 7\] .* \[any, 6\] with"),
        ("distribution.std_param", 4, r"'distribution.std_param' .*\[4\] .* \[3\] "),
        ("obs_normalizer._var", (1, 4), r"'obs_normalizer._var' .*\[1, 4\].*\[1, 5\]"),
        ("mlp.0.weight", 4, r"'mlp.0.weight' .*\[4\] .* \[8, 4\] with"),
    ],
)
def test_entries_that_do_not_fit_together_are_named(entry, shape, message):
    actor, critic = state_dicts("scalar")
    actor[entry] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=message):
        params_from_rsl_rl(config_with(HEADS["scalar"]), actor, critic)


def test_a_critic_has_one_output():
    actor, critic = state_dicts("scalar")
    critic["mlp.2.weight"] = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"'mlp.2.weight' .*\[2, 4\] .* \[1, 4\] with"):
        params_from_rsl_rl(config_with(HEADS["scalar"]), actor, critic)


def test_two_rows_need_an_even_number_of_outputs():
    actor, critic = state_dicts("beta")
    actor["mlp.4.weight"] = actor["mlp.4.weight"][:5]
    actor["mlp.4.bias"] = actor["mlp.4.bias"][:5]
    with pytest.raises(ValueError, match=r"5 outputs .* BetaDistribution has 2"):
        params_from_rsl_rl(config_with(HEADS["beta"]), actor, critic)


def test_a_hidden_layer_may_be_as_wide_as_the_input():
    actor, critic = state_dicts("scalar")
    config = config_with(HEADS["scalar"])
    config = replace(config, actor=replace(config.actor, hidden_dims=(-1, 6)))
    rng = np.random.default_rng(0)
    actor |= torch_layers(rng, NUM_OBS, NUM_OBS, 6, NUM_ACTIONS)
    params, _ = params_from_rsl_rl(config, actor, critic)
    assert params["actor"]["mlp"]["layer_0"]["kernel"].shape == (NUM_OBS, NUM_OBS)


def test_discrete_actions_are_not_written():
    config = Config(task="Maze")
    network = actor_critic(Discrete(3), config.actor, config.critic)
    obs = {"policy": np.zeros((1, NUM_OBS), np.float32)}
    params, stats = network.init(jax.random.key(0), obs)
    with pytest.raises(ValueError, match="policy of Maze has discrete actions"):
        params_to_rsl_rl(config, params, stats)
