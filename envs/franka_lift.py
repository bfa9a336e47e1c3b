"""IsaacContrib-Lift-Cube-Franka in pure JAX: grasp a cube and carry it to a goal."""

from dataclasses import dataclass

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
    arm,
    arm_solids,
    constant,
    forward_kinematics,
    tool_point,
)
from ppo_jax.envs.franka_grasp import (
    CUBE_HALF_EDGE,
    STEP_DT,
    LiftState,
    distance,
    move,
)
from ppo_jax.envs.painting import Label, Scene
from ppo_jax.envs.solids import Solid, Stage
from ppo_jax.envs.task import total
from ppo_jax.types import Array, Continuous, Key, Obs

CUBE_START = (0.5, 0.0, CUBE_HALF_EDGE)  # m, at rest
CUBE_SPREAD = (0.1, 0.25, 0.0)  # m

GOAL_LOW = (0.4, -0.25, 0.25)  # m
GOAL_HIGH = (0.6, 0.25, 0.5)  # m
LIFTED_HEIGHT = 0.04  # m
SUCCESS_DISTANCE = 0.05  # m
LOST_HEIGHT = -0.05  # m
CURRICULUM_STEP = 10_000


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
      where it is (`franka_grasp.hold_cube`); otherwise it falls freely onto the table
      and stays where it lands. Arm and fingers pass through the cube and the table.
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
        goal_distance = distance(moved.cube_position, moved.goal_position)
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
        to_goal = np.linalg.norm(cube - goal)
        held = "held" if state.held else "free"
        return Scene(
            shapes=[
                *arm(state.joint_position, float(state.finger_position)),
                *drawing.shadow(VIEW, [shade]),
                *drawing.box(VIEW, cube, np.eye(3), edges, drawing.ORANGE),
                *drawing.ball(VIEW, goal, SUCCESS_DISTANCE, drawing.GREEN, alpha=0.45),
                *drawing.stem(VIEW, goal),
            ],
            labels=[Label(f"cube to goal {100 * to_goal:.1f} cm, {held}")],
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
    goal_distance = distance(state.cube_position, state.goal_position)
    reaching = _near(distance(state.tool_position, state.cube_position), 0.1)
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


def _near(far: Array, scale: float) -> Array:
    return 1 - jnp.tanh(far / scale)
