"""Convolutional encoders of images, with torch's layout and initialisation.

Letters in the shape comments: C channels, H height, W width; images are [C, H, W].
"""

import dataclasses
import math
from collections.abc import Mapping

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.policies.activations import ACTIVATIONS
from ppo_jax.policies.mlp import LAYER_NORM_EPSILON
from ppo_jax.policies.models import CNNConfig, ModelConfig
from ppo_jax.types import Array, Key

MIN_TEMPERATURE = 1e-3  # of Isaac Lab's spatial softmax
POOL, POOL_STRIDE = 3, 2  # of max-pooling, as rsl_rl has it
PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def padding_of(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Returns how much is put on each side, so that size / stride comes out.

        ceil((s floor(size / s) - size - s + d (k - 1) + 1) / 2)

    Where it is negative, so much is cut off.

    Source: rsl_rl's CNN.
    """
    wanted = stride * (size // stride) - size - stride + dilation * (kernel - 1) + 1
    return math.ceil(wanted / 2)


def surround(
    x: Array, kernel: int, stride: int, dilation: int, padding: str
) -> tuple[Array, list[tuple[int, int]]]:
    """Returns images with what surrounds them, and what zeros the convolution adds.

    Args:
      x: [B, C, H, W].
      kernel: its width.
      stride: its step.
      dilation: its spread.
      padding: a word of `CNNConfig.padding`.

    Raises:
      ValueError: torch has no such padding of such an image, or the image is smaller
        than the kernel.
    """
    height, width = x.shape[2:]
    sides = [0, 0]
    if padding != "none":
        sides = [padding_of(size, kernel, stride, dilation) for size in (height, width)]
    for size, side in zip((height, width), sides, strict=True):
        what = f"an image of {height} x {width} with kernel_size = {kernel}, "
        what += f"stride = {stride} and dilation = {dilation}"
        if (padding == "zeros" and side < 0) or (padding == "reflect" and side >= size):
            raise ValueError(
                f"padding = {padding!r} of {what} would be {side} pixels on a side, "
                "which torch has not: give padding = 'none'"
            )
        if size + 2 * side < dilation * (kernel - 1) + 1:
            raise ValueError(
                f"{what} leaves nothing: give a smaller kernel, or fewer layers"
            )
    if padding not in PAD_MODES:
        return x, [(side, side) for side in sides]
    pads = [(0, 0), (0, 0), *((max(side, 0),) * 2 for side in sides)]
    x = jnp.pad(x, pads, mode=PAD_MODES[padding])
    cut = [slice(-side, side) if side < 0 else slice(None) for side in sides]
    return x[:, :, cut[0], cut[1]], [(0, 0), (0, 0)]


def feature_size(config: CNNConfig, height: int, width: int) -> tuple[int, int]:
    """Returns the height and width of what the layers make of an image."""
    image = jax.ShapeDtypeStruct((1, 1, height, width), jnp.float32)
    flat = dataclasses.replace(config, spatial_softmax="none", global_pool="none")
    module = CNN(flat, flatten=False)
    features = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x)[0], image
    )
    return features.shape[-2], features.shape[-1]


class Conv(nn.Module):
    """A convolution, initialised as torch does: U(-1, 1) / sqrt(C k k), both."""

    features: int
    kernel_size: int
    stride: int
    dilation: int
    padding: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, C, H, W] to [B, features, H', W']."""
        step = (self.kernel_size, self.stride, self.dilation)
        shape = (self.features, x.shape[1], self.kernel_size, self.kernel_size)
        limit = 1.0 / math.sqrt(math.prod(shape[1:]))

        def uniform(key: Key, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        kernel = self.param("kernel", uniform, shape)
        bias = self.param("bias", uniform, (self.features,))
        x, pads = surround(x, *step, self.padding)
        convolved = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype),
            kernel,
            window_strides=(self.stride,) * 2,
            padding=pads,
            rhs_dilation=(self.dilation,) * 2,
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )
        return convolved.astype(jnp.float32) + bias.reshape(1, -1, 1, 1)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) of each image over C, H, W, scaled and shifted."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, C, H, W] to the same."""
        scale = self.param("scale", nn.initializers.ones, x.shape[1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[1:])
        mean = x.mean(axis=(1, 2, 3), keepdims=True)
        var = x.var(axis=(1, 2, 3), keepdims=True)
        x = (x - mean) / jnp.sqrt(var + LAYER_NORM_EPSILON)
        return x * scale[None] + bias[None]


def max_pool(x: Array) -> Array:
    """Returns the maxima of 3 x 3 pixels, every second one; nothing surrounds them."""
    window, strides = (1, 1, POOL, POOL), (1, 1, POOL_STRIDE, POOL_STRIDE)
    pads = ((0, 0), (0, 0), (1, 1), (1, 1))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, pads)


def scaled(image: Array) -> Array:
    """Returns an image in [-0.5, 0.5], as Isaac Lab's spatial softmax scales it.

        colours: x / 255 - 0.5;  depth in m: tanh(d / 2) - 0.5, 0.5 where it is NaN

    Raises:
      ValueError: it is neither of uint8 nor of floats.
    """
    if image.dtype == jnp.uint8:
        return image * jnp.float32(1.0 / 255.0) - 0.5
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"spatial_softmax = 'isaaclab' scales colours of uint8 and depth of floats,"
            f" but an image is {image.dtype}: observe one of these"
        )
    missing = jnp.isnan(image)
    depth = jnp.tanh(jnp.where(missing, 0.0, image).astype(jnp.float32) / 2.0) - 0.5
    return jnp.where(missing, 0.5, depth)


def expected_position(features: Array, temperature: Array | float) -> tuple[Array, ...]:
    """Returns where each channel is large, down and across, each [B, C] in [-1, 1].

    The mean place of its pixels, weighted by softmax(features / temperature).

    Args:
      features: [B, C, H, W].
      temperature: [C], or one for all.

    Source: Levine et al. 2016, section 5.1, arXiv:1504.00702.
    """
    chex.assert_rank(features, 4)
    batch, channels, height, width = features.shape
    pixels = features.reshape(batch, channels, height * width)
    weights = jax.nn.softmax(pixels / jnp.reshape(temperature, (1, -1, 1)))
    weights = weights.reshape(features.shape)
    rows = jnp.linspace(-1.0, 1.0, height).reshape(1, 1, height)
    columns = jnp.linspace(-1.0, 1.0, width).reshape(1, 1, width)
    down = (weights.sum(axis=3) * rows).sum(axis=2)
    return down, (weights.sum(axis=2) * columns).sum(axis=2)


class CNN(nn.Module):
    """Layers of convolution, norm, activation and pooling, as rsl_rl orders them."""

    config: CNNConfig
    flatten: bool = True

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Maps [..., C, H, W] to features [..., F], flattened in the order C, H, W.

        Integers are taken as they are: nothing is scaled, but for Isaac Lab's spatial
        softmax.
        """
        config, leading = self.config, image.shape[:-3]
        activation = ACTIVATIONS[config.activation.lower()]
        if config.spatial_softmax == "isaaclab":
            image = scaled(image)
        x = image.reshape(-1, *image.shape[-3:]).astype(jnp.float32)
        for index, layer in enumerate(config.layers()):
            x = Conv(*layer[:4], padding=config.padding, name=f"layer_{index}")(x)
            if layer.norm == "layer":
                x = LayerNorm(name=f"norm_{index}")(x)
            x = activation(x)
            if layer.max_pool:
                x = max_pool(x)
        if config.global_pool != "none":
            pool = jnp.max if config.global_pool == "max" else jnp.mean
            x = pool(x, axis=(-2, -1))
        if config.spatial_softmax != "none":
            x = self._positions(x)
        return x.reshape(*leading, -1) if self.flatten else x

    def _positions(self, x: Array) -> Array:
        """Returns both coordinates of each channel, in the order of their library."""
        start = self.config.spatial_softmax_temperature
        if self.config.spatial_softmax == "mjlab":
            return jnp.stack(expected_position(x, start), axis=-1)
        init = nn.initializers.constant(math.log(start))
        log_temperature = self.param("log_temperature", init, (x.shape[1],))
        temperature = jnp.maximum(jnp.exp(log_temperature), MIN_TEMPERATURE)
        down, across = expected_position(x, temperature)
        return jnp.concatenate([across, down], axis=-1)


class Encoders(nn.Module):
    """One encoder for each image that a model sees."""

    config: ModelConfig

    @nn.compact
    def __call__(self, images: Mapping[str, Array]) -> list[Array]:
        """Maps {group: [..., C, H, W]} to the features of each, in order."""
        return [
            CNN(self.config.encoder_of(group), name=group)(x)
            for group, x in images.items()
        ]
