"""Symmetries of the tests' tasks, as functions of observations and actions."""

import jax
import jax.numpy as jnp


def negated(obs, action):
    """The original and its negation, of everything: K = 2."""
    return jax.tree.map(lambda x: jnp.concatenate([x, -x]), (obs, action))
