"""Collecting: what is stored of each step, and the statistics of the episodes."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax import (
    ActorCritic,
    Continuous,
    Env,
    EnvInfo,
    Gaussian,
    Hyperparams,
    RunState,
    TimeStep,
    collect,
    host_scan,
    make_ppo,
)
from ppo_jax.loops.episodes import (
    MOST,
    NUM_RECENT,
    fitness,
    init_episodes,
    with_gaps,
)
from ppo_jax.loops.rollout import NUM_REPORTED


@dataclass(frozen=True, eq=False)
class Script(Env):
    """Environments that return the rows of tables, whatever the action.

    The state is the number of the step. The observation before step t is t, or 100
    more in the first step of an episode; `final_obs` is t + 1 in any case.
    """

    reward: Any  # [S, N]
    terminated: Any  # [S, N]
    truncated: Any  # [S, N]
    log: Any = ()  # [S, N]
    obs: Any = None  # {group: [S, N, D]} after step t, instead of the numbers
    echo: bool = False  # the reward is the action

    @property
    def info(self):
        return EnvInfo(np.shape(self.reward)[1], Continuous(1), 1000, step_dt=0.1)

    def reset(self, key):
        return jnp.int32(0), self.observe(jnp.int32(0), jnp.ones(self.num_envs, bool))

    def observe(self, step, first):
        if self.obs is not None:
            return {name: jnp.asarray(x)[step - 1] for name, x in self.obs.items()}
        value = jnp.where(first, step + 100.0, step + 0.0)
        return {"policy": value[:, None]}

    def step(self, state, action):
        row = lambda table: jnp.asarray(table)[state]
        terminated, truncated = row(self.terminated), row(self.truncated)
        done = terminated | truncated
        timestep = TimeStep(
            obs=self.observe(state + 1, done),
            reward=action[:, 0] if self.echo else row(self.reward),
            terminated=terminated,
            truncated=truncated,
            final_obs=self.observe(state + 1, jnp.zeros_like(done)),
            log={"goal": row(self.log)} if len(self.log) else {},
        )
        return state + 1, timestep

    def randomize_episode_length(self, env_state, key):
        return env_state


def never(num_steps, num_envs):
    return np.zeros((num_steps, num_envs), bool)


def plain_ppo():
    """Actions around 0 with std 1, V(obs) = obs."""

    def policy(params, x):
        return Gaussian(params["actor"]["w"] * x, jnp.ones_like(x))

    network = ActorCritic(
        init=lambda key, obs: (
            {"actor": {"w": jnp.zeros(())}, "critic": {"v": jnp.ones(())}},
            (),
        ),
        prepare=lambda obs_stats, obs: obs["policy"],
        policy=policy,
        value=lambda params, x: params["critic"]["v"] * x[..., 0],
        update_stats=lambda obs_stats, obs: (),
    )
    return make_ppo(network)


PPO = plain_ppo()

# Nearly all the time of these tests is XLA's, and what it makes runs shortly.
JITTED_COLLECT = jax.jit(
    collect,
    static_argnums=(0, 1, 2),
    compiler_options={"xla_backend_optimization_level": 0},
)


def begin(env):
    env_state, obs = env.reset(jax.random.key(0))
    train = PPO.init(jax.random.key(0), obs, Hyperparams())
    return RunState(
        train, env_state, obs, (), init_episodes(env.num_envs), jax.random.key(0)
    )


def play(env, num_steps, run=None, key=0):
    run = begin(env) if run is None else run
    return JITTED_COLLECT(PPO, env, num_steps, run, jax.random.key(key))


# --- what is stored

ECHO = Script(np.zeros((5, 3)), never(5, 3), never(5, 3), echo=True)


def test_a_step_is_stored_with_what_was_acted_on():
    """Environment 0 terminates in step 1; environment 1 is cut in step 2."""
    terminated, truncated = never(4, 2), never(4, 2)
    terminated[1, 0] = truncated[2, 1] = True
    reward = np.arange(8.0, dtype=np.float32).reshape(4, 2)
    _, rollout, _ = play(Script(reward, terminated, truncated), 4)
    steps = rollout.steps
    obs = [[100, 100], [1, 1], [102, 2], [3, 103]]  # 100 more: just reset
    np.testing.assert_array_equal(steps.obs["policy"][..., 0], obs)
    np.testing.assert_array_equal(rollout.last_obs["policy"], [[4.0], [4.0]])
    np.testing.assert_array_equal(steps.reward, reward)
    np.testing.assert_array_equal(steps.terminated, terminated)
    np.testing.assert_array_equal(steps.truncated, truncated)
    assert steps.final_value[2, 1] == 3.0  # V of the observation before the reset
    assert rollout.first_carry == ()


def test_the_environment_takes_the_action_that_is_stored():
    _, rollout, _ = play(ECHO, 5)
    steps = rollout.steps
    np.testing.assert_array_equal(steps.action[..., 0], steps.reward)
    # density of the standard normal distribution at the action
    wanted = -0.5 * np.square(np.float64(steps.reward)) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(steps.log_prob, wanted, rtol=1e-5)


def test_every_step_and_environment_draws_its_own_action_by_the_key():
    rewards = [play(ECHO, 5, key=key)[1].steps.reward for key in (0, 0, 1)]
    assert len(np.unique(rewards[0])) == 15
    np.testing.assert_array_equal(rewards[0], rewards[1])
    assert (rewards[0] != rewards[2]).all()


def test_first_step_law():
    """The distribution that is stored is the policy's: ratio 1 and KL 0 at first."""
    run, rollout, _ = play(ECHO, 5)
    steps = rollout.steps
    again = PPO.act(run.train, steps.obs, jax.random.key(9)).distribution
    assert (steps.distribution.kl_divergence(again) == 0.0).all()
    log_prob = again.log_prob(steps.action)
    np.testing.assert_allclose(log_prob, steps.log_prob, rtol=1e-6)


# --- loops


def test_host_scan_is_lax_scan():
    def f(carry, x):
        return carry + x["a"], (carry * x["b"], {"a": x["a"]})

    xs = {"a": jnp.arange(4.0), "b": jnp.arange(8.0).reshape(4, 2)}
    wanted, actual = jax.lax.scan(f, 0.0, xs), host_scan(f, jnp.zeros(()), xs)
    assert jax.tree.structure(wanted) == jax.tree.structure(actual)
    for x, y in zip(jax.tree.leaves(wanted), jax.tree.leaves(actual), strict=True):
        np.testing.assert_array_equal(x, y)


def test_host_scan_calls_with_real_arrays_once_a_step():
    seen = []
    keys = jax.random.split(jax.random.key(0), 3)
    host_scan(lambda carry, key: (carry, seen.append(float(carry))), 1.0, keys)
    assert seen == [1.0, 1.0, 1.0]


def test_two_short_rollouts_are_one_long():
    rng = np.random.default_rng(0)
    env = Script(
        reward=rng.normal(size=(6, 3)).astype(np.float32),
        terminated=rng.random((6, 3)) < 0.3,
        truncated=rng.random((6, 3)) < 0.3,
    )
    run, first, _ = play(env, 3)
    run, second, metrics = play(env, 3, run)
    whole, rollout, whole_metrics = play(env, 6)
    joined = jnp.concatenate([first.steps.reward, second.steps.reward])
    np.testing.assert_array_equal(joined, rollout.steps.reward)
    for x, y in zip(run.episodes, whole.episodes, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["episode_return"], whole_metrics["episode_return"], rtol=1e-5
    )


# --- episodes


def test_returns_and_lengths_match_hand_arithmetic():
    """Environment 0 ends in steps 1 (return 1 + 3) and 2 (return 5); 1 in step 3."""
    reward = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)
    terminated, truncated = never(4, 2), never(4, 2)
    terminated[1, 0] = truncated[2, 0] = truncated[3, 1] = terminated[3, 1] = True
    run, _, metrics = play(Script(reward, terminated, truncated), 4)
    episodes = run.episodes
    assert episodes.num_finished == 3
    np.testing.assert_array_equal(episodes.recent_return[:3], [4, 5, 20])  # 2+4+6+8
    np.testing.assert_array_equal(episodes.recent_length[:3], [2, 1, 4])
    np.testing.assert_array_equal(episodes.episode_return, [7.0, 0.0])  # still running
    np.testing.assert_array_equal(episodes.episode_length, [1, 0])
    np.testing.assert_allclose(metrics["episode_return"], 29 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["episode_length"], 7 / 3, rtol=1e-6)


def test_an_episode_may_span_rollouts():
    reward = np.array([[1], [2], [4], [8]], np.float32)
    terminated = never(4, 1)
    terminated[2, 0] = True
    env = Script(reward, terminated, never(4, 1))
    run, _, metrics = play(env, 2)
    assert np.isnan(with_gaps(metrics)["episode_return"])
    _, _, metrics = play(env, 2, run)
    assert metrics["episode_return"] == 7.0
    assert metrics["episode_length"] == 3.0


def test_what_has_no_value_yet_is_told_apart_and_becomes_nan_on_the_host():
    """In the program it is 0 of 0 episodes: no NaN is made on purpose."""
    env = Script(np.ones((3, 2)), never(3, 2), never(3, 2), log=np.ones((3, 2)))
    with jax.debug_nans(True):
        run, _, metrics = play(env, 3)
    assert run.episodes.num_finished == metrics["num_recent"] == 0
    assert metrics["num_ended"] == 0
    assert fitness(metrics) == -np.inf
    for name in ("episode_return", "episode_length", "log/goal"):
        assert metrics[name] == 0.0
        assert np.isnan(with_gaps(metrics)[name])


def test_only_what_has_no_value_becomes_nan():
    """Also with leading axes: members, iterations."""
    metrics = {
        "episode_return": jnp.array([[0.0, 0.0], [0.0, 2.0]]),
        "log/goal": jnp.array([[0.0, 3.0], [0.0, 0.0]]),
        "kl": jnp.zeros((2, 2)),
        "nonfinite/reward": jnp.full((2, 2, NUM_REPORTED), -1),
        "num_recent": jnp.array([[0, 100], [0, 1]]),
        "num_ended": jnp.array([[0, 1], [0, 0]]),
    }
    read, nan = with_gaps(metrics), np.nan
    np.testing.assert_equal(read["episode_return"], [[nan, 0.0], [nan, 2.0]])
    np.testing.assert_equal(read["log/goal"], [[nan, 3.0], [nan, nan]])
    assert read.keys() == {"episode_return", "log/goal", "kl", "nonfinite/reward"}
    for name in ("kl", "nonfinite/reward"):
        np.testing.assert_array_equal(read[name], metrics[name])


def test_the_last_hundred_episodes_are_kept_in_order():
    """13 environments end in every step: 65, 130 and 195 episodes."""
    reward = np.arange(195, dtype=np.float32).reshape(15, 13)
    env, run = Script(reward, ~never(15, 13), never(15, 13)), None
    assert NUM_RECENT == 100
    for finished, kept in [(65, 65), (130, 100), (195, 100)]:
        run, _, metrics = play(env, 5, run)
        assert run.episodes.num_finished == finished
        ring = np.roll(run.episodes.recent_return, -(finished % 100))[-kept:]
        np.testing.assert_array_equal(ring, np.arange(finished - kept, finished))
        np.testing.assert_allclose(metrics["episode_return"], ring.mean(), rtol=1e-5)


def test_more_than_a_ring_of_episodes_may_end_in_one_rollout():
    reward = np.arange(260, dtype=np.float32).reshape(2, 130)
    run, _, _ = play(Script(reward, ~never(2, 130), never(2, 130)), 2)
    assert run.episodes.num_finished == 260
    ring = np.roll(run.episodes.recent_return, -60)
    np.testing.assert_array_equal(ring, np.arange(160, 260))


def test_a_ring_goes_on_where_an_int32_would_end():
    """2^31 episodes are an hour of 65,536 short ones."""
    reward = np.arange(26, dtype=np.float32).reshape(2, 13)
    env = Script(reward, ~never(2, 13), never(2, 13))
    run = begin(env)
    finished = jnp.int32(MOST - 20)
    run = run._replace(episodes=run.episodes._replace(num_finished=finished))
    run, _, metrics = play(env, 2, run)
    assert 2 * NUM_RECENT > run.episodes.num_finished >= NUM_RECENT
    assert (run.episodes.num_finished - MOST - 6) % NUM_RECENT == 0
    assert metrics["num_recent"] == NUM_RECENT
    last = np.roll(run.episodes.recent_return, -int(run.episodes.num_finished))[-26:]
    np.testing.assert_array_equal(last, np.arange(26))


def test_the_mean_is_over_what_the_ring_holds_so_far():
    reward = np.full((2, 4), 3.0, np.float32)
    _, _, metrics = play(Script(reward, ~never(2, 4), never(2, 4)), 2)
    np.testing.assert_allclose(metrics["episode_return"], 3.0, rtol=1e-6)  # not / 100


def test_logs_are_means_over_finished_episodes():
    """What is reported in the midst of an episode does not count, not even NaN."""
    log = np.array([[1, 2, 50], [np.nan, 6, 50]], np.float32)
    terminated, truncated = never(2, 3), never(2, 3)
    terminated[0, 0] = truncated[1, 1] = True
    env = Script(np.zeros((2, 3)), terminated, truncated, log=log)
    _, _, metrics = play(env, 2)
    np.testing.assert_allclose(metrics["log/goal"], 3.5, rtol=1e-6)  # (1 + 6) / 2


# --- what is not finite


def test_environments_that_are_not_finite_are_named():
    """In all observations, also in that after the last step, which is learned from."""
    reward = np.zeros((4, 12), np.float32)
    reward[2, 1], reward[3, 7] = np.nan, -np.inf
    policy = np.zeros((4, 12, 1), np.float32)
    policy[0, 3], policy[1, 5] = np.nan, np.inf
    policy[3, 6] = np.nan  # seen after the last step
    image = np.zeros((4, 12, 2, 2), np.float32)
    image[1, 11, 1, 0] = np.nan
    count = np.zeros((4, 12, 1), np.int32)
    obs = {"policy": policy, "image": image, "count": count}
    env = Script(reward, never(4, 12), never(4, 12), obs=obs)
    run = begin(env)
    run = run._replace(obs=jax.tree.map(jnp.zeros_like, run.obs))
    _, _, metrics = play(env, 4, run)

    def named(name):
        envs = np.asarray(metrics[f"nonfinite/{name}"])
        assert envs.shape == (NUM_REPORTED,)
        return list(envs[envs >= 0])

    assert named("reward") == [1, 7]
    assert named("obs['policy']") == [3, 5, 6]
    assert named("obs['image']") == [11]
    assert named("obs['count']") == []


def test_only_the_first_of_many_are_named():
    reward = np.full((1, 12), np.nan, np.float32)
    reward[0, 2] = 0.0
    _, _, metrics = play(Script(reward, never(1, 12), never(1, 12)), 1)
    np.testing.assert_array_equal(metrics["nonfinite/reward"], [0, 1, 3, 4, 5, 6, 7, 8])


def test_fewer_environments_than_could_be_named():
    reward = np.array([[np.nan, 0.0, np.inf]], np.float32)
    _, _, metrics = play(Script(reward, never(1, 3), never(1, 3)), 1)
    assert metrics["nonfinite/reward"].tolist() == [0, 2, *[-1] * (NUM_REPORTED - 2)]


def test_a_nan_ends_with_its_episode():
    reward = np.array([[np.nan, np.nan], [1.0, 1.0]], np.float32)
    terminated = np.array([[True, False], [False, False]])
    run, _, _ = play(Script(reward, terminated, never(2, 2)), 2)
    np.testing.assert_array_equal(run.episodes.episode_return, [1.0, np.nan])
