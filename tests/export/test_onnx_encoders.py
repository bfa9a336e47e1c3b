"""Policies with memory, or of images, as ONNX: they act the same."""

import itertools
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from policies_to_export import GRU, LSTM2, MEMORIES, RNN, Case, N, T, cnn, observed

from ppo_jax import Discrete, RunningStats
from ppo_jax.export import Disagrees, layers, trial
from ppo_jax.policies.models import DistributionConfig, EncoderConfig, ModelConfig

# --- memory


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORIES)
def test_a_memory_is_what_goes_in_and_comes_out(tmp_path, name):
    """rsl_rl's names and shapes; a GRU has no c."""
    written = Case(MEMORIES[name]).export(tmp_path / "policy.onnx")
    shape = f"[{MEMORIES[name].rnn_num_layers}, 1, 8]"
    parts = ("h", "c") if name.startswith("lstm") else ("h",)
    before, after = (
        ", ".join(f"{x}_{end} {shape}" for x in parts) for end in ("in", "out")
    )
    assert written.interface == f"obs [1, 5], {before} -> actions [1, 2], {after}"
    assert written.num_observations == T * N
    assert written.difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORIES)
def test_a_file_with_memory_acts_as_ppo_play_does(tmp_path, name):
    """In episodes that it was not tried on, fed as a robot feeds it: by hand."""
    case, seen = Case(MEMORIES[name]), observed(seed=5)
    session = onnxruntime.InferenceSession(case.export(tmp_path / "a.onnx").path)
    names = [x.name for x in session.get_inputs()][1:]
    shapes = {x.name: x.shape for x in session.get_inputs()}
    wanted = case.played(seen)
    for env in range(N):
        for step in range(T):
            if step == 0 or seen.is_first[step, env]:
                memory = {name: np.zeros(shapes[name], np.float32) for name in names}
            obs = seen.obs["policy"][step, env][None]
            action, *after = session.run(None, {"obs": obs, **memory})
            memory = dict(zip(names, after, strict=True))
            np.testing.assert_allclose(action[0], wanted[step, env], atol=1e-5)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_nan_that_is_seen_is_a_nan_as_in_the_policy(tmp_path, name):
    """Until memory begins anew; what is infinite saturates gates, also as there.

    onnxruntime's LSTM and GRU make zeros or other numbers of a NaN, and a robot would
    go on as if nothing had happened.
    """
    case, seen = Case(MEMORIES[name]), observed(seed=5)
    path = case.export(tmp_path / "policy.onnx", dynamic_batch=True).path
    seen.obs["policy"][3, 0, 2] = np.nan
    seen.obs["policy"][7, 1, 4] = np.inf
    wanted = case.played(seen)
    assert np.isnan(wanted[3:, 0]).all(), "its episode goes on to the end"
    assert np.isfinite(wanted[:, 2]).all(), "others are as they were"
    found = trial.replay(path.read_bytes(), seen, case.groups).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_memories_of_many_robots_have_an_axis_for_them(tmp_path):
    case = Case(LSTM2)
    written = case.export(tmp_path / "policy.onnx", dynamic_batch=True)
    assert "obs ['batch', 5], h_in [2, 'batch', 8]" in written.interface
    assert "-> actions ['batch', 2], h_out [2, 'batch', 8]" in written.interface
    seen = observed(seed=5, is_first=np.zeros((T, N), bool))
    session = onnxruntime.InferenceSession(written.path)
    memory = {name: np.zeros((2, N, 8), np.float32) for name in ("h_in", "c_in")}
    for obs, wanted in zip(seen.obs["policy"], case.played(seen), strict=True):
        action, h, c = session.run(None, {"obs": obs, **memory})
        memory = {"h_in": h, "c_in": c}
        np.testing.assert_allclose(action, wanted, atol=1e-5)


def test_logits_of_a_policy_with_memory(tmp_path):
    case = Case(GRU, action_space=Discrete(4))
    written = case.export(tmp_path / "policy.onnx")
    assert "-> actions [1], logits [1, 4], h_out [1, 1, 8]" in written.interface
    assert written.difference < 1e-5


def gates_in_torchs_order(cell):
    return cell._replace(gates=tuple(range(len(cell.gates))))


def reset_before_the_product(cell):
    return cell._replace(attributes={"linear_before_reset": 0})


@pytest.mark.parametrize(
    ("rnn_type", "spoil"),
    [
        ("lstm", gates_in_torchs_order),
        ("gru", gates_in_torchs_order),
        ("gru", reset_before_the_product),
    ],
)
def test_other_gates_are_noticed(tmp_path, monkeypatch, rnn_type, spoil):
    monkeypatch.setitem(layers.CELLS, rnn_type, spoil(layers.CELLS[rnn_type]))
    with pytest.raises(Disagrees):
        Case(replace(RNN, rnn_type=rnn_type)).export(tmp_path / "policy.onnx")


def test_a_memory_that_is_not_cleared_is_noticed(tmp_path, monkeypatch):
    """The trial has episodes that end: what is carried over one shows."""
    case, seen = Case(RNN), observed()
    monkeypatch.setattr(trial, "forget", lambda memory, done: memory)
    with pytest.raises(Disagrees):
        case.export(tmp_path / "policy.onnx", seen)


# --- images

CUT = {"output_channels": (3,), "kernel_size": (1,), "stride": (3,)}
IMAGES = {
    "plain": {},
    "zeros": {"padding": "zeros", "kernel_size": (5, 3)},
    "reflect": {"padding": "reflect", "norm": "layer"},
    "replicate": {"padding": "replicate", "max_pool": True},
    "circular": {"padding": "circular", "stride": (2, 1), "dilation": (1, 2)},
    "max": {"global_pool": "max", "stride": (2,)},
    "avg": {"global_pool": "avg", "activation": "tanh"},
    "cut": {"padding": "circular", **CUT},
    "cut edge": {"padding": "replicate", **CUT},
    "each its own": {"norm": ("layer", "none"), "max_pool": (False, True)},
    "isaaclab": {"spatial_softmax": "isaaclab", "padding": "zeros"},
    "mjlab": {"spatial_softmax": "mjlab", "spatial_softmax_temperature": 0.5},
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_encoder_of_images_acts_the_same(tmp_path, name):
    case = Case(cnn(**IMAGES[name]), ("camera", "policy"))
    assert case.export(tmp_path / "policy.onnx").difference < 1e-5


def test_depth_that_is_missing_is_seen_as_in_training(tmp_path):
    """Isaac Lab's encoder takes NaN for far; the vectors beside it are finite."""
    case, seen = Case(cnn(spatial_softmax="isaaclab"), ("depth", "policy")), observed()
    seen.obs["depth"][:, :, :, ::2, 1] = np.nan
    assert case.export(tmp_path / "policy.onnx", seen).difference < 1e-5


VECTORS = {
    "norm": ModelConfig(hidden_dims=(6, 5), layer_norm=True, activation="tanh"),
    "tanh": ModelConfig(
        hidden_dims=(6,),
        distribution_cfg=DistributionConfig(
            "TanhGaussianDistribution", action_range=(-2.0, 0.5)
        ),
    ),
    "encoded": ModelConfig(
        hidden_dims=(6,),
        encoder_cfg={"policy": EncoderConfig((4,), 3, last_activation="relu")},
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_extras_of_perceptrons_act_the_same(tmp_path, name):
    written = Case(VECTORS[name]).export(tmp_path / "policy.onnx")
    assert written.difference < 1e-5


def test_two_spatial_softmaxes_in_one_policy(tmp_path):
    """Colours are scaled otherwise than depth."""
    kinds = cnn(spatial_softmax="isaaclab", output_channels=(3,))
    case = Case(kinds, ("camera", "depth"))
    assert case.export(tmp_path / "policy.onnx").difference < 1e-5


def test_images_are_inputs_of_their_groups_names_and_types(tmp_path):
    """Beside the vectors, which are one input; bytes stay bytes."""
    case, seen = Case(cnn(), ("depth", "policy", "camera")), observed(seed=5)
    written = case.export(tmp_path / "policy.onnx")
    assert written.interface == (
        "obs [1, 5], depth [1, 1, 7, 7], camera [1, 3, 9, 8] -> actions [1, 2]"
    )
    model = onnx.load(written.path)
    kinds = {x.name: x.type.tensor_type.elem_type for x in model.graph.input}
    assert kinds["camera"] == onnx.TensorProto.UINT8
    assert kinds["depth"] == kinds["obs"] == onnx.TensorProto.FLOAT
    session = onnxruntime.InferenceSession(written.path)
    wanted = case.played(seen)
    for step, env in itertools.product(range(4), range(N)):
        names = {"obs": "policy", "camera": "camera", "depth": "depth"}
        feed = {name: seen.obs[group][step, env][None] for name, group in names.items()}
        (action,) = session.run(None, feed)
        limit = 1e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(action[0], wanted[step, env], rtol=0, atol=limit)


@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_images_alone_stand_beside_an_empty_vector(tmp_path, dynamic_batch):
    """As rsl_rl's files have it; normalisation has nothing to do."""
    written = Case(cnn(), ("camera",)).export(
        tmp_path / "policy.onnx", dynamic_batch=dynamic_batch
    )
    batch = "'batch'" if dynamic_batch else "1"
    assert f"obs [{batch}, 0], camera [{batch}, 3, 9, 8] ->" in written.interface
    assert written.difference < 1e-5


def test_an_image_that_is_called_as_the_vectors_are_is_refused(tmp_path):
    seen = observed()
    seen.obs["obs"] = seen.obs["depth"]
    case = Case(cnn(), ("policy", "depth"))
    groups = {"actor": ("policy", "obs"), "critic": ("policy",)}
    case.config = replace(case.config, obs_groups=groups)
    with pytest.raises(
        ValueError,
        match="'obs', which has an encoder, has the name",
    ):
        case.export(tmp_path / "policy.onnx", seen)


def test_statistics_beside_images_are_those_of_the_vectors(tmp_path):
    case = Case(cnn(), ("camera", "policy"))
    assert isinstance(case.state.obs_stats["actor"], RunningStats)
    assert case.state.obs_stats["actor"].mean.shape == (5,)
    model = onnx.load(case.export(tmp_path / "policy.onnx").path)
    constants = {x.name: x.dims for x in model.graph.initializer}
    assert list(constants["obs_normalizer.mean"]) == [5]
