"""The type in which the matrix products of a network are taken."""

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

    return network._replace(
        policy=lambda params, inputs: network.policy(cast(params), inputs),
        value=lambda params, inputs: network.value(cast(params), inputs),
    )
