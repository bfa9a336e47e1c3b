"""The Panda's kinematics and drives against other sources; FrankaReach by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.envs import franka, franka_reach
from ppo_jax.envs.franka import forward_kinematics, rotation_matrix, tool_point
from ppo_jax.envs.franka_reach import FrankaReach

KEY = jax.random.key(0)
EARLY, LATE = 4500, 4501
DEFAULT = np.array([0.0, -0.569, 0.0, -2.810, 0.0, 3.037, 0.741])
LOWER = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])

# a, d, alpha of Craig's convention, as Franka Emika publishes them
DH = np.array(
    [
        [0.0, 0.333, 0.0],
        [0.0, 0.0, -np.pi / 2],
        [0.0, 0.316, np.pi / 2],
        [0.0825, 0.0, np.pi / 2],
        [-0.0825, 0.384, -np.pi / 2],
        [0.0, 0.0, np.pi / 2],
        [0.088, 0.0, np.pi / 2],
    ]
)


@pytest.fixture(scope="module", params=[False, True], ids=["position", "pose"])
def task(request):
    return FrankaReach(orientation=request.param)


def random_positions(num_positions, seed=0):
    return np.random.default_rng(seed).uniform(LOWER, UPPER, (num_positions, 7))


def dh_product(joint_position):
    """The 4 x 4 pose of the hand, as a product of matrices."""
    pose = np.eye(4)
    for (a, d, alpha), q in zip(DH, joint_position, strict=True):
        c, s, ca, sa = np.cos(q), np.sin(q), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [
                [c, -s, 0.0, a],
                [s * ca, c * ca, -sa, -d * sa],
                [s * sa, c * sa, ca, d * ca],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
    half = np.sqrt(0.5)
    hand = np.array(
        [[half, half, 0, 0], [-half, half, 0, 0], [0, 0, 1, 0.107], [0, 0, 0, 1]]
    )
    return pose @ hand


def hand_pose(joint_position):
    hand = forward_kinematics(joint_position)[-1]
    return rotation_matrix(hand), np.array(hand.origin)


def quaternion_matrix(xyzw):
    x, y, z, w = np.asarray(xyzw, np.float64)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def turn(axis, angle):
    """The rotation by an angle about a unit axis, by Rodrigues."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def as_frame(rotation):
    x, y, z = rotation.T
    return franka.Frame(tuple(x), tuple(y), tuple(z), (0.0, 0.0, 0.0))


def resting_state(goal_position=(0.5, 0.0, 0.3), **fields):
    state = franka_reach.ReachState(
        joint_position=jnp.float32(DEFAULT),
        joint_velocity=jnp.zeros(7),
        goal_position=jnp.float32(goal_position),
        goal_yaw=jnp.float32(0.0),
        goal_age=jnp.int32(0),
        last_action=jnp.zeros(7),
    )
    return state._replace(**fields)


# The arm stretched up: reach 0.088 m, height 0.333 + 0.316 + 0.384 - 0.107.
# The "ready" pose of libfranka: its O_T_EE is (0.307, 0, 0.487) with the tool point
# 0.1034 m beyond the flange, hand straight down.
@pytest.mark.parametrize(
    ("joints", "origin"),
    [
        (np.zeros(7), (0.088, 0.0, 0.926)),
        (
            np.pi * np.array([0, -1 / 4, 0, -3 / 4, 0, 1 / 2, 1 / 4]),
            (0.3069, 0.0, 0.4869 + 0.1034),
        ),
    ],
)
def test_hand_is_where_franka_publishes_it(joints, origin):
    hand = forward_kinematics(joints)[-1]
    np.testing.assert_allclose(hand.origin, origin, atol=2e-4)
    np.testing.assert_allclose(hand.z, (0.0, 0.0, -1.0), atol=1e-12)
    below = np.array(origin) - (0.0, 0.0, 0.1034)
    np.testing.assert_allclose(tool_point(hand), below, atol=2e-4)


def test_forward_kinematics_is_the_product_of_dh_matrices():
    for joints in random_positions(20):
        rotation, origin = hand_pose(joints)
        expected = dh_product(joints)
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-12)
        np.testing.assert_allclose(origin, expected[:3, 3], atol=1e-12)


def test_jax_and_numpy_kinematics_agree():
    joints = random_positions(20)
    frames = jax.jit(jax.vmap(forward_kinematics))(jnp.float32(joints))
    for i, row in enumerate(joints):
        expected = np.array(forward_kinematics(row)[-1])
        np.testing.assert_allclose(np.array(frames[-1])[..., i], expected, atol=2e-6)


def test_column_of_the_jacobian_is_joint_axis_cross_lever():
    def tool(joints):
        return jnp.stack(tool_point(forward_kinematics(joints)[-1]))

    jacobian = jax.jit(jax.jacobian(tool))
    for joints in random_positions(5):
        frames = forward_kinematics(joints)
        lever = np.array(tool_point(frames[-1]))
        columns = [np.cross(f.z, lever - np.array(f.origin)) for f in frames[:7]]
        np.testing.assert_allclose(
            jacobian(jnp.float32(joints)), np.stack(columns, axis=1), atol=2e-6
        )


BODIES = (
    ("0 0 .333", "1 0 0 0"),
    ("0 0 0", "1 -1 0 0"),
    ("0 -.316 0", "1 1 0 0"),
    (".0825 0 0", "1 1 0 0"),
    ("-.0825 .384 0", "1 -1 0 0"),
    ("0 0 0", "1 1 0 0"),
    (".088 0 0", "1 1 0 0"),
)


def test_kinematics_is_that_of_mujoco():
    """The body tree of Franka's URDF: each body's place in its parent."""
    mujoco = pytest.importorskip("mujoco", reason="needs MuJoCo, of extra 'adapters'")
    inertial = '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
    tree = f'<body name="hand" pos="0 0 .107" euler="0 0 -45">{inertial}</body>'
    for pos, quat in reversed(BODIES):
        joint = '<joint axis="0 0 1"/>'
        tree = f'<body pos="{pos}" quat="{quat}">{joint}{inertial}{tree}</body>'
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody>{tree}</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    for joints in random_positions(10, seed=1):
        data.qpos[:] = joints
        mujoco.mj_kinematics(model, data)
        rotation, origin = hand_pose(joints)
        np.testing.assert_allclose(origin, data.body("hand").xpos, atol=1e-9)
        np.testing.assert_allclose(
            rotation, data.body("hand").xmat.reshape(3, 3), atol=1e-9
        )


def drive(position, velocity, target, dt=1 / 120, steps=1):
    def body(_, state):
        return franka.drive_joints(*state, target, franka_reach.DRIVE, dt)

    state = jnp.float32(position), jnp.float32(velocity)
    return jax.lax.fori_loop(0, steps, body, state)


def test_drive_pulls_by_where_the_joint_will_be():
    """I (next velocity - velocity) / dt = K (target - next q) - D next velocity."""
    rng, dt = np.random.default_rng(0), 1 / 120
    velocity, target = rng.uniform(-0.5, 0.5, 7), DEFAULT + rng.uniform(-0.02, 0.02, 7)
    new_position, new_velocity = drive(DEFAULT, velocity, jnp.float32(target))
    pull = np.array(franka_reach.DRIVE.stiffness) * (target - new_position)
    torque = pull - np.array(franka_reach.DRIVE.damping) * new_velocity
    change = np.array(franka.INERTIA) * (new_velocity - velocity) / dt
    np.testing.assert_allclose(change, torque, atol=0.02)
    assert np.abs(torque).max() > 5


def test_drive_follows_the_differential_equation_as_the_step_shrinks():
    """I q'' = K (target - q) - D q', in steps of 1 us; no limit is reached."""
    stiffness = np.array(franka_reach.DRIVE.stiffness)
    damping = np.array(franka_reach.DRIVE.damping)
    start = np.full(7, 0.02)
    position, velocity = start.copy(), np.zeros(7)
    for _ in range(50_000):
        torque = -stiffness * position - damping * velocity
        velocity += 1e-6 * torque / np.array(franka.INERTIA)
        position += 1e-6 * velocity
    error = [
        np.abs(
            drive(DEFAULT + start, np.zeros(7), jnp.float32(DEFAULT), 0.05 / n, n)[0]
            - DEFAULT
            - position
        ).max()
        for n in (50, 500)
    ]
    assert error[0] < 1e-3
    assert error[1] < 0.2 * error[0]


def test_drive_settles_at_its_target():
    target = jnp.float32(DEFAULT + 0.3)
    position, velocity = drive(DEFAULT, np.zeros(7), target, steps=240)
    np.testing.assert_allclose(position, target, atol=1e-4)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-3)


def test_drive_keeps_to_the_limits_of_effort_speed_and_position():
    far = jnp.full(7, 100.0)
    dt = 1 / 120
    _, first = drive(DEFAULT, np.zeros(7), far)
    effort = np.array([87.0] * 4 + [12.0] * 3)
    np.testing.assert_allclose(
        first,
        np.minimum(dt * effort / np.array(franka.INERTIA), franka.VELOCITY_LIMIT),
        rtol=1e-5,
    )
    _, fast = drive(DEFAULT, np.zeros(7), far, steps=5)
    np.testing.assert_allclose(fast, [2.175] * 4 + [2.61] * 3, rtol=1e-6)
    position, velocity = drive(DEFAULT, np.zeros(7), far, steps=400)
    np.testing.assert_allclose(position, UPPER, rtol=1e-6)
    np.testing.assert_array_equal(velocity, 0.0)
    away, _ = drive(position, velocity, jnp.float32(DEFAULT), steps=5)
    assert np.all(away < UPPER)


@pytest.mark.parametrize("angle", [0.0, 0.01, 0.2, 1.5, 3.0, np.pi])
def test_angle_between_frames_is_that_of_the_rotation(angle):
    axis = np.array([2.0, -1.0, 2.0]) / 3
    start = turn([0.0, 0.6, 0.8], 1.0)
    end = turn(axis, angle) @ start
    measured = franka_reach.angle_between(as_frame(start), as_frame(end))
    np.testing.assert_allclose(measured, angle, atol=1e-3 if angle == np.pi else 1e-6)


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5, 3.14])
def test_commanded_frame_and_quaternion_are_the_same_rotation(yaw):
    """Pitch by pi about y, then turn by yaw about z."""
    expected = turn([0.0, 0.0, 1.0], yaw) @ turn([0.0, 1.0, 0.0], np.pi)
    frame = franka_reach.goal_frame(jnp.zeros(3), jnp.float32(yaw))
    quaternion = franka_reach.goal_quaternion(jnp.float32(yaw))
    np.testing.assert_allclose(rotation_matrix(frame), expected, atol=1e-6)
    np.testing.assert_allclose(quaternion_matrix(quaternion), expected, atol=1e-6)


def test_zero_action_holds_the_default_pose():
    moved = franka_reach.move(resting_state(), jnp.zeros(7))
    np.testing.assert_array_equal(moved.joint_position, np.float32(DEFAULT))


def test_action_is_half_a_radian_about_the_default_pose():
    action, state = jnp.linspace(-0.3, 0.4, 7), resting_state()
    move = jax.jit(franka_reach.move)
    for _ in range(90):
        state = move(state, action)
    np.testing.assert_allclose(
        state.joint_position, DEFAULT + 0.5 * np.array(action), atol=1e-3
    )


# Zero action at rest; the hand is at (0.389, 0, 0.458), its z axis 45 degrees down.
# -0.2 * 0.1 / 30 and, for the pose, -0.1 * angle / 30 more.
def test_reward_pays_for_distance_and_angle(task):
    rotation, origin = hand_pose(DEFAULT)
    state = resting_state(goal_position=np.add(origin, (0.0, 0.06, 0.08)))
    _, reward, terminated, log = task.step(state, jnp.zeros(7), KEY, EARLY)
    down = turn([0.0, 1.0, 0.0], np.pi)
    angle = np.arccos((np.trace(rotation.T @ down) - 1) / 2)
    expected = -0.02 / 30 - (0.1 * angle / 30 if task.orientation else 0.0)
    np.testing.assert_allclose(reward, expected, rtol=1e-4)
    np.testing.assert_allclose(log["Metrics/position_error"], 0.1, rtol=1e-4)
    assert not terminated
    assert log["Metrics/success_rate"] == 0
    assert ("Metrics/orientation_error" in log) == task.orientation


# |action|^2 = 7 * 0.04 = 0.28; |action - last|^2 = 7 * 0.09 = 0.63
@pytest.mark.parametrize(
    ("common_step", "action_rate", "joint_velocity"),
    [(EARLY, 1e-4, 1e-4), (LATE, 5e-3, 1e-3)],
)
def test_motion_costs_more_after_the_curriculum(
    task, common_step, action_rate, joint_velocity
):
    action, last_action = jnp.full(7, 0.2), jnp.full(7, -0.1)
    state = resting_state(last_action=last_action)
    moved = franka_reach.move(state, action)
    error = franka_reach.reach_error(moved)
    distance = 0.2 * error.position + (0.1 * error.angle if task.orientation else 0.0)
    squared_speed = (np.array(moved.joint_velocity) ** 2).sum()
    expected = -distance - 5e-3 * 0.28 - action_rate * 0.63
    expected -= joint_velocity * squared_speed
    _, reward, _, _ = task.step(state, action, KEY, common_step)
    np.testing.assert_allclose(30 * reward, expected, rtol=1e-4)
    assert squared_speed > 0.1


@pytest.mark.parametrize(
    ("distance", "tilt", "position_success", "pose_success"),
    [
        (0.049, 0.19, True, True),
        (0.051, 0.19, False, False),
        (0.049, 0.21, True, False),
    ],
)
def test_success_ends_the_episode_and_pays_10(
    task, distance, tilt, position_success, pose_success
):
    """With q6 = q2 - q4 the hand of the default pose points straight down."""
    joints = DEFAULT.copy()
    joints[5] = joints[1] - joints[3]
    down, _ = hand_pose(joints)
    joints[5] += tilt
    _, origin = hand_pose(joints)
    hold = jnp.float32((joints - DEFAULT) / 0.5)
    state = resting_state(
        goal_position=np.add(origin, (0.0, distance, 0.0)),
        goal_yaw=jnp.float32(np.arctan2(-down[1, 0], -down[0, 0])),
        joint_position=jnp.float32(joints),
        last_action=hold,
    )
    error = franka_reach.reach_error(state)
    np.testing.assert_allclose(error.position, distance, atol=1e-5)
    np.testing.assert_allclose(error.angle, tilt, atol=1e-5)
    _, reward, terminated, log = task.step(state, hold, KEY, EARLY)
    success = pose_success if task.orientation else position_success
    assert terminated == success
    assert log["Metrics/success_rate"] == success
    assert (reward > 0.3) == success


def test_command_is_renewed_after_4_s_and_only_then():
    renew = jax.jit(franka_reach.renew_goal)
    state = resting_state()
    for age in range(1, 120):
        state = renew(state, KEY)
        assert state.goal_age == age
    np.testing.assert_array_equal(state.goal_position, jnp.float32([0.5, 0.0, 0.3]))
    state = renew(state, KEY)
    assert state.goal_age == 0
    assert np.all(state.goal_position != jnp.float32([0.5, 0.0, 0.3]))
    assert state.goal_yaw != 0


def test_reward_of_the_step_that_renews_the_command_is_for_the_old_one(task):
    old = resting_state(goal_age=jnp.int32(119))
    kept = resting_state(goal_age=jnp.int32(0))
    renewed, reward, _, _ = task.step(old, jnp.zeros(7), KEY, EARLY)
    aged, expected, _, _ = task.step(kept, jnp.zeros(7), KEY, EARLY)
    assert reward == expected
    assert (renewed.goal_age, aged.goal_age) == (0, 1)
    assert np.any(renewed.goal_position != old.goal_position)


def test_reset_and_commands_fill_their_ranges(task):
    state = jax.vmap(task.reset)(jax.random.split(KEY, 4000))
    sample = np.column_stack([state.goal_position, state.goal_yaw])
    low, high = np.array([[0.35, -0.2, 0.15, -3.14], [0.65, 0.2, 0.5, 3.14]])
    arm = np.array(state.joint_position) - DEFAULT
    for values, lower, upper in ((sample, low, high), (arm, -0.1, 0.1)):
        width = upper - lower
        assert np.all(values >= lower - 1e-6)
        assert np.all(values <= upper + 1e-6)
        assert np.all(values.min(axis=0) < lower + 0.01 * width)
        assert np.all(values.max(axis=0) > upper - 0.01 * width)
    assert not np.any(state.joint_velocity)
    assert not np.any(state.last_action)
    assert not np.any(state.goal_age)


def test_observation_holds_joints_command_and_last_action_in_this_order(task):
    """The offset of 9 joints, 9 velocities, xyz, quaternion xyzw, 7 actions."""
    arm, speed, action = np.arange(1.0, 8.0), np.arange(11.0, 18.0), np.arange(21.0, 28)
    state = resting_state(
        joint_position=jnp.float32(DEFAULT + arm),
        joint_velocity=jnp.float32(speed),
        goal_yaw=jnp.float32(np.pi / 2),
        last_action=jnp.float32(action),
    )
    expected = [arm, [0, 0], speed, [0, 0], [0.5, 0, 0.3]]
    expected += [np.sqrt(0.5) * np.array([-1, 1, 0, 0]), action]
    expected = np.concatenate(expected)
    keys = jax.random.split(KEY, 500)
    obs = jax.vmap(task.observe, in_axes=(None, 0))(state, keys)["policy"]
    noise = np.array(obs) - expected
    np.testing.assert_allclose(noise[:, 18:], 0.0, atol=1e-6)
    assert np.abs(noise[:, :18]).max() < 0.01 + 1e-5
    assert noise[:, :18].max(axis=0).min() > 0.0095
    assert noise[:, :18].min(axis=0).max() < -0.0095
