"""Whole runs: loops that must agree, and probes whose optimum is known."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import (
    Continuous,
    Discrete,
    Hyperparams,
    ModelConfig,
    PPOConfig,
    actor_critic,
    host_scan,
    init_run,
    iterate,
    make_ppo,
    train,
)
from ppo_jax.envs.task import vectorize

SMALL = ModelConfig(hidden_dims=(8,))


def ppo_for(env, config=None, model=SMALL):
    network = actor_critic(env.action_space, model, model)
    return make_ppo(network, config or PPOConfig())


@dataclass(frozen=True)
class Walk:
    """A point that the action pushes along a line; far out the episode ends."""

    action_space = Continuous(1)
    max_episode_length = 6
    step_dt = 0.1

    def reset(self, key):
        return jax.random.uniform(key, (1,), minval=-0.5, maxval=0.5)

    def step(self, x, action, key, common_step):
        x = x + 0.2 * action
        terminated = jnp.abs(x[0]) > 0.8
        return x, -jnp.abs(x[0]), terminated, {"distance": jnp.abs(x[0])}

    def observe(self, x, key):
        return {"policy": x}


# Nearly all the time of these tests is XLA's, and their runs are short.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# --- loops and maps: a few iterations of a tiny run

NUM_STEPS, NUM_ITERATIONS = 4, 3
WALKS = vectorize(Walk(), num_envs=8)
WALK_PPO = ppo_for(
    WALKS,
    PPOConfig(num_learning_epochs=2, num_mini_batches=2),
    ModelConfig(hidden_dims=(8,), obs_normalization=True),
)
START = jit(partial(init_run, WALK_PPO, WALKS))
STEP = jit(partial(iterate, WALK_PPO, WALKS, NUM_STEPS))
ROWS = [
    (0, Hyperparams()),
    (1, Hyperparams(learning_rate=3e-3, gamma=0.9, clip_param=0.1)),
]


@pytest.fixture(scope="module")
def lone_runs():
    """(run, metrics) of each row, from a loop of jitted iterations."""
    return [walk(STEP, *row) for row in ROWS]


def walk(step, seed, hparams):
    run, history = START(hparams, jax.random.key(seed)), []
    for _ in range(NUM_ITERATIONS):
        run, metrics = step(run, hparams)
        history.append(metrics)
    return run, jax.tree.map(lambda *x: jnp.stack(x), *history)


def assert_same_run(actual, wanted, atol=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(wanted)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol)


@pytest.mark.slow
def test_training_is_a_loop_of_iterations_and_a_mapped_row_the_lone_run(lone_runs):
    """Mapped over keys and hyper-parameters at once."""
    keys = jnp.stack([jax.random.key(seed) for seed, _ in ROWS])
    hparams = jax.tree.map(lambda *x: jnp.stack(x), *(row for _, row in ROWS))
    walk_all = partial(train, WALK_PPO, WALKS, NUM_STEPS, NUM_ITERATIONS)
    runs = jit(jax.vmap(walk_all))(keys, hparams)
    for row, wanted in enumerate(lone_runs):
        assert_same_run(jax.tree.map(lambda x: x[row], runs), wanted)  # noqa: B023


@pytest.mark.slow
def test_the_host_loop_is_the_jitted_loop(lone_runs):
    """Acting, stepping and learning jitted one by one, with Python in between."""
    ppo = WALK_PPO._replace(
        act=jit(WALK_PPO.act),
        observe=jit(WALK_PPO.observe),
        update=jit(WALK_PPO.update),
    )

    class Stepped:
        step = staticmethod(jit(WALKS.step))

    step = partial(iterate, ppo, Stepped(), NUM_STEPS, scan=host_scan)
    assert_same_run(walk(step, *ROWS[0]), lone_runs[0])


@pytest.mark.slow
def test_the_runs_differ_and_one_program_made_them(lone_runs):
    assert STEP._cache_size() == 1
    first, second = (run.train.params["actor"] for run, _ in lone_runs)
    kernel = lambda params: params["mlp"]["layer_0"]["kernel"]
    assert (kernel(first) != kernel(second)).all()
    assert [run.train.iteration for run, _ in lone_runs] == [NUM_ITERATIONS] * 2


@pytest.mark.slow
def test_every_iteration_draws_anew():
    run = START(Hyperparams(), jax.random.key(0))
    keys = [jax.random.key_data(run.key)]
    for _ in range(2):
        run, _ = STEP(run, Hyperparams())
        keys.append(jax.random.key_data(run.key))
    assert len({tuple(map(int, key)) for key in keys}) == 3


@pytest.mark.slow
def test_a_run_is_a_function_of_its_key(lone_runs):
    again = walk(STEP, *ROWS[0])
    for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(lone_runs[0]), strict=True):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_metrics_have_a_row_per_iteration(lone_runs):
    _, metrics = lone_runs[0]
    assert {"episode_return", "log/distance", "value_loss", "kl"} < metrics.keys()
    assert all(len(x) == NUM_ITERATIONS for x in metrics.values())
    assert (metrics["nonfinite/reward"] == -1).all()


def test_the_learning_rate_starts_where_the_hyperparameters_say():
    run = START(Hyperparams(learning_rate=3e-4), jax.random.key(0))
    assert run.train.learning_rate == np.float32(3e-4)
    assert run.train.iteration == 0
    assert run.episodes.num_finished == 0


@pytest.mark.slow
def test_episodes_start_at_random_points_of_their_time_limit():
    env = vectorize(Walk(), num_envs=512)
    start = partial(init_run, ppo_for(env), env)

    def lengths(**options):
        run = jit(partial(start, **options))(Hyperparams(), jax.random.key(0))
        np.testing.assert_array_equal(run.episodes.episode_length, 0)  # as counted
        return np.bincount(run.env_state.episode_length)

    counts = lengths()
    assert len(counts) == Walk.max_episode_length  # 0 to 5
    assert counts.min() > 0.5 * 512 / 6, "not uniform"
    assert list(lengths(init_at_random_ep_len=False)) == [512]


# --- probes


def learn(task, config, hparams, num_iterations, seeds=3):
    """Trains from some seeds, one after the other.

    Returns the network's functions, and parameters and metrics with an axis of seeds.
    """
    env = vectorize(task, num_envs=32)
    network = actor_critic(env.action_space, SMALL, SMALL)
    train_once = jit(partial(train, make_ppo(network, config), env, 8, num_iterations))
    results = [train_once(jax.random.key(seed), hparams) for seed in range(seeds)]
    params = [run.train.params for run, _ in results]
    metrics = [metrics for _, metrics in results]
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    return network, stack(params), stack(metrics)


@dataclass(frozen=True)
class Constant:
    """Every step pays 1. Half of the episodes end with it, half by the time limit."""

    action_space = Continuous(1)
    max_episode_length = 4
    step_dt = 1.0

    def reset(self, key):
        return jax.random.bernoulli(key)

    def step(self, ends, action, key, common_step):
        return ends, jnp.ones(()), ends, {}

    def observe(self, ends, key):
        return {"policy": jnp.where(ends, 1.0, -1.0)[None]}


# gamma = 1/2. Cut, it goes on for ever: 1 / (1 - 1/2). Taken for an end, the cut
# leaves the mean of 1.875, 1.75, 1.5 and 1 over an episode of 4.
@pytest.mark.slow
@pytest.mark.parametrize(("rule", "value_if_cut"), [("auto", 2.0), ("none", 1.53)])
def test_the_value_of_a_constant_reward_is_learned(rule, value_if_cut):
    config = PPOConfig(timeout_bootstrap=rule, schedule="fixed")
    hparams = Hyperparams(learning_rate=5e-3, gamma=0.5, clip_param=10.0)
    network, params, _ = learn(Constant(), config, hparams, num_iterations=60)
    inputs = {"critic": jnp.array([[-1.0], [1.0]])}
    values = jax.vmap(network.value, in_axes=(0, None))(params, inputs)
    wanted = jnp.broadcast_to(jnp.array([[value_if_cut, 1.0]]), (3, 2))
    np.testing.assert_allclose(values, wanted, atol=0.06)


@dataclass(frozen=True)
class Aim:
    """One step: the reward is highest where the action is half the observation."""

    action_space = Continuous(1)
    max_episode_length = 10
    step_dt = 1.0

    def reset(self, key):
        return jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)

    def step(self, goal, action, key, common_step):
        miss = (action - 0.5 * goal)[0]
        return goal, -miss * miss, jnp.ones((), bool), {"miss": jnp.abs(miss)}

    def observe(self, goal, key):
        return {"policy": goal}


@pytest.mark.slow
def test_the_best_action_is_learned_as_a_function_of_the_observation():
    config, hparams = PPOConfig(), Hyperparams(entropy_coef=0.0, learning_rate=1e-2)
    network, params, metrics = learn(Aim(), config, hparams, num_iterations=80)
    goal = jnp.linspace(-1.0, 1.0, 9)[:, None]
    policies = jax.vmap(network.policy, in_axes=(0, None))(params, {"actor": goal})
    wanted = jnp.broadcast_to(0.5 * goal, (3, 9, 1))
    np.testing.assert_allclose(policies.mode(), wanted, atol=0.15)
    assert (policies.std < 0.5).all()
    assert (metrics["episode_return"][:, -1] > -0.25).all()  # about -1 at first


class Cue(NamedTuple):
    """What was shown, what was chosen, and the time since."""

    shown: Any
    chosen: Any
    time: Any


@dataclass(frozen=True)
class Remember:
    """The first action must name what is shown; the reward comes two steps later."""

    action_space = Discrete(2)
    max_episode_length = 10
    step_dt = 1.0

    def reset(self, key):
        return Cue(jax.random.randint(key, (), 0, 2), jnp.int32(0), jnp.int32(0))

    def step(self, cue, action, key, common_step):
        chosen = jnp.where(cue.time == 0, action, cue.chosen)
        over = cue.time == 2
        reward = jnp.where(over & (chosen == cue.shown), 1.0, 0.0)
        return Cue(cue.shown, chosen, cue.time + 1), reward, over, {}

    def observe(self, cue, key):
        first = cue.time == 0
        shown = jnp.where(first, 2.0 * cue.shown - 1.0, 0.0)
        return {"policy": jnp.stack([shown, jnp.where(first, 1.0, 0.0)])}


@pytest.mark.slow
def test_a_choice_is_learned_from_a_later_reward():
    config, hparams = PPOConfig(), Hyperparams(learning_rate=1e-2, entropy_coef=0.0)
    network, params, metrics = learn(Remember(), config, hparams, num_iterations=40)
    assert (metrics["episode_return"][:, -1] > 0.9).all()  # 0.5 by chance
    cues = {"actor": jnp.array([[-1.0, 1.0], [1.0, 1.0]])}
    policies = jax.vmap(network.policy, in_axes=(0, None))(params, cues)
    np.testing.assert_array_equal(policies.mode(), [[0, 1]] * 3)
