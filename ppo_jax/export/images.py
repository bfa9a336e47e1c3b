"""Encoders of images as expressions of ONNX operators.

Letters in the shape comments: B images, C channels, H height, W width, F features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppo_jax.export.graph import Value, apply, constant
from ppo_jax.export.layers import ACTIVATIONS, layer_norm
from ppo_jax.policies.conv import (
    MIN_TEMPERATURE,
    POOL,
    POOL_STRIDE,
    padding_of,
)
from ppo_jax.policies.models import CNNConfig, ConvLayer
from ppo_jax.types import Array, Params

FLOAT32 = 1  # as onnx.TensorProto numbers types
PAD_MODES = {"reflect": "reflect", "replicate": "edge"}  # circular: younger than that
Size = tuple[int, int]  # (H, W)


def image_features(
    config: CNNConfig, params: Params, image: Value, size: Size, dtype: Any
) -> Value:
    """Returns the features [B, F] of an image, flattened in the order C, H, W.

    Args:
      config: of the encoder.
      params: of it.
      image: [B, C, H, W]; integers are taken as they are, but for Isaac Lab's softmax.
      size: of the image.
      dtype: of the image.
    """
    x = apply("Cast", image, to=FLOAT32)
    if config.spatial_softmax == "isaaclab":
        x = _scaled(x, dtype)
    for index, layer in enumerate(config.layers()):
        x, size = _convolved(config.padding, layer, params[f"layer_{index}"], x, size)
        if layer.norm == "layer":
            x = layer_norm(params[f"norm_{index}"], x)
        x = ACTIVATIONS[config.activation.lower()](x)
        if layer.max_pool:
            x, size = _max_pool(x, size)
    if config.spatial_softmax != "none":
        return _positions(config, params, x, size)
    if config.global_pool != "none":
        op = "ReduceMax" if config.global_pool == "max" else "ReduceMean"
        return apply(op, x, _integers(2, 3), keepdims=0)
    return apply("Flatten", x, axis=1)


def _scaled(x: Value, dtype: Any) -> Value:
    """Returns colours or depth in [-0.5, 0.5], see `policies.conv.scaled`."""
    half = constant(0.5)
    if dtype == np.uint8:
        return apply("Sub", apply("Mul", x, constant(1.0 / 255.0)), half)
    missing = apply("IsNaN", x)
    seen = apply("Where", missing, constant(0.0), x)
    depth = apply("Sub", apply("Tanh", apply("Mul", seen, half)), half)
    return apply("Where", missing, half, depth)


def _convolved(
    padding: str, layer: ConvLayer, params: Mapping[str, Array], x: Value, size: Size
) -> tuple[Value, Size]:
    """Returns a convolution, its sides padded or cut, and the size of that."""
    step = layer.kernel, layer.stride, layer.dilation
    sides = [0, 0]
    if padding != "none":
        sides = [padding_of(pixels, *step) for pixels in size]
    x = _surrounded(padding, x, sides)
    x = apply(
        "Conv",
        x,
        constant(params["kernel"]),
        constant(params["bias"]),
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        dilations=[layer.dilation] * 2,
        pads=[*sides, *sides] if padding == "zeros" else [0] * 4,
    )
    extent = layer.dilation * (layer.kernel - 1) + 1
    height, width = (
        (pixels + 2 * side - extent) // layer.stride + 1
        for pixels, side in zip(size, sides, strict=True)
    )
    return x, (height, width)


def _surrounded(padding: str, x: Value, sides: Sequence[int]) -> Value:
    """Returns images with what surrounds them; zeros are added by the convolution.

    A negative side is cut off.
    """
    more = [max(side, 0) for side in sides]
    if padding == "circular":
        for axis, side in zip((2, 3), more, strict=True):
            x = _wrapped(x, axis, side)
    elif padding in PAD_MODES:
        pads = _integers(0, 0, *more, 0, 0, *more)
        x = apply("Pad", x, pads, mode=PAD_MODES[padding])
    for axis, side in zip((2, 3), sides, strict=True):
        x = _part(x, axis, -side, side) if side < 0 else x
    return x


def _wrapped(x: Value, axis: int, side: int) -> Value:
    """Returns x with its end before it and its beginning after it, `side` of each."""
    if side == 0:
        return x
    end = _part(x, axis, -side, np.iinfo(np.int64).max)
    beginning = _part(x, axis, 0, side)
    return apply("Concat", end, x, beginning, axis=axis)


def _part(x: Value, axis: int, start: int, stop: int) -> Value:
    return apply("Slice", x, *map(_integers, (start, stop, axis)))


def _integers(*numbers: int) -> Value:
    return constant(numbers, dtype=np.int64)


def _max_pool(x: Value, size: Size) -> tuple[Value, Size]:
    pooled = apply(
        "MaxPool",
        x,
        kernel_shape=[POOL] * 2,
        strides=[POOL_STRIDE] * 2,
        pads=[1] * 4,
    )
    height, width = ((pixels + 2 - POOL) // POOL_STRIDE + 1 for pixels in size)
    return pooled, (height, width)


def _positions(config: CNNConfig, params: Params, x: Value, size: Size) -> Value:
    """Returns where each channel is large, [B, 2 C], in the order of its library.

    One product of the softmax of all pixels with where they are.
    """
    height, width = size
    down = np.repeat(np.linspace(-1.0, 1.0, height, dtype=np.float32), width)
    across = np.tile(np.linspace(-1.0, 1.0, width, dtype=np.float32), height)
    pixels = apply("Reshape", x, _integers(0, 0, -1))
    if config.spatial_softmax == "mjlab":  # both of a channel, then the next
        temperature: Any = config.spatial_softmax_temperature
        places = np.stack([down, across], axis=-1)
    else:  # all across, then all down
        learned = np.exp(np.asarray(params["log_temperature"]))
        temperature = np.maximum(learned, np.float32(MIN_TEMPERATURE))[:, None]
        places = np.stack([across, down], axis=-1)
    weights = apply("Softmax", apply("Div", pixels, constant(temperature)), axis=-1)
    found = apply("MatMul", weights, constant(places))
    if config.spatial_softmax != "mjlab":
        found = apply("Transpose", found, perm=[0, 2, 1])
    return apply("Flatten", found, axis=1)
