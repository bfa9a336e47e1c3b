"""rsl_rl's recurrent layers and image encoders as parameters, and back."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.policies.conv import feature_size
from ppo_jax.policies.gates import KINDS
from ppo_jax.policies.models import ModelConfig
from ppo_jax.rsl_rl.entries import Entries
from ppo_jax.runs.config import Config
from ppo_jax.types import Params

RNN_PARAMS = {  # followed by the layer's number
    "input_kernel": "rnn.rnn.weight_ih_l",
    "hidden_kernel": "rnn.rnn.weight_hh_l",
    "input_bias": "rnn.rnn.bias_ih_l",
    "hidden_bias": "rnn.rnn.bias_hh_l",
}


class Tensor(NamedTuple):
    """A parameter of an encoder."""

    part: str  # of ours; "" for a parameter of the encoder itself
    name: str
    theirs: str
    shape: tuple[int | None, ...]


GRIDS = (".pos_x", ".pos_y")  # how buffers end that say where pixels are


def read_cnns(entries: Entries, config: ModelConfig) -> dict[str, Any]:
    """Returns the encoders: kernels [out, in, k, k] as torch has them."""
    for name in [name for name in entries.left if name.endswith(GRIDS)]:
        del entries.left[name]  # the places of pixels, which are computed here
    found = (name.split(".")[1] for name in entries.left if name.startswith("cnns."))
    encoders: dict[str, Any] = {}
    for group in dict.fromkeys(found):
        encoder = encoders[group] = {}
        for part, name, theirs, shape in _tensors(config, group):
            place = encoder.setdefault(part, {}) if part else encoder
            place[name] = entries.take(theirs, *shape)
    return encoders


def _tensors(config: ModelConfig, group: str) -> list[Tensor]:
    """Returns what an encoder holds, by its places in torch's sequence of modules."""
    encoder = config.encoder_of(group)
    prefix = f"cnns.{group}." + "cnn." * (encoder.spatial_softmax == "mjlab")
    tensors, place = [], 0
    for index, (out, kernel, *_, norm, has_pool) in enumerate(encoder.layers()):
        part, shape = f"layer_{index}", (out, None, kernel, kernel)
        tensors.append(Tensor(part, "kernel", f"{prefix}{place}.weight", shape))
        tensors.append(Tensor(part, "bias", f"{prefix}{place}.bias", (out,)))
        place += 1
        if norm == "layer":
            part, shape = f"norm_{index}", (out, None, None)
            tensors.append(Tensor(part, "scale", f"{prefix}{place}.weight", shape))
            tensors.append(Tensor(part, "bias", f"{prefix}{place}.bias", shape))
            place += 1
        place += 1 + has_pool  # the activation, and the pooling
    if encoder.spatial_softmax == "isaaclab":
        name, shape = "log_temperature", (encoder.output_channels[-1],)
        tensors.append(Tensor("", name, f"softmaxes.{group}.{name}", shape))
    return tensors


def write_cnns(config: Config, model: str, cnns: Params) -> dict[str, np.ndarray]:
    """Returns the encoders as torch names them, in the order of rsl_rl's optimizer.

    That is the order of the groups of whose images they are; shared ones are made for
    the actor.
    """
    shares = config.algorithm.share_cnn_encoders
    groups = config.obs_groups.get("actor" if shares else model, tuple(cnns))
    written = {
        theirs: np.asarray(cnns[group][part][name] if part else cnns[group][name])
        for group in groups
        if group in cnns
        for part, name, theirs, _ in _tensors(getattr(config, model), group)
    }
    last = "softmaxes."  # registered after all encoders
    return dict(sorted(written.items(), key=lambda item: item[0].startswith(last)))


def write_grids(
    config: ModelConfig,
    groups: Sequence[str],
    image_sizes: Mapping[str, tuple[int, int]],
) -> dict[str, np.ndarray]:
    """Returns the buffers of the spatial softmaxes: where each pixel is.

    Args:
      config: of the model.
      groups: the images that it sees.
      image_sizes: {group: (height, width)}.

    Raises:
      ValueError: the size of an image is not given.
    """
    grids = {}
    for group in groups:
        encoder = config.encoder_of(group)
        if encoder.spatial_softmax == "none":
            continue
        if group not in image_sizes:
            raise ValueError(
                f"rsl_rl's file holds where the pixels of {group!r} are, and its size "
                "is not known here: give image_sizes={group: (height, width)}"
            )
        height, width = feature_size(encoder, *image_sizes[group])
        down, across = np.meshgrid(
            np.linspace(-1, 1, height, dtype=np.float32),
            np.linspace(-1, 1, width, dtype=np.float32),
            indexing="ij",
        )
        if encoder.spatial_softmax == "isaaclab":
            places = {".pos_x": across.reshape(1, -1), ".pos_y": down.reshape(1, -1)}
            prefix = f"softmaxes.{group}"
        else:  # mjlab calls what goes down x
            places = {
                ".pos_x": down.reshape(1, 1, -1),
                ".pos_y": across.reshape(1, 1, -1),
            }
            prefix = f"cnns.{group}.spatial_softmax"
        grids |= {f"{prefix}{name}": x for name, x in places.items()}
    return grids


def read_vector_encoders(entries: Entries, config: ModelConfig) -> dict[str, Any]:
    """Returns the encoders of single groups, as Isaac Lab's keyboard task has them."""
    encoders = {}
    for group, encoder in config.encoder_cfg.items():
        width = entries.width(f"encoders.{group}.0.weight")
        widths = [width if dim == -1 else dim for dim in encoder.hidden_dims]
        layers = [
            entries.layer(index, *pair, mlp=f"encoders.{group}")
            for index, pair in enumerate(pairwise([width, *widths, encoder.latent_dim]))
        ]
        hidden = {f"layer_{index}": x for index, x in enumerate(layers[:-1])}
        encoders[group] = {"mlp": hidden, "head": layers[-1]}
    return encoders


def write_vector_encoders(
    config: Config, model: str, encoders: Params
) -> dict[str, np.ndarray]:
    """Returns the encoders of single groups, in the order in which they are read."""
    state = {}
    for group in config.obs_groups.get(model, tuple(encoders)):
        if group not in encoders:
            continue
        hidden, last = encoders[group]["mlp"], encoders[group]["head"]
        layers = [hidden[f"layer_{index}"] for index in range(len(hidden))] + [last]
        for index, layer in enumerate(layers):
            place = f"encoders.{group}.{2 * index}"
            state[f"{place}.weight"] = np.asarray(layer["kernel"]).T
            state[f"{place}.bias"] = np.asarray(layer["bias"])
    return state


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
