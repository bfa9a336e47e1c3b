"""IsaacContrib-Lift-Cube-Franka in pure JAX: grasp a cube and carry it to a goal."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppo_jax.envs import drawing, solids
from ppo_jax.envs.franka import (
    DEFAULT_FINGER,
    DEFAULT_POSITION,
    FLOOR,
    NUM_FINGERS,
    NUM_JOINTS,
    STAGE,
    TABLE,
    VIEW,
    Drive,
    arm,
    arm_solids,
    constant,
    drive_joints,
    forward_kinematics,
    tool_point,
)
from ppo_jax.envs.painting import Label, Scene
from ppo_jax.envs.solids import Solid, Stage
from ppo_jax.envs.task import total
from ppo_jax.types import Array, Continuous, Key, Obs

PHYSICS_DT = 0.01  # s
DECIMATION = 2  # physics steps per control step
STEP_DT = DECIMATION * PHYSICS_DT  # s
ACTION_SCALE = 0.5  # rad
DRIVE = Drive(stiffness=(400.0,) * NUM_JOINTS, damping=(80.0,) * NUM_JOINTS)
FINGER_RATE = 2000.0 / 100.0  # 1/s, stiffness over damping of the finger drives

CUBE_HALF_EDGE = 0.024  # m
CUBE_START = (0.5, 0.0, CUBE_HALF_EDGE)  # m, at rest
CUBE_SPREAD = (0.1, 0.25, 0.0)  # m
GRAVITY = 9.81  # m/s^2
GRASP_REACH = 0.03  # m, from the tool point to a cube's centre: finger pads touch it
GRASP_TILT = 0.5  # cosine: the hand is within 60 deg of straight down
SLIP_REACH = 0.05  # m, beyond it a held cube slips out

GOAL_LOW = (0.4, -0.25, 0.25)  # m
GOAL_HIGH = (0.6, 0.25, 0.5)  # m
LIFTED_HEIGHT = 0.04  # m
SUCCESS_DISTANCE = 0.05  # m
LOST_HEIGHT = -0.05  # m
CURRICULUM_STEP = 10_000


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


@dataclass(frozen=True)
class FrankaLift(drawing.Painted):
    """The MDP of Isaac Lab 3.0's IsaacContrib-Lift-Cube-Franka, grasping simplified.

    It is the Isaac-Lift-Cube-Franka-v0 of Isaac Lab 2. Actions, observations,
    reward, reset, curriculum and ends are Isaac's. What differs is physics:

    * Each joint is a lone inertia: motion of one joint does not shake another.
    * Gravity on the arm counts as compensated, and the gains are those of Isaac's
      Franka without gravity (400 and 80, its high-PD variant). The arm of Isaac's
      task, with 80 and 4, sags and swings.
    * There is no contact. Fingers that close around the cube attach it to the hand
      where it is (see `hold_cube`); otherwise it falls freely onto the table and
      stays where it lands. Arm and fingers pass through the cube and the table.
    * The cube starts at rest on the table. Isaac's falls onto it from 3 cm above,
      which pays for lifting in the first steps, whatever the policy does.
    * The cube does not turn. Its edge of 48 mm and the size of the table are ours.
    * The curriculum acts from its step on; Isaac waits for the next reset.

    So a policy learned here tells about the learner, not about grasping.
    """

    @property
    def action_space(self) -> Continuous:
        """Joint targets, default pose + 0.5 rad * action; the last closes if < 0."""
        return Continuous(NUM_JOINTS + 1)

    @property
    def max_episode_length(self) -> int:
        """5 s."""
        return 250

    @property
    def step_dt(self) -> float:
        """Two physics steps: 50 Hz."""
        return STEP_DT

    def reset(self, key: Key) -> LiftState:
        """Puts the arm into its default pose; draws where the cube and the goal are."""
        cube_key, goal_key = jax.random.split(key)
        spread = constant(CUBE_SPREAD)
        shift = jax.random.uniform(cube_key, (3,), minval=-spread, maxval=spread)
        hand = forward_kinematics(np.asarray(DEFAULT_POSITION))[-1]
        return LiftState(
            joint_position=constant(DEFAULT_POSITION),
            joint_velocity=jnp.zeros(NUM_JOINTS),
            finger_position=constant(DEFAULT_FINGER),
            finger_velocity=jnp.zeros(()),
            tool_position=constant(tool_point(hand)),
            cube_position=constant(CUBE_START) + shift,
            cube_velocity=jnp.zeros(3),
            held=jnp.zeros((), bool),
            goal_position=jax.random.uniform(
                goal_key,
                (3,),
                minval=constant(GOAL_LOW),
                maxval=constant(GOAL_HIGH),
            ),
            last_action=jnp.zeros(NUM_JOINTS + 1),
            success=jnp.zeros((), bool),
        )

    def step(
        self, state: LiftState, action: Array, key: Key, common_step: Array
    ) -> tuple[LiftState, Array, Array, dict[str, Array]]:
        """Moves arm and cube for one control step; see `Task.step`."""
        moved = move(state, action)
        goal_distance = _distance(moved.cube_position, moved.goal_position)
        lifted = moved.cube_position[2] > LIFTED_HEIGHT
        success = state.success | (lifted & (goal_distance < SUCCESS_DISTANCE))
        terminated = moved.cube_position[2] < LOST_HEIGHT

        rate = total(reward_rates(moved, state, common_step))
        log = {
            "Metrics/success_rate": success.astype(jnp.float32),
            "Metrics/lifted_rate": lifted.astype(jnp.float32),
            "Metrics/position_error": goal_distance,
        }
        return moved._replace(success=success), STEP_DT * rate, terminated, log

    def reward_terms(
        self, state: LiftState, action: Array, common_step: Array
    ) -> dict[str, Array]:
        """Returns of what the reward of `step` consists; {name: []}."""
        rates = reward_rates(move(state, action), state, common_step)
        return {name: STEP_DT * rate for name, rate in rates.items()}

    def observe(self, state: LiftState, key: Key) -> Obs:
        """Returns [36]: joints (9 and 9), cube (3), goal pose (7), last action (8).

        The joints are the arm's seven and the two fingers, as offsets from the
        default. The goal is a position and the identity quaternion (x, y, z, w).
        """
        finger = state.finger_position - DEFAULT_FINGER
        parts = (
            state.joint_position - constant(DEFAULT_POSITION),
            jnp.stack([finger] * NUM_FINGERS),
            state.joint_velocity,
            jnp.stack([state.finger_velocity] * NUM_FINGERS),
            state.cube_position,
            state.goal_position,
            constant([0.0, 0.0, 0.0, 1.0]),
            state.last_action,
        )
        return {"policy": jnp.concatenate(parts)}

    def scene(self, state: LiftState) -> Scene:
        """Shows arm, cube and goal."""
        cube, goal = np.asarray(state.cube_position), np.asarray(state.goal_position)
        edges, shade = (
            (CUBE_HALF_EDGE,) * 3,
            drawing.Capsule(cube, cube, CUBE_HALF_EDGE, ""),
        )
        distance = np.linalg.norm(cube - goal)
        held = "held" if state.held else "free"
        return Scene(
            shapes=[
                *arm(state.joint_position, float(state.finger_position)),
                *drawing.shadow(VIEW, [shade]),
                *drawing.box(VIEW, cube, np.eye(3), edges, drawing.ORANGE),
                *drawing.ball(VIEW, goal, SUCCESS_DISTANCE, drawing.GREEN, alpha=0.45),
                *drawing.stem(VIEW, goal),
            ],
            labels=[Label(f"cube to goal {100 * distance:.1f} cm, {held}")],
            still=FLOOR,
        )

    @property
    def stage(self) -> Stage:
        """The arm on its table."""
        return STAGE

    def solids(self, state: LiftState) -> dict[str, Solid]:
        """Returns arm, cube and goal, as in the picture."""
        cube, edges = state.cube_position, (CUBE_HALF_EDGE,) * 3
        goal, reach = state.goal_position, SUCCESS_DISTANCE
        return {
            **arm_solids(state.joint_position, float(state.finger_position)),
            "cube": solids.box(cube, np.eye(3), edges, drawing.ORANGE),
            "goal": solids.ball(goal, reach, drawing.GREEN, 0.45),
        }


def reward_rates(
    state: LiftState, old_state: LiftState, common_step: Array
) -> dict[str, Array]:
    """Returns the reward per second after a step by its terms; {name: []}."""
    cost = motion_cost_rate(state, old_state, common_step)
    return cube_reward_rates(state) | {"motion": -cost}


def cube_reward_rates(state: LiftState) -> dict[str, Array]:
    """Returns what reaching, lifting and carrying the cube pay per second; {name: []}.

    rate = near(tool to cube, 0.1) + lifted * (15 + 16 near(cube to goal, 0.3)
           + 5 near(cube to goal, 0.05)),  near(d, scale) = 1 - tanh(d / scale)
    """
    goal_distance = _distance(state.cube_position, state.goal_position)
    reaching = _near(_distance(state.tool_position, state.cube_position), 0.1)
    carrying = 16 * _near(goal_distance, 0.3) + 5 * _near(goal_distance, 0.05)
    lifted = state.cube_position[2] > LIFTED_HEIGHT
    return {"reach": reaching, "carry": jnp.where(lifted, 15 + carrying, 0.0)}


def motion_cost_rate(
    state: LiftState, old_state: LiftState, common_step: Array
) -> Array:
    """Returns the cost per second of changing actions and of moving joints; []."""
    weight = jnp.where(common_step > CURRICULUM_STEP, 1e-1, 1e-4)
    action_rate = jnp.sum((state.last_action - old_state.last_action) ** 2)
    joint_speed = jnp.sum(state.joint_velocity**2)
    return weight * (action_rate + joint_speed + NUM_FINGERS * state.finger_velocity**2)


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
    slipped = _distance(moved.tool_position, carried) > SLIP_REACH
    kept = state.held & closing & ~slipped

    around = state.finger_position > CUBE_HALF_EDGE
    touching = moved.finger_position <= CUBE_HALF_EDGE
    near = _distance(moved.tool_position, state.cube_position) < GRASP_REACH
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


def _distance(a: Array, b: Array) -> Array:
    return jnp.sqrt(jnp.sum((a - b) ** 2))


def _near(distance: Array, scale: float) -> Array:
    return 1 - jnp.tanh(distance / scale)
