"""rsl_rl's recurrent layers and image encoders as parameters, and back."""

from typing import Any

import numpy as np

from ppo_jax.policies.models import ModelConfig
from ppo_jax.policies.recurrent import KINDS
from ppo_jax.rsl_rl.entries import Entries
from ppo_jax.runs.config import Config
from ppo_jax.types import Params

RNN_PARAMS = {  # followed by the layer's number
    "input_kernel": "rnn.rnn.weight_ih_l",
    "hidden_kernel": "rnn.rnn.weight_hh_l",
    "input_bias": "rnn.rnn.bias_ih_l",
    "hidden_bias": "rnn.rnn.bias_hh_l",
}


def read_cnns(entries: Entries, config: ModelConfig) -> dict[str, Any]:
    """Returns the encoders: kernels [out, in, k, k] as torch has them."""
    found = (name.split(".")[1] for name in entries.left if name.startswith("cnns."))
    return {
        group: {
            f"{part}_{layer}": {
                name: entries.take(f"cnns.{group}.{index}.{theirs}", *shape)
                for name, theirs, shape in _tensors_of(part, config, layer)
            }
            for index, part, layer in _positions(config)
        }
        for group in dict.fromkeys(found)
    }


def _tensors_of(
    part: str, config: ModelConfig, layer: int
) -> list[tuple[str, str, tuple[int | None, ...]]]:
    """Returns what a part of an encoder holds: name here, there, and its shape."""
    assert config.cnn_cfg
    out, kernel, *_ = config.cnn_cfg.layers()[layer]
    if part == "norm":
        shape = (out, None, None)
        return [("scale", "weight", shape), ("bias", "bias", shape)]
    kernel_shape = (out, None, kernel, kernel)
    return [("kernel", "weight", kernel_shape), ("bias", "bias", (out,))]


def _positions(config: ModelConfig) -> list[tuple[int, str, int]]:
    """Returns (index in torch's sequence, part, layer) of all that has weights."""
    assert config.cnn_cfg
    has_norm, has_pool = config.cnn_cfg.norm != "none", config.cnn_cfg.max_pool
    length = 2 + has_norm + has_pool  # convolution, norm, activation, pooling
    positions = []
    for layer in range(len(config.cnn_cfg.output_channels)):
        positions.append((layer * length, "layer", layer))
        if has_norm:
            positions.append((layer * length + 1, "norm", layer))
    return positions


def write_cnns(config: Config, model: str, cnns: Params) -> dict[str, np.ndarray]:
    """Returns the encoders as torch names them, in the order of rsl_rl's optimizer.

    That is the order of the groups of whose images they are; shared ones are made for
    the actor.
    """
    shares = config.algorithm.share_cnn_encoders
    groups = config.obs_groups.get("actor" if shares else model, tuple(cnns))
    ours = getattr(config, model)
    return {
        f"cnns.{group}.{index}.{theirs}": np.asarray(
            cnns[group][f"{part}_{layer}"][name]
        )
        for group in groups
        if group in cnns
        for index, part, layer in _positions(ours)
        for name, theirs, _ in _tensors_of(part, ours, layer)
    }


def read_rnn(
    entries: Entries, config: ModelConfig, num_obs: int | None
) -> dict[str, Any]:
    """Returns the recurrent layers; torch's kernels are [gates * H, in]."""
    units = config.rnn_hidden_dim
    width = KINDS[config.rnn_type].num_gates * units
    layers = {}
    for index in range(config.rnn_num_layers):
        num_inputs = {"input_kernel": units if index else num_obs}
        layer = {}
        for name, theirs in RNN_PARAMS.items():
            if name.endswith("kernel"):
                shape = (width, num_inputs.get(name, units))
            else:
                shape = (width,)
            layer[name] = entries.take(f"{theirs}{index}", *shape).T
        layers[f"layer_{index}"] = layer
    return layers


def write_rnn(rnn: Params) -> dict[str, np.ndarray]:
    """Returns the recurrent layers as torch names them."""
    return {
        f"{theirs}{index}": np.asarray(rnn[f"layer_{index}"][name]).T
        for index in range(len(rnn))
        for name, theirs in RNN_PARAMS.items()
    }
