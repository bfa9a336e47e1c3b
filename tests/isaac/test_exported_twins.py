"""Policies exported by rsl_rl itself and by us: the same interface and actions."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rsl_rl", reason="needs Isaac Lab: uv sync --extra isaaclab")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: uv sync --extra export")

import onnxruntime
import torch
from rsl_rl.models import CNNModel, MLPModel, RNNModel
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from ppo_jax import Continuous, TrainState
from ppo_jax.export import export_policy
from ppo_jax.loops.evaluation import Observed
from ppo_jax.rsl_rl import config_from_rsl_rl, params_from_rsl_rl

torch.set_num_threads(1)

NUM_STEPS, NUM_ACTIONS = 12, 3
SHAPES = {"policy": (5,), "height": (2,), "camera": (3, 10, 8), "depth": (1, 7, 7)}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 0.5}
HIDDEN = {"hidden_dims": [8, 6], "activation": "elu", "obs_normalization": True}
CONV = {"output_channels": [3, 4], "kernel_size": 3, "activation": "elu"}
KINDS = {
    "MLP": (MLPModel, {}, ["height", "policy"]),
    "LSTM": (
        RNNModel,
        {"rnn_type": "lstm", "rnn_hidden_dim": 8, "rnn_num_layers": 2},
        ["policy", "height"],
    ),
    "GRU": (
        RNNModel,
        {"rnn_type": "gru", "rnn_hidden_dim": 8, "rnn_num_layers": 1},
        ["policy"],
    ),
    "CNN": (CNNModel, {"cnn_cfg": CONV}, ["policy", "camera", "depth"]),
    "images": (CNNModel, {"cnn_cfg": CONV}, ["camera"]),
}


def draw(num):
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(1.0, 2.0, (num, *shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def moved(model):
    """A model whose weights and statistics are others than at the start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, x in model.state_dict().items():
            if x.is_floating_point() and not name.endswith("count"):
                x.add_(torch.rand(x.shape, generator=generator) * 0.5)
        if hasattr(model.obs_normalizer, "_std"):
            model.obs_normalizer._std.copy_(model.obs_normalizer._var.sqrt())
    return model.eval()


def exported(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ends = [
        [(x.name, list(x.shape), x.type) for x in side]
        for side in (session.get_inputs(), session.get_outputs())
    ]
    return session, ends


@pytest.mark.parametrize("name", KINDS)
def test_our_file_and_that_of_rsl_rl_are_twins(tmp_path, name):
    kind, settings, groups = KINDS[name]
    obs = draw(NUM_STEPS)
    given = TensorDict({k: torch.tensor(x) for k, x in obs.items()}, [NUM_STEPS])
    obs_groups = {"actor": groups, "critic": ["policy"]}
    how = HIDDEN | settings | {"distribution_cfg": GAUSSIAN}
    if "cnn_cfg" in how:
        how["cnn_cfg"] = dict(CONV)
    actor = moved(kind(given, obs_groups, "actor", NUM_ACTIONS, **how))
    critic = moved(MLPModel(given, obs_groups, "critic", 1, **HIDDEN))
    runner = SimpleNamespace(alg=SimpleNamespace(get_policy=lambda: actor))
    OnPolicyRunner.export_policy_to_onnx(runner, str(tmp_path), "theirs.onnx")

    config = config_from_rsl_rl(
        {
            "num_steps_per_env": 4,
            "obs_groups": obs_groups,
            "actor": {"class_name": kind.__name__} | how,
            "critic": {"class_name": "MLPModel"} | HIDDEN,
            "algorithm": {"class_name": "PPO"},
        }
    )
    states = (
        {k: x.numpy() for k, x in m.state_dict().items()} for m in (actor, critic)
    )
    state = TrainState(*params_from_rsl_rl(config, *states), (), 1e-3, 1)
    seen = Observed(
        {k: x[:, None] for k, x in obs.items()}, np.zeros((NUM_STEPS, 1)) > 0
    )
    export_policy(tmp_path / "ours.onnx", config, Continuous(NUM_ACTIONS), state, seen)

    theirs, their_ends = exported(tmp_path / "theirs.onnx")
    ours, our_ends = exported(tmp_path / "ours.onnx")
    assert our_ends == their_ends
    memory = {n: np.zeros(shape, np.float32) for n, shape, _ in our_ends[0]}
    memory = {n: x for n, x in memory.items() if n.endswith("_in")}
    vectors = [g for g in groups if len(SHAPES[g]) == 1]
    for step in range(NUM_STEPS):
        row = [np.zeros((1, 0), np.float32), *(obs[g][step][None] for g in vectors)]
        feed = {"obs": np.concatenate(row, axis=-1), **memory}
        feed |= {g: obs[g][step][None] for g in groups if g not in vectors}
        wanted, found = theirs.run(None, feed), ours.run(None, feed)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
        memory = dict(zip(memory, found[1:], strict=True))
