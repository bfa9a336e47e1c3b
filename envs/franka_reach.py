"""Isaac-Reach-Franka in pure JAX: bring the hand of a Panda to a commanded pose."""

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
    VIEW,
    Drive,
    Frame,
    arm,
    arm_solids,
    constant,
    drive_joints,
    forward_kinematics,
    norm,
    rotation_matrix,
    subtract,
)
from ppo_jax.envs.painting import Label, Scene
from ppo_jax.envs.solids import Solid, Stage
from ppo_jax.envs.task import total
from ppo_jax.types import Array, Continuous, Key, Obs

PHYSICS_DT = 1 / 120  # s
DECIMATION = 4  # physics steps per control step
ACTION_SCALE = 0.5  # rad
DRIVE = Drive(
    stiffness=(1000.0, 1000.0, 750.0, 750.0, 300.0, 300.0, 300.0),
    damping=(40.0, 60.0, 35.0, 60.0, 15.0, 15.0, 12.0),
)

GOAL_LOW = (0.35, -0.2, 0.15)  # m
GOAL_HIGH = (0.65, 0.2, 0.5)  # m
GOAL_YAW = 3.14  # rad
GOAL_STEPS = 120  # control steps until the next command: 4 s
MAX_POSITION_ERROR = 0.05  # m, for success
MAX_ANGLE_ERROR = 0.2  # rad, for success

CURRICULUM_STEP = 4500
RESET_NOISE = 0.1  # rad
OBS_NOISE = 0.01  # rad and rad/s


class ReachState(NamedTuple):
    """The arm and its command."""

    joint_position: Array  # [7] rad
    joint_velocity: Array  # [7] rad/s
    goal_position: Array  # [3] m
    goal_yaw: Array  # [] rad, about the vertical; the commanded hand points down
    goal_age: Array  # [] int32, control steps since the command was drawn
    last_action: Array  # [7]


class ReachError(NamedTuple):
    """How far the hand is from the commanded pose."""

    position: Array  # [] m
    angle: Array  # [] rad


@dataclass(frozen=True)
class FrankaReach(drawing.Painted):
    """The MDP of Isaac Lab 3.0's Isaac-Reach-Franka on a simplified arm.

    Commands, observations, reward, curriculum and ends are Isaac's. What differs:

    * Each joint is a lone inertia: motion of one joint does not shake another, and
      gravity counts as compensated. There are no collisions, not with itself either.
    * Isaac's stiffness lies in an asset on NVIDIA's server. Here it is 1000, 750 and
      300 N m/rad, at which Isaac's damping is nearly critical.
    * Physics takes 4 implicit steps of 1/120 s per control step, without substeps.
    * A success in the very last step is paid; Isaac pays for none at the time limit.
    * The curriculum acts from its step on; Isaac waits for the next reset.

    Attributes:
      orientation: whether the angle of the hand counts, as in Isaac. Without it only
        the position is rewarded and required, which is learned within seconds; the
        observation keeps the commanded quaternion, so that the layout is the same.
    """

    orientation: bool = False

    @property
    def action_space(self) -> Continuous:
        """Joint targets: the default pose plus 0.5 rad times the action."""
        return Continuous(NUM_JOINTS)

    @property
    def max_episode_length(self) -> int:
        """12 s."""
        return 360

    @property
    def step_dt(self) -> float:
        """Four physics steps: 30 Hz."""
        return DECIMATION * PHYSICS_DT

    def reset(self, key: Key) -> ReachState:
        """Draws a resting arm near the default pose, and a command."""
        joint_key, goal_key = jax.random.split(key)
        noise = jax.random.uniform(
            joint_key, (NUM_JOINTS,), minval=-RESET_NOISE, maxval=RESET_NOISE
        )
        goal_position, goal_yaw = sample_goal(goal_key)
        return ReachState(
            joint_position=constant(DEFAULT_POSITION) + noise,
            joint_velocity=jnp.zeros(NUM_JOINTS),
            goal_position=goal_position,
            goal_yaw=goal_yaw,
            goal_age=jnp.zeros((), jnp.int32),
            last_action=jnp.zeros(NUM_JOINTS),
        )

    def step(
        self, state: ReachState, action: Array, key: Key, common_step: Array
    ) -> tuple[ReachState, Array, Array, dict[str, Array]]:
        """Moves the arm for one control step; see `Task.step`."""
        moved = move(state, action)
        error = reach_error(moved)
        terminated = self._is_reached(error)
        rate = total(self._reward_rates(moved, error, terminated, state, common_step))
        log = {
            "Metrics/success_rate": terminated.astype(jnp.float32),
            "Metrics/position_error": error.position,
        }
        if self.orientation:
            log["Metrics/orientation_error"] = error.angle
        return renew_goal(moved, key), self.step_dt * rate, terminated, log

    def reward_terms(
        self, state: ReachState, action: Array, common_step: Array
    ) -> dict[str, Array]:
        """Returns of what the reward of `step` consists; {name: []}."""
        moved = move(state, action)
        error = reach_error(moved)
        reached = self._is_reached(error)
        rates = self._reward_rates(moved, error, reached, state, common_step)
        return {name: self.step_dt * rate for name, rate in rates.items()}

    def _is_reached(self, error: ReachError) -> Array:
        """Returns whether the hand is where it should be; []."""
        reached = error.position < MAX_POSITION_ERROR
        return (
            reached & (error.angle < MAX_ANGLE_ERROR) if self.orientation else reached
        )

    def _reward_rates(
        self,
        state: ReachState,
        error: ReachError,
        success: Array,
        old_state: ReachState,
        common_step: Array,
    ) -> dict[str, Array]:
        """Returns the reward per second after a step by its terms; {name: []}."""
        late = common_step > CURRICULUM_STEP
        action_rate = jnp.sum((state.last_action - old_state.last_action) ** 2)
        rates = {
            "reached": 10.0 * success,
            "distance": -0.2 * error.position,
            "action rate": -jnp.where(late, 5e-3, 1e-4) * action_rate,
            "action": -5e-3 * jnp.sum(state.last_action**2),
            "joint speed": -jnp.where(late, 1e-3, 1e-4)
            * jnp.sum(state.joint_velocity**2),
        }
        return rates | ({"angle": -0.1 * error.angle} if self.orientation else {})

    def observe(self, state: ReachState, key: Key) -> Obs:
        """Returns [32]: joints (9 and 9, noisy), command (7), last action (7).

        The joints are the arm's seven and two resting fingers, as offsets from the
        default pose. The command is a position and a quaternion (x, y, z, w).
        """
        joints = NUM_JOINTS + NUM_FINGERS
        noise = jax.random.uniform(
            key, (2 * joints,), minval=-OBS_NOISE, maxval=OBS_NOISE
        )
        arm = slice(NUM_JOINTS)
        position_noise, velocity_noise = noise[:joints], noise[joints:]
        default = constant(DEFAULT_POSITION)
        parts = (  # one flat row of slices: nested ones cost twice the time
            state.joint_position - default + position_noise[arm],
            position_noise[NUM_JOINTS:],
            state.joint_velocity + velocity_noise[arm],
            velocity_noise[NUM_JOINTS:],
            state.goal_position,
            goal_quaternion(state.goal_yaw),
            state.last_action,
        )
        return {"policy": jnp.concatenate(parts)}

    def scene(self, state: ReachState) -> Scene:
        """Shows the arm and the command: a ball of 5 cm, or two frames to align."""
        state = jax.tree.map(np.asarray, state)
        goal = goal_frame(state.goal_position, state.goal_yaw)
        hand = forward_kinematics(state.joint_position)[-1]
        place, reach = np.array(goal.origin), MAX_POSITION_ERROR
        frames = (goal, hand) if self.orientation else ()
        axes = [(frame.origin, rotation_matrix(frame), 0.12) for frame in frames]
        distance = np.linalg.norm(np.array(hand.origin) - place)
        return Scene(
            shapes=[
                *arm(state.joint_position, DEFAULT_FINGER),
                *drawing.ball(VIEW, place, reach, drawing.GREEN, 0.45),
                *drawing.stem(VIEW, place),
                *(line for parts in axes for line in drawing.axes(VIEW, *parts)),
            ],
            labels=[Label(f"hand to goal {100 * distance:.1f} cm")],
            still=FLOOR,
        )

    @property
    def stage(self) -> Stage:
        """The arm on its table."""
        return STAGE

    def solids(self, state: ReachState) -> dict[str, Solid]:
        """Returns the arm and the command, as in the picture."""
        goal = goal_frame(state.goal_position, state.goal_yaw)
        seen = arm_solids(state.joint_position, DEFAULT_FINGER)
        place, reach = np.array(goal.origin), MAX_POSITION_ERROR
        seen["goal"] = solids.ball(place, reach, drawing.GREEN, 0.45)
        if self.orientation:
            hand = forward_kinematics(np.asarray(state.joint_position, np.float64))[-1]
            seen |= solids.axes("goal", place, rotation_matrix(goal), 0.12)
            seen |= solids.axes("hand", hand.origin, rotation_matrix(hand), 0.12)
        return seen


def move(state: ReachState, action: Array) -> ReachState:
    """Drives the joints towards default + 0.5 action for one control step."""
    target = constant(DEFAULT_POSITION) + ACTION_SCALE * action
    position, velocity = state.joint_position, state.joint_velocity
    for _ in range(DECIMATION):
        position, velocity = drive_joints(position, velocity, target, DRIVE, PHYSICS_DT)
    return state._replace(
        joint_position=position, joint_velocity=velocity, last_action=action
    )


def reach_error(state: ReachState) -> ReachError:
    """Returns the distance and the angle between the hand and the commanded pose."""
    hand = forward_kinematics(state.joint_position)[-1]
    goal = goal_frame(state.goal_position, state.goal_yaw)
    return ReachError(
        position=norm(subtract(hand.origin, goal.origin)),
        angle=angle_between(hand, goal),
    )


def angle_between(a: Frame, b: Frame) -> Array:
    """Returns the angle of the rotation from one frame to another, in [0, pi].

    From |R_a - R_b|^2 = 8 sin^2(angle / 2), which is exact for small angles.
    """
    gap = sum(norm(subtract(*axes)) ** 2 for axes in zip(a[:3], b[:3], strict=True))
    return 2 * jnp.arcsin(jnp.sqrt(jnp.minimum(gap / 8, 1.0)))


def goal_frame(position: Array, yaw: Array) -> Frame:
    """Returns the commanded pose: pitched by pi to point down, then turned by yaw."""
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    return Frame(
        x=(-cos, -sin, 0.0),
        y=(-sin, cos, 0.0),
        z=(0.0, 0.0, -1.0),
        origin=(position[0], position[1], position[2]),
    )


def goal_quaternion(yaw: Array) -> Array:
    """Returns the rotation of `goal_frame` as (x, y, z, w); [4]."""
    zero = jnp.zeros_like(yaw)
    return jnp.stack([-jnp.sin(yaw / 2), jnp.cos(yaw / 2), zero, zero])


def sample_goal(key: Key) -> tuple[Array, Array]:
    """Draws a command: position [3] and yaw []."""
    low = constant((*GOAL_LOW, -GOAL_YAW))
    high = constant((*GOAL_HIGH, GOAL_YAW))
    goal = jax.random.uniform(key, (4,), minval=low, maxval=high)
    return goal[:3], goal[3]


def renew_goal(state: ReachState, key: Key) -> ReachState:
    """Ages the command by one step and replaces it after 4 s."""
    age = state.goal_age + 1
    expired = age >= GOAL_STEPS
    position, yaw = sample_goal(key)
    return state._replace(
        goal_position=jnp.where(expired, position, state.goal_position),
        goal_yaw=jnp.where(expired, yaw, state.goal_yaw),
        goal_age=jnp.where(expired, 0, age),
    )
