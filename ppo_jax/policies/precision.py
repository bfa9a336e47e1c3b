"""The type in which the matrix products of networks are taken."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from ppo_jax.types import ActorCritic, Params


def in_bfloat16(network: ActorCritic) -> ActorCritic:
    """Returns the same functions with the matrix products taken in bfloat16.

    Parameters, sums, activations and everything after the networks stay float32.
    """

    def cast(params: Params) -> Params:
        return jax.tree.map(
            lambda p: p.astype(jnp.bfloat16) if p.ndim > 1 else p, params
        )

    recurrence = network.recurrence
    if recurrence:
        take, both = recurrence.step, recurrence.policy_and_value
        recurrence = recurrence._replace(
            step=lambda params, inputs, carry: take(cast(params), inputs, carry),
            policy_and_value=both
            and (lambda params, inputs: both(cast(params), inputs)),
        )
    return network._replace(
        recurrence=recurrence,
        policy=lambda params, inputs: network.policy(cast(params), inputs),
        value=lambda params, inputs: network.value(cast(params), inputs),
    )


def in_full_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose matrix products, and their gradients, are of float32.

    As torch takes them unless told otherwise, and rsl_rl with it. On a CPU nothing
    changes; on a card with TF32 the products are slower, and 1000 times as exact.
    """

    @wraps(function)
    def exact(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return exact
