"""Model files between rsl_rl itself and here: the same policy, and training goes on."""

import copy
from types import SimpleNamespace

import jax
import numpy as np
import pytest

pytest.importorskip("rsl_rl", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch
from random_env import RandomEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from ppo_jax import Continuous, actor_critic
from ppo_jax.learning.optimizers import OPTIMIZERS
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.rsl_rl import config_from_rsl_rl, params_to_rsl_rl
from ppo_jax.rsl_rl.files import load_model, save_model
from ppo_jax.runs.config import hyperparams

torch.set_num_threads(1)

NUM_ENVS, NUM_STEPS, NUM_ACTIONS = 6, 4, 3
GROUPS = {"policy": 5, "height": 2}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 0.5}
DISTRIBUTIONS = {
    "scalar": GAUSSIAN | {"std_type": "scalar"},
    "log": GAUSSIAN | {"std_type": "log"},
    "fixed std": GAUSSIAN | {"learn_std": False},
    "hetero": GAUSSIAN | {"class_name": "HeteroscedasticGaussianDistribution"},
    "beta": {"class_name": "BetaDistribution", "action_range": [-2.0, 2.0]},
}


def random_obs(rng, num):
    return {
        name: rng.normal(1.0, 3.0, (num, dim)).astype(np.float32)
        for name, dim in GROUPS.items()
    }


def settings(distribution="scalar", obs_normalization=True, optimizer="adam"):
    """A runner's configuration, as rsl_rl takes it."""
    model = {"class_name": "MLPModel", "obs_normalization": obs_normalization}
    return {
        "num_steps_per_env": NUM_STEPS,
        "save_interval": 100,
        "obs_groups": {"actor": ["policy"], "critic": ["policy", "height"]},
        "actor": model
        | {"hidden_dims": [8, 6], "distribution_cfg": DISTRIBUTIONS[distribution]},
        "critic": model | {"hidden_dims": [7], "activation": "tanh"},
        "algorithm": {
            "class_name": "PPO",
            "num_mini_batches": 2,
            "optimizer": optimizer,
            "learning_rate": 2e-3,
        },
    }


def rsl_rl_runner(cfg, num_iterations=0):
    """rsl_rl's runner after some iterations; it changes its configuration."""
    torch.manual_seed(num_iterations)
    runner = OnPolicyRunner(
        RandomEnv(random_obs, NUM_ENVS, NUM_ACTIONS), copy.deepcopy(cfg), log_dir=None
    )
    if num_iterations:
        runner.learn(num_iterations)
    return runner


def config_of(cfg):
    return config_from_rsl_rl(cfg, num_envs=NUM_ENVS)


def network_of(config):
    space = Continuous(NUM_ACTIONS)
    return actor_critic(space, config.actor, config.critic, config.obs_groups)


def assert_same_behaviour(runner, config, state):
    """Actions, their std and values agree on observations that neither has seen."""
    obs = random_obs(np.random.default_rng(1), 50)
    network = network_of(config)
    inputs = network.prepare(state.obs_stats, obs)
    policy = network.policy(state.params, inputs)
    value = network.value(state.params, inputs)
    tensors = TensorDict({k: torch.tensor(x) for k, x in obs.items()}, [50])
    with torch.inference_mode():
        theirs = runner.get_inference_policy()
        action = theirs(tensors)
        theirs(tensors, stochastic_output=True)
        std = theirs.output_std.expand_as(action)
        their_value = runner.alg.critic(tensors)[:, 0]
    pairs = [(policy.mode(), action), (policy.spread(), std), (value, their_value)]
    for actual, wanted in pairs:
        rounding = 1e-6 * max(1.0, float(wanted.abs().max()))
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=rounding)


def assert_equal(actual, wanted, path=""):
    """Nested dicts and lists hold the same tensors and values."""
    if isinstance(wanted, dict):
        assert list(actual) == list(wanted), path
        for key in wanted:
            assert_equal(actual[key], wanted[key], f"{path}.{key}")
    elif isinstance(wanted, list):
        assert_equal(dict(enumerate(actual)), dict(enumerate(wanted)), path)
    elif isinstance(wanted, torch.Tensor):
        assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape), path
        torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=0, msg=path)
    elif isinstance(wanted, float):
        assert actual == pytest.approx(wanted, rel=1e-6), path
    else:
        assert (type(actual), actual) == (type(wanted), wanted), path


@pytest.mark.parametrize("obs_normalization", [True, False])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_policy_of_rsl_rl_acts_the_same_here(
    tmp_path, distribution, obs_normalization
):
    cfg = settings(distribution, obs_normalization)
    runner = rsl_rl_runner(cfg, num_iterations=3)
    runner.save(tmp_path / "model_2.pt")
    state = load_model(tmp_path / "model_2.pt", config_of(cfg))
    assert_same_behaviour(runner, config_of(cfg), state)
    assert state.iteration == 3
    assert float(state.learning_rate) == pytest.approx(runner.alg.learning_rate)
    assert runner.alg.learning_rate != 2e-3  # it has moved


@pytest.mark.parametrize("obs_normalization", [True, False])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_policy_from_here_acts_the_same_in_rsl_rl(
    tmp_path, distribution, obs_normalization
):
    """And rsl_rl trains on from it, with the learning rate and the optimizer's memory.

    Every weight is random: none is as either library starts.
    """
    cfg = settings(distribution, obs_normalization)
    config, state = config_of(cfg), random_state(config_of(cfg))
    save_model(tmp_path / "run" / "model_41.pt", config, state)
    runner = rsl_rl_runner(cfg)
    runner.load(str(tmp_path / "run" / "model_41.pt"))
    assert_same_behaviour(runner, config, state)
    assert runner.current_learning_iteration == 41
    assert runner.alg.learning_rate == pytest.approx(5e-4)
    before = runner.alg.optimizer.state_dict()["state"][1]["step"].item()
    runner.alg.train_mode()
    runner.learn(1)
    after = runner.alg.optimizer.state_dict()["state"][1]["step"].item()
    assert (before, after) == (77, 77 + 5 * 2)


def random_state(config):
    """A state after 42 iterations, with random numbers in what is learned."""
    ppo = make_ppo(network_of(config), config.algorithm)
    rng = np.random.default_rng(2)
    state = ppo.init(
        jax.random.key(0), random_obs(rng, 1), hyperparams(config.algorithm)
    )
    draw = lambda x: np.float32(rng.uniform(0.3, 0.9, x.shape))
    is_count = lambda x: x.ndim == 0
    randomized = jax.tree.map(
        lambda x: np.asarray(77, x.dtype) if is_count(x) else draw(x), state
    )
    return randomized._replace(learning_rate=np.float32(5e-4), iteration=np.int32(42))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_file_makes_the_round_trip(tmp_path, optimizer):
    """What rsl_rl saved is written again, every tensor and number of it."""
    cfg = settings(optimizer=optimizer)
    rsl_rl_runner(cfg, num_iterations=2).save(tmp_path / "model_1.pt")
    config = config_of(cfg)
    save_model(
        tmp_path / "again.pt", config, load_model(tmp_path / "model_1.pt", config)
    )
    wanted = torch.load(tmp_path / "model_1.pt")
    actual = torch.load(tmp_path / "again.pt")
    if optimizer == "sgd":  # torch may keep an empty place for the momentum
        states = wanted["optimizer_state_dict"]["state"].values()
        assert not any(any(state.values()) for state in states)
        wanted["optimizer_state_dict"]["state"] = {}
    assert_equal(actual, wanted)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_the_next_step_of_the_optimizer_is_the_same(tmp_path, optimizer):
    """With the gradients that torch has; the memory counts, it is not a first step."""
    cfg = settings(optimizer=optimizer)
    runner, config = rsl_rl_runner(cfg, num_iterations=2), config_of(cfg)
    runner.save(tmp_path / "model_1.pt")
    state = load_model(tmp_path / "model_1.pt", config)

    rng = np.random.default_rng(3)
    gradients = jax.tree.map(
        lambda x: np.float32(rng.normal(0.0, 0.1, x.shape)), state.params
    )
    direction, _ = OPTIMIZERS[optimizer]().update(
        gradients, state.opt_state, state.params
    )
    params = jax.tree.map(
        lambda p, d: p - state.learning_rate * d, state.params, direction
    )

    models = (runner.alg.actor, runner.alg.critic)
    no_stats = {"actor": (), "critic": ()}
    for model, values in zip(
        models, params_to_rsl_rl(config, gradients, no_stats), strict=True
    ):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.tensor(values[name])
    runner.alg.optimizer.step()
    for model, values in zip(
        models, params_to_rsl_rl(config, params, no_stats), strict=True
    ):
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(
                values[name], parameter.detach(), rtol=1e-5, atol=1e-6, err_msg=name
            )


def test_a_state_that_was_never_trained_can_be_saved(tmp_path):
    cfg = settings()
    config = config_of(cfg)
    ppo = make_ppo(network_of(config), config.algorithm)
    obs = random_obs(np.random.default_rng(0), 1)
    state = ppo.init(jax.random.key(0), obs, hyperparams(config.algorithm))
    save_model(tmp_path / "model_0.pt", config, state)
    runner = rsl_rl_runner(cfg)
    runner.load(str(tmp_path / "model_0.pt"))
    assert_same_behaviour(runner, config, state)
    runner.learn(1)


# --- what cannot be read


def test_another_configuration_is_named(tmp_path):
    path = tmp_path / "model_1.pt"
    rsl_rl_runner(settings(), num_iterations=1).save(path)
    cfg = settings()
    cfg["actor"]["hidden_dims"] = [8, 16]
    wrong_width = r"'mlp.2.weight' of the actor has the shape \[6, 8\].* \[16, 8\] with"
    with pytest.raises(ValueError, match=f"{path}: {wrong_width}"):
        load_model(path, config_of(cfg))
    with pytest.raises(ValueError, match=r"no 'distribution.log_std_param'"):
        load_model(path, config_of(settings("log")))
    with pytest.raises(ValueError, match=r"holds 'obs_normalizer._mean', not"):
        load_model(path, config_of(settings(obs_normalization=False)))
    for other in ("sgd", "rmsprop"):
        with pytest.raises(ValueError, match=f"optimizer = '{other}', but the model"):
            load_model(path, config_of(settings(optimizer=other)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no file of torch"),
        (b"hello", "is no file of torch"),
        ({"a": 1}, "is no model.*: it has no 'actor_state_dict'"),
        ([1], "is no model.* it has no 'actor_state_dict'"),
        ({"student_state_dict": {}}, "it has no 'actor_state_dict'"),
        ({"model_state_dict": {}}, "saved by rsl_rl before version 4"),
        ({"actor_state_dict": SimpleNamespace()}, "is no model.* tensors only"),
    ],
)
def test_another_file_is_refused(tmp_path, content, message):
    path = tmp_path / "model_1.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message) as error:
        load_model(path, config_of(settings()))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_exported_policy_is_refused(tmp_path):
    """play.py of Isaac Lab writes `policy.pt`: a program, without critic."""
    rsl_rl_runner(settings()).export_policy_to_jit(str(tmp_path), "policy.pt")
    with pytest.raises(ValueError, match=r"policy.pt: it is an exported policy: give"):
        load_model(tmp_path / "policy.pt", config_of(settings()))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=f"{tmp_path}/model_9.pt: there is no such file"
    ):
        load_model(tmp_path / "model_9.pt", config_of(settings()))
