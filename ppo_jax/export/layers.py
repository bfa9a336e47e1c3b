"""Layers as expressions of ONNX operators: activations, linear, recurrent, of images.

Letters in the shape comments: B observations, H hidden units, C channels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.export.graph import ABSENT, Value, apply, apply_many, constant, linear
from ppo_jax.policies.conv import (
    LAYER_NORM_EPSILON,
    POOL,
    POOL_STRIDE,
    padding_of,
)
from ppo_jax.policies.models import CNNConfig, ModelConfig
from ppo_jax.types import Array, Params

FLOAT32 = 1  # as onnx.TensorProto numbers types


def hidden_layers(config: ModelConfig, params: Params, x: Value) -> Value:
    """Returns the hidden layers applied to x, each followed by the activation."""
    activation = ACTIVATIONS[config.activation.lower()]
    for index in range(len(config.hidden_dims)):
        x = activation(linear(params[f"layer_{index}"], x, f"mlp.{2 * index}"))
    return x


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
    return outputs[1:]


# --- images


def image_features(config: CNNConfig, params: Params, image: Value, size: Any) -> Value:
    """Returns the features [B, F] of an image, flattened in the order C, H, W.

    Args:
      config: of the encoder.
      params: of it.
      image: [B, C, H, W] of any type; integers are taken as they are.
      size: (H, W).
    """
    if config.spatial_softmax != "none":
        raise ValueError(
            f"spatial_softmax = {config.spatial_softmax!r} cannot be written as ONNX"
        )
    x = apply("Cast", image, to=FLOAT32)
    for index, layer in enumerate(config.layers()):
        step = kernel, stride, dilation = layer[1:4]
        sides = [0, 0]
        if config.padding != "none":
            sides = [padding_of(pixels, *step) for pixels in size]
        x = _convolved(config.padding, params[f"layer_{index}"], x, step, sides)
        size = [
            (pixels + 2 * side - dilation * (kernel - 1) - 1) // stride + 1
            for pixels, side in zip(size, sides, strict=True)
        ]
        if layer.norm == "layer":
            x = _layer_norm(params[f"norm_{index}"], x)
        x = ACTIVATIONS[config.activation.lower()](x)
        if layer.max_pool:
            x = apply(
                "MaxPool",
                x,
                kernel_shape=[POOL] * 2,
                strides=[POOL_STRIDE] * 2,
                pads=[1] * 4,
            )
            size = [(pixels + 2 - POOL) // POOL_STRIDE + 1 for pixels in size]
    if config.global_pool != "none":
        op = "ReduceMax" if config.global_pool == "max" else "ReduceMean"
        return apply(op, x, constant([2, 3], dtype=np.int64), keepdims=0)
    return apply("Flatten", x, axis=1)


def _convolved(
    padding: str,
    layer: Mapping[str, Array],
    x: Value,
    step: tuple[int, int, int],
    sides: Sequence[int],
) -> Value:
    """Returns a convolution of kernel, stride and dilation, with padded sides."""
    kernel, stride, dilation = step
    if padding == "circular":  # the mode of Pad is younger than the opset
        for axis, side in zip((2, 3), sides, strict=True):
            x = _wrapped(x, axis, side)
    elif padding in PAD_MODES:
        pads = [0, 0, *sides, 0, 0, *sides]
        x = apply("Pad", x, constant(pads, dtype=np.int64), mode=PAD_MODES[padding])
    own = [*sides, *sides] if padding == "zeros" else [0] * 4
    return apply(
        "Conv",
        x,
        constant(layer["kernel"]),
        constant(layer["bias"]),
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        pads=own,
    )


PAD_MODES = {"reflect": "reflect", "replicate": "edge"}


def _wrapped(x: Value, axis: int, side: int) -> Value:
    """Returns x with its end before it and its beginning after it, `side` of each."""
    if side == 0:
        return x
    end = _part(x, axis, -side, np.iinfo(np.int64).max)
    beginning = _part(x, axis, 0, side)
    return apply("Concat", end, x, beginning, axis=axis)


def _part(x: Value, axis: int, start: int, stop: int) -> Value:
    numbers = (constant([n], dtype=np.int64) for n in (start, stop, axis))
    return apply("Slice", x, *numbers)


def _layer_norm(layer: Mapping[str, Array], x: Value) -> Value:
    """Returns each image with mean 0 and variance 1 over C, H, W, scaled, shifted."""
    return apply(
        "LayerNormalization",
        x,
        constant(layer["scale"]),
        constant(layer["bias"]),
        axis=1,
        epsilon=LAYER_NORM_EPSILON,
    )
