"""Encoders that actor and critic share, beside rsl_rl itself: files and steps."""

import copy

import jax
import numpy as np
import pytest

pytest.importorskip("rsl_rl", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch
from random_env import RandomEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from ppo_jax import Continuous
from ppo_jax.learning.shared_parts import clip_twice, descend_twice
from ppo_jax.rsl_rl import config_from_rsl_rl, params_to_rsl_rl
from ppo_jax.rsl_rl.files import load_model, save_model
from ppo_jax.runs.config import parts_of

torch.set_num_threads(1)

N = 6
SHAPES = {"policy": (5,), "wrist": (2, 8, 7), "base": (1, 6, 6)}
SIGHT = {
    "output_channels": [3, 2],
    "kernel_size": 3,
    "stride": [2, 1],
    "padding": "zeros",
    "norm": "layer",
    "activation": "tanh",
}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 0.5}


def random_obs(rng, num=N):
    draw = lambda shape: rng.normal(0.0, 1.0, (num, *shape)).astype(np.float32)
    return {name: draw(shape) for name, shape in SHAPES.items()}


def settings(optimizer="adam", shares=True):
    model = {"class_name": "CNNModel", "obs_normalization": True, "cnn_cfg": SIGHT}
    # two images, in another order than that of the alphabet, and of each other
    return {
        "num_steps_per_env": 4,
        "save_interval": 100,
        "obs_groups": {
            "actor": ["wrist", "policy", "base"],
            "critic": ["base", "wrist", "policy"],
        },
        "actor": model | {"hidden_dims": [8], "distribution_cfg": GAUSSIAN},
        "critic": model | {"hidden_dims": [7]},
        "algorithm": {
            "class_name": "PPO",
            "num_mini_batches": 2,
            "num_learning_epochs": 2,
            "optimizer": optimizer,
            "max_grad_norm": 0.3,
            "share_cnn_encoders": shares,
        },
    }


@pytest.fixture(scope="module", params=["adam", "adamw", "rmsprop", "sgd"])
def trained(request, tmp_path_factory):
    """A runner of rsl_rl after two iterations, its file, and its configuration here."""
    cfg = settings(request.param)
    torch.manual_seed(1)
    runner = OnPolicyRunner(
        RandomEnv(random_obs, N, 3), copy.deepcopy(cfg), log_dir=None
    )
    runner.learn(2)
    path = tmp_path_factory.mktemp(request.param) / "model_1.pt"
    runner.save(str(path))
    cfg["algorithm"]["shared_encoder_updates"] = "twice"
    return runner, path, config_from_rsl_rl(cfg, num_envs=N)


def network_of(config):
    return parts_of(config, Continuous(3))[0]


def test_a_file_makes_the_round_trip(trained, tmp_path):
    """Weights once, the optimizer's memory of all, its count of what moves twice."""
    _, path, config = trained
    save_model(tmp_path / "again.pt", config, load_model(path, config))
    wanted, actual = torch.load(path), torch.load(tmp_path / "again.pt")
    for model in ("actor_state_dict", "critic_state_dict"):
        assert list(actual[model]) == list(wanted[model])
        torch.testing.assert_close(actual[model], wanted[model])
    theirs, ours = (x["optimizer_state_dict"] for x in (wanted, actual))
    assert ours["param_groups"][0]["params"] == theirs["param_groups"][0]["params"]
    memory = {k: x for k, x in theirs["state"].items() if any(x.values())}
    assert ours["state"].keys() == memory.keys()
    for number, kept in memory.items():
        torch.testing.assert_close(ours["state"][number], kept)


def test_policy_and_value_are_those_of_rsl_rl(trained):
    runner, path, config = trained
    state, network = load_model(path, config), network_of(config)
    obs = random_obs(np.random.default_rng(1), 20)
    inputs = network.prepare(state.obs_stats, obs)
    tensors = TensorDict(obs, [20])
    with torch.inference_mode():
        runner.alg.eval_mode()
        mean, value = runner.alg.actor(tensors), runner.alg.critic(tensors)[:, 0]
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(
        network.policy(state.params, inputs).mode(), mean, **close
    )
    np.testing.assert_allclose(network.value(state.params, inputs), value, **close)


def test_the_next_step_is_that_of_rsl_rl(trained):
    """Clipped with both norms, then moved twice; the memory counts."""
    runner, path, config = trained
    state, shared = load_model(path, config), network_of(config).shared
    rng = np.random.default_rng(3)
    draw = lambda x: np.float32(rng.normal(0.0, 0.1, x.shape))
    gradients = jax.tree.map(draw, state.params)
    no_stats = {"actor": (), "critic": ()}
    models = (runner.alg.actor, runner.alg.critic)
    weights = copy.deepcopy([parameters(model) for model in models])
    optimizer = copy.deepcopy(runner.alg.optimizer.state_dict())
    for model, values in zip(
        models, params_to_rsl_rl(config, gradients, no_stats), strict=True
    ):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.tensor(values[name])
    norms = [
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3) for model in models
    ]
    runner.alg.optimizer.step()

    gradients, ours = clip_twice(shared, gradients, 0.3)
    np.testing.assert_allclose(list(ours.values()), norms, rtol=1e-5)
    params, _ = descend_twice(
        shared,
        config.algorithm,
        state.opt_state,
        state.params,
        gradients,
        state.learning_rate,
    )
    for model, values in zip(
        models, params_to_rsl_rl(config, params, no_stats), strict=True
    ):
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(
                values[name], parameter.detach(), rtol=1e-5, atol=2e-6, err_msg=name
            )
    # as it was, for whoever comes next
    runner.alg.optimizer.load_state_dict(optimizer)
    for model, saved in zip(models, weights, strict=True):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(saved[name])


def parameters(model):
    return {name: x.detach() for name, x in model.named_parameters()}


def test_rsl_rl_trains_on_from_here(trained, tmp_path):
    _, path, config = trained
    save_model(tmp_path / "model_1.pt", config, load_model(path, config))
    cfg = settings(config.algorithm.optimizer)
    runner = OnPolicyRunner(RandomEnv(random_obs, N, 3), cfg, log_dir=None)
    runner.load(str(tmp_path / "model_1.pt"))
    runner.learn(1)


def test_encoders_that_differ_are_not_shared(tmp_path):
    runner = OnPolicyRunner(
        RandomEnv(random_obs, N, 3), settings(shares=False), log_dir=None
    )
    runner.save(str(tmp_path / "model_0.pt"))
    config = config_from_rsl_rl(settings(), num_envs=N)
    with pytest.raises(ValueError, match="'cnns' of the actor and of the critic diff"):
        load_model(tmp_path / "model_0.pt", config)
