"""Optimizers with torch's constants, which rsl_rl uses; optax has others.

Each turns gradients into a direction; the gradient step multiplies it by
-learning_rate, so that the rate can be state (`adapt_learning_rate`).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ppo_jax.types import Array, Params, Scalar

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def scale_by_adam() -> optax.GradientTransformation:
    """Returns Adam's direction, m' / (sqrt(v') + eps).

    Source: Kingma & Ba 2015, algorithm 1, arXiv:1412.6980. Differs from
    `optax.scale_by_adam` in the bias correction: 1 - b^t is -expm1(t ln b), because in
    float32 1 - 0.999^t is wrong in the fifth digit at first, and rsl_rl's is not.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        count = jnp.zeros((), jnp.int32)
        return optax.ScaleByAdamState(count=count, mu=zeros, nu=zeros)

    def update(
        updates: Any, state: optax.OptState, params: Any = None
    ) -> tuple[Any, optax.OptState]:
        del params
        assert isinstance(state, optax.ScaleByAdamState)
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, BETA1, 1)
        nu = optax.tree.update_moment(updates, state.nu, BETA2, 2)
        bias1 = -jnp.expm1(count * math.log(BETA1))
        root_bias2 = jnp.sqrt(-jnp.expm1(count * math.log(BETA2)))
        direction = jax.tree.map(
            lambda m, v: (m / bias1) / (jnp.sqrt(v) / root_bias2 + EPSILON), mu, nu
        )
        return direction, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": scale_by_adam,
    "adamw": lambda: optax.chain(scale_by_adam(), optax.add_decayed_weights(0.01)),
    "sgd": optax.identity,
    "rmsprop": lambda: optax.scale_by_rms(decay=0.99, eps=EPSILON, eps_in_sqrt=False),
}


def descend(
    optimizer: optax.GradientTransformation,
    opt_state: Any,
    params: Params,
    gradient: Params,
    learning_rate: Scalar,
) -> tuple[Params, Any]:
    """Returns parameters and optimizer state after one step."""
    direction, opt_state = optimizer.update(gradient, opt_state, params)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, params, direction)
    return params, opt_state


def clip_gradient(gradient: Params, max_norm: Scalar) -> tuple[Params, Array]:
    """Returns the gradient scaled to a global norm of at most `max_norm`, and its norm.

    The scale is min(1, max_norm / (norm + 1e-6)), as torch has it.
    """
    norm = optax.global_norm(gradient)
    scale = jnp.minimum(1.0, max_norm / (norm + 1e-6))
    return jax.tree.map(lambda g: g * scale, gradient), norm
