"""How the Franka's arm, its gripper and a cube move, without contact."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ppo_jax.envs.franka import (
    DEFAULT_FINGER,
    DEFAULT_POSITION,
    NUM_JOINTS,
    TABLE,
    Drive,
    constant,
    drive_joints,
    forward_kinematics,
    tool_point,
)
from ppo_jax.types import Array

PHYSICS_DT = 0.01  # s
DECIMATION = 2  # physics steps per control step
STEP_DT = DECIMATION * PHYSICS_DT  # s
ACTION_SCALE = 0.5  # rad
DRIVE = Drive(stiffness=(400.0,) * NUM_JOINTS, damping=(80.0,) * NUM_JOINTS)
FINGER_RATE = 2000.0 / 100.0  # 1/s, stiffness over damping of the finger drives

CUBE_HALF_EDGE = 0.024  # m
GRAVITY = 9.81  # m/s^2
GRASP_REACH = 0.03  # m, from the tool point to a cube's centre: finger pads touch it
GRASP_TILT = 0.5  # cosine: the hand is within 60 deg of straight down
SLIP_REACH = 0.05  # m, beyond it a held cube slips out


class LiftState(NamedTuple):
    """Arm, gripper, cube and goal; all positions are seen from the robot's base."""

    joint_position: Array  # [7] rad
    joint_velocity: Array  # [7] rad/s
    finger_position: Array  # [] m, of each finger from the middle
    finger_velocity: Array  # [] m/s
    tool_position: Array  # [3] m, between the finger tips
    cube_position: Array  # [3] m, its centre
    cube_velocity: Array  # [3] m/s
    held: Array  # [] bool, whether the cube moves with the hand
    goal_position: Array  # [3] m
    last_action: Array  # [8]
    success: Array  # [] bool, whether the cube has been at the goal in this episode


def move(state: LiftState, action: Array) -> LiftState:
    """Drives joints and fingers for one control step; the cube follows or falls."""
    target = constant(DEFAULT_POSITION) + ACTION_SCALE * action[:-1]
    closing = action[-1] < 0
    finger_target = jnp.where(closing, 0.0, DEFAULT_FINGER)
    joints = state.joint_position, state.joint_velocity
    finger = state.finger_position
    for _ in range(DECIMATION):
        joints = drive_joints(*joints, target, DRIVE, PHYSICS_DT)
        finger = move_finger(finger, finger_target)
    hand = forward_kinematics(joints[0])[-1]
    moved = state._replace(
        joint_position=joints[0],
        joint_velocity=joints[1],
        finger_position=finger,
        tool_position=jnp.stack(tool_point(hand)),
        last_action=action,
    )
    moved = hold_cube(moved, state, closing, pointing_down=hand.z[2] < -GRASP_TILT)
    moved = move_cube(moved, state)
    finger_velocity = (moved.finger_position - state.finger_position) / STEP_DT
    return moved._replace(finger_velocity=finger_velocity)


def move_finger(position: Array, target: Array) -> Array:
    """Returns where a finger, taken as massless, is after a physics step; []."""
    rate = FINGER_RATE / (1 + PHYSICS_DT * FINGER_RATE)
    return position + PHYSICS_DT * rate * (target - position)


def hold_cube(
    moved: LiftState, state: LiftState, closing: Array, pointing_down: Array
) -> LiftState:
    """Decides whether the hand holds the cube, which stops the fingers at its sides.

    It is caught in the step in which closing fingers reach its width, if the tool
    point is within 3 cm of its centre and the hand within 60 degrees of straight
    down. It is let go when the gripper opens, or slips out where the table keeps it
    5 cm away from the tool point.

    Args:
      moved: the state with arm and fingers moved, the cube still where it was.
      state: before the step.
      closing: [] bool, what the gripper is told.
      pointing_down: [] bool.
    """
    carried = carry_cube(moved, state)
    slipped = distance(moved.tool_position, carried) > SLIP_REACH
    kept = state.held & closing & ~slipped

    around = state.finger_position > CUBE_HALF_EDGE
    touching = moved.finger_position <= CUBE_HALF_EDGE
    near = distance(moved.tool_position, state.cube_position) < GRASP_REACH
    caught = ~state.held & around & touching & near & pointing_down

    held = kept | caught
    finger = jnp.where(held, CUBE_HALF_EDGE, moved.finger_position)
    return moved._replace(held=held, finger_position=finger)


def move_cube(moved: LiftState, state: LiftState) -> LiftState:
    """Moves a held cube with the tool point; lets another fall, down to the table."""
    carried = carry_cube(moved, state)
    velocity = state.cube_velocity + STEP_DT * constant([0.0, 0.0, -GRAVITY])
    fallen = state.cube_position + STEP_DT * velocity
    landed = _over_table(fallen) & (fallen[2] <= CUBE_HALF_EDGE)

    position = jnp.where(moved.held, carried, _keep_above_table(fallen))
    carried_velocity = (carried - state.cube_position) / STEP_DT
    free_velocity = jnp.where(landed, 0.0, velocity)
    return moved._replace(
        cube_position=position,
        cube_velocity=jnp.where(moved.held, carried_velocity, free_velocity),
    )


def carry_cube(moved: LiftState, state: LiftState) -> Array:
    """Returns where the hand takes a cube that it held before the step; [3] m.

    One that it has just caught stays where it is for this step.
    """
    shift = moved.tool_position - state.tool_position
    shift = jnp.where(state.held, shift, 0.0)
    return _keep_above_table(state.cube_position + shift)


def _over_table(position: Array) -> Array:
    low, high = constant(TABLE)
    return jnp.all((position[:2] >= low) & (position[:2] <= high))


def _keep_above_table(position: Array) -> Array:
    resting = constant([-np.inf, -np.inf, CUBE_HALF_EDGE])
    return jnp.where(_over_table(position), jnp.maximum(position, resting), position)


def distance(a: Array, b: Array) -> Array:
    """Returns how far two points are from each other; []."""
    return jnp.sqrt(jnp.sum((a - b) ** 2))
