"""Each kind of network and head as an expression of ONNX operators.

A kind of network is one function in `NETWORKS`, a kind of head one in `HEADS`.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ppo_jax.export.graph import Interface, Value, apply, constant, linear, placeholder
from ppo_jax.options import nearest
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.policies.normalization import STD_OFFSET, RunningStats
from ppo_jax.types import Params

INT32 = 6  # as onnx.TensorProto numbers types


class Actor(NamedTuple):
    """What a kind of network is made of."""

    config: ModelConfig
    params: Params  # of the actor
    stats: RunningStats | tuple[()]
    shapes: Mapping[str, tuple[int, ...]]  # of each group that it reads, in order
    batch: int | str  # how many observations at once; a word: any number


class Encoded(NamedTuple):
    """What the layers before the head give, and what the file asks for that."""

    features: Value
    inputs: list[Interface]
    memory: list[tuple[Interface, Value]] = []  # noqa: RUF012 - outputs to feed back


def observation(actor: Actor) -> tuple[Value, Interface]:
    """Returns the flat groups, concatenated as one input "obs", and normalised.

    Raises:
      ValueError: a group is no vector.
    """
    for group, shape in actor.shapes.items():
        if len(shape) != 1:
            raise ValueError(
                f"the observation group {group!r} has the shape {list(shape)}, but "
                f"an {actor.config.class_name} is exported for groups of one axis only"
            )
    width = sum(dim for (dim,) in actor.shapes.values())
    x = placeholder("obs")
    if isinstance(actor.stats, RunningStats):
        x = normalized(actor.stats, x)
    return x, Interface("obs", (actor.batch, width))


def normalized(stats: RunningStats, x: Value) -> Value:
    """Returns (x - mean) / (std + 0.01), with what rounding cut off the mean."""
    x = apply("Sub", x, constant(stats.mean, "obs_normalizer.mean"))
    if np.any(stats.mean_rest):
        x = apply("Sub", x, constant(stats.mean_rest, "obs_normalizer.mean_rest"))
    std = np.sqrt(np.asarray(stats.var)) + np.float32(STD_OFFSET)
    return apply("Div", x, constant(std, "obs_normalizer.std"))


def mlp(actor: Actor) -> Encoded:
    """Returns the hidden layers of an MLP."""
    x, interface = observation(actor)
    return Encoded(hidden_layers(actor.config, actor.params["mlp"], x), [interface])


def hidden_layers(config: ModelConfig, params: Params, x: Value) -> Value:
    """Returns the hidden layers applied to x, each followed by the activation."""
    activation = ACTIVATIONS[config.activation.lower()]
    for index in range(len(config.hidden_dims)):
        x = activation(linear(params[f"layer_{index}"], x, f"mlp.{2 * index}"))
    return x


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


def _elementwise(op: str, **attributes: float) -> Callable[[Value], Value]:
    return lambda x: apply(op, x, **attributes)


def _gelu(x: Value) -> Value:
    """Returns x (1 + erf(x / sqrt 2)) / 2; the operator is younger than the opset."""
    erf = apply("Erf", apply("Mul", x, constant(math.sqrt(0.5))))
    half = apply("Mul", x, constant(0.5))
    return apply("Mul", half, apply("Add", erf, constant(1.0)))


ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "elu": _elementwise("Elu", alpha=1.0),
    "selu": _elementwise("Selu"),
    "relu": _elementwise("Relu"),
    "crelu": _elementwise("Celu", alpha=1.0),
    "lrelu": _elementwise("LeakyRelu", alpha=0.01),
    "tanh": _elementwise("Tanh"),
    "sigmoid": _elementwise("Sigmoid"),
    "softplus": _elementwise("Softplus"),
    "gelu": _gelu,
    "swish": lambda x: apply("Mul", x, apply("Sigmoid", x)),
    "mish": lambda x: apply("Mul", x, apply("Tanh", apply("Softplus", x))),
    "identity": lambda x: x,
}
NETWORKS: dict[str, Callable[[Actor], Encoded]] = {"MLPModel": mlp}
HEADS: dict[str, Callable[[DistributionConfig, Params, Value], Value]] = {
    "GaussianDistribution": gaussian,
    "HeteroscedasticGaussianDistribution": gaussian,
    "BetaDistribution": beta,
}


def encode(actor: Actor) -> Encoded:
    """Returns the network before the head.

    Raises:
      ValueError: there is no function for this kind of network.
    """
    name = actor.config.class_name
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
