"""The Franka Panda that the Franka tasks share: kinematics, joint drives, picture."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ppo_jax.envs import drawing, solids
from ppo_jax.envs.painting import Shape
from ppo_jax.envs.solids import Solid, Stage
from ppo_jax.types import Array

NUM_JOINTS = 7
NUM_FINGERS = 2
DEFAULT_POSITION = (0.0, -0.569, 0.0, -2.810, 0.0, 3.037, 0.741)  # rad
LOWER_LIMIT = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)  # rad
UPPER_LIMIT = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)  # rad
VELOCITY_LIMIT = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)  # rad/s
EFFORT_LIMIT = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # N m

# The diagonal of the arm's mass matrix in the default pose, plus 0.1 for the motors.
INERTIA = (0.7, 1.3, 0.8, 1.1, 0.15, 0.15, 0.1)  # kg m^2

DEFAULT_FINGER = 0.04  # m, of each finger from the middle: open
TOOL_OFFSET = 0.1034  # m, from the hand frame to the point between the finger tips

TABLE = ((-0.15, -0.6), (1.15, 0.6))  # m, corners of its top, which is at z = 0
BASE_CENTER, BASE_HALF_SIZE = (-0.03, 0.0, 0.035), (0.1, 0.08, 0.035)  # m
LINK_COLOR, JOINT_COLOR, TABLE_COLOR = "#f4f5f7", "#5a6875", "#c9b79c"
STAGE = Stage(eye=(1.85, -1.6, 0.85), target=(0.32, 0.0, 0.3), ground=-0.75)

Vector = tuple[Any, Any, Any]  # three scalars: they fuse where 3x3 products would not


class Frame(NamedTuple):
    """A coordinate frame seen from the base of the robot."""

    x: Vector
    y: Vector
    z: Vector
    origin: Vector  # m


class Link(NamedTuple):
    """Modified Denavit-Hartenberg parameters of one joint."""

    quarter_turns: (
        int  # alpha, rotation about x of the frame before, in units of 90 deg
    )
    length: float  # a, m along x of the frame before
    offset: float  # d, m along the joint axis


BASE = Frame((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
LINKS = (
    Link(0, 0.0, 0.333),
    Link(-1, 0.0, 0.0),
    Link(1, 0.0, 0.316),
    Link(1, 0.0825, 0.0),
    Link(-1, -0.0825, 0.384),
    Link(1, 0.0, 0.0),
    Link(1, 0.088, 0.0),
)
FLANGE_OFFSET = 0.107  # m, from the last joint frame to the hand
HAND_TURN = float(np.sqrt(0.5))  # cos and -sin of the -45 deg about z to the hand


@dataclass(frozen=True)
class Drive:
    """Gains of the position controllers in the joints, one number per joint."""

    stiffness: tuple[float, ...]  # N m/rad
    damping: tuple[float, ...]  # N m s/rad


def forward_kinematics(joint_position: Any) -> tuple[Frame, ...]:
    """Returns the frames of the seven joints and, last, of the hand (panda_hand).

    Works on JAX and on numpy arrays, whose precision it keeps.

    Args:
      joint_position: [7] rad.

    Source: Denavit-Hartenberg parameters published by Franka Emika, in Craig's
    convention: turn alpha about x, go a along x, turn q about z, go d along z.
    """
    assert joint_position.shape == (NUM_JOINTS,)
    xp = np if isinstance(joint_position, np.ndarray) else jnp
    cos, sin = xp.cos(joint_position), xp.sin(joint_position)
    frames = [BASE]
    for i, link in enumerate(LINKS):
        frame = _shift_along(frames[-1], "x", link.length)
        frame = _turn_about_x(frame, link.quarter_turns)
        frame = _turn_about_z(frame, cos[i], sin[i])
        frames.append(_shift_along(frame, "z", link.offset))
    hand = _turn_about_z(frames[-1], HAND_TURN, -HAND_TURN)
    return (*frames[1:], _shift_along(hand, "z", FLANGE_OFFSET))


def tool_point(hand: Frame) -> Vector:
    """Returns the point between the finger tips, m."""
    return _shift_along(hand, "z", TOOL_OFFSET).origin


def drive_joints(
    position: Array, velocity: Array, target: Array, drive: Drive, dt: float
) -> tuple[Array, Array]:
    """Moves each joint on by `dt` as one inertia that a limited PD drive pulls.

        torque = clip(K (target - next position) - D next velocity)

    Solved for the next velocity, so that stiff gains stay stable. Velocities are
    clipped to the limits of the joints; a joint that runs into its end stops there.

    Args:
      position: [7] rad.
      velocity: [7] rad/s.
      target: [7] rad.
      drive: gains.
      dt: s.

    Returns:
      [7] position and [7] velocity after `dt`.
    """
    stiffness, damping = constant(drive.stiffness), constant(drive.damping)
    effort, inertia = constant(EFFORT_LIMIT), constant(INERTIA)
    speed = constant(VELOCITY_LIMIT)

    pull = stiffness * (target - position) - (damping + dt * stiffness) * velocity
    torque = pull * (inertia / (inertia + dt * damping + dt**2 * stiffness))
    acceleration = jnp.clip(torque, -effort, effort) / inertia
    velocity = jnp.clip(velocity + dt * acceleration, -speed, speed)

    moved = position + dt * velocity
    position = jnp.clip(moved, constant(LOWER_LIMIT), constant(UPPER_LIMIT))
    return position, jnp.where(position == moved, velocity, 0.0)


def constant(values: Any) -> Array:
    """Returns numbers as a strongly typed array."""
    return jnp.asarray(values, jnp.float32)


def subtract(a: Vector, b: Vector) -> Vector:
    """Returns a - b."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def norm(a: Vector) -> Array:
    """Returns the length of a vector, []."""
    return jnp.sqrt(a[0] ** 2 + a[1] ** 2 + a[2] ** 2)


def arm(joint_position: Any, finger: float) -> list[Shape]:
    """Returns the arm on its base, as it is seen from `VIEW`, with its shadow.

    Args:
      joint_position: [7] rad.
      finger: m, of each finger from the middle.
    """
    frames = forward_kinematics(np.asarray(joint_position, np.float64))
    hand, bars = frames[-1], _arm_bars(frames)
    base = drawing.box(VIEW, BASE_CENTER, np.eye(3), BASE_HALF_SIZE, JOINT_COLOR)
    return [
        *drawing.shadow(VIEW, [*bars, _across(hand, 0.07)]),
        *base,
        *(shape for bar in bars for shape in drawing.capsule(VIEW, bar)),
        *_hand(hand, finger),
    ]


def arm_solids(joint_position: Any, finger: float) -> dict[str, Solid]:
    """Returns the arm as `arm` draws it, in space, on a table.

    Args:
      joint_position: [7] rad.
      finger: m, of each finger from the middle.
    """
    frames = forward_kinematics(np.asarray(joint_position, np.float64))
    bars = enumerate(_arm_bars(frames))
    return {
        **_table(),
        "base": solids.box(BASE_CENTER, np.eye(3), BASE_HALF_SIZE, JOINT_COLOR),
        **{f"link {number}": solids.bar(*parts) for number, parts in bars},
        **{name: solids.box(*x) for name, x in _hand_boxes(frames[-1], finger).items()},
    }


def rotation_matrix(frame: Frame) -> np.ndarray:
    """Returns the axes of a frame as columns, [3, 3]."""
    return np.column_stack([np.asarray(axis, np.float64) for axis in frame[:3]])


def _table() -> dict[str, Solid]:
    """Returns the table, with its top at z = 0 and legs down to the floor."""
    (x0, y0), (x1, y1) = TABLE
    thickness, leg, upright = 0.02, 0.03, np.eye(3)
    middle, size = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
    top = solids.box((*middle, -thickness), upright, (*size, thickness), TABLE_COLOR)
    corners = [(x, y) for x in (x0 + leg, x1 - leg) for y in (y0 + leg, y1 - leg)]
    size = (leg, leg, -STAGE.ground / 2 - thickness)
    legs = [
        solids.box((*corner, STAGE.ground / 2 - thickness), upright, size, JOINT_COLOR)
        for corner in corners
    ]
    return {"table": top} | {f"leg {i}": leg for i, leg in enumerate(legs)}


def _arm_bars(frames: tuple[Frame, ...]) -> list[drawing.Capsule]:
    """Returns the shape of the arm: white links between dark joints."""
    shoulder, elbow_top, elbow, wrist, palm = (
        np.array(frames[i].origin) for i in (1, 2, 3, 5, 7)
    )
    x, z = ([np.array(getattr(frame, axis)) for frame in frames] for axis in ("x", "z"))
    elbow_bottom = elbow + LINKS[4].length * x[3]
    knuckle = wrist + LINKS[6].length * x[5]
    base = np.array([0.0, 0.0, 0.1])
    links = [
        (base, shoulder, 0.062),
        (shoulder, elbow_top, 0.058),
        (elbow_top, elbow, 0.055),
        (elbow, elbow_bottom, 0.055),
        (elbow_bottom, wrist, 0.05),
        (wrist, knuckle, 0.045),
        (knuckle, palm, 0.042),
    ]
    joints = [
        (shoulder - 0.065 * z[1], shoulder + 0.065 * z[1], 0.06),
        (elbow - 0.06 * z[3], elbow + 0.06 * z[3], 0.055),
        (wrist - 0.055 * z[5], wrist + 0.055 * z[5], 0.05),
    ]
    return [
        drawing.Capsule(start, end, radius, color)
        for bars, color in ((links, LINK_COLOR), (joints, JOINT_COLOR))
        for start, end, radius in bars
    ]


def _across(hand: Frame, reach: float) -> drawing.Capsule:
    """Returns a bar as wide as the hand, for its shadow."""
    middle, y = np.array(hand.origin) + 0.033 * np.array(hand.z), np.array(hand.y)
    return drawing.Capsule(middle - reach * y, middle + reach * y, 0.03, LINK_COLOR)


def _hand(hand: Frame, finger: float) -> list[Shape]:
    boxes = _hand_boxes(hand, finger).values()
    return [shape for parts in boxes for shape in drawing.box(VIEW, *parts)]


def _hand_boxes(hand: Frame, finger: float) -> dict[str, tuple[Any, Any, Any, str]]:
    """Returns centre, rotation, half size and colour of the palm and each finger."""
    rotation = rotation_matrix(hand)
    _, y, z = rotation.T
    origin, palm, tip = np.array(hand.origin), (0.03, 0.1, 0.033), (0.01, 0.008, 0.026)
    boxes = {"palm": (origin + 0.033 * z, rotation, palm, LINK_COLOR)}
    for name, side in (("left finger", -1.0), ("right finger", 1.0)):
        center = origin + 0.088 * z + side * (finger + 0.008) * y
        boxes[name] = (center, rotation, tip, JOINT_COLOR)
    return boxes


def _shift_along(frame: Frame, axis: str, distance: float) -> Frame:
    if distance == 0.0:
        return frame
    return frame._replace(
        origin=_combine(1.0, frame.origin, distance, getattr(frame, axis))
    )


def _turn_about_x(frame: Frame, quarter_turns: int) -> Frame:
    match quarter_turns:
        case 1:
            return frame._replace(y=frame.z, z=_negate(frame.y))
        case -1:
            return frame._replace(y=_negate(frame.z), z=frame.y)
    return frame


def _turn_about_z(frame: Frame, cos: Any, sin: Any) -> Frame:
    return frame._replace(
        x=_combine(cos, frame.x, sin, frame.y),
        y=_combine(cos, frame.y, -sin, frame.x),
    )


def _combine(s: Any, a: Vector, t: Any, b: Vector) -> Vector:
    return s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2]


def _negate(a: Vector) -> Vector:
    return -a[0], -a[1], -a[2]


VIEW = drawing.look(eye=(1.85, -1.6, 1.2), target=(0.36, 0.0, 0.31), field_of_view=31.0)
FLOOR = drawing.floor(VIEW, *TABLE)  # painted once for all pictures of a film
