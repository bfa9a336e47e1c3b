"""The algorithm's steps, on a network whose arithmetic is plain."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    ActorCritic,
    Batch,
    Continuous,
    Gaussian,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    Rollout,
    TimeStep,
    Transition,
    actor_critic,
    adapt_learning_rate,
    clip_gradient,
    init_stats,
    learning_batch,
    make_ppo,
    normalize,
    normalize_advantage,
    optimize,
    ppo_loss,
    update_stats,
)
from ppo_jax.learning.minibatches import draw_permutations, order_of
from ppo_jax.learning.targets import explained_variance
from ppo_jax.policies.conv import CNNConfig

T, N = 4, 5
DEFAULTS, UNCLIPPED = Hyperparams(), Hyperparams(max_grad_norm=1e9)

# Nearly all the time of these tests is XLA's, and what it makes runs shortly.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def line(normalized=False):
    """mean = obs * w, value = sum(obs * v); both see the group "policy"."""

    def init(key, obs):
        dim = obs["policy"].shape[-1]
        params = {
            "actor": {"w": jnp.full(dim, 0.5), "log_std": jnp.zeros(dim)},
            "critic": {"v": jnp.ones(dim)},
        }
        return params, init_stats(dim) if normalized else ()

    def prepare(obs_stats, obs):
        return normalize(obs_stats, obs["policy"]) if normalized else obs["policy"]

    def policy(params, x):
        along = (1,) * (x.ndim - 1) + (-1,)
        std = jnp.exp(params["actor"]["log_std"]).reshape(along)
        return Gaussian(
            x * params["actor"]["w"].reshape(along), jnp.broadcast_to(std, x.shape)
        )

    def value(params, x):
        return x @ params["critic"]["v"]

    def update(obs_stats, obs):
        return update_stats(obs_stats, obs["policy"]) if normalized else ()

    return ActorCritic(init, prepare, policy, value, update)


def random_rollout(ppo, state, num_steps=T, num_envs=N, dim=2, seed=0):
    """What `ppo` did in observations and rewards drawn at random."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    obs = {"policy": 3.0 + normal(num_steps, num_envs, dim)}
    output = ppo.act(state, obs, jax.random.key(seed))
    steps = Transition(
        obs=obs,
        action=output.action,
        log_prob=output.log_prob,
        distribution=output.distribution,
        reward=normal(num_steps, num_envs),
        terminated=jnp.asarray(rng.random((num_steps, num_envs)) < 0.2),
        truncated=jnp.asarray(rng.random((num_steps, num_envs)) < 0.2),
        final_value=(),
    )
    return Rollout(steps, {"policy": 3.0 + normal(num_envs, dim)}, first_carry=())


def start(network, config, hparams=DEFAULTS, **shape):
    """The algorithm, its state and a rollout."""
    ppo = make_ppo(network, config)
    obs = {"policy": jnp.zeros((N, shape.get("dim", 2)))}
    state = ppo.init(jax.random.key(0), obs, hparams)
    return ppo, state, random_rollout(ppo, state, **shape)


def numbered_batch(num_steps=T, num_envs=N):
    """A batch whose advantage is the number of its row in time-major order."""
    rows = jnp.arange(float(num_steps * num_envs)).reshape(num_steps, num_envs)
    obs = jnp.zeros((num_steps, num_envs, 1))
    policy = Gaussian(obs, jnp.ones_like(obs))
    return Batch(obs, obs, rows, policy, rows, rows, advantage=rows)


def take_steps(config, loss_fn, batch=None, hparams=UNCLIPPED):
    """All gradient steps of an iteration from w = 0.5, v = 1; state and history."""
    batch = numbered_batch() if batch is None else batch

    def steps(batch, hparams):
        network, obs = line(), {"policy": jnp.zeros((N, 1))}
        state = make_ppo(network, config).init(jax.random.key(0), obs, hparams)
        orders = draw_permutations(config, batch.value.size, jax.random.key(1))
        return optimize(network, config, loss_fn, state, hparams, batch, orders)

    return jit(steps)(batch, hparams)


# --- learning rate


# desired_kl = 0.01: above 0.02 slower, below 0.005 faster, within [1e-5, 1e-2].
@pytest.mark.parametrize(
    ("learning_rate", "kl", "expected"),
    [
        (1e-3, 0.021, 1e-3 / 1.5),
        (1e-3, np.inf, 1e-3 / 1.5),
        (1e-3, 0.02, 1e-3),  # not above
        (1e-3, 0.01, 1e-3),
        (1e-3, 0.005, 1e-3),  # not below
        (1e-3, 0.0049, 1.5e-3),
        (1e-3, 1e-9, 1.5e-3),
        (1e-3, 0.0, 1e-3),  # the policy has not moved
        (1e-3, 1e-13, 1e-3),  # nor has it here: the square of float32's rounding
        (1e-3, -1e-9, 1e-3),
        (1e-3, np.nan, 1e-3),
        (1.2e-5, 0.1, 1e-5),
        (1e-5, 0.1, 1e-5),
        (8e-3, 0.001, 1e-2),
        (1e-2, 0.001, 1e-2),
        (5e-2, 0.001, 1e-2),  # "faster" from above the limit is slower
        (1e-6, 0.1, 1e-5),  # and the reverse
        (5e-2, 0.01, 5e-2),
        (5e-2, 0.1, 5e-2 / 1.5),
    ],
)
def test_adaptive_learning_rate_rule(maybe_jit, learning_rate, kl, expected):
    adapted = maybe_jit(adapt_learning_rate)(
        jnp.float32(learning_rate), jnp.float32(kl), 0.01
    )
    np.testing.assert_allclose(adapted, expected, rtol=1e-6)


def push(params, network, batch, hparams):
    """Gradient 3 for w, 40 for v, and a KL far above the desired one."""
    loss = 3.0 * params["actor"]["w"].sum() + 40.0 * params["critic"]["v"].sum()
    return loss, {"kl": jnp.float32(1.0)}


FOUR_STEPS = PPOConfig(num_learning_epochs=2, num_mini_batches=2, optimizer="sgd")


def test_the_learning_rate_moves_before_the_step_but_never_in_the_first():
    state, history = take_steps(FOUR_STEPS, push)
    rates = 1e-3 / 1.5 ** np.arange(4)
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-6)
    np.testing.assert_allclose(state.learning_rate, rates[-1], rtol=1e-6)
    moved = 0.5 - state.params["actor"]["w"]  # each step at its own rate
    np.testing.assert_allclose(moved, 3.0 * sum(rates), rtol=1e-4)
    assert (history["kl"] == 1.0).all()  # reported as it is


def test_a_fixed_schedule_keeps_the_learning_rate():
    config = PPOConfig(num_mini_batches=2, optimizer="sgd", schedule="fixed")
    state, history = take_steps(config, push)
    assert (history["learning_rate"] == np.float32(1e-3)).all()
    assert state.learning_rate == np.float32(1e-3)


def test_a_fixed_schedule_takes_the_rate_that_is_configured():
    """And not that of an earlier run, whose state may be gone on with."""
    config = PPOConfig(num_mini_batches=2, optimizer="sgd", schedule="fixed")
    _, state, rollout = start(line(), config)
    old = state._replace(learning_rate=jnp.float32(1e-5))
    update = jit(make_ppo(line(), config, push).update)
    hparams = Hyperparams(learning_rate=2e-3, max_grad_norm=1e9)
    new, _ = update(old, hparams, rollout, jax.random.key(0))
    assert new.learning_rate == np.float32(2e-3)
    moved = state.params["actor"]["w"] - new.params["actor"]["w"]
    np.testing.assert_allclose(moved, 10 * 3.0 * 2e-3, rtol=1e-4)  # 5 epochs of 2


def test_the_learning_rate_goes_on_from_iteration_to_iteration():
    """Each has three steps that can move it; hparams only starts it."""
    _, state, rollout = start(line(), FOUR_STEPS)
    update = jit(make_ppo(line(), FOUR_STEPS, push).update)
    for iteration in range(1, 4):
        state, metrics = update(state, Hyperparams(), rollout, jax.random.key(0))
        np.testing.assert_allclose(
            state.learning_rate, 1e-3 / 1.5 ** (3 * iteration), rtol=1e-5
        )
        assert metrics["learning_rate"] == state.learning_rate
        assert state.iteration == iteration


# --- gradients


@pytest.mark.parametrize(
    ("gradient", "max_norm", "expected", "norm"),
    [
        ([3.0, 4.0], 10.0, [3.0, 4.0], 5.0),  # below: as it is
        ([3.0, 4.0], 1.0, [0.6, 0.8], 5.0),
        ([3e-6, 4e-6], 5e-6, [2.5e-6, 4e-6 * 5 / 6], 5e-6),  # 5e-6 / (5e-6 + 1e-6)
        ([0.0, 0.0], 1.0, [0.0, 0.0], 0.0),
    ],
)
def test_clip_gradient_scales_to_the_norm(
    maybe_jit, gradient, max_norm, expected, norm
):
    tree = {"a": jnp.array(gradient[:1]), "b": {"c": jnp.array(gradient[1])}}
    clipped, actual = maybe_jit(clip_gradient)(tree, max_norm)
    leaves = [clipped["a"][0], clipped["b"]["c"]]
    np.testing.assert_allclose(leaves, expected, rtol=1e-5)
    np.testing.assert_allclose(actual, norm, rtol=1e-6)


def test_actor_and_critic_are_clipped_apart():
    """Each to the full norm: the critic's 40 leaves the actor's 3 alone."""
    config = PPOConfig(
        num_learning_epochs=1, num_mini_batches=1, optimizer="sgd", schedule="fixed"
    )
    hparams = Hyperparams(max_grad_norm=10.0, learning_rate=0.01)
    state, history = take_steps(config, push, hparams=hparams)
    np.testing.assert_allclose(state.params["actor"]["w"], 0.5 - 0.03, rtol=1e-5)
    np.testing.assert_allclose(state.params["critic"]["v"], 1.0 - 0.1, rtol=1e-5)
    np.testing.assert_allclose(history["grad_norm_actor"], [3.0], rtol=1e-6)
    np.testing.assert_allclose(history["grad_norm_critic"], [40.0], rtol=1e-6)


def test_the_std_belongs_to_the_norm_of_the_actor():
    def loss(params, network, batch, hparams):
        actor = params["actor"]
        loss = 3.0 * actor["w"].sum() + 4.0 * actor["log_std"].sum()
        return loss, {"kl": jnp.float32(0.0)}

    _, history = take_steps(FOUR_STEPS, loss)
    np.testing.assert_allclose(history["grad_norm_actor"], 5.0, rtol=1e-6)


def test_weight_decay_reads_the_parameters():
    """Without a gradient AdamW shrinks by 1 - learning_rate * 0.01 a step."""
    config = PPOConfig(num_mini_batches=2, num_learning_epochs=1, optimizer="adamw")
    still = lambda params, network, batch, hparams: (
        0.0 * params["critic"]["v"].sum(),
        {"kl": jnp.float32(0.0)},
    )
    state, _ = take_steps(config, still, hparams=Hyperparams(learning_rate=0.1))
    np.testing.assert_allclose(state.params["critic"]["v"], 0.999**2, rtol=1e-6)


# --- minibatches


def show_rows(params, network, batch, hparams):
    return 0.0 * params["critic"]["v"].sum(), {
        "kl": jnp.float32(0.0),
        "rows": batch.advantage,
        "together": batch.value,
    }


def test_one_order_serves_every_epoch():
    """20 rows in 3 minibatches of 6; the last 2 in time-major order are never used."""
    config = PPOConfig(num_learning_epochs=3, num_mini_batches=3)
    _, history = take_steps(config, show_rows)
    rows = np.asarray(history["rows"])
    assert rows.shape == (9, 6)
    assert sorted(rows[:3].ravel()) == list(range(18))
    assert list(rows[:3].ravel()) != list(range(18)), "not shuffled"
    np.testing.assert_array_equal(rows[:3], rows[3:6])
    np.testing.assert_array_equal(rows[:3], rows[6:])
    np.testing.assert_array_equal(rows, history["together"])


def test_reshuffling_draws_an_order_for_every_epoch():
    config = PPOConfig(
        num_learning_epochs=3, num_mini_batches=3, reshuffle_each_epoch=True
    )
    _, history = take_steps(config, show_rows)
    epochs = np.asarray(history["rows"]).reshape(3, 18)
    for epoch in epochs:
        assert sorted(epoch) == list(range(18))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    np.testing.assert_array_equal(history["rows"], history["together"])


def test_orders_depend_on_the_key():
    draw = partial(draw_permutations, PPOConfig(num_mini_batches=2), 20)
    first, again, other = (draw(jax.random.key(k)) for k in (0, 0, 1))
    assert first.shape == (1, 20)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_order_is_that_of_the_draws_also_of_equal_ones(maybe_jit):
    draws = np.random.default_rng(0).integers(0, 2**32, (2, 3, 500), np.uint32)
    draws[..., ::7] = draws[..., :1]
    draws[..., 1], draws[..., 2], draws[..., 3] = 0, 2**32 - 1, 2**31
    for order in (order_of, jax.vmap(order_of)):
        found = maybe_jit(order)(draws)
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, np.argsort(draws, kind="stable"))


def test_more_minibatches_than_samples_are_refused():
    with pytest.raises(ValueError, match=r"num_mini_batches = 21, .* only 20 samples"):
        draw_permutations(PPOConfig(num_mini_batches=21), 20, jax.random.key(0))
    alone = PPOConfig(num_mini_batches=20, normalize_advantage_per_mini_batch=True)
    with pytest.raises(ValueError, match="a minibatch needs 2"):
        draw_permutations(alone, 20, jax.random.key(0))


def test_a_flat_batch_is_refused():
    batch = jax.tree.map(lambda x: x.reshape(20, *x.shape[2:]), numbered_batch())
    with pytest.raises(AssertionError):
        take_steps(FOUR_STEPS, show_rows, batch)


# --- advantages


def test_advantages_are_divided_by_the_unbiased_std(maybe_jit):
    # 1, 2, 3, 4: mean 2.5, variance (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5 / 3
    normalized = maybe_jit(normalize_advantage)(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    expected = np.array([[-1.5, -0.5], [0.5, 1.5]]) / np.sqrt(5 / 3)
    np.testing.assert_allclose(normalized, expected, rtol=1e-6)


def test_equal_advantages_become_zero(maybe_jit):
    assert (maybe_jit(normalize_advantage)(jnp.full((3, 2), 0.7)) == 0.0).all()


def test_one_sample_cannot_be_normalised():
    """It has no standard deviation; found when the update is traced."""
    network = line()
    config = PPOConfig(num_mini_batches=1)
    ppo, state, rollout = start(network, config, num_steps=1, num_envs=1)
    with pytest.raises(ValueError, match=r"num_envs = 1 .* one sample.* give more"):
        jax.eval_shape(ppo.update, state, Hyperparams(), rollout, jax.random.key(0))


@pytest.mark.slow
def test_advantages_are_normalised_over_the_rollout_or_in_each_minibatch():
    rollout_wide = PPOConfig(num_learning_epochs=1, num_mini_batches=3)
    each = PPOConfig(
        num_learning_epochs=1,
        num_mini_batches=3,
        normalize_advantage_per_mini_batch=True,
    )
    network = line()
    _, state, rollout = start(network, each)
    raw, _ = learning_batch(network, each, state, Hyperparams(), rollout)
    batch, _ = learning_batch(network, rollout_wide, state, Hyperparams(), rollout)
    np.testing.assert_allclose(
        raw.advantage, raw.value_target - raw.value, rtol=1e-5, atol=1e-6
    )
    wanted = np.float64(raw.advantage)  # all 20, incl. those no minibatch uses
    wanted = (wanted - wanted.mean()) / wanted.std(ddof=1)
    np.testing.assert_allclose(batch.advantage, wanted, rtol=1e-4, atol=1e-5)

    _, history = take_steps(rollout_wide, show_rows, numbered_batch())
    assert np.max(history["rows"]) > 2.0, "a normalised batch is left as it is"
    _, history = take_steps(each, show_rows, numbered_batch())
    np.testing.assert_allclose(history["rows"].mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(history["rows"].std(axis=1, ddof=1), 1.0, rtol=1e-5)


# V(obs) = obs; gamma 0.5, lambda 0: the target is reward + V(successor) / 2.
# Observations 10, 20 and then 40, rewards 1 and 2; cut after step 0, V(final_obs) = 7.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "known", "target"),
    [
        ("auto", True, 4.5),  # 1 + 7 / 2
        ("auto", False, 6.0),  # 1 + 10 / 2
        ("final_obs", True, 4.5),
        ("last_value", True, 6.0),
        ("last_value", False, 6.0),
        ("none", True, 1.0),
        ("none", False, 1.0),
    ],
)
def test_timeout_bootstrap(rule, known, target):
    config = PPOConfig(timeout_bootstrap=rule)
    batch = learn_cut_episode(config, final_obs=[7.0, 20.0] if known else None)
    np.testing.assert_allclose(batch.value_target, [[target], [22.0]], rtol=1e-6)


def learn_cut_episode(config, final_obs):
    network, hparams = line(), Hyperparams(gamma=0.5, lam=0.0)
    ppo = make_ppo(network, config)
    state = ppo.init(jax.random.key(0), {"policy": jnp.zeros((1, 1))}, hparams)
    transitions = []
    for t, value in enumerate([10.0, 20.0]):
        obs = {"policy": jnp.array([[value]])}
        timestep = TimeStep(
            obs=obs,
            reward=jnp.array([t + 1.0]),
            terminated=jnp.array([False]),
            truncated=jnp.array([t == 0]),
            final_obs=final_obs and {"policy": jnp.array([[final_obs[t]]])},
            log={},
        )
        output = ppo.act(state, obs, jax.random.key(t))
        transitions.append(ppo.observe(state, obs, output, timestep))
    steps = jax.tree.map(lambda *x: jnp.stack(x), *transitions)
    rollout = Rollout(steps, {"policy": jnp.array([[40.0]])}, first_carry=())
    return learning_batch(network, config, state, hparams, rollout)[0]


def test_final_obs_must_be_there_to_bootstrap_from():
    with pytest.raises(ValueError, match=r"gives no final_obs: give 'last_value'"):
        learn_cut_episode(PPOConfig(timeout_bootstrap="final_obs"), final_obs=None)


# --- an own advantage estimator


def reward_only(reward, value, next_value, terminated, truncated, *, gamma, lam):
    return gamma * reward + lam


def test_the_critic_learns_the_value_plus_what_the_estimator_says():
    network, config = line(), PPOConfig(normalize_advantage_per_mini_batch=True)
    _, state, rollout = start(network, config)
    hparams = Hyperparams(gamma=0.5, lam=0.25)
    batch, _ = learning_batch(network, config, state, hparams, rollout, reward_only)
    wanted = 0.5 * rollout.steps.reward + 0.25
    np.testing.assert_allclose(batch.advantage, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch.value_target, batch.value + wanted, rtol=1e-6)


@pytest.mark.slow
def test_make_ppo_hands_the_estimator_to_the_update():
    """One that sees no difference between actions, so that the actor stands still."""

    def indifferent(reward, *_, gamma, lam):
        return jnp.zeros_like(reward)

    network, hparams = line(), Hyperparams(entropy_coef=0.0)
    _, state, rollout = start(network, PPOConfig())
    key = jax.random.key(0)
    still, _ = jit(make_ppo(network, advantage_fn=indifferent).update)(
        state, hparams, rollout, key
    )
    moved, _ = jit(make_ppo(network).update)(state, hparams, rollout, key)
    np.testing.assert_array_equal(still.params["actor"]["w"], 0.5)
    assert (moved.params["actor"]["w"] != 0.5).all()


def test_an_estimator_that_returns_another_shape_is_refused():
    def summed(reward, *_, gamma, lam):
        return reward.sum(axis=0)

    network, config = line(), PPOConfig()
    _, state, rollout = start(network, config)
    with pytest.raises(ValueError, match=r"advantage_fn returned the shape \(5,\)"):
        learning_batch(network, config, state, Hyperparams(), rollout, summed)


# --- the whole update


def test_first_step_law():
    """Before any step: ratio 1, KL 0, clip fraction 0, surrogate -mean(A)."""
    network, config = line(normalized=True), PPOConfig()
    _, state, rollout = start(network, config)
    hparams = Hyperparams(learning_rate=0.03)

    def history(state, rollout):
        batch, _ = learning_batch(network, config, state, hparams, rollout)
        order = jnp.arange(20)[None]
        result = optimize(network, config, ppo_loss, state, hparams, batch, order)
        return result[1], batch.advantage

    history, advantage = jit(history)(state, rollout)
    assert history["kl"][0] == 0.0
    assert history["clip_fraction"][0] == 0.0
    assert (history["kl"][1:] > 0.0).all()
    first = -np.mean(np.ravel(advantage)[:5])  # 20 rows in 4 minibatches
    np.testing.assert_allclose(history["surrogate_loss"][0], first, rtol=1e-5)


def test_statistics_stand_still_during_an_iteration_and_move_after_it():
    network, config = line(normalized=True), PPOConfig(num_mini_batches=2)

    def show_obs(params, network, batch, hparams):
        return push(params, network, batch, hparams)[0], {
            "kl": jnp.float32(0.0),
            "seen": batch.obs.mean(),
        }

    ppo, state, rollout = start(network, config)
    update = jit(make_ppo(network, config, show_obs).update)
    obs = np.float64(rollout.steps.obs["policy"]).reshape(-1, 2)
    state, metrics = update(state, Hyperparams(), rollout, jax.random.key(0))
    np.testing.assert_allclose(metrics["seen"], obs.mean() / 1.01, rtol=1e-5)
    np.testing.assert_allclose(state.obs_stats.mean, obs.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(state.obs_stats.var, obs.var(axis=0), rtol=1e-4)
    assert state.obs_stats.count == 20

    next_rollout = random_rollout(ppo, state, seed=1)
    seen = next_rollout.steps.obs["policy"] - obs.mean(axis=0).reshape(1, 1, 2)
    seen = seen / (obs.std(axis=0).reshape(1, 1, 2) + 0.01)
    state, metrics = update(state, Hyperparams(), next_rollout, jax.random.key(0))
    np.testing.assert_allclose(metrics["seen"], seen.mean(), rtol=1e-4, atol=1e-5)
    assert state.obs_stats.count == 40


def test_metrics_are_means_over_minibatches_and_mean_std_is_the_last():
    config = PPOConfig(num_learning_epochs=1, num_mini_batches=2, optimizer="sgd")

    def loss_fn(params, network, batch, hparams):
        w = params["actor"]["w"].sum()
        return w, {"kl": jnp.float32(0.0), "mean_std": w, "weight": w}

    _, state, rollout = start(line(), config, dim=1)
    hparams = Hyperparams(learning_rate=0.1, max_grad_norm=1e9)
    state = state._replace(learning_rate=jnp.float32(0.1))
    update = make_ppo(line(), config, loss_fn).update
    state, metrics = update(state, hparams, rollout, jax.random.key(0))
    # w is 0.5 in the first minibatch, 0.4 in the second
    np.testing.assert_allclose(metrics["weight"], 0.45, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 0.45, rtol=1e-6)
    np.testing.assert_allclose(metrics["mean_std"], 0.4, rtol=1e-6)
    assert state.learning_rate == np.float32(0.1)


def test_explained_variance_is_one_for_a_perfect_value_and_not_for_a_constant():
    """Every step ends its episode and pays what it observed: V(obs) = obs."""
    network, config = line(), PPOConfig()
    _, state, rollout = start(network, config, dim=1)
    steps = rollout.steps._replace(
        reward=rollout.steps.obs["policy"][..., 0],
        terminated=jnp.ones((T, N), bool),
        truncated=jnp.zeros((T, N), bool),
    )
    rollout = rollout._replace(steps=steps)
    explained = lambda state: learning_batch(
        network, config, state, Hyperparams(), rollout
    )[1]["explained_variance"]
    np.testing.assert_allclose(explained(state), 1.0, atol=1e-6)
    state.params["critic"]["v"] = jnp.zeros(1)
    np.testing.assert_allclose(explained(state), 0.0, atol=1e-5)


@pytest.mark.parametrize("target", [0.3, 101325.0])
def test_where_all_targets_are_equal_nothing_is_explained(maybe_jit, target):
    value = jax.random.normal(jax.random.key(0), (24, 64))
    explained = maybe_jit(explained_variance)(value, jnp.full((24, 64), target))
    assert explained == 0.0


def test_a_loss_without_kl_needs_a_fixed_schedule():
    def loss_fn(params, network, batch, hparams):
        return params["actor"]["w"].sum(), {}

    with pytest.raises(ValueError, match=r"metrics\['kl'\]: report it or give .*fixed"):
        take_steps(PPOConfig(num_mini_batches=2), loss_fn)
    state, _ = take_steps(PPOConfig(num_mini_batches=2, schedule="fixed"), loss_fn)
    assert (state.params["actor"]["w"] < 0.5).all()


def test_the_loss_can_be_swapped():
    """A loss that leaves the critic out trains the actor alone."""

    def actor_only(params, network, batch, hparams):
        hparams = hparams._replace(value_loss_coef=0.0)
        return ppo_loss(params, network, batch, hparams)

    _, state, rollout = start(line(), PPOConfig())
    update = jit(make_ppo(line(), PPOConfig(), actor_only).update)
    after, _ = update(state, Hyperparams(), rollout, jax.random.key(0))
    np.testing.assert_array_equal(
        after.params["critic"]["v"], state.params["critic"]["v"]
    )
    assert (after.params["actor"]["w"] != state.params["actor"]["w"]).all()


@pytest.fixture(scope="module")
def default_update():
    """PPO as it comes, its state, a rollout and the jitted update."""
    ppo, state, rollout = start(line(normalized=True), PPOConfig())
    return ppo, state, rollout, jit(ppo.update)


def test_another_hyperparameter_is_not_another_program(default_update):
    _, state, rollout, update = default_update
    key, weights = jax.random.key(0), set()
    for name in Hyperparams._fields:
        hparams = DEFAULTS._replace(**{name: 0.5 * getattr(DEFAULTS, name)})
        params = update(state, hparams, rollout, key)[0].params
        weights.add(
            (*map(float, params["actor"]["w"]), *map(float, params["critic"]["v"]))
        )
    assert len(weights) == 8, "each matters, but for learning_rate: that is state"
    assert update._cache_size() == 1


def test_update_keeps_structure_and_types_of_the_state(default_update):
    _, state, rollout, update = default_update
    after, metrics = jax.eval_shape(
        update, state, Hyperparams(), rollout, jax.random.key(0)
    )
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert described(after) == described(state)
    assert all(x.shape == () for x in metrics.values())


def test_update_is_a_function_of_its_key(default_update):
    _, state, rollout, update = default_update
    first, again, other = (
        update(state, Hyperparams(), rollout, jax.random.key(k))[0] for k in (0, 0, 1)
    )
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(first.params["actor"]["w"], other.params["actor"]["w"])


@pytest.mark.slow
def test_mixed_precision_trains_near_float32():
    """The line has no matrix to round, so this takes a real network."""
    model = ModelConfig(hidden_dims=(8,))
    network = actor_critic(Continuous(2), model, model)

    def train(precision):
        config = PPOConfig(precision=precision, optimizer="sgd", schedule="fixed")
        ppo, state, rollout = start(network, config)
        update = jit(ppo.update)
        after, metrics = update(state, Hyperparams(), rollout, jax.random.key(0))
        moved = jax.tree.map(jnp.subtract, after.params, state.params)
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(moved)]), metrics

    (exact, _), (near, metrics) = train("default"), train("bfloat16")
    assert near.dtype == jnp.float32
    assert all(np.isfinite(x) for x in metrics.values())
    distance = np.linalg.norm(near - exact)
    assert 0.0 < distance < 0.1 * np.linalg.norm(exact)


def products(function, *args):
    """Returns the matrix products and convolutions of a function, as lowered."""
    text = jit(function).lower(*args).as_text()
    return [x for x in text.splitlines() if "dot_general" in x or "convolution" in x]


CNN = CNNConfig(output_channels=(2,), kernel_size=(3,))
MODELS = {
    "MLPModel": (ModelConfig(hidden_dims=(4,)), (N, 2)),
    "RNNModel": (ModelConfig("RNNModel", (4,), rnn_hidden_dim=3), (N, 2)),
    "CNNModel": (ModelConfig("CNNModel", (4,), cnn_cfg=CNN), (N, 1, 8, 8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("class_name", MODELS)
def test_highest_is_said_of_every_product_and_of_nothing_else(class_name):
    """Acting, playing, values, gradients; the default program says it of none."""
    model, shape = MODELS[class_name]
    network = actor_critic(Continuous(2), model, model)
    obs = {"policy": jnp.zeros(shape)}
    counts = {}
    for precision in ("default", "highest"):
        config = PPOConfig(precision=precision, timeout_bootstrap="none")
        ppo = make_ppo(network, config)
        key, hparams = jax.random.key(0), Hyperparams()
        state = jax.eval_shape(ppo.init, key, obs, hparams)
        carry = ppo.initial_carry(obs)
        output = jax.eval_shape(ppo.act, state, obs, key, carry)
        flags = jnp.zeros(N, bool)
        step = TimeStep(obs, jnp.zeros(N), flags, flags, None, {})
        steps = jax.eval_shape(ppo.observe, state, obs, output, step)
        steps = jax.tree.map(lambda x: jnp.zeros((T, *x.shape), x.dtype), steps)
        rollout = Rollout(steps, obs, carry)
        found = products(ppo.act, state, obs, key, carry)
        found += products(ppo.play, state, obs, carry)
        found += products(ppo.update, state, hparams, rollout, key)
        counts[precision] = len(found)
        says = ["HIGHEST" in line for line in found]
        assert len(says) > 10 and set(says) == {precision == "highest"}
    assert counts["default"] == counts["highest"]


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ({"use_mixed_precision": True}, "bfloat16"),
        ({"use_mixed_precision": False}, "default"),
        ({"use_mixed_precision": True, "precision": "bfloat16"}, "bfloat16"),
        ({"precision": "highest"}, "highest"),
    ],
)
def test_precision_is_one_option_and_the_one_before_is_read(given, precision):
    config = PPOConfig(**given)
    assert config.precision == precision
    assert dataclasses.replace(config, num_mini_batches=2).precision == precision


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"precision": "high"}, r"^precision = 'high' .*\(did you mean 'highest'\?\)$"),
        ({"precision": 32}, "^precision = 32: give one of highest, default, bfloat16$"),
        (
            {"use_mixed_precision": "yes"},
            "^use_mixed_precision = 'yes': give precision",
        ),
        (
            {"use_mixed_precision": True, "precision": "highest"},
            "^use_mixed_precision = True and precision = 'highest' are two things: ",
        ),
        ({"use_mixed_precision": False, "precision": "bfloat16"}, "are two things"),
    ],
)
def test_a_precision_that_is_none_is_one_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        PPOConfig(**given)


# --- acting


def test_init_starts_from_the_hyperparameters():
    ppo = make_ppo(line())
    state = ppo.init(
        jax.random.key(0), {"policy": jnp.zeros((N, 2))}, Hyperparams(3e-4)
    )
    assert state.learning_rate == np.float32(3e-4)
    assert state.learning_rate.dtype == jnp.float32
    assert state.iteration == 0
    assert state.iteration.dtype == jnp.int32


def test_acting_reads_normalised_observations_and_draws_by_the_key():
    ppo = make_ppo(line(normalized=True))
    obs = {"policy": jnp.full((N, 2), 2.02)}
    state = ppo.init(jax.random.key(0), obs, Hyperparams())
    np.testing.assert_allclose(ppo.mode(state, obs), 1.0, rtol=1e-6)  # 2.02 / 1.01 / 2
    first, again, other = (ppo.act(state, obs, jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first.action, again.action)
    assert (first.action != other.action).all()
    assert len(np.unique(first.action)) == 2 * N
    wanted = first.distribution.log_prob(first.action)
    np.testing.assert_array_equal(first.log_prob, wanted)


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("schedule", "adaptve", "did you mean 'adaptive'"),
        ("optimizer", "adm", "did you mean 'adam'"),
        ("timeout_bootstrap", "last", "did you mean 'last_value'"),
        ("num_mini_batches", 0, "a number above 0"),
        ("num_learning_epochs", 2.5, "a whole number"),
    ],
)
def test_a_wrong_option_says_what_is_right(field, value, fix):
    with pytest.raises(ValueError, match=f"{field} = .*{fix}"):
        PPOConfig(**{field: value})
