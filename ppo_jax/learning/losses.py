"""The losses of PPO, each a formula, and `ppo_loss`, which adds them up."""

import chex
import jax.numpy as jnp

from ppo_jax.types import (
    ActorCritic,
    Array,
    Batch,
    Hyperparams,
    Metrics,
    Params,
    Scalar,
)


def clipped_surrogate(ratio: Array, advantage: Array, clip_param: Scalar) -> Array:
    """Returns the policy loss of each sample, [...].

        max( -A ratio, -A clip(ratio, 1 - c, 1 + c) )

    Args:
      ratio: [...] probability of the action, new over old.
      advantage: [...] of the action, normalised by the caller.
      clip_param: c, how far the ratio may leave 1 and still pay.

    Source: Schulman et al. 2017, eq. 7, arXiv:1707.06347, as a loss.
    """
    chex.assert_equal_shape([ratio, advantage])
    clipped = jnp.clip(ratio, 1.0 - clip_param, 1.0 + clip_param)
    return jnp.maximum(-advantage * ratio, -advantage * clipped)


def clipped_value_loss(
    value: Array, old_value: Array, value_target: Array, clip_param: Scalar
) -> Array:
    """Returns the value loss of each sample, limited in how far one update moves V.

        Vc = V_old + clip(V - V_old, -c, c);  max( (V - R)^2, (Vc - R)^2 )

    It is taken as the square of the larger error. The gradient of a maximum asks, of
    every sample, how many are the largest: so many operations that XLA on a CPU gives
    them to two threads, which for the minibatch of a small network takes ten times as
    long as to do them.

    Args:
      value: [...] V with the current parameters.
      old_value: [...] V before the update.
      value_target: [...] R.
      clip_param: c, in the units of the value: the same number that clips the ratio.

    Source: OpenAI baselines, ppo2. Differs: no factor 1/2, as in rsl_rl.
    """
    chex.assert_equal_shape([value, old_value, value_target])
    clipped = old_value + jnp.clip(value - old_value, -clip_param, clip_param)
    error, clipped_error = value - value_target, clipped - value_target
    is_clipped_larger = jnp.abs(clipped_error) > jnp.abs(error)
    return jnp.square(jnp.where(is_clipped_larger, clipped_error, error))


def squared_value_loss(value: Array, value_target: Array) -> Array:
    """Returns (R - V)^2 of each sample, [...], without a factor 1/2."""
    chex.assert_equal_shape([value, value_target])
    return jnp.square(value_target - value)


def ppo_loss(
    params: Params,
    network: ActorCritic,
    batch: Batch,
    hparams: Hyperparams,
    *,
    use_clipped_value_loss: bool = True,
) -> tuple[Array, Metrics]:
    """Returns surrogate + value_loss_coef * value - entropy_coef * entropy.

    Args:
      params: of the network.
      network: policy and value function.
      batch: one minibatch.
      hparams: clip_param, value_loss_coef and entropy_coef are read.
      use_clipped_value_loss: `clipped_value_loss` instead of `squared_value_loss`.

    Returns:
      The scalar loss, and the means over the minibatch that are worth a curve; "kl"
      is KL(old || new), which the adaptive learning rate reads. It has a gradient:
      your own loss may add it.
    """
    policy, value = network.policy_and_value(params, batch.obs)
    ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)

    if use_clipped_value_loss:
        value_loss = clipped_value_loss(
            value, batch.value, batch.value_target, hparams.clip_param
        )
    else:
        value_loss = squared_value_loss(value, batch.value_target)
    terms = sample_means(
        surrogate_loss=clipped_surrogate(ratio, batch.advantage, hparams.clip_param),
        value_loss=value_loss,
        entropy=policy.entropy(),
    )
    # Apart, so that a loss that does not add them need not differentiate them.
    watched = sample_means(
        kl=batch.distribution.kl_divergence(policy),
        clip_fraction=jnp.abs(ratio - 1.0) > hparams.clip_param,
        mean_std=policy.spread().mean(axis=-1),
    )
    loss = (
        terms["surrogate_loss"]
        + hparams.value_loss_coef * terms["value_loss"]
        - hparams.entropy_coef * terms["entropy"]
    )
    return loss, terms | watched


def sample_means(**terms: Array) -> Metrics:
    """Returns the mean of each term over its samples.

    All are stacked and then summed at once. XLA would otherwise compute each term
    inside its own sum: on a CPU one number at a time, which takes ten times as long.

    Args:
      **terms: [...] each, of equal shape.
    """
    chex.assert_equal_shape(list(terms.values()))
    means = jnp.stack([term.ravel() for term in terms.values()]).mean(axis=1)
    return dict(zip(terms, means, strict=True))
