"""Each kind of network and head as an expression of ONNX operators.

A kind of network is one function in `NETWORKS`, a kind of head one in `HEADS`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.export.graph import Interface, Value, apply, constant, linear, placeholder
from ppo_jax.export.images import image_features
from ppo_jax.export.layers import (
    CELLS,
    hidden_layers,
    recurrent_layer,
    vector_features,
)
from ppo_jax.options import nearest
from ppo_jax.policies.models import DistributionConfig, ModelConfig, is_own_class
from ppo_jax.policies.normalization import STD_OFFSET, RunningStats
from ppo_jax.types import Params

INT32 = 6  # as onnx.TensorProto numbers types
OBS = "obs"  # the input that all vectors make together
FIRST_AXIS = constant([0], dtype=np.int64)


class Group(NamedTuple):
    """An observation group, of one environment."""

    shape: tuple[int, ...]
    dtype: Any


class Actor(NamedTuple):
    """What a kind of network is made of."""

    config: ModelConfig
    params: Params  # of the actor
    stats: RunningStats | tuple[()]
    groups: Mapping[str, Group]  # that it reads, in order
    batch: int | str  # how many observations at once; a word: any number


class Encoded(NamedTuple):
    """What the layers before the head give, and what the file asks for that."""

    features: Value
    inputs: list[Interface]
    memory: Sequence[tuple[Interface, Value]] = ()  # outputs to feed back


def mlp(actor: Actor) -> Encoded:
    """Returns the hidden layers of an MLP.

    A group that has an encoder is an input of its own, as Isaac Lab has it.
    """
    encoders = actor.config.encoder_cfg
    apart = {name: x for name, x in actor.groups.items() if name in encoders}
    _require_other_names(apart)
    vectors = {name: x for name, x in actor.groups.items() if name not in encoders}
    x, interface = observation(actor, vectors)
    features = [
        vector_features(
            encoders[name],
            actor.params["encoders"][name],
            placeholder(name),
            f"encoders.{name}",
        )
        for name in apart
    ]
    inputs = [Interface(name, (actor.batch, *x.shape)) for name, x in apart.items()]
    if features:
        x = apply("Concat", x, *features, axis=-1)
    return Encoded(_hidden(actor, x), [interface, *inputs])


def rnn(actor: Actor) -> Encoded:
    """Returns recurrent layers and the hidden layers after them.

    Inputs and outputs h_in, c_in -> h_out, c_out are the memory of all layers,
    [layers, B, H]; a GRU has no c. Zeros begin an episode.
    """
    x, interface = observation(actor, actor.groups)
    config, layers = actor.config, actor.params["rnn"]
    shape = (len(layers), actor.batch, config.rnn_hidden_dim)
    names = CELLS[config.rnn_type].memories
    before = [placeholder(f"{name}_in") for name in names]
    after = []
    x = apply("Unsqueeze", x, FIRST_AXIS)  # a sequence of one step
    for index in range(len(layers)):
        place = constant([index], dtype=np.int64)
        memory = [apply("Gather", part, place, axis=0) for part in before]
        layer = layers[f"layer_{index}"]
        after.append(recurrent_layer(config.rnn_type, layer, x, memory))
        x = after[-1][0]
    parts = [apply("Concat", *part, axis=0) for part in zip(*after, strict=True)]
    return Encoded(
        _hidden(actor, apply("Squeeze", x, FIRST_AXIS)),
        [interface, *(Interface(f"{name}_in", shape) for name in names)],
        [
            (Interface(f"{name}_out", shape), part)
            for name, part in zip(names, parts, strict=True)
        ],
    )


def cnn(actor: Actor) -> Encoded:
    """Returns encoders of images and the hidden layers after them.

    Each image is an input of its group's name and type, [B, C, H, W]. Without vectors
    "obs" is there too, as rsl_rl has it, and empty.

    Raises:
      ValueError: an image has the name of the vectors.
    """
    images = {name: x for name, x in actor.groups.items() if len(x.shape) == 3}
    _require_other_names(images)
    vectors = {name: x for name, x in actor.groups.items() if name not in images}
    x, interface = observation(actor, vectors)
    features = [
        image_features(
            actor.config.encoder_of(name),
            actor.params["cnns"][name],
            placeholder(name),
            (group.shape[1], group.shape[2]),
            group.dtype,
        )
        for name, group in images.items()
    ]
    inputs = [
        Interface(name, (actor.batch, *group.shape), group.dtype)
        for name, group in images.items()
    ]
    x = apply("Concat", x, *features, axis=-1)
    return Encoded(_hidden(actor, x), [interface, *inputs])


def _require_other_names(apart: Mapping[str, Group]) -> None:
    if OBS in apart:
        raise ValueError(
            f"the group {OBS!r}, which has an encoder, has the name that the file "
            "gives all other vectors: call the group otherwise"
        )


def observation(actor: Actor, groups: Mapping[str, Group]) -> tuple[Value, Interface]:
    """Returns vectors, concatenated as one input "obs", and normalised.

    Raises:
      ValueError: a group is no vector.
    """
    for name, group in groups.items():
        if len(group.shape) != 1:
            raise ValueError(
                f"the observation group {name!r} has the shape {list(group.shape)}, "
                f"but an {actor.config.class_name} is exported for groups of one axis "
                "only"
            )
    width = sum(group.shape[0] for group in groups.values())
    x = placeholder(OBS)
    if isinstance(actor.stats, RunningStats) and width:
        x = normalized(actor.stats, x)
    return x, Interface(OBS, (actor.batch, width))


def normalized(stats: RunningStats, x: Value) -> Value:
    """Returns (x - mean) / (std + 0.01), with what rounding cut off the mean."""
    x = apply("Sub", x, constant(stats.mean, "obs_normalizer.mean"))
    if np.any(stats.mean_rest):
        x = apply("Sub", x, constant(stats.mean_rest, "obs_normalizer.mean_rest"))
    std = np.sqrt(np.asarray(stats.var)) + np.float32(STD_OFFSET)
    return apply("Div", x, constant(std, "obs_normalizer.std"))


def _hidden(actor: Actor, x: Value) -> Value:
    return hidden_layers(actor.config, actor.params["mlp"], x)


def gaussian(config: DistributionConfig, head: Params, x: Value) -> Value:
    """Returns the mean; the standard deviation stays at home."""
    del config
    return linear(head["mean"], x, "head.mean")


def beta(config: DistributionConfig, head: Params, x: Value) -> Value:
    """Returns the mean on the range, low + alpha / (alpha + beta) (high - low)."""
    one = constant(1.0)
    a = apply("Add", apply("Softplus", linear(head["alpha"], x, "head.alpha")), one)
    b = apply("Add", apply("Softplus", linear(head["beta"], x, "head.beta")), one)
    low, high = map(np.float32, config.action_range)
    share = apply("Div", a, apply("Add", a, b))
    return apply(
        "Add", constant(low), apply("Mul", share, constant(high - low, "range"))
    )


def tanh_gaussian(config: DistributionConfig, head: Params, x: Value) -> Value:
    """Returns the mean, squashed: low + (tanh(mean) + 1) (high - low) / 2."""
    low, high = map(np.float32, config.action_range)
    squashed = apply("Tanh", linear(head["mean"], x, "head.mean"))
    half = constant(0.5 * (high - low), "half_range")
    stretched = apply("Mul", apply("Add", squashed, constant(1.0)), half)
    return apply("Add", stretched, constant(low))


NETWORKS: dict[str, Callable[[Actor], Encoded]] = {
    "MLPModel": mlp,
    "RNNModel": rnn,
    "CNNModel": cnn,
}
HEADS: dict[str, Callable[[DistributionConfig, Params, Value], Value]] = {
    "GaussianDistribution": gaussian,
    "HeteroscedasticGaussianDistribution": gaussian,
    "BetaDistribution": beta,
    "TanhGaussianDistribution": tanh_gaussian,
}


def encode(actor: Actor) -> Encoded:
    """Returns the network before the head.

    Raises:
      ValueError: there is no function for this kind of network.
    """
    name = actor.config.class_name
    if is_own_class(name):
        raise ValueError(
            f"actor.class_name = {name!r} cannot be written as ONNX: nobody says here "
            "what it computes"
        )
    if name not in NETWORKS:
        raise ValueError(
            f"actor.class_name = {name!r} cannot be written as ONNX: "
            f"{nearest(name, NETWORKS)}"
        )
    return NETWORKS[name](actor)


def deterministic(
    config: ModelConfig, head: Params, x: Value, batch: int | str
) -> list[tuple[Interface, Value]]:
    """Returns what the file gives: what the policy plays, without noise.

    Continuous: actions [B, A]. Discrete, which rsl_rl has not: actions [B] int32, the
    index of the largest logit, and logits [B, K].
    """
    if "logits" in head:
        logits = linear(head["logits"], x, "head.logits")
        index = apply("ArgMax", logits, axis=-1, keepdims=0)
        num_actions = len(head["logits"]["bias"])
        return [
            (Interface("actions", (batch,), np.int32), apply("Cast", index, to=INT32)),
            (Interface("logits", (batch, num_actions)), logits),
        ]
    distribution = config.distribution_cfg or DistributionConfig()
    name = distribution.class_name
    first = head["alpha" if name == "BetaDistribution" else "mean"]
    interface = Interface("actions", (batch, len(first["bias"])))
    return [(interface, HEADS[name](distribution, head, x))]
