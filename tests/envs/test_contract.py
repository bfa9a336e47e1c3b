"""The laws that every environment obeys, run over all of them.

A record of a short, random-action run is made once per environment, with a time
limit of a few steps; most laws are read off it.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ppo_jax.envs.task import VectorEnv, vectorize
from ppo_jax.types import Discrete

NUM_ENVS, LIMIT, NUM_STEPS = 4, 5, 12
FEW_STARTS = {"recall": 2}  # how many first observations there are; else: no two alike


def own(module, name):
    return lambda: getattr(import_module(module), name)()


def gymnax(name):
    def make():
        pytest.importorskip("gymnax", reason="needs gymnax", exc_type=ImportError)
        return import_module("ppo_jax.envs.gymnax_adapter").make_gymnax(name)

    return make


def brax(name):
    def make():
        pytest.importorskip("brax.envs", reason="needs Brax")
        return import_module("ppo_jax.envs.brax_adapter").make_brax(name)

    return make


TASKS = {
    "cartpole": own("ppo_jax.envs.cartpole", "Cartpole"),
    "franka_reach": own("ppo_jax.envs.franka_reach", "FrankaReach"),
    "franka_lift": own("ppo_jax.envs.franka_lift", "FrankaLift"),
    "recall": own("ppo_jax.envs.recall", "Recall"),
    "gymnax:CartPole-v1": gymnax("CartPole-v1"),
    "gymnax:Pendulum-v1": gymnax("Pendulum-v1"),
    "brax:inverted_pendulum": brax("inverted_pendulum"),
}


@dataclass(frozen=True)
class Shortened:
    """A task that is truncated after a few steps."""

    task: Any
    max_episode_length: int = LIMIT

    def __getattr__(self, name):
        return getattr(self.task, name)


class Record(NamedTuple):
    """What one environment did: states and observations before, results after."""

    name: str
    env: VectorEnv
    reset: Any  # jitted, as are the following
    step: Any
    actions: list
    states: list  # one more than actions: the last is where the run ended
    obs: list  # likewise
    timesteps: list


@pytest.fixture(scope="module", params=TASKS)
def record(request):
    with jax.numpy_rank_promotion("raise" if ":" not in request.param else "allow"):
        env = vectorize(Shortened(TASKS[request.param]()), NUM_ENVS)
        reset, step = jax.jit(env.reset), jax.jit(env.step)
        actions = random_actions(env.action_space)
        history = play(reset, step, actions)
        yield Record(request.param, env, reset, step, actions, *history)


def random_actions(space):
    key = jax.random.key(7)
    if isinstance(space, Discrete):
        shape = (NUM_STEPS, NUM_ENVS)
        return list(jax.random.randint(key, shape, 0, space.num_actions, jnp.int32))
    return list(jax.random.normal(key, (NUM_STEPS, NUM_ENVS, space.dim)))


def play(reset, step, actions):
    state, obs = reset(jax.random.key(0))
    states, observations, timesteps = [state], [obs], []
    for action in actions:
        state, timestep = step(state, action)
        states.append(state)
        observations.append(timestep.obs)
        timesteps.append(timestep)
    return states, observations, timesteps


def done(timestep):
    return np.asarray(timestep.terminated | timestep.truncated)


def signature(tree):
    """Returns the structure of a tree, and shape, dtype and weakness of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [
        (leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in leaves
    ]


def assert_equal_trees(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(plain(x), plain(y))


def plain(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_shapes_and_dtypes(record):
    timestep = record.timesteps[0]
    for x in (timestep.reward, timestep.terminated, timestep.truncated):
        assert x.shape == (NUM_ENVS,)
    assert timestep.reward.dtype == jnp.float32
    assert timestep.terminated.dtype == timestep.truncated.dtype == bool
    assert "policy" in record.obs[0]
    for obs in (record.obs[0], timestep.obs, timestep.final_obs):
        for group, x in obs.items():
            assert x.dtype == jnp.float32 and x.shape[0] == NUM_ENVS
            assert (x.shape, x.dtype) == (record.obs[0][group].shape, jnp.float32)
    assert record.env.step_dt > 0


def test_everything_is_finite(record):
    for timestep in record.timesteps:
        for x in jax.tree.leaves(timestep):
            assert np.isfinite(x).all()


def test_state_keeps_its_structure_and_one_compilation_serves(record):
    """No leaf is weakly typed, or the second call would see another signature."""
    first = signature(record.states[0])
    assert not any(weak for _, _, weak in first[1])
    for state in record.states[1:]:
        assert signature(state) == first
    assert record.reset._cache_size() == record.step._cache_size() == 1


def test_steps_can_be_scanned(record):
    state, actions = record.states[0], jnp.stack(record.actions)
    end, timesteps = jax.eval_shape(
        lambda state: jax.lax.scan(record.env.step, state, actions), state
    )
    assert jax.tree.structure(end) == jax.tree.structure(state)
    assert timesteps.reward.shape == (NUM_STEPS, NUM_ENVS)


def test_truncation_comes_exactly_at_the_limit(record):
    """An independent count of the steps of each episode."""
    taken = np.zeros(NUM_ENVS, int)
    for state, timestep in zip(record.states[1:], record.timesteps, strict=True):
        taken += 1
        np.testing.assert_array_equal(timestep.truncated, taken == LIMIT)
        taken[done(timestep)] = 0
        np.testing.assert_array_equal(state.episode_length, taken)


def test_done_starts_anew_and_keeps_the_final_observation(record):
    seen = np.zeros(2, int)
    for timestep in record.timesteps:
        ended = done(timestep)
        shown, final = timestep.obs["policy"], timestep.final_obs["policy"]
        same = np.all(shown == final, axis=-1)
        np.testing.assert_array_equal(same, ~ended)
        seen += [ended.sum(), (~ended).sum()]
    assert seen.all()


def test_what_is_shown_is_the_state_that_is_kept(record):
    """Up to sensor noise; a reset of one but not of the other would show."""
    observe = jax.jit(jax.vmap(record.env.task.observe))
    keys = jax.random.split(jax.random.key(2), NUM_ENVS)
    for state, obs in zip(record.states, record.obs, strict=True):
        again = observe(state.task_state, keys)
        for group, x in obs.items():
            np.testing.assert_allclose(again[group], x, atol=0.03)


def test_every_episode_starts_from_another_state(record):
    starts = [record.obs[0]["policy"]]
    starts += [t.obs["policy"][done(t)] for t in record.timesteps]
    starts = np.concatenate(starts)
    different = min(len(starts), FEW_STARTS.get(record.name, len(starts)))
    assert len(np.unique(starts, axis=0)) == different
    assert len(starts) > NUM_ENVS


def test_random_episode_length_spreads_the_ends(record):
    randomize, keys = (
        record.env.randomize_episode_length,
        jax.random.split(jax.random.key(3), 25),
    )
    drawn = [randomize(record.states[0], key).episode_length for key in keys]
    assert set(np.ravel(drawn)) == set(range(LIMIT))
    state = randomize(record.states[0], keys[0])
    assert signature(state) == signature(record.states[0])
    left = LIMIT - np.asarray(state.episode_length)
    alive = np.ones(NUM_ENVS, bool)
    for step in range(1, LIMIT + 1):
        state, timestep = record.step(state, record.actions[step - 1])
        np.testing.assert_array_equal(timestep.truncated[alive], (left == step)[alive])
        alive &= ~done(timestep)


def test_log_has_constant_tags_and_a_number_per_environment(record):
    for timestep in record.timesteps:
        assert timestep.log.keys() == record.timesteps[0].log.keys()
        for value in timestep.log.values():
            assert (value.shape, value.dtype) == ((NUM_ENVS,), jnp.float32)


def test_same_key_gives_the_same_run(record):
    assert_equal_trees(
        play(record.reset, record.step, record.actions),
        (record.states, record.obs, record.timesteps),
    )


def test_what_is_not_a_number_is_no_success(record):
    """And it shows: in the reward, or in what is observed."""

    def broken(tree):
        is_real = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
        return jax.tree.map(lambda x: x * jnp.nan if is_real(x) else x, tree)

    state, action = broken((record.states[0], record.actions[0]))
    _, timestep = record.step(state, action)
    for tag, value in timestep.log.items():
        assert not tag.endswith("success_rate") or not np.asarray(value).any()
    shown = [timestep.reward, *jax.tree.leaves(timestep.final_obs)]
    assert not all(np.isfinite(x).all() for x in shown)


def test_another_key_gives_another_start(record):
    _, obs = record.reset(jax.random.key(1))
    is_other = (obs["policy"] != record.obs[0]["policy"]).any(-1)
    assert is_other.any() if record.name in FEW_STARTS else is_other.all()


def test_eager_step_equals_jitted_step(record):
    if record.name.startswith("brax:"):
        pytest.skip("Brax compiles operation by operation: 10 s")
    state, timestep = record.env.step(record.states[0], record.actions[0])
    for x, y in zip(
        jax.tree.leaves((state.task_state, timestep)),
        jax.tree.leaves((record.states[1].task_state, record.timesteps[0])),
        strict=True,
    ):
        close(plain(x), plain(y))


def test_mapped_over_keys_each_row_is_a_lone_run(record):
    keys = jax.random.split(jax.random.key(5), 2)
    action = record.actions[0]

    @jax.jit
    def first_step(keys):
        state, _ = jax.vmap(record.env.reset)(keys)
        return jax.vmap(record.env.step, in_axes=(0, None))(state, action)[1]

    timesteps = first_step(keys)
    for row, key in enumerate(keys):
        _, lone = record.step(record.reset(key)[0], action)
        close(timesteps.reward[row], lone.reward)
        close(timesteps.final_obs["policy"][row], lone.final_obs["policy"])


def test_draw_makes_a_picture(record):
    figure = Figure(figsize=(3, 3))
    canvas = FigureCanvasAgg(figure)
    task_state = jax.tree.map(lambda leaf: leaf[0], record.states[3].task_state)
    record.env.task.draw(task_state, figure)
    canvas.draw()
    colours = np.asarray(canvas.buffer_rgba()).reshape(-1, 4)
    assert len(np.unique(colours, axis=0)) > 2
