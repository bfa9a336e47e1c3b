"""Linear layers as torch starts them, and a stack of them."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.experimental.layout import Layout, with_layout_constraint

from ppo_jax.policies.activations import ACTIVATIONS
from ppo_jax.types import Array, Key

LAYER_NORM_EPSILON = 1e-5  # torch's


def product(x: Array, kernel: Array) -> Array:
    """Returns x W, [..., out], taken in the kernel's type, accumulated in float32.

    Of a matrix: for the gradient of a kernel that has read [T, N, D], XLA on a CPU
    turns over all that it multiplies, and takes six times as long.
    """
    rows = x.astype(kernel.dtype).reshape(-1, x.shape[-1])
    return _product(rows, kernel).reshape(*x.shape[:-1], kernel.shape[-1])


@jax.custom_jvp
def _product(rows: Array, kernel: Array) -> Array:
    """Returns x W of [B, in]."""
    return jnp.matmul(rows, kernel, preferred_element_type=jnp.float32)


def _product_jvp(
    primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    """Returns x W and dx W + x dW, whose transpose is the gradient."""
    (rows, kernel), (of_rows, of_kernel) = primals, tangents
    of_y = []
    if not isinstance(of_rows, SymbolicZero):
        of_y.append(_product(of_rows, kernel))
    if not isinstance(of_kernel, SymbolicZero):
        of_y.append(_change_by_kernel(rows, of_kernel))
    return _product(rows, kernel), sum(of_y[1:], of_y[0])


def _change_by_kernel(rows: Array, of_kernel: Array) -> Array:
    """Returns x dW, in the form whose transpose, x^T g, is soonest taken.

    That contracts the first axis of both. XLA on a CPU gives such a product to another
    library, which takes half as long again: x is turned over in memory before, and the
    product is one like all others. For a single column that costs more than it saves.
    """
    if jax.default_backend() != "cpu" or of_kernel.shape[1] == 1:
        return _product(rows, of_kernel)
    turned = with_layout_constraint(rows.T, Layout(major_to_minor=(0, 1)))
    return jax.lax.dot_general(
        turned,
        of_kernel,
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


_product.defjvp(_product_jvp, symbolic_zeros=True)


class Linear(nn.Module):
    """x W + b, initialised as torch does: U(-1, 1) / sqrt(fan_in), both.

    With `constant` the layer starts as that constant: W = 0, b = constant. With `gain`
    W starts orthogonal, times the gain, and b = 0 (Saxe et al. 2014, arXiv:1312.6120).
    """

    features: int
    constant: float | None = None
    gain: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., in] to [..., features]."""
        limit = 1.0 / math.sqrt(x.shape[-1])

        def uniform(key: Key, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        kernel_init = bias_init = uniform
        if self.constant is not None:
            kernel_init = nn.initializers.zeros
            bias_init = nn.initializers.constant(self.constant)
        elif self.gain is not None:
            kernel_init = nn.initializers.orthogonal(self.gain)
            bias_init = nn.initializers.zeros
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", bias_init, (self.features,))
        return product(x, kernel) + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) over the last axis, scaled and shifted."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to the same."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        deviation = x - x.mean(axis=-1, keepdims=True)
        var = jnp.square(deviation).mean(axis=-1, keepdims=True)
        shape = (1,) * (x.ndim - 1) + scale.shape
        x = deviation / jnp.sqrt(var + LAYER_NORM_EPSILON)
        return x * scale.reshape(shape) + bias.reshape(shape)


class MLP(nn.Module):
    """The hidden layers of a model, each followed by the activation.

    With `layer_norm` the norm stands between the two; `gain` is that of `Linear`.
    """

    hidden_dims: tuple[int, ...]
    activation: str
    layer_norm: bool = False
    gain: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to [..., hidden_dims[-1]]."""
        activation, input_dim = ACTIVATIONS[self.activation.lower()], x.shape[-1]
        for index, dim in enumerate(self.hidden_dims):
            width = input_dim if dim == -1 else dim
            x = Linear(width, gain=self.gain, name=f"layer_{index}")(x)
            if self.layer_norm:
                x = LayerNorm(name=f"norm_{index}")(x)
            x = activation(x)
        return x
