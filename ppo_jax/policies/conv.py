"""Convolutional encoders of images, with torch's layout and initialisation.

Letters in the shape comments: C channels, H height, W width; images are [C, H, W].
"""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.policies.activations import ACTIVATIONS
from ppo_jax.policies.models import CNNConfig
from ppo_jax.types import Array, Key

LAYER_NORM_EPSILON = 1e-5  # torch's
POOL, POOL_STRIDE = 3, 2  # of max-pooling, as rsl_rl has it
PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def padding_of(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Returns how much is put on each side, so that size / stride comes out.

        ceil((s floor(size / s) - size - s + d (k - 1) + 1) / 2)

    Source: rsl_rl's CNN. Where it would be negative nothing is put.
    """
    wanted = stride * (size // stride) - size - stride + dilation * (kernel - 1) + 1
    return max(math.ceil(wanted / 2), 0)


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
        channels, height, width = x.shape[1:]
        shape = (self.features, channels, self.kernel_size, self.kernel_size)
        limit = 1.0 / math.sqrt(math.prod(shape[1:]))

        def uniform(key: Key, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        kernel = self.param("kernel", uniform, shape)
        bias = self.param("bias", uniform, (self.features,))
        pads = [(0, 0), (0, 0)]
        if self.padding != "none":
            step = (self.kernel_size, self.stride, self.dilation)
            sides = [padding_of(size, *step) for size in (height, width)]
            pads = [(side, side) for side in sides]
        if self.padding in PAD_MODES:
            x = jnp.pad(x, [(0, 0), (0, 0), *pads], mode=PAD_MODES[self.padding])
            pads = [(0, 0), (0, 0)]
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


class CNN(nn.Module):
    """Layers of convolution, norm, activation and pooling, as rsl_rl orders them."""

    config: CNNConfig

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Maps [..., C, H, W] to features [..., F], flattened in the order C, H, W.

        Integers are taken as they are: nothing is scaled.
        """
        config, leading = self.config, image.shape[:-3]
        activation = ACTIVATIONS[config.activation.lower()]
        x = image.reshape(-1, *image.shape[-3:]).astype(jnp.float32)
        for index, layer in enumerate(config.layers()):
            x = Conv(*layer, padding=config.padding, name=f"layer_{index}")(x)
            if config.norm == "layer":
                x = LayerNorm(name=f"norm_{index}")(x)
            x = activation(x)
            if config.max_pool:
                x = max_pool(x)
        if config.global_pool != "none":
            pool = jnp.max if config.global_pool == "max" else jnp.mean
            x = pool(x, axis=(-2, -1))
        return x.reshape(*leading, -1)


class Encoders(nn.Module):
    """One encoder for each image that a model sees, all of one configuration."""

    config: CNNConfig

    @nn.compact
    def __call__(self, images: Mapping[str, Array]) -> list[Array]:
        """Maps {group: [..., C, H, W]} to the features of each, in order."""
        return [CNN(self.config, name=group)(x) for group, x in images.items()]
