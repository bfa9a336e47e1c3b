"""The losses: hand tables, and what the whole loss adds up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    ActorCritic,
    Batch,
    Gaussian,
    Hyperparams,
    clipped_surrogate,
    clipped_value_loss,
    ppo_loss,
    squared_value_loss,
)
from ppo_jax.learning.losses import sample_means


# c = 0.2: the ratio pays within [0.8, 1.2]. What the clip would improve is not counted.
@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),  # inside: the ratio itself
        (1.5, 2.0, -2.4),  # above, and better: paid up to 1.2
        (0.5, 2.0, -1.0),  # below, and worse: counted in full
        (1.1, -2.0, 2.2),
        (1.5, -2.0, 3.0),  # above, and worse: counted in full
        (0.5, -2.0, 1.6),  # below, and better: paid down to 0.8
    ],
)
def test_clipped_surrogate_matches_hand_arithmetic(
    maybe_jit, ratio, advantage, expected
):
    loss = maybe_jit(clipped_surrogate)(jnp.array([ratio]), jnp.array([advantage]), 0.2)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_means_are_of_the_samples_of_each_term():
    beyond = jnp.array([[True, False], [False, False]])
    means = sample_means(x=jnp.array([[1.0, 2.0], [3.0, 8.0]]), beyond=beyond)
    assert means == {"x": 3.5, "beyond": 0.25}
    with pytest.raises(AssertionError):
        sample_means(x=jnp.zeros(4), column=jnp.zeros((4, 1)))


def test_clipped_surrogate_stops_pushing_where_the_clip_holds():
    """The slope is -A inside or where it gets worse, else 0."""
    ratio = jnp.array([1.0, 1.5, 0.5, 1.5, 0.5])
    advantage = jnp.array([2.0, 2.0, 2.0, -2.0, -2.0])
    slope = jax.vmap(jax.grad(clipped_surrogate), (0, 0, None))
    expected = [-2.0, 0.0, -2.0, 2.0, 0.0]
    np.testing.assert_allclose(slope(ratio, advantage, 0.2), expected, rtol=1e-6)


# c = 0.2, V before the update is 1: Vc is V within [0.8, 1.2]. No factor 1/2.
@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        (1.1, 3.0, 3.61),  # inside: (1.1 - 3)^2
        (2.0, 3.0, 3.24),  # nearer than allowed: (1.2 - 3)^2 > (2 - 3)^2
        (0.0, 3.0, 9.0),  # moved away: (0 - 3)^2 > (0.8 - 3)^2
        (0.0, -1.0, 3.24),  # (0.8 + 1)^2 > (0 + 1)^2
        (2.0, 1.1, 0.81),  # overshot: (2 - 1.1)^2 > (1.2 - 1.1)^2
    ],
)
def test_clipped_value_loss_matches_hand_arithmetic(maybe_jit, value, target, expected):
    loss = maybe_jit(clipped_value_loss)(
        jnp.array([value]), jnp.array([1.0]), jnp.array([target]), 0.2
    )
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


def test_clipped_value_loss_maximises_per_sample():
    # 3.24 takes the clipped error, 9 the unclipped one
    loss = clipped_value_loss(
        jnp.array([2.0, 0.0]), jnp.array([1.0, 1.0]), jnp.array([3.0, 3.0]), 0.2
    )
    np.testing.assert_allclose(loss, [3.24, 9.0], rtol=1e-5)


def test_clipped_value_loss_has_the_slope_of_the_larger_error():
    """2 (V - R) where V is inside or it is the larger, else 0: Vc does not move.

    On the edge of the clip as inside, which is torch's slope too.
    """
    value = jnp.array([1.125, 0.875, 2.0, 0.0, 0.0, 2.0, 1.25])
    target = jnp.array([3.0, -1.0, 3.0, 3.0, -1.0, 1.0, 3.0])
    slope = jax.vmap(jax.grad(clipped_value_loss), (0, 0, 0, None))
    found = slope(value, jnp.ones(7), target, 0.25)
    expected = [-3.75, 3.75, 0.0, -6.0, 0.0, 2.0, -3.5]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipped_value_loss_hides_nothing_that_is_not_finite(maybe_jit, bad):
    good = jnp.ones(1)
    for args in ((bad * good, good, good), (good, good, bad * good)):
        assert not np.isfinite(maybe_jit(clipped_value_loss)(*args, 0.2)).any()


def test_value_losses_are_equal_under_a_wide_clip():
    value, old, target = jnp.array([[1.0, 3.0], [0.0, 0.0], [0.0, 1.0]])
    # without a half
    np.testing.assert_allclose(squared_value_loss(value, target), [1.0, 4.0])
    np.testing.assert_allclose(clipped_value_loss(value, old, target, 10.0), [1.0, 4.0])


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: clipped_surrogate(x, y, 0.2),
        lambda x, y: clipped_value_loss(x, x, y, 0.2),
        squared_value_loss,
    ],
)
def test_a_column_against_a_row_is_refused(loss):
    with pytest.raises(AssertionError):
        loss(jnp.zeros((4, 1)), jnp.zeros(4))


def network():
    """Observation [B, 2]; the mean is the observation times w, the value its sum v."""

    def policy(params, obs):
        w, log_std = params["actor"]["w"], params["actor"]["log_std"]
        return Gaussian(w * obs, jnp.exp(log_std) * jnp.ones_like(obs))

    def value(params, obs):
        return params["critic"]["v"] * obs.sum(axis=-1)

    return ActorCritic(None, None, policy, value, None)


def params(w=1.0, log_std=0.0, v=0.5):
    actor = {"w": jnp.float32(w), "log_std": jnp.float32(log_std)}
    return {"actor": actor, "critic": {"v": jnp.float32(v)}}


def batch_of(behaviour, ratio=1.0, num_samples=4):
    """Samples of the policy with these parameters, which `ratio` makes another's."""
    obs = jnp.linspace(-1.0, 1.0, 2 * num_samples).reshape(num_samples, 2)
    policy = network().policy(behaviour, obs)
    value = network().value(behaviour, obs)
    action = policy.mean + 0.5
    return Batch(
        obs=obs,
        action=action,
        log_prob=policy.log_prob(action) - jnp.log(ratio),
        distribution=policy,
        value=value,
        value_target=value + 0.3,
        advantage=jnp.linspace(-1.0, 2.0, num_samples),
    )


def test_before_any_step_the_policy_is_the_one_that_acted():
    """Ratio 1, KL 0, clip fraction 0; the gradient is the plain policy gradient."""
    start, hparams = params(), Hyperparams(entropy_coef=0.0, value_loss_coef=0.0)
    batch = batch_of(start)

    def loss(params):
        return ppo_loss(params, network(), batch, hparams)

    def plain(params):
        policy = network().policy(params, batch.obs)
        return -(policy.log_prob(batch.action) * batch.advantage).mean()

    (value, metrics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(start)
    assert metrics["kl"] == 0.0
    assert metrics["clip_fraction"] == 0.0
    np.testing.assert_allclose(value, -0.5, rtol=1e-6)  # -(-1 + 0 + 1 + 2) / 4
    np.testing.assert_allclose(metrics["value_loss"], 0.09, rtol=1e-5)  # 0.3^2
    expected = jax.jit(jax.grad(plain))(start)["actor"]
    for name in expected:
        np.testing.assert_allclose(gradient["actor"][name], expected[name], rtol=1e-5)


def test_clip_fraction_counts_ratios_beyond_the_clip():
    ratio = jnp.array([1.0, 1.3, 0.7, 1.1])  # two of four leave [0.8, 1.2]
    batch = batch_of(params(), ratio)
    _, metrics = ppo_loss(params(), network(), batch, Hyperparams(clip_param=0.2))
    assert metrics["clip_fraction"] == 0.5
    _, metrics = ppo_loss(params(), network(), batch, Hyperparams(clip_param=0.05))
    assert metrics["clip_fraction"] == 0.75


def test_the_ratio_is_new_over_old():
    # ratio 2 with A = -1, 0, 1, 2: max(2, 1.2), 0, -1.2, -2.4, over 4
    batch = batch_of(params(), ratio=2.0)
    _, metrics = ppo_loss(params(), network(), batch, Hyperparams())
    np.testing.assert_allclose(metrics["surrogate_loss"], -0.4, rtol=1e-5)


def test_kl_is_of_the_old_from_the_new():
    """In two dimensions, std 1 to 2: 1/4 - 1 + ln 4; back: 4 - 1 - ln 4."""
    narrow, wide = params(log_std=0.0), params(log_std=np.log(2.0))
    for old, new, expected in [(narrow, wide, 0.6362944), (wide, narrow, 1.6137056)]:
        _, metrics = ppo_loss(new, network(), batch_of(old), Hyperparams())
        np.testing.assert_allclose(metrics["kl"], expected, rtol=1e-5)


def test_a_loss_of_ones_own_may_add_the_kl():
    """The gradient of (ln s + 1 / (2 s^2) - 1/2) by ln s is 1 - 1 / s^2, for each A."""
    batch = batch_of(params())

    def penalty(log_std):
        new = params(log_std=log_std)
        return ppo_loss(new, network(), batch, Hyperparams())[1]["kl"]

    gradient = jax.jit(jax.grad(penalty))(np.float32(np.log(2.0)))
    np.testing.assert_allclose(gradient, 2 * (1 - 1 / 4), rtol=1e-5)


@pytest.mark.parametrize("use_clipped_value_loss", [True, False])
def test_the_loss_adds_its_terms(use_clipped_value_loss):
    """Entropy is rewarded: two dimensions of std 1 have 1 + ln(2 pi) nats."""
    batch, entropy = batch_of(params(), ratio=1.3), 1 + np.log(2 * np.pi)

    def loss(value_loss_coef, entropy_coef):
        hparams = Hyperparams(
            value_loss_coef=value_loss_coef, entropy_coef=entropy_coef
        )
        return ppo_loss(
            params(v=1.0),
            network(),
            batch,
            hparams,
            use_clipped_value_loss=use_clipped_value_loss,
        )

    surrogate, metrics = loss(0.0, 0.0)
    np.testing.assert_allclose(surrogate, metrics["surrogate_loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-6)
    np.testing.assert_allclose(metrics["mean_std"], 1.0)
    np.testing.assert_allclose(
        loss(2.0, 0.0)[0], surrogate + 2.0 * metrics["value_loss"], rtol=1e-5
    )
    np.testing.assert_allclose(loss(0.0, 0.1)[0], surrogate - 0.1 * entropy, rtol=1e-5)


def test_use_clipped_value_loss_chooses_the_value_loss():
    # V moves from 0 to 1 with target 0.9; c = 0.2: (0.2 - 0.9)^2 or (1 - 0.9)^2
    batch = batch_of(params())
    still, target = jnp.zeros(4), jnp.full(4, 0.9)
    batch = batch._replace(obs=jnp.full((4, 2), 0.5), value=still, value_target=target)
    for clipped, expected in [(True, 0.49), (False, 0.01)]:
        _, metrics = ppo_loss(
            params(v=1.0),
            network(),
            batch,
            Hyperparams(clip_param=0.2),
            use_clipped_value_loss=clipped,
        )
        np.testing.assert_allclose(metrics["value_loss"], expected, rtol=1e-4)


def test_nan_is_not_hidden():
    batch = batch_of(params())
    batch = batch._replace(advantage=batch.advantage.at[2].set(jnp.nan))
    loss, metrics = ppo_loss(params(), network(), batch, Hyperparams())
    assert np.isnan(loss)
    assert np.isnan(metrics["surrogate_loss"])
    assert np.isfinite(metrics["value_loss"])
