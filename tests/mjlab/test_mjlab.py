"""mjlab's environments through the bridge, with both drivers."""

import traceback
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("mjlab", reason="needs mjlab: uv sync --extra mjlab")

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

from ppo_jax.envs import mjlab_dump
from ppo_jax.envs.bridge import bridge
from ppo_jax.envs.mjlab_env import MjlabEnv
from ppo_jax.envs.mjlab_tasks import make_mjlab_env, registered_tasks, resolve_task
from ppo_jax.learning.config import PPOConfig
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.loops.training import init_run, iterate, train
from ppo_jax.policies.actor_critic import actor_critic
from ppo_jax.policies.models import ModelConfig
from ppo_jax.types import Continuous, Hyperparams

torch.set_num_threads(1)

BALANCE, SWINGUP = "Mjlab-Cartpole-Balance", "Mjlab-Cartpole-Swingup"

# -- the same numbers, whoever steps


def test_drivers_agree_with_plain_mjlab(make):
    """Both drivers, and mjlab's own step called by hand, agree to the last bit."""
    num_steps, kwargs = 25, {"steps": 10, "compute_final_obs": False}
    obs, timesteps = assert_drivers_agree(make, BALANCE, num_steps, **kwargs)
    assert timesteps.final_obs is None
    assert timesteps.truncated.any()

    env = make(BALANCE, **kwargs)
    reset_key, length_key, action_key = jax.random.split(jax.random.key(0), 3)
    actions = np.asarray(draw_actions(env, num_steps, action_key))
    env_state, _ = env.reset(reset_key)  # with the seed of the walk
    jax.block_until_ready(env.randomize_episode_length(env_state, length_key))
    mjlab = env.torch_env.mjlab
    np.testing.assert_array_equal(mjlab.obs_buf["actor"], obs["actor"])
    for step, action in enumerate(actions):
        by_hand = mjlab.step(torch.tensor(action))
        np.testing.assert_array_equal(by_hand[0]["actor"], timesteps.obs["actor"][step])
        names = ("reward", "terminated", "truncated")
        for name, tensor in zip(names, by_hand[1:4], strict=True):
            np.testing.assert_array_equal(tensor, getattr(timesteps, name)[step])


@pytest.mark.parametrize("driver", DRIVERS)
def test_nothing_is_read_too_late(make, driver):
    """Poison changes nothing, so every tensor is read before the next step."""
    env = make(BALANCE, steps=10, driver=driver)
    clean = walk(env, 20, random_lengths=True)
    assert clean[1].truncated.any()
    poisoned = bridge(Poisoned(env.torch_env), driver)
    assert_equal_trees(walk(poisoned, 20, random_lengths=True), clean)


def test_seeds(make):
    env = make(BALANCE)
    first = walk(env, 5, seed=1)
    assert_equal_trees(walk(env, 5, seed=1), first)
    assert (walk(env, 5, seed=2)[0]["actor"] != first[0]["actor"]).any(axis=1).all()


# -- ends of episodes


def test_the_two_worlds_agree_but_for_what_they_show_of_an_end(make):
    """mjlab's resets and ours: the same steps, rewards, ends and new episodes.

    Where an episode ends, ours has the observation before the reset as well. This task
    draws nothing but in its resets; one that adds noise draws in another order from
    the first end on.
    """
    exact = walk(make(BALANCE, steps=10), 25, random_lengths=True)
    theirs = make(BALANCE, steps=10, compute_final_obs=False)
    theirs = walk(theirs, 25, random_lengths=True)
    done = exact[1].terminated | exact[1].truncated
    assert done.any() and not done.all(axis=1).any(), "some end while others go on"
    final_obs = exact[1].final_obs
    assert_equal_trees((exact[0], exact[1]._replace(final_obs=None)), theirs)
    same = (final_obs["actor"] == exact[1].obs["actor"]).all(axis=-1)
    np.testing.assert_array_equal(same, ~done)


def test_final_obs_is_where_an_uncut_episode_goes_on(make):
    """The state at a time-out is that of a twin whose episodes are longer."""
    limit = 5
    env = make(BALANCE, steps=limit)
    assert env.max_episode_length == limit
    _, cut = walk(env, limit + 2)
    _, uncut = walk(make(BALANCE), limit)
    assert cut.truncated.all(axis=1).nonzero()[0].tolist() == [limit - 1]
    last = limit - 1
    assert_equal_trees(
        jax.tree.map(lambda x: x[last], cut.final_obs),
        jax.tree.map(lambda x: x[-1], uncut.obs),
    )


@pytest.mark.parametrize("exact", [True, False])
def test_finite_horizon_makes_time_outs_terminal(make, exact):
    def change(env_cfg):
        env_cfg.is_finite_horizon = True

    env = make(BALANCE, steps=3, change=change, compute_final_obs=exact)
    _, timesteps = walk(env, 4)
    assert timesteps.terminated.all(axis=1).tolist() == [False, False, True, False]
    assert not timesteps.truncated.any()


@pytest.mark.parametrize("exact", [True, False])
def test_log_counts_every_end_once(make, exact):
    limit = 4
    env = make(BALANCE, steps=limit, compute_final_obs=exact)
    walk(env, limit - 1)
    assert env.torch_env.drain_log() == {}
    walk(env, 2 * limit + 1)
    log = env.torch_env.drain_log()
    assert log["Episode_Termination/time_out"] == 8.0  # environments, in each such step
    assert 0.9 < log["Episode_Reward/smooth_reward"] / limit / 0.05 <= 20.0
    assert env.torch_env.drain_log() == {}


def test_episode_lengths_are_spread(make):
    env = make(BALANCE, 64)
    env_state, _ = env.reset(jax.random.key(0))
    jax.block_until_ready(env.randomize_episode_length(env_state, jax.random.key(1)))
    length = env.torch_env.mjlab.episode_length_buf
    assert length.dtype == torch.int64
    assert 0 <= length.min() < 200 and 800 < length.max() < 1000


# -- actions and observations


@pytest.mark.parametrize(("clip_actions", "largest"), [(None, 50.0), (0.5, 0.5)])
def test_clip_actions(make, clip_actions, largest):
    env = make(BALANCE, clip_actions=clip_actions)
    env_state, _ = env.reset(jax.random.key(0))
    jax.block_until_ready(env.step(env_state, jnp.full((8, 1), -50.0)))
    assert (env.torch_env.mjlab.action_manager.action == -largest).all()


def test_groups_whose_terms_are_kept_apart(make):
    """Each term has a name of its own, and no term is the simulator's own memory."""
    overrides = ["env.observations.critic.concatenate_terms=false"]
    env = make(BALANCE, steps=5, overrides=overrides)
    _, timesteps = walk(env, 6)
    sizes = {"cart_pos": 1, "pole_angle": 2, "cart_vel": 1, "pole_vel": 1}
    final_obs = timesteps.final_obs
    assert final_obs.keys() == {"actor", *(f"critic/{name}" for name in sizes)}
    together = [final_obs[f"critic/{name}"] for name in sizes]
    assert [x.shape[2] for x in together] == list(sizes.values())
    np.testing.assert_array_equal(np.concatenate(together, axis=-1), final_obs["actor"])


def test_nan_is_named_by_group_and_environment(make):
    """One environment shows it, and the rollout says so; mjlab makes its reward 0."""
    env = make(BALANCE)
    step = env.torch_env.mjlab.step

    def broken(action):
        env.torch_env.mjlab.sim.data.qpos[2] = float("nan")
        return step(action)

    env.torch_env.mjlab.step = broken
    _, metrics = rollout_of(env, 2)
    for name in ("obs['actor']", "obs['critic']"):
        assert metrics[f"nonfinite/{name}"].tolist() == [2, *[-1] * 7]


@pytest.mark.parametrize("groups", [["actor"], ["actor", "critic"]])
def test_a_robots_metadata_is_what_mjlab_writes(groups):
    """Of the real Go1, which need not be stepped for it."""
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.rl.exporter_utils import get_base_metadata, list_to_csv_str

    go1 = ManagerBasedRlEnv(resolve_task("Mjlab-Velocity-Flat-Unitree-Go1")[0], "cpu")
    told = MjlabEnv.deployment(SimpleNamespace(mjlab=go1), groups)  # type: ignore[arg-type]
    written = get_base_metadata(go1, run_path="")
    assert len(told["joint_names"].split(",")) == 12
    assert ("observation_names" in told) == (groups == ["actor"])
    for name, text in told.items():
        assert text == list_to_csv_str(written[name])


def test_a_task_without_a_robot_tells_nothing(make):
    assert make(BALANCE).deployment(["actor"]) == {}


def test_mjlabs_nan_guard_keeps_the_states_before(make, tmp_path):
    """Switched on by overrides; MuJoCo plays back what it has written."""
    import mujoco

    guard = "env.sim.nan_guard"
    overrides = [f"{guard}.enabled=true", f"{guard}.output_dir={tmp_path}"]
    env = make(BALANCE, overrides=overrides, driver="host")
    walk(env, 3)
    env.torch_env.mjlab.sim.data.qvel[5] = float("nan")
    env.torch_env.step(torch.zeros(8, 1))
    (file,) = tmp_path.glob("nan_dump_2*.npz")
    dump = np.load(file, allow_pickle=True)
    about = dump["_metadata"].item()
    assert about["nan_env_ids"] == [5]
    model = mujoco.MjModel.from_binary_path(str(tmp_path / about["model_file"]))
    data = mujoco.MjData(model)
    states = [dump[name] for name in sorted(dump) if name.startswith("states_step_")]
    mujoco.mj_setState(model, data, states[-2][0], about["state_spec"])
    assert np.isfinite(data.qpos).all() and len(states) > 5


def test_mjlabs_guard_is_asked_where_the_physics_are_in_order(make, tmp_path):
    """A NaN that only an observation has; the states are those of its environment."""
    env = make(BALANCE, driver="host")
    env.torch_env.guard_nan(tmp_path)
    walk(env, 3)
    qpos = env.torch_env.mjlab.sim.data.qpos[6].clone()
    path = env.torch_env.dump_nan([6])
    assert mjlab_dump.is_one(path) and path.parent == tmp_path
    assert "environments [6] of 8" in next(mjlab_dump.describe(path))
    *_, last = mjlab_dump.describe(path)  # before the last physics step
    assert abs(float(last.split()[1]) - float(qpos.abs().max())) < 0.1


# -- training


def make_trainer(env):
    model = ModelConfig(hidden_dims=(8,))
    groups = {"actor": ("actor",), "critic": ("critic",)}
    network = actor_critic(env.action_space, model, model, groups)
    return make_ppo(network, PPOConfig(num_learning_epochs=1, num_mini_batches=2))


def rollout_of(env, num_iterations):
    """Returns a run after some iterations of 4 steps, and the last one's metrics."""
    ppo, hparams = make_trainer(env), Hyperparams()
    start = partial(init_run, ppo, env, hparams)
    step = partial(iterate, ppo, env, 4, hparams=hparams, scan=SCAN[env.driver])
    if env.driver == "in_jit":
        start, step = env.jit(start), env.jit(step, donate_argnums=0)
    with env.errors(num_calls=2 + 4 * num_iterations):
        run = start(jax.random.key(0))
        for _ in range(num_iterations):
            run, metrics = step(run)
        return run, jax.device_get(metrics)


@pytest.mark.parametrize("driver", DRIVERS)
def test_training_steps_the_simulator(make, driver):
    env = make(BALANCE, driver=driver)
    run, metrics = rollout_of(env, 3)
    assert env.torch_env.mjlab.common_step_counter == 3 * 4
    assert int(run.train.iteration) == 3
    assert np.isfinite(metrics["loss"])


def test_whole_training_is_one_program(make):
    """Reset, all rollouts and all updates: the host is not asked in between."""
    env = make(BALANCE)
    program = env.jit(partial(train, make_trainer(env), env, 4, 3))
    with env.errors():
        run, metrics = jax.device_get(program(jax.random.key(0)))
    assert env.torch_env.mjlab.common_step_counter == 3 * 4
    assert np.isfinite(metrics["loss"]).all()
    assert run.env_state == 2 + 3 * 4  # reset, episode lengths, steps


# -- what cannot be done


def test_warm_up_leaves_no_trace(make):
    env = make(BALANCE)
    assert env.torch_env.mjlab.common_step_counter == 0
    assert env.link.calls == 0
    assert env.torch_env.drain_log() == {}
    assert env.action_space == Continuous(1)


def test_two_environments_in_a_process(make):
    """mjlab has no single simulation context; closing twice does nothing."""
    first, second = make(BALANCE), make(SWINGUP, num_envs=3)
    walk(second, 1)
    walk(first, 1)
    first.close()
    first.close()
    walk(second, 1)


@pytest.mark.parametrize("driver", DRIVERS)
def test_exception_of_the_simulator_keeps_its_traceback(make, driver):
    env = make(BALANCE, driver=driver)

    def broken_rewards(dt):
        raise ZeroDivisionError("no reward today")

    env.torch_env.mjlab.reward_manager.compute = broken_rewards
    with pytest.raises(ZeroDivisionError, match="no reward today") as caught:
        walk(env, 3)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-2:] == ["step", "broken_rewards"]


@pytest.mark.parametrize(
    ("task", "kwargs", "sentence"),
    [
        ("mjlab:Mjlab-Cartpol-Balance", {}, "no task .* did you mean 'Mjlab-Cartpole"),
        (BALANCE, {"overrides": ["env.nothing=1"]}, "no option 'env.nothing'"),
        (BALANCE, {"driver": "io"}, "driver = 'io' is not one of in_jit, host"),
        pytest.param(
            BALANCE,
            {"device": "cuda:0"},
            "torch sees no CUDA device: give device = 'cpu'",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
    ],
)
def test_user_mistakes_fail_in_one_sentence(task, kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_mjlab_env(task, 4, **kwargs)


def test_tasks_are_listed():
    tasks = registered_tasks()
    assert len(tasks) >= 12
    assert {BALANCE, SWINGUP} <= set(tasks)
