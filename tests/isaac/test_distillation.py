"""rsl_rl's own Distillation, beside ours: the same rollouts, three iterations."""

import copy
from functools import partial

import numpy as np
import pytest

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")

import jax
import jax.numpy as jnp
import torch
from rsl_rl.algorithms import Distillation
from tensordict import TensorDict

from ppo_jax import Continuous, Rollout, Transition
from ppo_jax.learning.distillation import make_distillation
from ppo_jax.policies.memory import forget
from ppo_jax.rsl_rl import config_from_rsl_rl
from ppo_jax.rsl_rl.student_files import save_distillation
from ppo_jax.rsl_rl.weights import policy_from_rsl_rl, policy_to_rsl_rl
from ppo_jax.runs.config import hyperparams
from ppo_jax.runs.students import networks_of

N, A, T, ITERATIONS = 6, 2, 7, 3
WIDTHS = {"policy": 4, "critic": 3}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 0.1}
MLP = {
    "class_name": "MLPModel",
    "hidden_dims": [8],
    "activation": "elu",
    "obs_normalization": True,
    "distribution_cfg": GAUSSIAN,
}
LSTM = MLP | {"class_name": "RNNModel", "rnn_type": "lstm", "rnn_hidden_dim": 5}
GRU = LSTM | {"rnn_type": "gru", "rnn_num_layers": 2}
ADAMW = {"optimizer": "adamw", "learning_rate": 0.05, "gradient_length": 2}


class Described:
    """What rsl_rl asks an environment for."""

    num_envs, num_actions = N, A


def runner(student=MLP, teacher=MLP, **algorithm):
    defaults = {"num_learning_epochs": 2, "gradient_length": 4, "learning_rate": 0.01}
    return {
        "class_name": "DistillationRunner",
        "num_steps_per_env": T,
        "obs_groups": {"student": ["policy"], "teacher": ["policy", "critic"]},
        "student": student,
        "teacher": teacher,
        "algorithm": {"class_name": "Distillation", **defaults, **algorithm},
    }


def states_of(model):
    return {name: x.detach().numpy() for name, x in model.state_dict().items()}


@pytest.mark.parametrize(
    "cfg",
    [
        pytest.param(runner(loss_type="huber", gradient_length=5), id="huber"),
        pytest.param(runner(max_grad_norm=0.05, **ADAMW), id="adamw-clipped"),
        pytest.param(
            runner(
                MLP | {"distribution_cfg": {"class_name": "BetaDistribution"}},
                optimizer="rmsprop",
                gradient_length=14,
            ),
            id="beta-rmsprop",
        ),
        pytest.param(
            runner(
                MLP
                | {
                    "distribution_cfg": GAUSSIAN
                    | {"class_name": "HeteroscedasticGaussianDistribution"}
                },
                **ADAMW,
            ),
            id="heteroscedastic",
        ),
        pytest.param(runner(LSTM, GRU, optimizer="sgd"), id="lstm-from-gru"),
        pytest.param(runner(GRU, MLP, gradient_length=3), id="gru"),
        pytest.param(runner(MLP, LSTM, num_learning_epochs=1), id="from-lstm"),
    ],
)
def test_three_iterations_are_those_of_rsl_rl(cfg):
    """The count of steps runs on over both passes, and seldom divides them."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(ITERATIONS, T + 1, N, 7)).astype(np.float32)
    done = rng.random((ITERATIONS, T, N)) < 0.2
    theirs = Distillation.construct_algorithm(
        tensors(obs[0, 0]),
        Described(),
        copy.deepcopy(cfg) | {"multi_gpu": None},
        "cpu",
    )
    config = config_from_rsl_rl(copy.deepcopy(cfg), num_envs=N)
    algorithm, ours, state = start(config, theirs, obs[0, 0])
    carry = ours.initial_carry(arrays(obs[0, 0]))
    act = jax.jit(partial(rollout_of, ours))
    learn = jax.jit(ours.update_with_memory or ours.update)
    for iteration in range(ITERATIONS):
        losses, asked = update_theirs(theirs, obs[iteration], done[iteration])
        rollout = act(state, arrays(obs[iteration]), done[iteration], carry)
        np.testing.assert_allclose(rollout.steps.target, asked, atol=2e-6)
        state, *memory, metrics = learn(
            state, hyperparams(algorithm), rollout, jax.random.key(0)
        )
        carry = memory[0] if memory else ()
        np.testing.assert_allclose(
            metrics["behavior_loss"], losses["behavior"], rtol=1e-5
        )
        written = policy_to_rsl_rl(
            config, "student", state.params["student"], state.obs_stats["student"]
        )
        expected = states_of(theirs.student)
        assert written.keys() == expected.keys()
        for name, x in expected.items():
            np.testing.assert_allclose(written[name], x, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("student", [MLP, LSTM, GRU], ids=["mlp", "lstm", "gru"])
def test_a_file_of_ours_is_loaded_by_rsl_rl(tmp_path, student):
    """Student and teacher act as ours do; rsl_rl goes on from our iteration."""
    torch.manual_seed(0)
    obs = np.random.default_rng(0).normal(size=(N, 7)).astype(np.float32)
    cfg = runner(student)
    config = config_from_rsl_rl(copy.deepcopy(cfg), num_envs=N)
    networks = networks_of(config, Continuous(A), WIDTHS)
    ours = make_distillation(*networks, config.algorithm)
    state = ours.init(jax.random.key(3), arrays(obs), hyperparams(config.algorithm))
    rng = np.random.default_rng(1)
    nudge = lambda x: x + rng.uniform(0.1, 0.5, x.shape).astype(x.dtype)
    state = state._replace(
        obs_stats=jax.tree.map(nudge, state.obs_stats), iteration=jnp.int32(8)
    )
    save_distillation(tmp_path / "model_7.pt", config, state)

    theirs = Distillation.construct_algorithm(
        tensors(obs), Described(), copy.deepcopy(cfg) | {"multi_gpu": None}, "cpu"
    )
    first = {name: x.copy() for name, x in states_of(theirs.student).items()}
    saved = torch.load(tmp_path / "model_7.pt", weights_only=True)
    assert theirs.load(saved, None, strict=True) and theirs.teacher_loaded
    assert saved["iter"] == 7
    read = states_of(theirs.student)
    changed = {name for name, x in read.items() if (x != first[name]).any()}
    assert {name for name in first if name.endswith("weight")} <= changed
    theirs.train_mode()
    with torch.no_grad():
        acted = theirs.student(tensors(obs))
        taught = theirs.teacher(tensors(obs))
    carry = ours.initial_carry(arrays(obs))
    mean, _ = ours.play(state, arrays(obs), carry)
    np.testing.assert_allclose(acted, mean, atol=2e-6)
    target = ours.act(state, arrays(obs), jax.random.key(0), carry).target
    np.testing.assert_allclose(taught, target, atol=2e-6)


def start(config, theirs, first_obs):
    """Our functions, and the state with their first weights."""
    from dataclasses import replace

    algorithm = replace(config.algorithm, rsl_rl_memory=True)
    networks = networks_of(config, Continuous(A), WIDTHS)
    ours = make_distillation(*networks, algorithm)
    state = ours.init(jax.random.key(0), arrays(first_obs), hyperparams(algorithm))
    read = {
        name: policy_from_rsl_rl(config, name, states_of(getattr(theirs, name)))
        for name in ("student", "teacher")
    }
    assert jax.tree.structure(state.params) == jax.tree.structure(
        {name: params for name, (params, _) in read.items()}
    )
    return (
        algorithm,
        ours,
        state._replace(
            params={name: params for name, (params, _) in read.items()},
            obs_stats={name: stats for name, (_, stats) in read.items()},
        ),
    )


def update_theirs(theirs, obs, done):
    """Their losses, and what their teacher did, [T, N, A]."""
    theirs.train_mode()
    with torch.inference_mode():
        for step in range(T):
            theirs.act(tensors(obs[step]))
            theirs.process_env_step(
                tensors(obs[step + 1]),
                torch.zeros(N),
                torch.tensor(done[step]).byte(),
                {},
            )
    asked = theirs.storage.privileged_actions.numpy().copy()
    return theirs.update(), asked


def rollout_of(ours, state, obs, done, carry):
    def step(carry, x):
        obs, done = x
        output = ours.act(state, obs, jax.random.key(0), carry)
        kept = Transition(
            obs,
            output.action,
            output.log_prob,
            output.distribution,
            jnp.zeros(N),
            done,
            jnp.zeros_like(done),
            (),
            output.target,
        )
        return forget(output.carry, done), kept

    before = jax.tree.map(lambda x: x[:T], obs)
    _, steps = jax.lax.scan(step, carry, (before, done))
    return Rollout(steps, jax.tree.map(lambda x: x[T], obs), carry)


def tensors(x):
    return TensorDict(
        {name: torch.tensor(part) for name, part in arrays(x).items()}, batch_size=[N]
    )


def arrays(x):
    return {"policy": x[..., :4], "critic": x[..., 4:]}
