"""The adapters against the packages they adapt, and the one API we only mock."""

import sys
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.envs.brax_adapter import BraxTask, make_brax, make_playground
from ppo_jax.envs.gymnax_adapter import GymnaxTask, make_gymnax
from ppo_jax.envs.task import vectorize
from ppo_jax.types import Continuous, Discrete

STEP = jnp.zeros((), jnp.int32)


@pytest.fixture(autouse=True)
def foreign_arithmetic():
    """These packages promote ranks; only our own code has to do without."""
    with jax.numpy_rank_promotion("allow"):
        yield


def gymnax_task(name, max_steps=None):
    pytest.importorskip("gymnax", reason="needs gymnax", exc_type=ImportError)
    task = make_gymnax(name)
    if max_steps is None:
        return task
    return replace(task, params=task.params.replace(max_steps_in_episode=max_steps))


def brax_envs():
    return pytest.importorskip("brax.envs", reason="needs Brax")


@pytest.fixture(scope="module")
def pendulum():
    """Compiled reset and step of three Brax pendulums that stop after 4 steps."""
    brax_envs()
    env = vectorize(make_brax("inverted_pendulum", episode_length=4), 3)
    return jax.jit(env.reset), jax.jit(env.step)


def test_gymnax_flags_and_final_obs_are_those_of_its_own_step():
    """Pushing one way, the pole falls at step 9 or 10; the limit is 10."""
    task = gymnax_task("CartPole-v1", max_steps=10)
    env = vectorize(task, 16)
    own_step = jax.jit(
        jax.vmap(partial(task.env.step, params=task.params), in_axes=(None, 0, 0))
    )
    step = jax.jit(env.step)
    state, _ = env.reset(jax.random.key(0))
    push = jnp.ones(16, jnp.int32)
    ends = []
    for _ in range(12):
        _, _, reward, terminated, truncated, info = own_step(
            jax.random.key(1), state.task_state.env_state, push
        )
        state, timestep = step(state, push)
        np.testing.assert_array_equal(timestep.terminated, terminated)
        np.testing.assert_array_equal(timestep.truncated, truncated)
        np.testing.assert_array_equal(timestep.reward, reward)
        np.testing.assert_allclose(
            timestep.final_obs["policy"], info["final_observation"], rtol=1e-6
        )
        ends.append((terminated & ~truncated, truncated & ~terminated))
    fell, cut = np.any(ends, axis=(0, 2))
    assert fell and cut  # both kinds were seen


def test_gymnax_time_limit_truncates_and_draws_a_new_start():
    task = gymnax_task("Pendulum-v1", max_steps=3)
    env = vectorize(task, 4)
    step = jax.jit(env.step)
    state, first_obs = env.reset(jax.random.key(0))
    starts = [first_obs["policy"]]
    for index in range(1, 7):
        state, timestep = step(state, jnp.zeros((4, 1)))
        assert not timestep.terminated.any()
        assert (timestep.truncated == (index % 3 == 0)).all()
        if index % 3 == 0:
            assert (
                (timestep.obs["policy"] != timestep.final_obs["policy"]).any(-1).all()
            )
            starts.append(timestep.obs["policy"])
    starts = np.concatenate(starts)
    assert len(np.unique(starts, axis=0)) == 12  # 3 starts of 4 environments


def test_gymnax_action_is_clipped_to_its_space():
    """MountainCarContinuous clips the force but charges 0.1 action^2 unclipped."""
    task = gymnax_task("MountainCarContinuous-v0")
    assert task.action_space == Continuous(1)
    state = task.reset(jax.random.key(0))
    _, reward, _, _ = task.step(state, jnp.array([10.0]), jax.random.key(1), STEP)
    np.testing.assert_allclose(reward, -0.1, rtol=1e-6)


def test_gymnax_spaces_and_durations():
    task = gymnax_task("CartPole-v1")
    assert task.action_space == Discrete(2)
    assert (task.max_episode_length, task.step_dt) == (500, 0.02)
    assert gymnax_task("Pendulum-v1").step_dt == 0.05
    assert gymnax_task("MountainCar-v0").step_dt == 1.0


def test_gymnax_observation_of_any_shape_is_flat():
    """MinAtar shows [10, 10, 4] booleans."""
    task = gymnax_task("Breakout-MinAtar")
    state = task.reset(jax.random.key(0))
    obs = task.observe(state, jax.random.key(1))["policy"]
    raw = task.env.get_obs(state.env_state)
    assert (obs.shape, obs.dtype) == ((400,), jnp.float32)
    np.testing.assert_array_equal(obs, np.ravel(raw))


class Countdown:
    """An environment with the API of gymnax 0.0.9: `done` includes the time limit.

    The state is a number that each step lowers by one; at zero the MDP ends.
    """

    name = "Countdown"

    class Params:
        """Parameters with the `replace` of a flax dataclass."""

        def __init__(self, max_steps_in_episode):
            self.max_steps_in_episode = max_steps_in_episode

        def replace(self, max_steps_in_episode):
            return type(self)(max_steps_in_episode)

    def reset_env(self, key, params):
        left = jax.random.randint(key, (), 2, 5)
        return left, {"left": left, "time": 0}

    def step_env(self, key, state, action, params):
        state = {"left": state["left"] - 1, "time": state["time"] + 1}
        out_of_time = state["time"] >= params.max_steps_in_episode
        done = (state["left"] <= 0) | out_of_time
        return state["left"], state, 1.0, done, {"discount": 1.0}

    def action_space(self, params):
        return type("Space", (), {"n": 1})


def test_gymnax_0_0_9_time_limit_is_no_termination():
    """A mock: the package cannot be installed beside 1.x."""
    env = vectorize(GymnaxTask(Countdown(), Countdown.Params(3)), 32)
    step = jax.jit(env.step)
    state, obs = env.reset(jax.random.key(0))
    left = obs["policy"][:, 0]
    assert set(np.unique(left)) == {2.0, 3.0, 4.0}
    for index in range(1, 4):
        state, timestep = step(state, jnp.zeros(32, jnp.int32))
        alive = left >= index
        np.testing.assert_array_equal(
            timestep.terminated[alive], (left == index)[alive]
        )
        np.testing.assert_array_equal(timestep.truncated[alive], index == 3)


def test_brax_time_limit_truncates_and_draws_a_new_start(pendulum):
    """Brax's own auto-reset would return to one cached start."""
    reset, step = pendulum
    state, first_obs = reset(jax.random.key(0))
    starts = [first_obs["policy"]]
    for index in range(1, 9):
        state, timestep = step(state, jnp.zeros((3, 1)))
        assert not timestep.terminated.any()
        assert (timestep.truncated == (index % 4 == 0)).all()
        np.testing.assert_array_equal(timestep.reward, 1.0)
        if index % 4 == 0:
            starts.append(timestep.obs["policy"])
    assert len(np.unique(np.concatenate(starts), axis=0)) == 9


def test_brax_final_obs_is_what_would_be_seen_without_the_cut(pendulum):
    reset, step = pendulum
    state, _ = reset(jax.random.key(0))
    push = jnp.array([[-1.0], [0.5], [1.0]])
    uncut, _ = step(state, push)
    at_limit = uncut._replace(episode_length=jnp.full(3, 3, jnp.int32))
    _, continued = step(uncut, push)
    _, cut = step(at_limit, push)
    assert cut.truncated.all() and not continued.truncated.any()
    np.testing.assert_array_equal(cut.final_obs["policy"], continued.obs["policy"])
    assert (cut.obs["policy"] != cut.final_obs["policy"]).any(-1).all()


def test_brax_termination_is_that_of_the_environment(pendulum):
    """Pushed hard, the pole fails at 0.2 rad; only the limit is kept away here."""
    reset, step = pendulum
    state, _ = reset(jax.random.key(0))
    push = jnp.array([[-1.0], [0.0], [1.0]])
    fell = np.zeros(3, bool)
    for _ in range(40):
        state = state._replace(episode_length=jnp.zeros(3, jnp.int32))
        state, timestep = step(state, push)
        assert not timestep.truncated.any()
        leaning = abs(timestep.final_obs["policy"][:, 1]) > 0.2
        np.testing.assert_array_equal(timestep.terminated, leaning)
        fell |= np.asarray(leaning)
    np.testing.assert_array_equal(fell, [True, False, True])


def test_brax_action_is_clipped(pendulum):
    reset, step = pendulum
    state, _ = reset(jax.random.key(0))
    _, at_limit = step(state, jnp.ones((3, 1)))
    _, beyond = step(state, 7.0 * jnp.ones((3, 1)))
    np.testing.assert_array_equal(at_limit.obs["policy"], beyond.obs["policy"])


def test_brax_dictionary_observations_become_groups():
    brax_envs()
    from brax.envs.fast import Fast

    task = BraxTask(Fast(asymmetric_obs=True, obs_mode="dict_state"))
    state = task.reset(jax.random.key(0))
    obs = task.observe(state, jax.random.key(1))
    assert {group: x.shape for group, x in obs.items()} == {
        "policy": (2,),
        "critic": (4,),
    }


def test_brax_reports_its_scalar_metrics():
    brax_envs()
    task = make_brax("ant")
    state = jax.eval_shape(task.reset, jax.random.key(0))
    action = jnp.zeros(task.action_space.dim)
    *_, log = jax.eval_shape(task.step, state, action, jax.random.key(1), STEP)
    assert "Metrics/x_position" in log
    assert all(
        value.shape == () and value.dtype == jnp.float32 for value in log.values()
    )


def test_playground_task_steps_and_truncates():
    pytest.importorskip("mujoco_playground", reason="needs MuJoCo Playground")
    task = make_playground("CartpoleBalance")
    assert task.max_episode_length == 1000
    env = vectorize(replace(task, max_episode_length=2), 2)
    state, obs = jax.jit(env.reset)(jax.random.key(0))
    assert obs["policy"].shape == (2, 5)
    step = jax.jit(env.step)
    for index in range(1, 3):
        state, timestep = step(state, jnp.zeros((2, 1)))
        assert not timestep.terminated.any()
        assert (timestep.truncated == (index == 2)).all()


@pytest.mark.parametrize(
    ("make", "package", "wrong", "right"),
    [
        (make_gymnax, "gymnax", "Cartpole-v1", "CartPole-v1"),
        (make_brax, "brax.envs", "half_cheetah", "halfcheetah"),
        (make_playground, "mujoco_playground", "CartPoleBalance", "CartpoleBalance"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(make, package, wrong, right):
    pytest.importorskip(package, reason=f"needs {package}", exc_type=ImportError)
    with pytest.raises(ValueError, match=f"{wrong}.*{right}"):
        make(wrong)


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (make_gymnax, "gymnax"),
        (make_brax, "brax.envs"),
        (make_playground, "mujoco_playground"),
    ],
)
def test_missing_package_is_named_with_what_to_install(monkeypatch, make, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="install") as error:
        make("anything")
    assert "\n" not in str(error.value)
