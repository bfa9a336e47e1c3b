"""Action distributions: NamedTuples of arrays, with the mathematics as methods.

Every method works on any leading axes and sums over the last one, the action
dimensions. A new distribution is a NamedTuple with these methods (types.Distribution)
and a head in `heads`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, log_ndtr

from ppo_jax.types import Array, Key

LOG_2PI = math.log(2 * math.pi)
END = 7.0  # u beyond which float32 tells actions no longer well apart
NEXT_TO_END = 1.0 / (1.0 + math.exp(2.0 * END))  # of a range: how far u = END is off
NUM_NODES = 32


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


class TanhGaussian(NamedTuple):
    """Independent normal distributions squashed by tanh into [low, high].

        a = low + (tanh(u) + 1) (high - low) / 2,  u ~ N(mean, std^2)

    Source: Haarnoja et al. 2018, appendix C, arXiv:1801.01290.
    """

    mean: Array  # [..., A] of u
    std: Array  # [..., A] of u
    low: Array  # [..., A]
    high: Array  # [..., A]

    def sample(self, key: Key) -> Array:
        """Draws u and squashes it; beyond +-7 the action is the end itself."""
        u = Gaussian(self.mean, self.std).sample(key)
        inside = jnp.where(u < END, self._squash(u), self.high)
        return jnp.where(u > -END, inside, self.low)

    def log_prob(self, action: Array) -> Array:
        """Returns ln N(u) - ln(da/du), summed over A.

            u = ln((a - low) / (high - a)) / 2
            da/du = 2 (a - low) (high - a) / (high - low)

        Both distances keep their digits near the ends, where 1 - tanh(u)^2 would not.
        An action on an end is all u beyond 7, and has their mean density: P(beyond)
        over the distance of u = 7. The u that it came from is lost in float32, and a
        density at any one would be wrong without bound where the mean is far out.
        """
        least = NEXT_TO_END * (self.high - self.low)
        below = jnp.maximum(action - self.low, least)
        above = jnp.maximum(self.high - action, least)
        log_below, log_above = jnp.log(below), jnp.log(above)
        z = (0.5 * (log_below - log_above) - self.mean) / self.std
        log_density = -0.5 * z * z - jnp.log(self.std) - 0.5 * LOG_2PI
        stretch = math.log(2.0) + log_below + log_above - jnp.log(self.high - self.low)
        on_high = self.high - action < 0.5 * least
        on_low = action - self.low < 0.5 * least
        on_end = log_ndtr(jnp.where(on_high, -z, z)) - jnp.log(least)
        each = jnp.where(on_high | on_low, on_end, log_density - stretch)
        return each.sum(axis=-1)

    def entropy(self) -> Array:
        """Returns that of the squashed distribution: of u, plus E[ln(da/du)].

        It has no closed form: the mean is taken over 32 nodes of Gauss and Hermite, and
        is within 0.02 for a std of u up to 3.
        """
        u, weight = self._nodes()
        log_slope = 2.0 * (
            math.log(2.0) - jnp.abs(u) - jnp.log1p(jnp.exp(-2 * jnp.abs(u)))
        )
        scale = jnp.log(0.5 * (self.high - self.low))
        own = 0.5 + 0.5 * LOG_2PI + jnp.log(self.std)
        return (own + scale + (weight * log_slope).sum(axis=0)).sum(axis=-1)

    def kl_divergence(self, other: "TanhGaussian") -> Array:
        """Returns that of u: squashing both alike does not change it."""
        return Gaussian(self.mean, self.std).kl_divergence(
            Gaussian(other.mean, other.std)
        )

    def mode(self) -> Array:
        """Returns the mean of u, squashed: the median, which is what is played."""
        return self._squash(self.mean)

    def spread(self) -> Array:
        """Returns the standard deviation on [low, high], by the same nodes."""
        u, weight = self._nodes()
        y = jnp.tanh(u)
        deviation = y - (weight * y).sum(axis=0)[None]
        variance = (weight * deviation * deviation).sum(axis=0)
        return jnp.sqrt(variance) * 0.5 * (self.high - self.low)

    def _squash(self, u: Array) -> Array:
        return self.low + 0.5 * (jnp.tanh(u) + 1.0) * (self.high - self.low)

    def _nodes(self) -> tuple[Array, Array]:
        """Returns values of u, [32, ..., A], and their weights, [32, 1, ...]."""
        x, weight = np.polynomial.hermite_e.hermegauss(NUM_NODES)
        shape = (NUM_NODES,) + (1,) * self.mean.ndim
        x = x.astype(np.float32).reshape(shape)
        weight = (weight / weight.sum()).astype(np.float32).reshape(shape)
        return self.mean[None] + self.std[None] * x, jnp.asarray(weight)


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
