"""Layers as expressions of ONNX operators: hidden and recurrent ones.

Letters in the shape comments: B observations, D inputs, H hidden units, G gates.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.export.graph import ABSENT, Value, apply, apply_many, constant, linear
from ppo_jax.policies.mlp import LAYER_NORM_EPSILON
from ppo_jax.policies.models import EncoderConfig, ModelConfig
from ppo_jax.types import Array, Params


def hidden_layers(
    config: ModelConfig | EncoderConfig, params: Params, x: Value, name: str = "mlp"
) -> Value:
    """Returns the hidden layers applied to x, each followed by the activation."""
    activation = ACTIVATIONS[config.activation.lower()]
    for index in range(len(config.hidden_dims)):
        x = linear(params[f"layer_{index}"], x, f"{name}.{2 * index}")
        if f"norm_{index}" in params:
            x = layer_norm(params[f"norm_{index}"], x)
        x = activation(x)
    return x


def vector_features(
    config: EncoderConfig, params: Params, x: Value, name: str
) -> Value:
    """Returns what the encoder of a single group makes of it, [B, latent_dim]."""
    x = hidden_layers(config, params["mlp"], x, name)
    x = linear(params["head"], x, f"{name}.latent")
    last = config.last_activation
    return ACTIVATIONS[last.lower()](x) if last else x


def layer_norm(params: Mapping[str, Array], x: Value) -> Value:
    """Returns each sample with mean 0 and variance 1 over its axes, scaled, shifted."""
    return apply(
        "LayerNormalization",
        x,
        constant(params["scale"]),
        constant(params["bias"]),
        axis=1,
        epsilon=LAYER_NORM_EPSILON,
    )


# --- activations


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


# --- memory


class Cell(NamedTuple):
    """A kind of recurrent layer, as ONNX has it."""

    op: str
    gates: tuple[int, ...]  # ours, in ONNX's order
    memories: tuple[str, ...]
    attributes: Mapping[str, int] = {}


CELLS = {
    "lstm": Cell("LSTM", (0, 3, 1, 2), ("h", "c")),  # i f g o -> i o f g
    "gru": Cell("GRU", (1, 0, 2), ("h",), {"linear_before_reset": 1}),  # z r n
}


def recurrent_layer(
    rnn_type: str, layer: Mapping[str, Array], x: Value, memory: Sequence[Value]
) -> Sequence[Value]:
    """Returns the memory after one step; its first part is the output too.

    Args:
      rnn_type: "lstm" or "gru".
      layer: its weights, as `policies.recurrent.RecurrentLayer` has them.
      x: [1, B, D], a sequence of one step.
      memory: before it, [1, B, H] each.
    """
    cell = CELLS[rnn_type]

    def stacked(name: str) -> Any:
        """Returns weights [..., G H] as [1, G H, ...], in ONNX's order of gates."""
        weight = np.asarray(layer[name])
        split = weight.reshape(*weight.shape[:-1], len(cell.gates), -1)
        return split[..., cell.gates, :].reshape(weight.shape).T[None]

    biases = np.concatenate([stacked("input_bias"), stacked("hidden_bias")], axis=-1)
    weights = [stacked("input_kernel"), stacked("hidden_kernel"), biases]
    inputs = [x, *map(constant, weights), ABSENT, *memory]
    hidden_size = len(layer["hidden_kernel"])
    count = 1 + len(memory)
    outputs = apply_many(
        cell.op, count, *inputs, hidden_size=hidden_size, **cell.attributes
    )
    nan = _nan_or_zero(x, *memory)  # of which onnxruntime's operators make numbers
    return [apply("Add", part, nan) for part in outputs[1:]]


def _nan_or_zero(*values: Value) -> Value:
    """Returns NaN where something in [..., D] is NaN, else 0: [..., 1]."""
    last_axis, zero = constant([-1], dtype=np.int64), constant(0.0)
    only_nan = [apply("Where", apply("IsNaN", x), x, zero) for x in values]
    return reduce(
        partial(apply, "Add"), [apply("ReduceSum", x, last_axis) for x in only_nan]
    )
