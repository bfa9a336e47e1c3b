"""Random network distillation: hand tables, and what its state is part of."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    Hyperparams,
    ModelConfig,
    PPOConfig,
    actor_critic,
    init_run,
    iterate,
    make_ppo,
)
from ppo_jax.envs import make
from ppo_jax.learning.config import RNDConfig, WeightSchedule
from ppo_jax.learning.minibatches import samples_of
from ppo_jax.learning.rnd import (
    RNDSums,
    distillation_loss,
    make_rnd,
    normalized_novelty,
    novelty_of,
    weight_at,
)
from ppo_jax.policies.normalization import init_stats

LINEAR = WeightSchedule("linear", initial_step=5, final_step=15, final_value=0.1)
STEP = WeightSchedule("step", final_step=3, final_value=0.25)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (None, 99, 1.0),
        (STEP, 2, 1.0),
        (STEP, 3, 0.25),  # from the final step on
        (LINEAR, 5, 1.0),
        (LINEAR, 10, 0.55),  # half way
        (LINEAR, 15, 0.1),
        (LINEAR, 99, 0.1),
    ],
)
def test_the_weight_matches_hand_arithmetic(maybe_jit, schedule, step, expected):
    weight = maybe_jit(partial(weight_at, 1.0, schedule))(jnp.array([step]))
    np.testing.assert_allclose(weight, [expected], rtol=1e-6)


def test_novelty_is_a_distance_and_the_loss_a_mean():
    target, predicted = jnp.array([[3.0, 4.0], [1.0, 0.0]]), jnp.zeros((2, 2))
    np.testing.assert_allclose(novelty_of(target, predicted), [5.0, 1.0])
    assert distillation_loss(target, predicted) == (9 + 16 + 1) / 4


def test_the_target_of_the_loss_stands_still():
    by_target, by_predicted = jax.grad(distillation_loss, (0, 1))(
        jnp.array([[3.0]]), jnp.array([[1.0]])
    )
    assert by_target == 0.0
    assert by_predicted == -4.0  # 2 (1 - 3)


def test_novelty_is_over_the_spread_of_its_discounted_sum(maybe_jit):
    """G = [1, 3], std 1; then G = 0.99 [1, 3] + [2, 2], the std that of all four."""
    sums = RNDSums(jnp.zeros(2), init_stats(1), jnp.zeros((), jnp.int32))
    step = maybe_jit(normalized_novelty)
    sums, first = step(sums, jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(first, [1.0, 3.0], rtol=1e-6)
    sums, second = step(sums, jnp.array([2.0, 2.0]))
    np.testing.assert_allclose(sums.novelty, [2.99, 4.97], rtol=1e-6)
    std = np.std([1.0, 3.0, 2.99, 4.97])
    np.testing.assert_allclose(second, np.array([2.0, 2.0]) / std, rtol=1e-5)


def test_constant_novelty_is_not_divided():
    """One environment, or the same in all, has no spread."""
    sums = RNDSums(jnp.zeros(2), init_stats(1), jnp.zeros((), jnp.int32))
    _, novelty = jax.jit(normalized_novelty)(sums, jnp.array([2.0, 2.0]))
    np.testing.assert_array_equal(novelty, [2.0, 2.0])


def parts(rnd_cfg):
    env = make("Cartpole", num_envs=16)
    model = ModelConfig(hidden_dims=(8,))
    config = PPOConfig(num_learning_epochs=1, num_mini_batches=2, rnd_cfg=rnd_cfg)
    rnd = make_rnd(rnd_cfg, env.step_dt) if rnd_cfg else None
    network = actor_critic(env.action_space, model, model)
    return make_ppo(network, config, rnd=rnd), env


@pytest.mark.slow
def test_rewards_are_of_the_observation_that_a_step_returned():
    """Weighed by the number of the step and the duration of one; both counted on."""
    config = RNDConfig(weight=60.0, num_outputs=3, weight_schedule=LINEAR)
    ppo, env = parts(config)
    run = init_run(ppo, env, Hyperparams(), jax.random.key(0))
    from ppo_jax import collect

    _, rollout, _ = jax.jit(partial(collect, ppo, env, 4))(run, jax.random.key(1))
    later = run.rnd._replace(step=jnp.int32(6))
    sums, rewarded, _ = jax.jit(ppo.rnd.reward)(run.train.rnd, later, rollout)
    assert sums.step == 10
    weight = weight_at(60.0 * env.step_dt, LINEAR, jnp.arange(7, 11))
    plain = dataclasses.replace(config, weight_schedule=None)
    _, constant, _ = parts(plain)[0].rnd.reward(run.train.rnd, later, rollout)
    added = rewarded.steps.reward - rollout.steps.reward
    novelty = constant.steps.reward - rollout.steps.reward
    np.testing.assert_allclose(added, novelty * weight[:, None], rtol=1e-4, atol=1e-6)
    moved = rollout._replace(last_obs={"policy": rollout.last_obs["policy"] + 1.0})
    _, other, _ = ppo.rnd.reward(run.train.rnd, later, moved)
    difference = jnp.abs(other.steps.reward - rewarded.steps.reward)
    changed = (difference > 1e-3).any(axis=1)
    assert changed.tolist() == [False, False, False, True]


def test_the_policy_starts_as_without_rnd():
    (with_it, env), (without, _) = parts(RNDConfig(weight=1.0)), parts(None)
    start = partial(init_run, env=env, hparams=Hyperparams(), key=jax.random.key(0))
    plain = start(without)
    jax.tree.map(
        np.testing.assert_array_equal,
        start(with_it).train.params,
        plain.train.params,
    )
    assert plain.rnd == () == plain.train.rnd


@pytest.mark.slow
def test_vmapped_runs_are_the_runs_alone():
    config = RNDConfig(weight=9.0, reward_normalization=True, state_normalization=True)
    ppo, env = parts(config)

    def run(key):
        state = init_run(ppo, env, Hyperparams(), key)
        return iterate(ppo, env, 8, state, Hyperparams())[0]

    keys = jax.random.split(jax.random.key(3), 2)
    together, alone = jax.jit(jax.vmap(run))(keys), jax.jit(run)(keys[1])
    for name in ("train", "rnd"):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x[1], y, rtol=2e-4, atol=1e-5),
            getattr(together, name),
            getattr(alone, name),
        )


def test_a_configuration_alone_is_refused_and_says_what_is_missing():
    env = make("Cartpole", num_envs=16)
    config = PPOConfig(rnd_cfg=RNDConfig(weight=1.0))
    with pytest.raises(ValueError, match=r"rnd=make_rnd\(config.rnd_cfg"):
        make_ppo(actor_critic(env.action_space), config)


def test_with_memory_rnd_learns_from_the_same_environments():
    """T = 3, N = 5, M = 2: environments 0 and 1, then 2 and 3; 4 is left out."""
    order = samples_of(jnp.arange(4)[None], (3, 5), 2)
    assert order.tolist() == [[0, 1, 5, 6, 10, 11, 2, 3, 7, 8, 12, 13]]
