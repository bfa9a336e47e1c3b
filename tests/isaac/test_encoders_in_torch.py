"""Encoders of images beside those of rsl_rl and Isaac Lab, in torch."""

import jax
import numpy as np
import pytest

pytest.importorskip("rsl_rl", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch
from isaaclab_tasks.core.lift.config.kuka_allegro.agents.models import (
    SpatialSoftmaxCNNModel,
)
from rsl_rl.modules import CNN as TorchCNN
from tensordict import TensorDict

from ppo_jax import Continuous
from ppo_jax.policies.conv import CNN, feature_size
from ppo_jax.policies.models import ModelConfig
from ppo_jax.rsl_rl import config_from_rsl_rl, params_from_rsl_rl, params_to_rsl_rl
from ppo_jax.rsl_rl.encoders import read_cnns, write_grids
from ppo_jax.rsl_rl.entries import Entries
from ppo_jax.runs.config import parts_of

torch.set_num_threads(1)
TWO = {"output_channels": [3, 2], "kernel_size": [5, 3], "activation": "tanh"}
PADDINGS = ("none", "zeros", "reflect", "replicate", "circular")
ENCODERS = (
    [TWO | {"padding": padding} for padding in PADDINGS]
    + [TWO | {"padding": padding, "stride": [3, 2]} for padding in PADDINGS]
    + [TWO | {"padding": padding, "dilation": [1, 2]} for padding in PADDINGS]
    + [
        # smaller kernels than strides: what would be padded is cut off
        {"output_channels": [3], "kernel_size": 2, "stride": 5, "padding": padding}
        for padding in PADDINGS[2:]
    ]
    + [
        TWO | {"padding": "same"},  # no word of rsl_rl's: none
        TWO | {"norm": "layer", "stride": 2, "padding": "zeros"},
        TWO | {"norm": ["none", "layer"], "max_pool": [True, False]},
        TWO | {"max_pool": True, "activation": "gelu"},
        TWO | {"global_pool": "avg"},
        TWO | {"global_pool": "max", "norm": ["layer", "none"]},
        TWO | {"stride": [2, 1, 7], "kernel_size": (3, 3, 9, 9)},  # too long: not read
    ]
)


def model_of(cnn_cfg, **model):
    """Our configuration of a model of rsl_rl."""
    gaussian = {"class_name": "GaussianDistribution"}
    actor = {"class_name": "CNNModel", "cnn_cfg": cnn_cfg, "distribution_cfg": gaussian}
    critic = {"hidden_dims": [4]}
    return config_from_rsl_rl({"actor": actor | model, "critic": critic})


def randomized(module):
    with torch.no_grad():
        for x in module.parameters():
            x.normal_(0.0, 0.5)
    return module


@pytest.mark.parametrize("cnn_cfg", ENCODERS, ids=str)
def test_an_encoder_is_rsl_rls(cnn_cfg):
    """Also the order of its features, C H W, on an image that is not square."""
    torch.manual_seed(0)
    height, width = 19, 22
    theirs = randomized(TorchCNN((height, width), 2, **cnn_cfg))
    image = torch.randn(4, 2, height, width)
    with torch.inference_mode():
        wanted = theirs(image)
    state = {f"cnns.image.{k}": x.numpy() for k, x in theirs.state_dict().items()}
    config = model_of(cnn_cfg).actor
    entries = Entries("actor", config, state)
    params = read_cnns(entries, config)["image"]
    entries.require_none_left()
    module = CNN(config.encoder_of("image"))
    features = jax.jit(module.apply)({"params": params}, image.numpy())
    np.testing.assert_allclose(features, wanted, rtol=1e-5, atol=1e-5)


def test_padding_that_torch_has_not_is_refused_here_too():
    for padding, cnn_cfg in {
        "zeros": {"output_channels": [3], "kernel_size": 2, "stride": 5},
        "reflect": {"output_channels": [3], "kernel_size": 45},
    }.items():
        cnn_cfg = cnn_cfg | {"padding": padding}
        image = torch.zeros(1, 2, 19, 22)
        with pytest.raises(RuntimeError, match=r"[Pp]adding"):
            TorchCNN((19, 22), 2, **cnn_cfg)(image)
        module = CNN(model_of(cnn_cfg).actor.encoder_of("image"))
        with pytest.raises(ValueError, match=f"padding = '{padding}' of an image of"):
            module.init(jax.random.key(0), image.numpy())


# --- Isaac Lab's spatial softmax

SOFTMAX = f"{SpatialSoftmaxCNNModel.__module__}:{SpatialSoftmaxCNNModel.__qualname__}"
GROUPS = {"actor": ["wrist", "policy", "depth"], "critic": ["policy"]}


def seen(rng, num):
    depth = rng.uniform(0.0, 3.0, (num, 1, 10, 12)).astype(np.float32)
    depth[:, :, 2, 3] = np.nan
    return {
        "policy": rng.normal(size=(num, 5)).astype(np.float32),
        "wrist": rng.integers(0, 256, (num, 3, 9, 11), dtype=np.uint8),
        "depth": depth,
    }


def test_the_spatial_softmax_is_isaac_labs():
    """Colours and depth, of which some is missing; the file has all of it."""
    torch.manual_seed(0)
    obs = seen(np.random.default_rng(0), 6)
    tensors = TensorDict({k: torch.tensor(x) for k, x in obs.items()}, [6])
    given = {"hidden_dims": [8], "obs_normalization": True}
    given |= {"cnn_cfg": TWO | {"kernel_size": 3}, "init_temperature": 0.5}
    theirs = SpatialSoftmaxCNNModel(tensors, GROUPS, "actor", 3, **given)
    torch.testing.assert_close(
        theirs.softmaxes["wrist"].log_temperature, torch.full((2,), np.log(0.5)).float()
    )
    randomized(theirs).eval()
    with torch.no_grad():
        theirs.softmaxes["depth"].log_temperature.fill_(-9.0)  # below the least
        wanted = theirs(tensors)
    state = {name: x.numpy() for name, x in theirs.state_dict().items()}
    state["distribution.std_param"] = np.ones(3, np.float32)

    config = model_of(class_name=SOFTMAX, **given)
    config = config_with_groups(config)
    network, *_ = parts_of(config, Continuous(3))
    params, stats = network.init(jax.random.key(0), obs)
    start = params["actor"]["cnns"]["wrist"]["log_temperature"]
    np.testing.assert_allclose(start, np.log(0.5), rtol=1e-6)
    _, critic = params_to_rsl_rl(config, params, stats)
    read, stats = params_from_rsl_rl(config, state, critic)
    assert jax.tree.structure(read) == jax.tree.structure(params)
    mean = network.policy(read, network.prepare(stats, obs)).mean
    # the least temperature makes 1000 times as much of what rounding leaves
    np.testing.assert_allclose(mean, wanted, rtol=0, atol=3e-4)

    actor, _ = params_to_rsl_rl(config, read, stats)
    parameters = [name for name, _ in theirs.named_parameters()]
    assert [x for x in actor if "obs_norm" not in x][1:] == parameters
    sizes = {"wrist": (9, 11), "depth": (10, 12)}
    written = actor | write_grids(config.actor, ["wrist", "depth"], sizes)
    assert written.keys() == state.keys()
    for name, x in state.items():
        np.testing.assert_allclose(written[name], x, atol=1e-6, err_msg=name)


def config_with_groups(config):
    from dataclasses import replace

    return replace(config, obs_groups={k: tuple(x) for k, x in GROUPS.items()})


def test_the_size_of_features_is_that_of_the_layers():
    config = ModelConfig("CNNModel", cnn_cfg=model_of(TWO).actor.cnn_cfg)
    assert feature_size(config.encoder_of("image"), 19, 22) == (13, 16)
