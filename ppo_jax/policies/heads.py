"""From features to a distribution of actions."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppo_jax.policies import distributions
from ppo_jax.policies.mlp import Linear
from ppo_jax.policies.models import DistributionConfig
from ppo_jax.types import Array

MIN_STD = 1e-6  # a standard deviation of 0 has no density


class GaussianHead(nn.Module):
    """A mean that depends on the observation and a std that does not."""

    action_dim: int
    config: DistributionConfig
    gain: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> distributions.Gaussian:
        """Maps features to a Gaussian over [..., A]."""
        return self._gaussian(x)

    def _gaussian(self, x: Array) -> distributions.Gaussian:
        mean = Linear(self.action_dim, gain=self.gain, name="mean")(x)
        init = nn.initializers.constant(_initial_spread(self.config))
        raw = self.param("spread", init, (self.action_dim,))
        std = _std(
            raw if self.config.learn_std else jax.lax.stop_gradient(raw), self.config
        )
        return distributions.Gaussian(mean, _for_each_sample(std, mean.shape))


class TanhGaussianHead(GaussianHead):
    """A Gaussian of which tanh, stretched to the range, is the action."""

    @nn.compact
    def __call__(self, x: Array) -> distributions.TanhGaussian:
        """Maps features to a squashed Gaussian over [..., A]."""
        mean, std = self._gaussian(x)
        low, high = self.config.action_range
        return distributions.TanhGaussian(
            mean, std, jnp.full_like(mean, low), jnp.full_like(mean, high)
        )


class HeteroscedasticGaussianHead(nn.Module):
    """A mean and a std that both depend on the observation."""

    action_dim: int
    config: DistributionConfig
    gain: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> distributions.Gaussian:
        """Maps features to a Gaussian over [..., A]."""
        mean = Linear(self.action_dim, gain=self.gain, name="mean")(x)
        start = _initial_spread(self.config)
        raw = Linear(self.action_dim, constant=start, name="spread")(x)
        return distributions.Gaussian(mean, _std(raw, self.config))


class BetaHead(nn.Module):
    """alpha and beta = softplus(.) + 1: one mode, inside the range."""

    action_dim: int
    config: DistributionConfig
    gain: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> distributions.Beta:
        """Maps features to a Beta over [..., A]."""
        alpha = (
            jax.nn.softplus(Linear(self.action_dim, gain=self.gain, name="alpha")(x))
            + 1.0
        )
        beta = Linear(self.action_dim, constant=0.0, name="beta")(x)
        beta = jax.nn.softplus(beta) + 1.0
        low, high = self.config.action_range
        return distributions.Beta(
            alpha, beta, jnp.full_like(alpha, low), jnp.full_like(alpha, high)
        )


class CategoricalHead(nn.Module):
    """Logits of a discrete action."""

    num_actions: int
    gain: float | None = None

    @nn.compact
    def __call__(self, x: Array) -> distributions.Categorical:
        """Maps features to a Categorical over K actions."""
        logits = Linear(self.num_actions, gain=self.gain, name="logits")(x)
        return distributions.Categorical(logits)


HEADS = {
    "GaussianDistribution": GaussianHead,
    "HeteroscedasticGaussianDistribution": HeteroscedasticGaussianHead,
    "BetaDistribution": BetaHead,
    "TanhGaussianDistribution": TanhGaussianHead,
}


def _initial_spread(config: DistributionConfig) -> float:
    if config.std_type == "sigmoid":
        low, high = config.std_range
        return math.log((config.init_std - low) / (high - config.init_std))
    return math.log(config.init_std) if config.std_type == "log" else config.init_std


def _std(raw: Array, config: DistributionConfig) -> Array:
    low, high = max(config.std_range[0], MIN_STD), config.std_range[1]
    if config.std_type == "sigmoid":  # smooth: it learns near its limits as well
        return low + (high - low) * jax.nn.sigmoid(raw)
    if config.std_type == "log":
        return jnp.exp(_clip(raw, math.log(low), math.log(high)))
    return _clip(raw, low, high)


def _for_each_sample(std: Array, shape: tuple[int, ...]) -> Array:
    """Returns a std [A] as [..., A].

    The barrier stands, in the backward pass, between the gradient of each sample and
    their sum. Without it XLA makes one loop of both, which for A = 1 on a CPU takes
    one number at a time: a third of the time of an update of small networks.
    """
    return jax.lax.optimization_barrier(jnp.broadcast_to(std, shape))


def _clip(x: Array, low: float, high: float) -> Array:
    """Clips with torch's gradient: 1 inside and on the limits, 0 outside."""
    inside = (x >= low) & (x <= high)
    return jnp.where(inside, x, jax.lax.stop_gradient(jnp.clip(x, low, high)))
