"""What is in space: solids with a place, for whatever can show three dimensions."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


class Box(NamedTuple):
    """A cuboid about its middle."""

    half_size: tuple[float, float, float]  # m along its axes


class Ball(NamedTuple):
    """A sphere about its middle."""

    radius: float  # m


class Bar(NamedTuple):
    """A round bar about its middle, along z, with round ends beyond its length."""

    radius: float  # m
    length: float  # m, between the centres of its ends


class Solid(NamedTuple):
    """A shape at a place."""

    shape: Box | Ball | Bar
    position: np.ndarray  # [3] m, of its middle
    rotation: np.ndarray  # [3, 3], columns: its axes
    color: str  # "#rrggbb"
    alpha: float = 1.0  # opacity


class Stage(NamedTuple):
    """What solids stand on, and from where one sees them well; m, z up."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    ground: float = 0.0  # z of the floor


@runtime_checkable
class Spatial(Protocol):
    """What a task is that says which solids are to be seen of a state."""

    @property
    def stage(self) -> Stage:
        """From where it is seen."""
        ...

    def solids(self, state: Any) -> Mapping[str, Solid]:
        """Returns what is there, by name, in a state without batch axis, of numpy.

        A name means the same thing in every state; what moves has another place.
        """
        ...


def box(
    center: Any, rotation: Any, half_size: Any, color: str, alpha: float = 1.0
) -> Solid:
    """Returns a cuboid; see `Solid`."""
    x, y, z = (float(value) for value in half_size)
    place = np.asarray(center, float), np.asarray(rotation, float)
    return Solid(Box((x, y, z)), *place, color, alpha)


def ball(center: Any, radius: float, color: str, alpha: float = 1.0) -> Solid:
    """Returns a sphere; see `Solid`."""
    return Solid(Ball(radius), np.asarray(center, float), np.eye(3), color, alpha)


def bar(start: Any, end: Any, radius: float, color: str) -> Solid:
    """Returns a round bar from one point to another, [3] m each."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = end - start
    length = round(float(np.linalg.norm(along)), 6)  # the same in every state
    return Solid(Bar(radius, length), (start + end) / 2, turned_to(along), color)


def turned_to(direction: np.ndarray) -> np.ndarray:
    """Returns a rotation [3, 3] whose third column points along a direction [3].

    Which way the others point does not matter; they turn no faster than it does, but
    for directions within 45 degrees of x, and those of no length are upright.
    """
    length = float(np.linalg.norm(direction))
    if length < 1e-9:
        return np.eye(3)
    z = direction / length
    helper = np.eye(3)[1] if abs(z[0]) > 0.7 else np.eye(3)[0]
    y = np.cross(z, helper)
    y /= np.linalg.norm(y)
    return np.column_stack([np.cross(y, z), y, z])


def axes(name: str, origin: Any, rotation: Any, length: float) -> dict[str, Solid]:
    """Returns the axes of a frame, columns of `rotation`: x red, y green, z blue."""
    start, directions = np.asarray(origin, float), np.asarray(rotation, float).T
    colors = {"x": "#d1495b", "y": "#3a9d5d", "z": "#2f6db5"}
    pairs = zip(colors.items(), directions, strict=True)
    return {
        f"{name} {axis}": bar(start, start + length * along, 0.006, color)
        for (axis, color), along in pairs
    }
