"""Pictures of tasks, painted by matplotlib alone: no OpenGL, no display."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.envs.task import Task

PAPER = "#eef1f4"
INK = "#2b3a47"
GREY = "#8a98a5"
RED = "#d1495b"
GREEN = "#3a9d5d"
BLUE = "#2f6db5"
ORANGE = "#f0883e"

_DPI = 100
_LIGHT = np.array([0.35, -0.45, 0.82])  # towards the light, about unit length
_ARC = np.linspace(-1.0, 1.0, 12)

Color = tuple[float, float, float]


class View(NamedTuple):
    """A pinhole camera and the axes that it paints into."""

    axes: Any
    eye: np.ndarray  # [3] m
    rotation: np.ndarray  # [3, 3], rows: right, up, forward
    zoom: float  # axes units per unit of tangent


class Capsule(NamedTuple):
    """A round bar in space."""

    start: np.ndarray  # [3] m
    end: np.ndarray  # [3] m
    radius: float  # m
    color: str


def picture(
    task: Task, state: Any, size: tuple[int, int] = (640, 480), caption: str = ""
) -> np.ndarray:
    """Returns a picture of one environment's state, uint8 [height, width, 3].

    Args:
      task: draws itself.
      state: of the task, without batch axis.
      size: width and height, pixels; even numbers, if it is to become a video.
      caption: a line at the bottom, for instance the time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure((width / _DPI, height / _DPI), dpi=_DPI, facecolor=PAPER)
    figure.set_layout_engine("none")  # whatever the user's rcParams ask for
    canvas = FigureCanvasAgg(figure)
    task.draw(state, figure)
    if caption:
        write(figure, caption, at=(0.5, 0.05))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write(figure: Any, text: str, at: tuple[float, float] = (0.5, 0.94)) -> None:
    """Writes a centred line at a place given in fractions of the figure."""
    figure.text(
        *at, text, ha="center", va="center", color=INK, fontsize=10, zorder=1000
    )


def flat_axes(figure: Any, center: tuple[float, float], height: float) -> Any:
    """Returns axes that fill the figure, in m, both axes to the same scale."""
    width = height * figure.get_figwidth() / figure.get_figheight()
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(center[0] - width / 2, center[0] + width / 2)
    axes.set_ylim(center[1] - height / 2, center[1] + height / 2)
    axes.axis("off")
    return axes


def open_view(
    figure: Any,
    eye: tuple[float, float, float],
    target: tuple[float, float, float],
    field_of_view: float,
) -> View:
    """Returns a camera at `eye` that looks at `target`, both in m, z up.

    Args:
      figure: it fills.
      eye: [3] m.
      target: [3] m.
      field_of_view: vertical, degrees.
    """
    forward = _unit(np.subtract(target, eye))
    right = _unit(np.cross(forward, (0.0, 0.0, 1.0)))
    rotation = np.stack([right, np.cross(right, forward), forward])
    zoom = 1 / np.tan(np.radians(field_of_view / 2))
    return View(flat_axes(figure, (0.0, 0.0), 2.0), np.array(eye), rotation, zoom)


def project(view: View, points: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns where points [..., 3] appear, [..., 2], and their depths [...], m."""
    local = (np.asarray(points) - view.eye) @ view.rotation.T
    depth = local[..., 2]
    return view.zoom * local[..., :2] / depth[..., None], depth


def draw_floor(view: View, low: Sequence[float], high: Sequence[float]) -> None:
    """Paints the floor from low to high, [2] m each, at z = 0, with a 10 cm grid."""
    from matplotlib.collections import LineCollection

    (x0, y0), (x1, y1) = low, high
    corners = [(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)]
    _fill(view, project(view, corners)[0], "#dde3e8", zorder=-1000, edge="#b4bfc9")
    across = [((x, y0, 0.0), (x, y1, 0.0)) for x in _ticks(x0, x1)]
    along = [((x0, y, 0.0), (x1, y, 0.0)) for y in _ticks(y0, y1)]
    segments = project(view, across + along)[0]
    lines = LineCollection(list(segments), colors="#cbd3da", linewidths=0.6)
    lines.set_zorder(-999)
    view.axes.add_artist(lines)


def draw_shadow(view: View, capsules: Sequence[Capsule]) -> None:
    """Paints the shadow of capsules on the floor, as one shape so that it is even."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    outlines = []
    for start, end, radius, _ in capsules:
        ground = _hull_of_circles(start[:2], radius, end[:2], radius)
        points = np.column_stack([ground, np.zeros(len(ground))])
        outlines.append(Outline(project(view, points)[0], closed=True))
    shadow = Outline.make_compound_path(*outlines)
    view.axes.add_artist(
        PathPatch(shadow, facecolor=INK, linewidth=0, alpha=0.16, zorder=-998)
    )


def draw_capsule(view: View, capsule: Capsule) -> None:
    """Paints a round bar, shaded as if lit from the upper left."""
    ends, depth = project(view, [capsule.start, capsule.end])
    radii = view.zoom * capsule.radius / depth
    layers = ((1.0, 0.0, 0.72), (0.84, 0.1, 0.9), (0.56, 0.24, 1.0), (0.2, 0.42, 1.12))
    for scale, shift, brightness in layers:
        (a, b), (r, s) = ends + shift * np.array([-0.7, 0.7]) * radii[:, None], radii
        _fill(
            view,
            _hull_of_circles(a, scale * r, b, scale * s),
            _shade(capsule.color, brightness),
            zorder=-depth.mean(),
            edge=_shade(capsule.color, 0.45) if scale == 1.0 else "none",
        )


def draw_ball(
    view: View, center: Any, radius: float, color: str, alpha: float = 1.0
) -> None:
    """Paints a ball, m; a translucent one shows its rim."""
    (x, y), depth = project(view, center)
    size = view.zoom * radius / depth
    angle = np.linspace(0, 2 * np.pi, 40)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    order = {"zorder": -float(depth), "alpha": alpha}
    _fill(view, (x, y) + size * circle, color, edge=_shade(color, 0.6), **order)
    shine = (x - 0.3 * size, y + 0.3 * size) + 0.45 * size * circle
    _fill(view, shine, _shade(color, 1.3), **order)


def draw_box(
    view: View,
    center: Any,
    rotation: Any,
    half_size: Sequence[float],
    color: str,
    alpha: float = 1.0,
) -> None:
    """Paints the visible faces of a box.

    Args:
      view: to paint into.
      center: [3] m.
      rotation: [3, 3], columns: the axes of the box.
      half_size: [3] m along these axes.
      color: of a face in full light.
      alpha: opacity.
    """
    center, rotation = np.asarray(center), np.asarray(rotation)
    depth = float(project(view, center)[1])
    for axis in range(3):
        u, v = rotation[:, axis - 2], rotation[:, axis - 1]
        u, v = u * half_size[axis - 2], v * half_size[axis - 1]
        for side in (-1.0, 1.0):
            normal = side * rotation[:, axis]
            middle = center + half_size[axis] * normal
            if normal @ (view.eye - middle) > 0:
                corners = middle + np.array([u + v, u - v, -u - v, v - u])
                _fill(
                    view,
                    project(view, corners)[0],
                    _shade(color, 0.72 + 0.36 * float(normal @ _LIGHT)),
                    zorder=-depth,
                    alpha=alpha,
                    edge=_shade(color, 0.45),
                )


def draw_axes(view: View, origin: Any, rotation: Any, length: float) -> None:
    """Paints the axes of a frame, columns of `rotation`: x red, y green, z blue."""
    for axis, color in enumerate((RED, GREEN, BLUE)):
        tip = np.asarray(origin) + length * np.asarray(rotation)[:, axis]
        (start, end), depth = project(view, [origin, tip])
        view.axes.plot(
            *np.column_stack([start, end]),
            color=color,
            linewidth=2.5,
            solid_capstyle="round",
            zorder=-depth.mean() + 0.06,
        )


def draw_stem(view: View, point: Any) -> None:
    """Paints a dotted line from a point in the air down to the floor below it."""
    foot = np.array([point[0], point[1], 0.0])
    segment, depth = project(view, [point, foot])
    view.axes.plot(
        *segment.T, color=GREY, linewidth=1.2, linestyle=":", zorder=-depth.mean()
    )


def _fill(
    view: View,
    points: np.ndarray,
    color: Any,
    *,
    zorder: float,
    alpha: float = 1.0,
    edge: Any = "none",
) -> None:
    from matplotlib.patches import Polygon

    view.axes.add_artist(
        Polygon(
            points,
            closed=True,
            facecolor=color,
            edgecolor=edge,
            linewidth=0.0 if edge == "none" else 0.8,
            alpha=alpha,
            zorder=zorder,
            joinstyle="round",
        )
    )


def _hull_of_circles(
    a: np.ndarray, radius_a: float, b: np.ndarray, radius_b: float
) -> np.ndarray:
    """Returns the outline of two circles and all between them, counter-clockwise."""
    distance = float(np.hypot(*(b - a)))
    if distance <= abs(radius_a - radius_b):
        a, radius_a = (a, radius_a) if radius_a > radius_b else (b, radius_b)
        b, radius_b, distance = a, radius_a, 0.0
    heading = np.arctan2(b[1] - a[1], b[0] - a[0])
    tangent = np.arccos((radius_a - radius_b) / distance) if distance else np.pi / 2
    angle_b = heading + tangent * _ARC
    angle_a = heading + np.pi + (np.pi - tangent) * _ARC
    arc_b = b + radius_b * np.column_stack([np.cos(angle_b), np.sin(angle_b)])
    arc_a = a + radius_a * np.column_stack([np.cos(angle_a), np.sin(angle_a)])
    return np.concatenate([arc_b, arc_a])


def _shade(color: str, brightness: float) -> Color:
    """Returns a colour made darker (below 1) or mixed with white (above)."""
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(color))
    mixed = rgb * brightness if brightness <= 1 else rgb + (1 - rgb) * (brightness - 1)
    return tuple(np.clip(mixed, 0.0, 1.0))


def _ticks(low: float, high: float) -> np.ndarray:
    return np.arange(np.ceil(low * 10 + 1e-6), high * 10 - 1e-6) / 10


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
