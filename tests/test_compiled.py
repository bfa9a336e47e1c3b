"""What XLA makes of our formulas, against NumPy in float64, at the size of a task.

Some of XLA's fusions appear only at such sizes, and not all of them have been right:
with jaxlib 0.11 and 0.12 one took half of a term of an earlier form of the Gaussian KL.
Others are right and still change the order of a sum, or spare a rounding, and what is
left of two nearly equal numbers is then another number.
"""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from ppo_jax import (
    Batch,
    Beta,
    Categorical,
    Continuous,
    Gaussian,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    actor_critic,
    init_stats,
    make_ppo,
    normalize,
    normalize_advantage,
    optimize,
    ppo_loss,
    update_stats,
)
from ppo_jax.cli.tasks import make_trainer
from ppo_jax.configs import config_for
from ppo_jax.learning.losses import clipped_value_loss
from ppo_jax.learning.targets import explained_variance
from ppo_jax.loops.training import init_run
from ppo_jax.policies.mlp import product
from ppo_jax.runs.config_fields import override

T, N = 16, 1024
HPARAMS = jax.tree.map(np.float32, Hyperparams(learning_rate=3e-3))
MODEL = ModelConfig(hidden_dims=(32, 32))
NETWORK = actor_critic(Continuous(1), MODEL, MODEL)


@pytest.fixture(scope="module")
def steps():
    """Samples of the second of two gradient steps, weights before it, its metrics."""
    rng = np.random.default_rng(0)

    def noise(*shape):
        return jnp.asarray(rng.normal(size=shape).astype(np.float32))

    obs = noise(T, N, 4)
    inputs = {"actor": obs, "critic": obs}
    config = PPOConfig(num_learning_epochs=1, num_mini_batches=2)
    ppo = make_ppo(NETWORK, config)
    state = ppo.init(jax.random.key(0), {"policy": obs[0]}, HPARAMS)
    policy, value = (f(state.params, inputs) for f in (NETWORK.policy, NETWORK.value))
    action = policy.mean + policy.std * noise(T, N, 1)
    advantage = noise(T, N) + action[..., 0]
    batch = Batch(
        inputs,
        action,
        policy.log_prob(action),
        policy,
        value,
        value + noise(T, N),
        advantage,
    )
    order = jnp.asarray(rng.permutation(T * N)[None])
    first, second = order[:, : T * N // 2], np.asarray(order[0, T * N // 2 :])

    def run(config, order):
        return optimize(NETWORK, config, ppo_loss, state, HPARAMS, batch, order)

    config_of_one = config.__class__(num_learning_epochs=1, num_mini_batches=1)
    after_first, _ = jax.jit(run, static_argnums=0)(config_of_one, first)
    _, history = jax.jit(run, static_argnums=0)(config, order)
    rows = jax.tree.map(
        lambda x: np.asarray(x, np.float64).reshape(T * N, *x.shape[2:])[second], batch
    )
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), after_first.params)
    return rows, params, {name: float(x[1]) for name, x in history.items()}


def forward(params, obs, head):
    x = obs
    for name in ("layer_0", "layer_1"):
        x = x @ params["mlp"][name]["kernel"] + params["mlp"][name]["bias"]
        x = np.where(x > 0, x, np.expm1(x))
    return x @ head["kernel"] + head["bias"]


@pytest.fixture
def policy(steps):
    rows, params, _ = steps
    actor = params["actor"]
    mean = forward(actor, rows.obs["actor"], actor["head"]["mean"])
    return Gaussian(mean, np.broadcast_to(actor["head"]["spread"], mean.shape))


def log_prob(policy, action):
    z = (action - policy.mean) / policy.std
    return (-0.5 * z**2 - np.log(policy.std) - 0.5 * np.log(2 * np.pi)).sum(-1)


@pytest.mark.slow
def test_kl_is_that_of_the_two_policies(steps, policy):
    """KL(old || new) = ln s'/s + (s^2 + (m - m')^2) / (2 s'^2) - 1/2."""
    rows, _, metrics = steps
    old = rows.distribution
    moved = old.std**2 + (old.mean - policy.mean) ** 2
    kl = np.log(policy.std / old.std) + moved / (2 * policy.std**2) - 0.5
    assert kl.mean() > 1e-4, "the first step has to move the policy"
    np.testing.assert_allclose(metrics["kl"], kl.mean(), rtol=1e-3)


@pytest.mark.slow
def test_losses_are_those_of_the_policy_and_the_value(steps, policy):
    """The surrogate, the value loss, both clipped at 0.2, and the entropy."""
    rows, params, metrics = steps
    ratio = np.exp(log_prob(policy, rows.action) - rows.log_prob)
    clipped = np.clip(ratio, 0.8, 1.2)
    surrogate = np.maximum(-rows.advantage * ratio, -rows.advantage * clipped).mean()
    np.testing.assert_allclose(metrics["surrogate_loss"], surrogate, atol=1e-5)

    critic = params["critic"]
    value = forward(critic, rows.obs["critic"], critic["head"])[:, 0]
    near = rows.value + np.clip(value - rows.value, -0.2, 0.2)
    target = rows.value_target
    worst = np.maximum((value - target) ** 2, (near - target) ** 2).mean()
    np.testing.assert_allclose(metrics["value_loss"], worst, rtol=1e-5)
    entropy = (0.5 + 0.5 * np.log(2 * np.pi) + np.log(policy.std)).mean()
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)


# --- running statistics

SIZES = pytest.mark.parametrize("num_envs", [64, 4096])
SOME = [9.81, 273.15, 101325.0, 0.3, 0.7, 1 / 3, 0.05, 1.0, 1e-6, -1e6]
CONSTANTS = np.concatenate([SOME, np.random.default_rng(0).uniform(0.01, 100, 990)])
OFFSETS = np.array([0.0, 1e3, 12345.678, 1e5 + 0.3, -1e5 - 0.3, 1e6, 1e6 + 0.03])
update, normalized = jax.jit(update_stats), jax.jit(normalize)


@SIZES
@pytest.mark.slow
@pytest.mark.parametrize("members", [0, 2])
def test_what_never_changes_has_no_variance_and_is_normalised_to_zero(
    num_envs, members
):
    """Exactly: a variance of -1e-13 is a NaN, and one of 1e-6 an observation."""
    stats, x = init_stats(1000), jnp.asarray(CONSTANTS, jnp.float32)
    rows = jnp.broadcast_to(x, (24, num_envs, 1000))
    step, read = update, normalized
    if members:
        step, read = (jax.jit(jax.vmap(f)) for f in (update_stats, normalize))
        stats, rows, x = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (members, *leaf.shape)),
            (stats, rows[:, :64], x),
        )
    for _ in range(5):
        stats = step(stats, rows)
        assert not np.asarray(stats.var).any()
        assert not np.asarray(read(stats, x)).any()


def test_a_large_mean_leaves_the_statistics_their_digits():
    """Over 300 updates, in the last of which the mean moves by less than its digits."""
    stats, seen = init_stats(len(OFFSETS)), []
    for index in range(300):
        rng = np.random.default_rng(index)
        drift = 0.5 * np.cos(index)
        x = rng.standard_normal((24, 64, len(OFFSETS))) + OFFSETS + drift
        x = x.astype(np.float32)
        stats = update(stats, jnp.asarray(x))
        seen.append(x.reshape(-1, len(OFFSETS)).astype(np.float64))
    rows = np.concatenate(seen)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    np.testing.assert_allclose(stats.var, std**2, rtol=1e-3)
    exact = (seen[-1] - mean) / (std + 0.01)
    ours = normalized(stats, jnp.asarray(seen[-1], jnp.float32))
    np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-3)


def test_a_mean_that_goes_far_is_followed():
    """From 0 to 1e6 and back, by steps that are far larger than the spread."""
    stats, seen = init_stats(1), []
    for index, offset in enumerate([0.0, 1e6, -2e5, 30.0, 0.0]):
        rng = np.random.default_rng(index)
        x = (rng.standard_normal((24, 64, 1)) + offset).astype(np.float32)
        stats = update(stats, jnp.asarray(x))
        seen.append(x.reshape(-1).astype(np.float64))
    rows = np.concatenate(seen)
    np.testing.assert_allclose(stats.mean, rows.mean(), rtol=1e-6)
    np.testing.assert_allclose(stats.var, rows.var(), rtol=1e-5)


# --- advantages and values


@SIZES
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_normalised_advantages_are_those_of_float64(num_envs, offset):
    x = np.random.default_rng(0).standard_normal((24, num_envs)) + offset
    x = x.astype(np.float32)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean()) / exact.std(ddof=1)
    ours = jax.jit(normalize_advantage)(jnp.asarray(x))
    np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-3)


@SIZES
def test_equal_advantages_are_zero_and_no_noise(num_envs):
    """Rounding errors divided by rounding errors would be a policy gradient."""
    normalized = jax.jit(jax.vmap(normalize_advantage))
    for values in np.split(CONSTANTS, 100):
        equal = jnp.broadcast_to(
            jnp.asarray(values, jnp.float32)[:, None, None], (10, 24, num_envs)
        )
        assert not np.asarray(normalized(equal)).any()


@SIZES
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_explained_variance_is_that_of_float64(num_envs, offset):
    rng = np.random.default_rng(0)
    target = (rng.standard_normal((24, num_envs)) + offset).astype(np.float32)
    value = (target + 0.5 * rng.standard_normal(target.shape)).astype(np.float32)
    error = target.astype(np.float64) - value
    exact = 1 - error.var() / target.astype(np.float64).var()
    ours = jax.jit(explained_variance)(jnp.asarray(value), jnp.asarray(target))
    np.testing.assert_allclose(ours, exact, atol=1e-4)


def test_targets_that_are_equal_leave_nothing_to_explain():
    explained = jax.jit(jax.vmap(explained_variance))
    targets = jnp.asarray(CONSTANTS, jnp.float32)[:, None, None]
    targets = jnp.broadcast_to(targets, (1000, 24, 64))
    assert not np.asarray(explained(jnp.zeros_like(targets), targets)).any()


# --- distances between policies


def test_kl_of_betas_is_that_of_float64():
    """Log gammas of hundreds are subtracted; a policy that narrowed down has them."""
    rng = np.random.default_rng(0)
    old = [1 + rng.uniform(0, 100, (24 * 1024, 4)) for _ in range(2)]
    new = [x * np.exp(0.01 * rng.standard_normal(x.shape)) for x in old]
    (a, b), (c, d) = (np.float32(pair) for pair in (old, new))

    def kl(a, b, c, d):
        one = jnp.ones_like(a)
        return Beta(a, b, -one, one).kl_divergence(Beta(c, d, -one, one)).mean()

    ours = jax.jit(kl)(a, b, c, d)
    a, b, c, d = (np.float64(x) for x in (a, b, c, d))
    exact = scipy.special.betaln(c, d) - scipy.special.betaln(a, b)
    exact += (a - c) * scipy.special.digamma(a) + (b - d) * scipy.special.digamma(b)
    exact += (c - a + d - b) * scipy.special.digamma(a + b)
    np.testing.assert_allclose(ours, exact.sum(axis=-1).mean(), rtol=1e-2)
    assert jax.jit(kl)(*(np.float32(x) for x in (a, b, a, b))) == 0.0


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_kl_of_categoricals_is_that_of_float64(scale):
    rng = np.random.default_rng(0)
    old = np.float32(scale * rng.standard_normal((24 * 1024, 6)))
    new = np.float32(old + 0.01 * rng.standard_normal(old.shape))
    kl = jax.jit(lambda p, q: Categorical(p).kl_divergence(Categorical(q)).mean())
    log_p, log_q = (scipy.special.log_softmax(np.float64(x), -1) for x in (old, new))
    exact = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean()
    np.testing.assert_allclose(kl(old, new), exact, rtol=1e-2)
    assert kl(old, old) == 0.0


@pytest.mark.skipif(os.cpu_count() == 1, reason="there is nothing to split for")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of XLA on a CPU")
def test_the_slope_of_the_value_loss_is_not_split_among_threads():
    """For a minibatch as small as Cartpole's that takes longer than to compute it."""

    def step(value, minibatch):
        loss = lambda value: clipped_value_loss(value, *minibatch, 0.2).mean()
        return value - jax.grad(loss)(value), None

    descend = jax.jit(lambda *args: jax.lax.scan(step, args[0], args[1:])[0])
    value, *rest = (jnp.ones(shape) for shape in ((N,), (T, N), (T, N)))
    text = descend.lower(value, *rest).compile().as_text()
    assert 'outer_dimension_partitions":["' not in text


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a form for XLA on a CPU")
def test_what_a_layer_has_read_is_turned_over_once():
    """For the gradient of its weights; behind a barrier XLA 0.12 does so twice."""

    def loss(kernel, x):
        return jnp.sin(product(x, kernel)).sum()

    step = jax.jit(jax.grad(loss)).lower(jnp.ones((64, 32)), jnp.ones((512, 64)))
    _, program = step.compile().as_text().split("ENTRY")
    assert program.count(" = f32[64,512]") == 1


@pytest.mark.slow
def test_a_run_starts_with_the_bits_that_the_pure_function_has():
    """Whoever calls `train` in a notebook, or sweeps, starts where train.py does."""
    trainer = make_trainer(override(config_for("Cartpole"), {"num_envs": 16}))
    key = jax.random.key(3)
    pure = jax.jit(partial(init_run, trainer.ppo, trainer.env, trainer.hparams))
    jax.tree.map(
        np.testing.assert_array_equal,
        trainer.init(key).train,
        pure(key).train,
    )
