"""mjlab's own encoder of images, in torch, beside ours."""

import jax
import numpy as np
import pytest

pytest.importorskip("mjlab", reason="needs mjlab: uv sync --extra mjlab")

import torch
from mjlab.rl.spatial_softmax import SpatialSoftmaxCNNModel
from tensordict import TensorDict

from ppo_jax import Continuous
from ppo_jax.rsl_rl import config_from_rsl_rl, params_from_rsl_rl, params_to_rsl_rl
from ppo_jax.runs.config import parts_of

CLASS = f"{SpatialSoftmaxCNNModel.__module__}:{SpatialSoftmaxCNNModel.__qualname__}"
GROUPS = {"actor": ["state", "camera"], "critic": ["state"]}
CNN = {"output_channels": [3, 4], "kernel_size": [5, 3], "stride": [2, 1]}


@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("size", [(24, 32), (15, 11)])
def test_the_spatial_softmax_is_mjlabs(size, temperature):
    """Its x runs down and its y across, in turn; with weights of some size."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    obs = {
        "state": rng.normal(size=(6, 5)).astype(np.float32),
        "camera": rng.uniform(0.0, 1.0, (6, 3, *size)).astype(np.float32),
    }
    tensors = TensorDict({name: torch.tensor(x) for name, x in obs.items()}, [6])
    cnn_cfg = CNN | {"activation": "elu", "spatial_softmax": True}
    cnn_cfg |= {"spatial_softmax_temperature": temperature}
    given = {"hidden_dims": [8], "obs_normalization": True, "cnn_cfg": cnn_cfg}
    theirs = SpatialSoftmaxCNNModel(tensors, GROUPS, "actor", 3, **given).eval()
    with torch.no_grad():
        for x in theirs.parameters():
            x.normal_(0.0, 0.3)
        wanted = theirs(tensors).numpy()
    assert wanted.std(axis=0).min() > 1e-3, "the images are told apart"

    gaussian = {"distribution_cfg": {"class_name": "GaussianDistribution"}}
    config = config_from_rsl_rl(
        {
            "obs_groups": GROUPS,
            "actor": {"class_name": CLASS} | given | gaussian,
            "critic": {"hidden_dims": [4]},
        }
    )
    network, *_ = parts_of(config, Continuous(3))
    params, stats = network.init(jax.random.key(0), obs)
    _, critic = params_to_rsl_rl(config, params, stats)
    state = {name: x.numpy() for name, x in theirs.state_dict().items()}
    state["distribution.std_param"] = np.ones(3, np.float32)
    read, stats = params_from_rsl_rl(config, state, critic)
    mean = network.policy(read, network.prepare(stats, obs)).mean
    np.testing.assert_allclose(mean, wanted, rtol=0, atol=1e-5)
