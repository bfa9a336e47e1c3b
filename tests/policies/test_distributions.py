"""Action distributions against scipy, hand arithmetic and their own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from ppo_jax import Beta, Categorical, Gaussian
from ppo_jax.policies.distributions import TanhGaussian

DRAWS = 40_000


def gaussian(mean, std):
    return Gaussian(jnp.array(mean), jnp.array(std))


def beta(alpha, beta, low=-1.0, high=1.0):
    alpha, beta = jnp.array(alpha), jnp.array(beta)
    return Beta(alpha, beta, jnp.full_like(alpha, low), jnp.full_like(alpha, high))


def categorical(logits):
    return Categorical(jnp.array(logits))


# kind: a distribution, another of its kind, and how much longer than [0, 1] its range
# is, which the entropy of a Beta leaves out
PAIRS = {
    "gaussian": (
        gaussian([0.5, -1.0], [0.8, 2.0]),
        gaussian([0.0, -2.0], [1.0, 1.5]),
        0.0,
    ),
    "beta": (
        beta([2.0, 1.5], [3.0, 4.0], -2.0, 1.0),
        beta([1.2, 2.0], [2.5, 2.0], -2.0, 1.0),
        2 * np.log(3.0),
    ),
    "categorical": (
        categorical([0.0, 1.0, -1.0]),
        categorical([1.0, 0.5, 0.0]),
        0.0,
    ),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@jax.jit
def draw(distribution, seed):
    return distribution.sample(jax.random.key(seed))


def repeated(distribution, count):
    return jax.tree.map(lambda x: np.tile(x, (count, 1)), distribution)


def test_gaussian_agrees_with_scipy(maybe_jit):
    distribution = gaussian([0.5, -1.0, 3.0], [0.1, 2.0, 30.0])
    action = jnp.array([0.6, -4.0, 100.0])
    reference = scipy.stats.norm(distribution.mean, distribution.std)
    np.testing.assert_allclose(
        maybe_jit(Gaussian.log_prob)(distribution, action),
        reference.logpdf(action).sum(),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        maybe_jit(Gaussian.entropy)(distribution), reference.entropy().sum(), rtol=1e-5
    )


def test_beta_agrees_with_scipy(maybe_jit):
    distribution = beta([2.0, 1.0, 7.5], [3.0, 1.0, 1.25], -2.0, 1.0)
    action = jnp.array([-1.9, 0.0, 0.75])
    stretched = scipy.stats.beta(distribution.alpha, distribution.beta, -2.0, 3.0)
    unstretched = scipy.stats.beta(distribution.alpha, distribution.beta)
    np.testing.assert_allclose(
        maybe_jit(Beta.log_prob)(distribution, action),
        stretched.logpdf(action).sum(),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        maybe_jit(Beta.entropy)(distribution), unstretched.entropy().sum(), rtol=1e-4
    )
    np.testing.assert_allclose(distribution.mode(), stretched.mean(), rtol=1e-5)
    np.testing.assert_allclose(distribution.spread(), stretched.std(), rtol=1e-5)


def test_categorical_agrees_with_scipy(maybe_jit):
    old, new = categorical([0.0, 2.0, -1.0]), categorical([1.0, 1.0, 0.0])
    p, q = scipy.special.softmax(old.logits), scipy.special.softmax(new.logits)
    for action in range(3):
        np.testing.assert_allclose(
            maybe_jit(Categorical.log_prob)(old, action), np.log(p[action]), rtol=1e-5
        )
    np.testing.assert_allclose(old.entropy(), scipy.stats.entropy(p), rtol=1e-5)
    kl = maybe_jit(Categorical.kl_divergence)(old, new)
    np.testing.assert_allclose(kl, scipy.stats.entropy(p, q), rtol=1e-5)
    np.testing.assert_allclose(old.spread(), np.sqrt(p * (1 - p)), rtol=1e-5)


# Per dimension: (q - 1 - ln q + (distance / s')^2) / 2, with q = (s / s')^2.
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (([0.0], [1.0]), ([1.0], [1.0]), 0.5),  # (0 + 1) / 2
        (([0.0], [1.0]), ([0.0], [2.0]), 0.3181472),  # (1/4 - 1 + ln 4) / 2
        (([0.0], [2.0]), ([0.0], [1.0]), 0.8068528),  # (4 - 1 - ln 4) / 2
        (([1.0], [1.0]), ([3.0], [2.0]), 0.8181472),  # 0.3181 + (2 / 2)^2 / 2
        (([0.0, 1.0], [1.0, 1.0]), ([1.0, 3.0], [1.0, 1.0]), 2.5),  # 0.5 + 2
    ],
)
def test_gaussian_kl_matches_hand_arithmetic(maybe_jit, old, new, expected):
    kl = maybe_jit(Gaussian.kl_divergence)(gaussian(*old), gaussian(*new))
    np.testing.assert_allclose(kl, expected, rtol=1e-6)


def test_gaussian_kl_keeps_its_digits_between_near_distributions():
    """The textbook formula subtracts numbers near 1 and loses them."""
    stds = np.array([1.0, 1.001], np.float32).astype(np.float64)
    log_q = 2 * np.log(stds[0] / stds[1])
    expected = 0.5 * (np.expm1(log_q) - log_q)  # about 1e-6, in float64
    kl = gaussian([0.0], [1.0]).kl_divergence(gaussian([0.0], [1.001]))
    np.testing.assert_allclose(kl, expected, rtol=1e-3)


@pytest.mark.parametrize("std", [1e-6, 0.3, 1.0, 1e6])
@pytest.mark.parametrize("mean", [0.0, -1e6])
def test_gaussian_kl_of_equals_is_exactly_zero(maybe_jit, mean, std):
    distribution = gaussian([mean, 0.1], [std, 0.7])
    assert maybe_jit(Gaussian.kl_divergence)(distribution, distribution) == 0.0


def test_kl_of_equals_is_exactly_zero(pair):
    distribution, other, _ = pair
    assert distribution.kl_divergence(distribution) == 0.0
    assert distribution.kl_divergence(other) > 0.0


def test_beta_kl_is_the_same_on_any_range():
    on_unit = beta([2.0], [3.0], 0.0, 1.0).kl_divergence(beta([4.0], [1.5], 0.0, 1.0))
    wide = beta([2.0], [3.0], -9.0, 9.0).kl_divergence(beta([4.0], [1.5], -9.0, 9.0))
    assert on_unit == wide


@pytest.mark.parametrize("old_std", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("new_std", [1e-6, 1.0, 1e6])
def test_gaussian_kl_has_finite_value_and_gradient_at_extremes(old_std, new_std):
    old, new = gaussian([0.0], [old_std]), gaussian([1e-3], [new_std])
    kl, gradients = jax.value_and_grad(Gaussian.kl_divergence, argnums=(0, 1))(old, new)
    assert np.isfinite(kl)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_kl_is_stationary_where_the_distributions_are_equal(pair):
    distribution, _, _ = pair
    kl = type(distribution).kl_divergence
    gradient = jax.grad(kl, argnums=1)(distribution, distribution)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-5)


@pytest.mark.slow
def test_entropy_and_kl_are_expectations_over_samples(pair):
    """H = -E[ln p] and KL = E[ln p - ln q], within 6 standard errors."""
    p, q, stretch = pair
    kind = type(p)
    many, log_prob = repeated(p, DRAWS), jax.jit(kind.log_prob)
    action = draw(many, 0)
    log_p, log_q = log_prob(many, action), log_prob(repeated(q, DRAWS), action)
    for samples, expected in [
        (-log_p, p.entropy() + stretch),
        (log_p - log_q, p.kl_divergence(q)),
    ]:
        error = 6 * np.std(samples) / np.sqrt(DRAWS)
        np.testing.assert_allclose(np.mean(samples), expected, atol=error)


@pytest.mark.parametrize("kind", ["gaussian", "beta"])
def test_samples_have_the_mean_that_is_played_and_the_spread(kind):
    distribution = PAIRS[kind][0]
    action = np.asarray(draw(repeated(distribution, DRAWS), 1))
    error = 6 * action.std(axis=0) / np.sqrt(DRAWS)
    assert (np.abs(action.mean(axis=0) - distribution.mode()) < error).all()
    np.testing.assert_allclose(action.std(axis=0), distribution.spread(), rtol=0.03)


def test_beta_samples_stay_in_their_range():
    distribution = repeated(beta([1.0, 30.0], [1.0, 1.0], -2.0, 5.0), DRAWS)
    action = draw(distribution, 1)
    assert action.min() >= -2.0
    assert action.max() <= 5.0


def test_categorical_samples_have_the_probabilities_of_the_logits():
    distribution = PAIRS["categorical"][0]
    action = draw(repeated(distribution, DRAWS), 0)
    assert action.dtype == jnp.int32
    frequency = np.bincount(action, minlength=3) / DRAWS
    p = scipy.special.softmax(distribution.logits)
    np.testing.assert_allclose(frequency, p, atol=6 * 0.5 / np.sqrt(DRAWS))


def test_mode_is_what_rsl_rl_plays():
    np.testing.assert_array_equal(gaussian([1.5, -2.0], [9.0, 9.0]).mode(), [1.5, -2.0])
    # The mean of Beta(2, 6) is 1/4, its mode 1/6: rsl_rl plays -2 + 4 / 4.
    np.testing.assert_allclose(beta([2.0], [6.0], -2.0, 2.0).mode(), [-1.0], rtol=1e-6)
    index = categorical([[0.0, 2.0, 2.0], [5.0, 0.0, 0.0]]).mode()
    np.testing.assert_array_equal(index, [1, 0])
    assert index.dtype == jnp.int32


@pytest.mark.parametrize("action", [-2.0, 1.0, -50.0, 50.0])
def test_beta_log_prob_is_finite_at_and_beyond_the_ends(action):
    """There it is the density 1e-6 of the range inside."""
    u = 1e-6 if action < 0 else 1 - 1e-6
    log_prob = beta([2.0], [3.0], -2.0, 1.0).log_prob(jnp.array([action]))
    expected = scipy.stats.beta(2.0, 3.0).logpdf(u) - np.log(3.0)
    np.testing.assert_allclose(log_prob, expected, rtol=0.005)  # 1 - 1e-6 in float32


def test_categorical_ignores_a_constant_added_to_the_logits():
    plain, shifted = categorical([0.0, 1.0, 2.0]), categorical([50.0, 51.0, 52.0])
    np.testing.assert_allclose(plain.log_prob(2), shifted.log_prob(2), rtol=1e-5)
    np.testing.assert_allclose(plain.entropy(), shifted.entropy(), rtol=1e-5)
    assert abs(plain.kl_divergence(shifted)) < 1e-6


def test_uniform_entropies():
    np.testing.assert_allclose(categorical([3.0] * 7).entropy(), np.log(7), rtol=1e-6)
    flat = beta([1.0], [1.0], -1.0, 1.0)
    np.testing.assert_allclose(flat.entropy(), 0.0, atol=1e-6)  # without the stretch
    np.testing.assert_allclose(flat.log_prob(jnp.array([0.3])), -np.log(2), rtol=1e-5)


def test_every_leading_axis_is_a_batch(pair):
    """[T, N] distributions give what each of them gives alone."""
    p, q, _ = pair
    both = jax.tree.map(lambda x, y: np.stack([np.stack([x, y])] * 3), p, q)
    other = jax.tree.map(lambda x: np.broadcast_to(x, (3, 2, *x.shape)), q)
    kind, action = type(p), both.mode()
    log_prob = jax.jit(kind.log_prob)(both, action)
    kl = jax.jit(kind.kl_divergence)(both, other)
    assert log_prob.shape == kl.shape == both.entropy().shape == (3, 2)
    for index, alone in enumerate([p, q]):
        np.testing.assert_allclose(
            log_prob[2, index], alone.log_prob(action[2, index]), rtol=1e-5
        )
        np.testing.assert_allclose(kl[2, index], alone.kl_divergence(q), atol=1e-6)
        np.testing.assert_allclose(both.mode()[2, index], alone.mode(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "beta"])
def test_nan_is_not_hidden(kind):
    distribution = PAIRS[kind][0]
    broken = distribution._replace(
        **{distribution._fields[0]: jnp.array([jnp.nan, 1.0])}
    )
    assert np.isnan(broken.log_prob(jnp.zeros(2)))
    assert np.isnan(broken.kl_divergence(distribution))
    assert np.isnan(distribution.log_prob(jnp.array([0.0, jnp.nan])))


# --- tanh


def squashed(mean, std, low=-1.0, high=1.0):
    mean, std = jnp.array(mean), jnp.array(std)
    ends = jnp.full_like(mean, low), jnp.full_like(mean, high)
    return TanhGaussian(mean, std, *ends)


SQUASHED = {
    "narrow": (0.3, 0.2, -1.0, 1.0),
    "at an end": (2.5, 0.7, -2.0, 0.5),
    "wide": (-0.5, 3.0, 0.0, 10.0),  # most of it at both ends
}


@pytest.mark.parametrize("name", SQUASHED)
def test_the_density_of_a_squashed_gaussian_integrates_to_what_lies_there(name):
    """Compiled, in float32; also in the tails, within 1e-3 of the ends."""
    mean, std, low, high = SQUASHED[name]
    edge = np.arctanh(0.999)
    for start, stop in [(-4.5, 4.5), (-4.5, -edge), (edge, 4.5)]:
        u = np.linspace(start, stop, 20_001)
        action = low + 0.5 * (np.tanh(u) + 1.0) * (high - low)
        rows = squashed([[mean]], [[std]], low, high)
        log_prob = jax.jit(TanhGaussian.log_prob)(rows, np.float32(action)[:, None])
        found = np.trapezoid(np.exp(np.float64(log_prob)), action)
        cdf = scipy.stats.norm(mean, std).cdf
        np.testing.assert_allclose(found, cdf(stop) - cdf(start), rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_a_squashed_gaussian_has_a_density_on_its_ends():
    """Whoever draws an action next to an end gets the end in float32."""
    at_ends = jnp.array([[-1.0], [1.0]])
    log_prob = jax.jit(TanhGaussian.log_prob)(squashed([[0.0]], [[3.0]]), at_ends)
    assert np.isfinite(log_prob).all()
    inside = jax.jit(TanhGaussian.log_prob)(squashed([[0.0]], [[3.0]]), at_ends * 0.999)
    assert (log_prob > inside).all()
    slope = jax.grad(lambda m: squashed([[m]], [[3.0]]).log_prob(at_ends[:1])[0])(0.0)
    assert np.isfinite(slope) and slope < 0.0


@jax.jit
def ratio_and_slope(new_mean, old, samples):
    """Of a policy whose mean alone is another; over the mean."""

    def ratio(mean):
        rows = old._replace(mean=jnp.full_like(old.mean, mean))
        return jnp.exp(rows.log_prob(samples) - old.log_prob(samples))

    return jax.jvp(ratio, (new_mean,), (1.0,))


@pytest.mark.parametrize("mean", [-12.0, -7.5, 6.5, 7.0, 12.0])
def test_actions_on_an_end_and_next_to_it_have_the_right_ratio(mean):
    """Of two policies: it averages 1 under the first, wherever its mean has gone."""
    old = repeated(squashed([mean], [0.3]), DRAWS)
    samples = draw(old, 4)
    for shift in (-0.1, 0.1):
        found, slope = ratio_and_slope(mean + shift, old, samples)
        assert np.isfinite(slope).all()
        np.testing.assert_allclose(found.mean(), 1.0, atol=0.02)


@pytest.mark.parametrize("name", SQUASHED)
def test_entropy_spread_and_mode_of_a_squashed_gaussian(name):
    """By numerical integration over u, in float64."""
    mean, std, low, high = SQUASHED[name]
    u = np.linspace(mean - 9 * std, mean + 9 * std, 200_001)
    density = scipy.stats.norm(mean, std).pdf(u)
    scale, y = 0.5 * (high - low), np.tanh(u)
    log_slope = np.log(4.0) - 2 * np.abs(u) - 2 * np.log1p(np.exp(-2 * np.abs(u)))
    average = lambda x: np.trapezoid(density * x, u)
    distribution = squashed([mean], [std], low, high)
    wanted = scipy.stats.norm(mean, std).entropy() + average(log_slope) + np.log(scale)
    entropy = jax.jit(TanhGaussian.entropy)(distribution)
    np.testing.assert_allclose(entropy, wanted, rtol=0, atol=0.02)
    variance = average(y * y) - average(y) ** 2
    spread = jax.jit(TanhGaussian.spread)(distribution)
    np.testing.assert_allclose(spread, [scale * np.sqrt(variance)], rtol=0.02)
    np.testing.assert_allclose(
        distribution.mode(), [low + scale * (np.tanh(mean) + 1.0)], rtol=1e-5
    )


def test_samples_of_a_squashed_gaussian_have_its_density():
    one = squashed([0.4], [0.9], -3.0, 1.0)
    rows = repeated(one, DRAWS)
    samples = np.asarray(draw(rows, 3))
    u = np.arctanh((samples[:, 0] + 3.0) / 2.0 - 1.0)
    assert scipy.stats.kstest(u, scipy.stats.norm(0.4, 0.9).cdf).pvalue > 1e-3
    other = squashed([0.1], [1.1], -3.0, 1.0)
    log_ratio = rows.log_prob(samples) - repeated(other, DRAWS).log_prob(samples)
    np.testing.assert_allclose(log_ratio.mean(), one.kl_divergence(other), atol=0.01)
