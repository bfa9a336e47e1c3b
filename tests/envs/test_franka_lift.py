"""The cube of FrankaLift by hand: falling, grasping, carrying; its rewards and ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.envs import franka_grasp, franka_lift
from ppo_jax.envs.franka import forward_kinematics, tool_point
from ppo_jax.envs.franka_lift import FrankaLift
from ppo_jax.envs.task import total

KEY = jax.random.key(0)
EARLY, LATE = 10_000, 10_001
DEFAULT = np.array([0.0, -0.569, 0.0, -2.810, 0.0, 3.037, 0.741])
OPEN, CLOSE = 1.0, -1.0
RESTING = 0.024  # m, height of the cube on the table
TASK = FrankaLift()


@pytest.fixture(scope="module")
def step():
    return jax.jit(lambda state, action: TASK.step(state, action, KEY, EARLY))


def start(**fields):
    state = TASK.reset(KEY)._replace(
        cube_position=jnp.float32([0.5, 0.0, RESTING]),
        goal_position=jnp.float32([0.5, 0.1, 0.3]),
    )
    return state._replace(**fields)


def hold_still(grip=OPEN):
    return jnp.zeros(8).at[7].set(grip)


def run(step, state, action, num_steps):
    for _ in range(num_steps):
        state, *_ = step(state, action)
    return state


@jax.jit
def joints_for(point):
    """Inverse kinematics: the tool at a point, the hand pointing straight down."""

    def error(joints):
        hand = forward_kinematics(joints)[-1]
        tilt = jnp.stack(hand.z) - jnp.array([0.0, 0.0, -1.0])
        return jnp.concatenate([jnp.stack(tool_point(hand)) - point, 0.3 * tilt])

    def newton(_, joints):
        jacobian = jax.jacobian(error)(joints)
        normal = jacobian.T @ jacobian + 1e-4 * jnp.eye(7)
        return joints - jnp.linalg.solve(normal, jacobian.T @ error(joints))

    return jax.lax.fori_loop(0, 60, newton, jnp.float32(DEFAULT))


def go_to(point, grip):
    joints = joints_for(jnp.float32(point))
    return jnp.append((joints - jnp.float32(DEFAULT)) / 0.5, grip)


def test_a_scripted_grasp_lifts_carries_and_drops(step):
    """The whole task: approach, close, carry to the goal, open."""
    state = start()
    cube, goal = state.cube_position, state.goal_position
    state = run(step, state, go_to(cube, OPEN), 90)
    assert np.linalg.norm(state.tool_position - cube) < 0.01
    assert not state.held
    np.testing.assert_array_equal(state.cube_position, cube)

    state = run(step, state, go_to(cube, CLOSE), 5)
    assert state.held
    np.testing.assert_allclose(state.finger_position, RESTING)

    state = run(step, state, go_to(goal, CLOSE), 90)
    _, reward, terminated, log = step(state, go_to(goal, CLOSE))
    assert state.held
    assert np.linalg.norm(state.cube_position - goal) < 0.02
    assert reward > 0.02 * 30
    assert not terminated
    assert log["Metrics/success_rate"] == 1
    assert log["Metrics/lifted_rate"] == 1
    assert log["Metrics/position_error"] < 0.02

    state = run(step, state, go_to(goal, OPEN), 50)
    _, _, _, log = step(state, go_to(goal, OPEN))
    assert not state.held
    np.testing.assert_allclose(state.cube_position[2], RESTING)
    np.testing.assert_allclose(state.finger_position, 0.04, atol=1e-4)
    assert log["Metrics/success_rate"] == 1  # once at the goal is enough
    assert log["Metrics/lifted_rate"] == 0


# At the tool point: x towards the front. One condition of `hold_cube` fails per row.
@pytest.mark.parametrize(
    ("offset", "finger", "grip", "bent", "held"),
    [
        ((0.0, 0.0, 0.0), 0.025, CLOSE, 0.0, True),
        ((0.029, 0.0, 0.0), 0.025, CLOSE, 0.0, True),
        ((0.0, 0.031, 0.0), 0.025, CLOSE, 0.0, False),  # too far
        ((0.0, 0.0, 0.0), 0.023, CLOSE, 0.0, False),  # the hand was closed already
        ((0.0, 0.0, 0.0), 0.025, OPEN, 0.0, False),
        ((0.0, 0.0, 0.0), 0.040, CLOSE, 0.0, False),  # still on the way
        ((0.0, 0.0, 0.0), 0.025, CLOSE, 1.0, True),  # leaning by 57 degrees
        ((0.0, 0.0, 0.0), 0.025, CLOSE, 1.1, False),  # by 63 degrees
    ],
)
def test_cube_is_caught_only_by_fingers_closing_around_it(
    step, offset, finger, grip, bent, held
):
    """The hand points straight down where q6 = q2 - q4; bending q6 tilts it."""
    joints = DEFAULT.copy()
    joints[5] = joints[1] - joints[3] + bent
    tool = np.array(tool_point(forward_kinematics(joints)[-1]))
    state = start(
        joint_position=jnp.float32(joints),
        tool_position=jnp.float32(tool),
        cube_position=jnp.float32(np.add(tool, offset)),
        finger_position=jnp.float32(finger),
    )
    state, *_ = step(state, jnp.float32([*((joints - DEFAULT) / 0.5), grip]))
    assert state.held == held


def moved_tool(state, shift):
    return state._replace(tool_position=state.tool_position + jnp.float32(shift))


def test_held_cube_moves_with_the_tool_and_keeps_its_speed_when_let_go():
    state = start(held=jnp.bool_(True), cube_position=jnp.float32([0.5, 0.0, 0.2]))
    after = franka_grasp.move_cube(moved_tool(state, (0.01, -0.02, 0.004)), state)
    np.testing.assert_allclose(after.cube_position, [0.51, -0.02, 0.204], rtol=1e-5)
    np.testing.assert_allclose(after.cube_velocity, [0.5, -1.0, 0.2], rtol=1e-4)

    let_go = after._replace(held=jnp.bool_(False))
    after = franka_grasp.move_cube(let_go, let_go)
    np.testing.assert_allclose(
        after.cube_velocity, [0.5, -1.0, 0.2 - 9.81 * 0.02], atol=1e-5
    )


def test_cube_that_was_just_caught_stays_for_that_step():
    state = start(cube_position=jnp.float32([0.5, 0.0, 0.2]))
    moved = moved_tool(state, (0.01, 0.0, 0.0))._replace(held=jnp.bool_(True))
    after = franka_grasp.move_cube(moved, state)
    np.testing.assert_array_equal(after.cube_position, state.cube_position)
    np.testing.assert_array_equal(after.cube_velocity, 0.0)


@pytest.mark.parametrize(("offset", "kept"), [(0.049, True), (0.051, False)])
def test_table_pulls_a_held_cube_out_of_the_hand(offset, kept):
    """The tool dives below the table, where the cube cannot follow."""
    cube = jnp.float32([0.5, 0.0, RESTING])
    tool = cube - jnp.float32([0.0, 0.0, 0.02])
    state = start(
        held=jnp.bool_(True),
        cube_position=cube,
        tool_position=tool,
        finger_position=jnp.float32(RESTING),
    )
    moved = moved_tool(state, (0.0, 0.0, 0.02 - offset))
    after = franka_grasp.hold_cube(moved, state, jnp.bool_(True), jnp.bool_(True))
    assert after.held == kept
    carried = franka_grasp.move_cube(after, state).cube_position
    np.testing.assert_allclose(carried, cube, rtol=1e-6)


def test_free_cube_falls_by_half_g_t_squared_and_rests_on_the_table(step):
    state = start(cube_position=jnp.float32([0.5, 0.0, 0.5]))
    falling = run(step, state, hold_still(), 10)
    time = 10 * 0.02
    drop = 0.5 * 9.81 * time * (time + 0.02)  # semi-implicit steps lead by dt / 2
    np.testing.assert_allclose(falling.cube_position, [0.5, 0, 0.5 - drop], atol=1e-5)
    landed = run(step, falling, hold_still(), 30)
    np.testing.assert_allclose(landed.cube_position, [0.5, 0.0, RESTING], rtol=1e-6)
    np.testing.assert_array_equal(landed.cube_velocity, 0.0)


def test_cube_thrown_off_the_table_falls_and_ends_the_episode(step):
    state = start(
        cube_position=jnp.float32([1.1, 0.0, 0.2]),
        cube_velocity=jnp.float32([2.0, 0.0, 0.0]),
    )
    for _ in range(40):
        state, _, terminated, _ = step(state, hold_still())
        assert terminated == (state.cube_position[2] < -0.05)
        if terminated:
            break
    assert terminated
    assert state.cube_position[0] > 1.15


def test_gripper_opens_and_closes_by_the_sign_of_the_last_action(step):
    state = start()
    closed = run(step, state, hold_still(-1e-3), 30)
    np.testing.assert_allclose(closed.finger_position, 0.0, atol=1e-5)
    np.testing.assert_allclose(closed.finger_velocity, 0.0, atol=1e-3)
    moving, *_ = step(closed, hold_still(0.0))
    change = moving.finger_position - closed.finger_position
    np.testing.assert_allclose(moving.finger_velocity, change / 0.02, rtol=1e-5)
    opened = run(step, moving, hold_still(0.0), 30)
    np.testing.assert_allclose(opened.finger_position, 0.04, atol=1e-5)


# near(d, scale) = 1 - tanh(d / scale). Tool to cube 0.1: near = 1 - tanh 1 = 0.238406.
# Cube to goal 0.3: 16 * 0.238406 = 3.814494, 5 (1 - tanh 6) = 0.000061.
# Cube to goal 0: 16 + 5.
@pytest.mark.parametrize(
    ("height", "goal_distance", "expected"),
    [
        (0.039, 0.3, 0.238406),
        (0.041, 0.3, 0.238406 + 15 + 3.814494 + 0.000061),
        (0.300, 0.0, 0.238406 + 15 + 21),
    ],
)
def test_cube_reward_matches_hand_arithmetic(
    maybe_jit, height, goal_distance, expected
):
    cube = np.array([0.5, 0.0, height])
    state = start(
        cube_position=jnp.float32(cube),
        tool_position=jnp.float32(np.add(cube, (0.06, 0.0, 0.08))),
        goal_position=jnp.float32(np.add(cube, (0.0, goal_distance, 0.0))),
    )
    rate = maybe_jit(lambda x: total(franka_lift.cube_reward_rates(x)))(state)
    np.testing.assert_allclose(rate, expected, rtol=1e-5)


# |action - last|^2 = 8 * 0.09 = 0.72; speeds 7 * 0.04 + 2 * 0.01 = 0.3
@pytest.mark.parametrize(("common_step", "weight"), [(EARLY, 1e-4), (LATE, 1e-1)])
def test_motion_costs_more_after_the_curriculum(maybe_jit, common_step, weight):
    old = start(last_action=jnp.full(8, -0.1))
    new = start(
        last_action=jnp.full(8, 0.2),
        joint_velocity=jnp.full(7, -0.2),
        finger_velocity=jnp.float32(0.1),
    )
    cost = maybe_jit(franka_lift.motion_cost_rate)(new, old, jnp.int32(common_step))
    np.testing.assert_allclose(cost, weight * 1.02, rtol=1e-5)


def test_reward_is_cube_reward_less_motion_cost_over_a_50th_of_a_second():
    action, state = jnp.linspace(-1.0, 1.0, 8), start()
    for common_step in (EARLY, LATE):
        moved, reward, _, _ = TASK.step(state, action, KEY, common_step)
        rate = total(franka_lift.cube_reward_rates(moved))
        rate -= franka_lift.motion_cost_rate(moved, state, common_step)
        np.testing.assert_allclose(reward, rate / 50, rtol=1e-5)


@pytest.mark.parametrize(
    ("offset", "height", "success"),
    [(0.049, 0.3, True), (0.051, 0.3, False), (0.0, 0.039, False)],
)
def test_success_is_a_lifted_cube_within_5_cm_of_the_goal(
    step, offset, height, success
):
    """A cube that starts to fall: 4 mm in the first step."""
    cube = np.array([0.5, 0.0, height + 9.81 * 0.02**2])
    goal = np.array([0.5, offset, height])
    state = start(cube_position=jnp.float32(cube), goal_position=jnp.float32(goal))
    state, _, _, log = step(state, hold_still())
    np.testing.assert_allclose(log["Metrics/position_error"], offset, atol=1e-6)
    assert state.success == success
    assert log["Metrics/success_rate"] == success


def test_reset_puts_arm_in_place_and_fills_the_ranges_of_cube_and_goal():
    state = jax.vmap(TASK.reset)(jax.random.split(KEY, 4000))
    sample = np.column_stack([state.cube_position[:, :2], state.goal_position])
    low = np.array([0.4, -0.25, 0.4, -0.25, 0.25])
    high = np.array([0.6, 0.25, 0.6, 0.25, 0.5])
    assert np.all(sample >= low - 1e-6)
    assert np.all(sample <= high + 1e-6)
    assert np.all(sample.min(axis=0) < low + 0.01 * (high - low))
    assert np.all(sample.max(axis=0) > high - 0.01 * (high - low))
    np.testing.assert_allclose(state.cube_position[:, 2], 0.024)  # at rest
    np.testing.assert_allclose(state.joint_position[7], DEFAULT, rtol=1e-6)
    tool = tool_point(forward_kinematics(DEFAULT)[-1])
    np.testing.assert_allclose(state.tool_position[7], tool, rtol=1e-6)
    assert not np.any(state.held | state.success)


def test_observation_holds_joints_cube_goal_and_last_action_in_this_order():
    """9 offsets, 9 velocities, cube, goal xyz and identity xyzw, 8 actions."""
    arm, speed, action = np.arange(1.0, 8.0), np.arange(11.0, 18.0), np.arange(21.0, 29)
    state = start(
        joint_position=jnp.float32(DEFAULT + arm),
        joint_velocity=jnp.float32(speed),
        finger_position=jnp.float32(0.03),
        finger_velocity=jnp.float32(0.2),
        cube_position=jnp.float32([0.1, 0.2, 0.3]),
        goal_position=jnp.float32([0.4, 0.5, 0.6]),
        last_action=jnp.float32(action),
    )
    fingers = ([-0.01, -0.01], [0.2, 0.2])
    expected = [arm, fingers[0], speed, fingers[1], [0.1, 0.2, 0.3]]
    expected += [[0.4, 0.5, 0.6], [0, 0, 0, 1], action]
    obs = TASK.observe(state, KEY)["policy"]
    np.testing.assert_allclose(obs, np.concatenate(expected), atol=1e-6)
