"""Action distributions: NamedTuples of arrays, with the mathematics as methods.

Every method works on any leading axes and sums over the last one, the action
dimensions. A new distribution is a NamedTuple with these methods (types.Distribution)
and a head in `heads`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from ppo_jax.types import Array, Key

LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """Independent normal distributions."""

    mean: Array  # [..., A]
    std: Array  # [..., A]

    def sample(self, key: Key) -> Array:
        """Draws mean + std * noise."""
        return self.mean + self.std * jax.random.normal(key, self.mean.shape)

    def log_prob(self, action: Array) -> Array:
        """Returns sum_a [-(a - m)^2 / (2 s^2) - ln s - ln(2 pi) / 2]."""
        z = (action - self.mean) / self.std
        return (-0.5 * z * z - jnp.log(self.std) - 0.5 * LOG_2PI).sum(axis=-1)

    def entropy(self) -> Array:
        """Returns sum_a [1/2 + ln(2 pi) / 2 + ln s]."""
        return (0.5 + 0.5 * LOG_2PI + jnp.log(self.std)).sum(axis=-1)

    def kl_divergence(self, other: "Gaussian") -> Array:
        """Returns sum_a [(q^2 - 1 + ((m - m') / s')^2) / 2 - ln q], q = s / s'.

        q^2 - 1 is written with expm1: for equal distributions the sum is exactly 0,
        and near that it keeps its digits.
        """
        log_q = jnp.log(self.std) - jnp.log(other.std)
        distance = (self.mean - other.mean) / other.std
        square = jnp.expm1(2.0 * log_q) + distance * distance
        return (0.5 * square - log_q).sum(axis=-1)

    def mode(self) -> Array:
        """Returns the mean."""
        return self.mean

    def spread(self) -> Array:
        """Returns the standard deviation."""
        return self.std


class Beta(NamedTuple):
    """Independent Beta distributions stretched from [0, 1] to [low, high]."""

    alpha: Array  # [..., A]
    beta: Array  # [..., A]
    low: Array  # [..., A]
    high: Array  # [..., A]

    def sample(self, key: Key) -> Array:
        """Draws u ~ Beta(alpha, beta) and returns low + u (high - low)."""
        u = jax.random.beta(key, self.alpha, self.beta)
        return self.low + u * (self.high - self.low)

    def log_prob(self, action: Array) -> Array:
        """Returns the log density on [low, high]; u is kept 1e-6 off the ends."""
        u = (action - self.low) / (self.high - self.low)
        u = jnp.clip(u, 1e-6, 1 - 1e-6)
        log_density = (self.alpha - 1) * jnp.log(u) + (self.beta - 1) * jnp.log1p(-u)
        stretch = jnp.log(self.high - self.low)
        return (log_density - _log_beta(self.alpha, self.beta) - stretch).sum(axis=-1)

    def entropy(self) -> Array:
        """Returns the entropy on [0, 1], without the stretch, as rsl_rl does."""
        a, b = self.alpha, self.beta
        own = (a - 1) * digamma(a) + (b - 1) * digamma(b)
        both = (a + b - 2) * digamma(a + b)
        return (_log_beta(a, b) - own + both).sum(axis=-1)

    def kl_divergence(self, other: "Beta") -> Array:
        """Returns the closed form; the stretch cancels."""
        a, b, c, d = self.alpha, self.beta, other.alpha, other.beta
        own = (a - c) * digamma(a) + (b - d) * digamma(b)
        both = (c - a + d - b) * digamma(a + b)
        return (_log_beta(c, d) - _log_beta(a, b) + own + both).sum(axis=-1)

    def mode(self) -> Array:
        """Returns the mean on [low, high]: what rsl_rl plays, not the mode."""
        return self.low + self.alpha / (self.alpha + self.beta) * (self.high - self.low)

    def spread(self) -> Array:
        """Returns the standard deviation on [low, high]."""
        a, b = self.alpha, self.beta
        variance = a * b / ((a + b) ** 2 * (a + b + 1))
        return jnp.sqrt(variance) * (self.high - self.low)


class Categorical(NamedTuple):
    """A choice among K actions; the action is an int32 without an axis of its own."""

    logits: Array  # [..., K], not normalised

    def sample(self, key: Key) -> Array:
        """Draws an index."""
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def log_prob(self, action: Array) -> Array:
        """Returns the log probability of the index."""
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=bool)
        return jnp.where(chosen, jax.nn.log_softmax(self.logits), 0.0).sum(axis=-1)

    def entropy(self) -> Array:
        """Returns -sum_k p ln p."""
        log_p = jax.nn.log_softmax(self.logits)
        return -(jnp.exp(log_p) * log_p).sum(axis=-1)

    def kl_divergence(self, other: "Categorical") -> Array:
        """Returns sum_k p (ln p - ln q)."""
        log_p = jax.nn.log_softmax(self.logits)
        log_q = jax.nn.log_softmax(other.logits)
        return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)

    def mode(self) -> Array:
        """Returns the most likely index."""
        return self.logits.argmax(axis=-1).astype(jnp.int32)

    def spread(self) -> Array:
        """Returns the standard deviation of each action's indicator."""
        p = jax.nn.softmax(self.logits)
        return jnp.sqrt(p * (1 - p))


def _log_beta(a: Array, b: Array) -> Array:
    return gammaln(a) + gammaln(b) - gammaln(a + b)
