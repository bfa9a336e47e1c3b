"""Isaac Lab's environments through the bridge, with both drivers."""

import traceback
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch
from walking import (
    DRIVERS,
    SCAN,
    Poisoned,
    assert_drivers_agree,
    assert_equal_trees,
    draw_actions,
    walk,
)

from ppo_jax.envs.bridge import bridge
from ppo_jax.envs.episode_log import EpisodeLog
from ppo_jax.envs.isaac_env import NUM_WARM_UP_STEPS
from ppo_jax.envs.isaac_lab import make_isaac_env, registered_tasks
from ppo_jax.envs.isaac_tasks import NEWTON_LIFT
from ppo_jax.learning.config import PPOConfig
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.loops.training import init_run, iterate, train
from ppo_jax.policies.actor_critic import actor_critic
from ppo_jax.policies.models import ModelConfig
from ppo_jax.types import Continuous, Discrete, Hyperparams

torch.set_num_threads(1)

DIRECT, MANAGER = "Isaac-Cartpole-Direct", "Isaac-Cartpole"
STEP_DT = 1 / 60  # s, of every Cartpole


def short_episodes(num_steps):
    """Returns a change of the config: episodes of so many Cartpole steps."""

    def change(env_cfg):
        env_cfg.episode_length_s = num_steps * STEP_DT

    return change


# -- the same numbers, whoever steps


@pytest.mark.parametrize("task", [DIRECT, MANAGER])
def test_cartpole_is_what_plain_isaac_lab_gives(make, task):
    """Both drivers, and env.step called by hand, agree to the last bit."""
    config = {"num_envs": 16, "change": short_episodes(20)}
    num_steps = 30
    obs, timesteps = assert_drivers_agree(make, task, num_steps, **config)
    assert timesteps.truncated.any()

    env = make(task, **config)
    reset_key, length_key, action_key = jax.random.split(jax.random.key(0), 3)
    actions = np.asarray(draw_actions(env, num_steps, action_key))
    env_state, _ = env.reset(reset_key)  # with the seed of the walk
    jax.block_until_ready(env.randomize_episode_length(env_state, length_key))
    isaac = env.torch_env.isaac
    np.testing.assert_array_equal(isaac.obs_buf["policy"], obs["policy"])
    for step, action in enumerate(actions):
        result = isaac.step(torch.tensor(action))
        names = ("reward", "terminated", "truncated")
        np.testing.assert_array_equal(
            result[0]["policy"], timesteps.obs["policy"][step]
        )
        for name, tensor in zip(names, result[1:4], strict=True):
            np.testing.assert_array_equal(tensor, getattr(timesteps, name)[step])


@pytest.mark.parametrize("driver", DRIVERS)
def test_nothing_is_read_too_late(make, driver):
    """Poison changes nothing, so every tensor is read before the next step."""
    env = make(DIRECT, 16, driver=driver)
    clean = walk(env, 20, random_lengths=True)
    poisoned = bridge(Poisoned(env.torch_env), driver)
    assert_equal_trees(walk(poisoned, 20, random_lengths=True), clean)


def test_seeds(make):
    env = make(DIRECT)
    first = walk(env, 5, seed=1)
    assert_equal_trees(walk(env, 5, seed=1), first)
    assert (walk(env, 5, seed=2)[0]["policy"] != first[0]["policy"]).all()


# -- ends of episodes


@pytest.mark.parametrize("task", [DIRECT, MANAGER])
def test_final_obs_is_where_an_uncut_episode_goes_on(make, task):
    """The state at a time-out is that of a twin whose episodes are longer."""
    limit = 5
    env = make(task, change=short_episodes(limit))
    assert env.max_episode_length == limit
    _, cut = walk(env, 2 * limit + 1)
    env.close()
    _, uncut = walk(make(task, change=short_episodes(300)), limit)

    assert cut.truncated.all(axis=1).nonzero()[0].tolist() == [limit - 1, 2 * limit - 1]
    last = limit - 1
    np.testing.assert_array_equal(
        cut.final_obs["policy"][last], uncut.obs["policy"][-1]
    )
    done = cut.terminated | cut.truncated
    same = (cut.final_obs["policy"] == cut.obs["policy"]).all(axis=-1)
    np.testing.assert_array_equal(same, ~done)  # not even a stale one


def test_without_final_obs(make):
    env = make(DIRECT, change=short_episodes(3), compute_final_obs=False)
    _, timesteps = walk(env, 4)
    assert timesteps.final_obs is None
    assert timesteps.truncated.any()


def test_finite_horizon_makes_time_outs_terminal(make):
    def change(env_cfg):
        short_episodes(3)(env_cfg)
        env_cfg.is_finite_horizon = True

    _, timesteps = walk(make(DIRECT, change=change), 4)
    assert timesteps.terminated.all(axis=1).tolist() == [False, False, True, False]
    assert not timesteps.truncated.any()


def test_episode_lengths_are_spread(make):
    env = make(DIRECT, 64)
    env_state, _ = env.reset(jax.random.key(0))
    jax.block_until_ready(env.randomize_episode_length(env_state, jax.random.key(1)))
    length = env.torch_env.isaac.episode_length_buf
    assert length.dtype == torch.int64
    assert 0 <= length.min() < 50 and 250 < length.max() < 300


@pytest.mark.parametrize("task", [DIRECT, MANAGER])
def test_log_counts_every_reset_once(make, task):
    """Isaac leaves old values in place; they are not read again."""
    limit = 4
    env = make(task, change=short_episodes(limit))
    walk(env, limit - 1)
    assert env.torch_env.drain_log() == {}
    walk(env, 2 * limit + 2)
    log = env.torch_env.drain_log()
    assert log["Metrics/success_rate"] == 1.0  # every episode timed out
    assert env.torch_env.drain_log() == {}
    if task == MANAGER:
        assert log["Episode_Termination/time_out"] == 1.0  # share of environments
        assert "Episode_Reward/alive" in log


# Steps: 3 episodes end with a = 1, none ends, 1 ends with a = 5.
# a = (3 * 1 + 1 * 5) / 4 = 2;  b = 7 is a float and appears late;
# c is written in every step: (3 * 1 + 1 * 2 + 1 * 3) / 5 = 1.6.
@pytest.mark.parametrize("most_entries", [2, 1000])
def test_log_matches_hand_arithmetic(monkeypatch, most_entries):
    monkeypatch.setattr("ppo_jax.envs.episode_log.MAX_LOG_ENTRIES", most_entries)
    log = {"stale": torch.tensor(9.0)}
    episodes = EpisodeLog(log)
    none, one, three = (torch.tensor([i < k for i in range(4)]) for k in (0, 1, 3))
    log |= {"a": torch.tensor(1.0), "c": torch.tensor(1.0)}
    episodes.add(log, three)
    log["c"] = torch.tensor(2.0)
    episodes.add(log, none)
    log |= {"a": torch.tensor([4.0, 6.0]), "b": 7.0, "c": torch.tensor(3.0)}
    episodes.add(log, one)
    assert episodes.drain() == pytest.approx({"a": 2.0, "b": 7.0, "c": 1.6})
    assert episodes.drain() == {}
    episodes.add(None, none)
    episodes.add(dict(log), none)  # a new dictionary: every entry is new
    assert set(episodes.drain()) == {"stale", "a", "b", "c"}


# -- actions and observations


@pytest.mark.parametrize(("clip_actions", "largest"), [(None, 50.0), (0.5, 0.5)])
def test_clip_actions(make, clip_actions, largest):
    env = make(DIRECT, clip_actions=clip_actions)
    env_state, _ = env.reset(jax.random.key(0))
    jax.block_until_ready(env.step(env_state, jnp.full((4, 1), -50.0)))
    isaac = env.torch_env.isaac
    np.testing.assert_allclose(isaac.actions, -largest * isaac.action_scale)


@pytest.mark.parametrize("driver", DRIVERS)
def test_last_states_are_kept_and_put_back(make, driver):
    """In time with what was observed of them; Isaac Lab's scene takes them again."""
    env = make(DIRECT, driver=driver)
    env.remember(4)
    _, timesteps = walk(env, 6)
    trail = env.torch_env.trail_of([1, 3])
    obs = np.asarray(timesteps.obs["policy"])
    np.testing.assert_array_equal(trail["obs"]["policy"], obs[1:, [1, 3]])
    joints = trail["states"]["articulation/cartpole/joint_position"]
    velocities = trail["states"]["articulation/cartpole/joint_velocity"]
    seen = np.concatenate([joints, velocities], axis=-1)
    np.testing.assert_allclose(seen, trail["obs"]["policy"], atol=1e-6)
    states = {name: x.clone() for name, x in env.torch_env.states().items()}
    walk(env, 3)
    env.torch_env.set_states({name: x.numpy() for name, x in states.items()})
    for name, x in env.torch_env.states().items():
        np.testing.assert_allclose(x, states[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("driver", DRIVERS)
def test_nan_stays_where_it_is(make, driver):
    """A NaN is neither hidden nor spread: one environment shows it."""
    env = make(DIRECT, driver=driver)
    env_state, _ = env.reset(jax.random.key(0))
    action = jnp.zeros((4, 1)).at[2].set(jnp.nan)
    _, timestep = env.step(env_state, action)
    bad = ~np.isfinite(timestep.obs["policy"]).all(axis=-1)
    assert bad.tolist() == [False, False, True, False]


OBSERVED = {  # of the showcase: {preset: groups}
    "box": {"policy": (4,)},
    "discrete": {"policy": (16,)},  # indicators
    "multidiscrete": {"policy": (8,)},  # indicators of 4 x 2
    "dict": {"policy/joint-positions": (2,), "policy/joint-velocities": (2,)},
    "tuple": {"policy/0": (2,), "policy/1": (2,)},
}
ACTED = {"box": Continuous(1), "discrete": Discrete(3), "multidiscrete": None}
SHOWCASE = "IsaacContrib-Cartpole-Showcase-Direct"


@pytest.mark.parametrize("action", ACTED)
@pytest.mark.parametrize("observation", OBSERVED)
def test_spaces_of_the_showcase(make, observation, action):
    kwargs = {
        "overrides": [f"presets={observation}_{action}"],
        "compute_final_obs": observation not in ("dict", "tuple"),
    }
    if ACTED[action] is None:
        with pytest.raises(ValueError, match=r"action space MultiDiscrete\(\[3 2\]\)"):
            make(SHOWCASE, **kwargs)
        return
    env = make(SHOWCASE, **kwargs)
    assert env.action_space == ACTED[action]
    obs, timesteps = walk(env, 4)
    shapes = {name: x.shape for name, x in timesteps.obs.items()}
    assert shapes == {name: (4, 4, *s) for name, s in OBSERVED[observation].items()}
    if observation in ("discrete", "multidiscrete"):
        one_per_choice = 1 if observation == "discrete" else 4
        assert (timesteps.obs["policy"].sum(axis=-1) == one_per_choice).all()
        assert set(np.unique(timesteps.obs["policy"])) == {0.0, 1.0}
    assert {x.dtype.name for x in jax.tree.leaves((obs, timesteps.obs))} == {"float32"}


@pytest.mark.parametrize("observation", ["dict", "tuple"])
def test_views_of_the_state_are_refused_as_final_obs(make, observation):
    """The reset overwrites them before anyone can read them."""
    presets = [f"presets={observation}_box"]
    with pytest.raises(ValueError, match="give timeout_bootstrap = last_value"):
        make(SHOWCASE, overrides=presets, compute_final_obs=True)
    env = make(SHOWCASE, overrides=presets)  # nothing was left open
    assert not env.torch_env.has_final_obs, "where nothing is said, there are none"


def test_camera_task_has_two_groups(make):
    renderer = ["renderer=newton_renderer"]
    obs, timesteps = assert_drivers_agree(
        make, "Isaac-Cartpole-Camera-Direct", 3, overrides=renderer
    )
    assert obs["policy"].shape == (4, 6, 96, 96)
    assert timesteps.obs["policy"].dtype == np.float32
    assert timesteps.obs["critic"].shape == (3, 4, 4)


@pytest.mark.parametrize("driver", DRIVERS)
def test_raw_images_of_a_nested_group_stay_intact(make, driver):
    """Bytes stay bytes, and are those that the simulator rendered."""
    overrides = [
        "renderer=newton_renderer",
        "env.observations.policy.concatenate_terms=False",
        "env.observations.policy.image.params.normalize=False",
    ]
    env = make("Isaac-Cartpole-Camera", overrides=overrides, driver=driver)
    _, timesteps = walk(env, 2)
    image = timesteps.obs["policy/image"]
    assert image.dtype == np.uint8 and image.shape == (2, 4, 6, 96, 96)
    assert len(np.unique(image)) > 2
    rendered = env.torch_env.isaac.obs_buf["policy"]["image"]
    np.testing.assert_array_equal(image[-1], rendered)
    assert timesteps.obs["critic"].shape == (2, 4, 4)


def test_agents_act_as_one(make):
    obs, timesteps = assert_drivers_agree(make, "Isaac-Pendulum-MARL-Direct", 20)
    assert obs["policy"].shape == (4, 7)  # 4 of the cart and 3 of the pendulum
    assert timesteps.final_obs is not None
    env = make("Isaac-Pendulum-MARL-Direct")
    assert env.action_space == Continuous(2)


def test_franka_reach(make):
    obs, _ = assert_drivers_agree(make, "Isaac-Reach-Franka", 3)
    assert obs["policy"].shape == (4, 32)


def test_franka_lift_with_newton(make):
    obs, _ = assert_drivers_agree(make, NEWTON_LIFT, 3)
    assert obs["policy"].shape == (4, 36)
    env = make(NEWTON_LIFT)
    assert env.action_space == Continuous(8)
    assert env.max_episode_length == 250


# -- training


def make_trainer(env):
    model = ModelConfig(hidden_dims=(32, 32))
    groups = {"actor": ("policy",), "critic": ("policy",)}
    network = actor_critic(env.action_space, model, model, groups)
    return make_ppo(network, PPOConfig())


@pytest.mark.parametrize("driver", DRIVERS)
def test_training_steps_the_simulator(make, driver):
    """Three iterations of 16 steps; in_jit: each is one program."""
    env = make(DIRECT, 64, driver=driver)
    ppo, hparams = make_trainer(env), Hyperparams()
    start = partial(init_run, ppo, env, hparams)
    step = partial(iterate, ppo, env, 16, hparams=hparams, scan=SCAN[driver])
    if driver == "in_jit":
        start, step = jax.jit(start), jax.jit(step, donate_argnums=0)
    with env.errors():
        run = start(jax.random.key(0))
        for _ in range(3):
            run, metrics = step(run)
        values = jax.device_get(metrics)
    assert env.torch_env.isaac.common_step_counter == 3 * 16
    assert int(run.train.iteration) == 3
    assert all((values[n] == -1).all() for n in values if n.startswith("nonfinite/"))
    assert np.isfinite(values["loss"])
    assert 0.0 <= env.drain_log()["Metrics/success_rate"] <= 1.0


def test_whole_training_is_one_program(make):
    """Reset, all rollouts and all updates: the host is not asked in between."""
    env = make(DIRECT, 64)
    ppo = make_trainer(env)
    program = jax.jit(partial(train, ppo, env, 16, 3))
    with env.errors():
        run, metrics = jax.device_get(program(jax.random.key(0)))
    assert env.torch_env.isaac.common_step_counter == 3 * 16
    assert metrics["loss"].shape == (3,)
    assert np.isfinite(metrics["loss"]).all()
    assert run.env_state == 2 + 3 * 16  # reset, episode lengths, steps


def test_curricula_go_on_where_they_were(make):
    """The step that they count is put back before the first reset."""
    from isaaclab.envs.mdp import modify_reward_weight
    from isaaclab.managers import CurriculumTermCfg

    def change(env_cfg):
        params = {"term_name": "alive", "weight": 7.0, "num_steps": 10}
        stage = CurriculumTermCfg(func=modify_reward_weight, params=params)
        env_cfg.curriculum = {"alive": stage}

    env = make(MANAGER, change=change)
    walk(env, 12)
    saved = env.state_dict()
    assert saved == {"common_step_counter": 12}
    env.close()
    env = make(MANAGER, change=change)
    weight = lambda: env.torch_env.isaac.reward_manager.get_term_cfg("alive").weight
    assert weight() == 1.0
    env.load_state_dict(saved)
    walk(env, 3)
    assert weight() == 7.0
    assert env.state_dict() == {"common_step_counter": 15}


# -- what cannot be done


def test_warm_up_leaves_no_trace(make):
    env = make(DIRECT)
    assert NUM_WARM_UP_STEPS > 1
    assert env.torch_env.isaac.common_step_counter == 0
    assert env.link.calls == 0


def test_second_environment_has_to_wait(make):
    first = make(DIRECT)
    with pytest.raises(RuntimeError, match="close it before making 'Isaac-Cartpole'"):
        make(MANAGER)
    first.close()
    first.close()
    walk(make(MANAGER), 2)


@pytest.mark.parametrize("driver", DRIVERS)
def test_exception_of_the_simulator_keeps_its_traceback(make, driver):
    env = make(DIRECT, driver=driver)
    isaac = env.torch_env.isaac

    def broken_rewards():
        raise ZeroDivisionError("no reward today")

    isaac._get_rewards = broken_rewards
    with pytest.raises(ZeroDivisionError, match="no reward today") as caught:
        walk(env, 3)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-2:] == ["step", "broken_rewards"]


def test_missing_asset_is_said_and_cleaned_up(make):
    missing = ["env.scene.cartpole.spawn.usd_path=/nowhere/cartpole.usd"]
    with pytest.raises(FileNotFoundError, match="set ISAACSIM_ASSET_ROOT"):
        make(DIRECT, overrides=missing)
    walk(make(DIRECT), 1)


@pytest.mark.parametrize(
    ("task", "kwargs", "sentence"),
    [
        ("Isaac-Cartpol-Direct", {}, "no task 'Isaac-Cartpol-Direct'.*Isaac-Cartpole"),
        (DIRECT, {"overrides": ["presets=nothing"]}, "nothing"),
        (DIRECT, {"driver": "io"}, "driver = 'io' is not one of in_jit, host"),
        pytest.param(
            DIRECT,
            {"device": "cuda:0"},
            "torch sees no CUDA device: give device = 'cpu'",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
    ],
)
def test_user_mistakes_fail_in_one_sentence(task, kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_isaac_env(task, 4, **kwargs)


def test_tasks_are_listed_with_ours():
    tasks = registered_tasks()
    assert len(tasks) > 140
    assert {DIRECT, MANAGER, NEWTON_LIFT} <= set(tasks)
