"""Classes of Isaac Lab's own tasks, beside themselves in torch."""

import copy

import jax
import numpy as np
import pytest

pytest.importorskip("rsl_rl", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch
from isaaclab_tasks.contrib.keyboard.agents import models as keyboard
from isaaclab_tasks.contrib.ur10_particle_push.agents import rsl_rl_ppo_cfg as ur10
from random_env import RandomEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from ppo_jax import Continuous
from ppo_jax.rsl_rl import config_from_rsl_rl, params_from_rsl_rl, params_to_rsl_rl
from ppo_jax.rsl_rl.files import load_model, save_model
from ppo_jax.runs.config import parts_of

torch.set_num_threads(1)
N = 6
SHAPES = {"policy": 5, "proprio": 3, "touch": 2}


def random_obs(rng, num=N):
    draw = lambda dim: rng.normal(0.0, 1.0, (num, dim)).astype(np.float32)
    return {name: draw(dim) for name, dim in SHAPES.items()}


def path_of(cls):
    return f"{cls.__module__}:{cls.__qualname__}"


def settings(shares=True):
    touch = {"hidden_dims": [4, -1], "latent_dim": 3, "activation": "elu"}
    model = {
        "class_name": path_of(keyboard.SharedEncoderMLPModel),
        "hidden_dims": [8],
        "obs_normalization": True,
        "encoder_cfg": {
            "touch": touch | {"last_activation": "tanh"},
            "policy": {"hidden_dims": [6], "latent_dim": 2},
        },
    }
    # the order is that of the groups, not that of the encoders
    groups = ["policy", "proprio", "touch"]
    kind = path_of(keyboard.SharedEncoderPPO) if shares else "PPO"
    return {
        "num_steps_per_env": 4,
        "save_interval": 100,
        "obs_groups": {"actor": groups, "critic": groups},
        "actor": model | {"distribution_cfg": {"class_name": "GaussianDistribution"}},
        "critic": model,
        "algorithm": {"class_name": kind, "num_mini_batches": 2, "max_grad_norm": 0.3},
    }


@pytest.mark.parametrize("shares", [True, False])
def test_encoders_of_the_keyboard_task_move_in_both_directions(tmp_path, shares):
    cfg = settings(shares)
    runner = OnPolicyRunner(
        RandomEnv(random_obs, N, 3), copy.deepcopy(cfg), log_dir=None
    )
    runner.learn(2)
    runner.save(str(tmp_path / "model_1.pt"))
    config = config_from_rsl_rl(cfg, num_envs=N)
    assert config.algorithm.share_cnn_encoders is shares
    state = load_model(tmp_path / "model_1.pt", config)
    network, *_ = parts_of(config, Continuous(3))
    assert network.shared == (("encoders",) if shares else ())
    start = jax.eval_shape(network.init, jax.random.key(0), random_obs(runner.env.rng))
    assert jax.tree.structure(start[0]) == jax.tree.structure(state.params)

    obs = random_obs(np.random.default_rng(1), 20)
    inputs = network.prepare(state.obs_stats, obs)
    tensors = TensorDict(obs, [20])
    with torch.inference_mode():
        runner.alg.eval_mode()
        mean, value = runner.alg.actor(tensors), runner.alg.critic(tensors)[:, 0]
    policy = network.policy(state.params, inputs)
    pairs = [(policy.mode(), mean), (network.value(state.params, inputs), value)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)

    save_model(tmp_path / "again.pt", config, state)
    wanted, actual = (torch.load(tmp_path / x) for x in ("model_1.pt", "again.pt"))
    for part in ("actor_state_dict", "critic_state_dict", "optimizer_state_dict"):
        torch.testing.assert_close(actual[part], wanted[part])
        assert list(actual[part]) == list(wanted[part])


def test_the_std_of_the_ur10_is_smooth_between_its_bounds():
    cls = ur10.UR10ParticlePushGaussianDistribution
    given = {"class_name": path_of(cls), "std_range": (0.2, 0.5), "init_std": 0.3}
    theirs = cls(3, std_range=(0.2, 0.5), init_std=0.3)
    actor = {"distribution_cfg": given, "hidden_dims": [4]}
    config = config_from_rsl_rl({"actor": actor, "critic": {"hidden_dims": [4]}})
    network, *_ = parts_of(config, Continuous(3))
    obs = {"policy": np.zeros((2, 5), np.float32)}
    params, stats = network.init(jax.random.key(0), obs)
    spread = params["actor"]["head"]["spread"]
    np.testing.assert_allclose(spread, theirs.std_param.detach(), rtol=1e-6)

    state, critic = params_to_rsl_rl(config, params, stats)
    with torch.no_grad():
        theirs.std_param.copy_(torch.tensor([-9.0, 0.4, 9.0]))
    state |= {f"distribution.{k}": x.numpy() for k, x in theirs.state_dict().items()}
    params, stats = params_from_rsl_rl(config, state, critic)
    theirs.update(torch.zeros(2, 3))
    std = network.policy(params, network.prepare(stats, obs)).spread()
    np.testing.assert_allclose(std, theirs.std.detach(), rtol=1e-6)


def test_what_the_ur10_does_not_say_is_as_its_class_has_it():
    cls = ur10.UR10ParticlePushGaussianDistribution
    actor = {"distribution_cfg": {"class_name": cls}}
    config = config_from_rsl_rl({"actor": actor, "critic": {}})
    spread, theirs = config.actor.distribution_cfg, cls(1)
    assert (spread.std_type, spread.init_std) == ("sigmoid", 0.6)
    assert spread.std_range == theirs.std_range
