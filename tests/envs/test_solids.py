"""Solids: where they are in space, and that they are what the tasks' physics says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.envs import TASKS, make_task, solids
from ppo_jax.envs.cartpole import RAIL_HEIGHT, CartpoleState
from ppo_jax.envs.franka import TOOL_OFFSET, forward_kinematics


def ends_of(solid):
    """Returns the two ends [2, 3] of the line in the middle of a bar."""
    half = solid.shape.length / 2 * solid.rotation[:, 2]
    return np.stack([solid.position - half, solid.position + half])


@pytest.mark.parametrize(
    "end", [(1, 0, 0), (0, 1, 0), (0, 0, -1), (0.3, -0.5, 0.2), (0, 0, 0)]
)
def test_a_bar_goes_from_its_start_to_its_end(end):
    start = np.array([0.1, 0.2, 0.3])
    bar = solids.bar(start, start + end, 0.05, "#ffffff")
    np.testing.assert_allclose(ends_of(bar), [start, start + end], atol=1e-6)
    np.testing.assert_allclose(bar.rotation.T @ bar.rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(bar.rotation), 1.0)


@functools.cache
def states_of(name):
    """Returns the states of an episode with random actions, of numpy."""
    task = make_task(name)
    step, states = jax.jit(task.step), []
    state = task.reset(jax.random.key(0))
    for number in range(13):
        states.append(jax.tree.map(np.asarray, state))
        key = jax.random.key(number)
        action = jax.random.normal(key, (task.action_space.dim,))
        state, *_ = step(state, action, key, 0)
    return states


@pytest.mark.parametrize("name", [*TASKS])
def test_solids_keep_their_names_and_shapes_and_rotations_are_such(name):
    """A page is sent each of them once: only where they are may change."""
    task = make_task(name)
    assert isinstance(task, solids.Spatial)
    shapes, places = [], []
    for state in states_of(name):
        seen = task.solids(state)
        shapes.append({name: (x.shape, x.alpha) for name, x in seen.items()})
        places.append([x.position for x in seen.values()])
        for solid in seen.values():
            axes = solid.rotation.T @ solid.rotation
            np.testing.assert_allclose(axes, np.eye(3), atol=1e-5)
            assert np.linalg.det(solid.rotation) > 0
    assert all(shape == shapes[0] for shape in shapes)
    assert np.ptp(places, axis=0).max() > 0.01 or name == "Recall"


def test_the_pole_leans_to_minus_y_where_its_angle_is_positive():
    task = make_task("Cartpole")
    state = CartpoleState(0.5, np.pi / 2, 0.0, 0.0)
    pole = task.solids(state)["pole"]
    np.testing.assert_allclose(ends_of(pole)[1, 1:], [-0.5, RAIL_HEIGHT], atol=1e-6)
    np.testing.assert_allclose(task.solids(state)["cart"].position[1], 0.5)


def test_the_hand_is_where_kinematics_says_and_opens():
    """The finger tips are on both sides of the tool point, twice their way apart."""
    task = make_task("Franka-Lift")
    *_, state = states_of("Franka-Lift")
    seen = task.solids(state)
    hand = forward_kinematics(np.asarray(state.joint_position, np.float64))[-1]
    left, right = seen["left finger"].position, seen["right finger"].position
    gap = 2 * (float(state.finger_position) + 0.008)
    np.testing.assert_allclose(np.linalg.norm(left - right), gap, rtol=1e-6)
    between = (left + right) / 2 - np.array(hand.origin)
    np.testing.assert_allclose(np.cross(between, np.array(hand.z)), 0, atol=1e-9)
    assert 0.07 < between @ np.array(hand.z) < TOOL_OFFSET
    np.testing.assert_array_equal(seen["cube"].position, state.cube_position)
    np.testing.assert_array_equal(seen["goal"].position, state.goal_position)


@pytest.mark.parametrize("name", [x for x in TASKS if x != "Recall"])
def test_the_terms_of_a_reward_are_what_it_consists_of(name):
    """Their sum is the reward of the same step, early and late in the curriculum."""
    task = make_task(name)
    step, tell = jax.jit(task.step), jax.jit(task.reward_terms)
    for common_step in (0, 100_000):
        for number, state in enumerate(states_of(name)):
            key = jax.random.key(number)
            action = jax.random.normal(key, (task.action_space.dim,))
            common = jnp.int32(common_step)
            _, reward, _, _ = step(state, action, key, common)
            terms = tell(state, action, common)
            assert len(terms) > 1
            np.testing.assert_allclose(
                sum(terms.values()), reward, rtol=1e-4, atol=1e-7
            )
