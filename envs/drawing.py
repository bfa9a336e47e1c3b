"""Pictures of tasks without OpenGL and without a display, and shapes in space."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.envs.painting import INK, PAPER, Label, Scene, Shape, painter, rgb
from ppo_jax.envs.task import Task

GREY = "#8a98a5"
RED = "#d1495b"
GREEN = "#3a9d5d"
BLUE = "#2f6db5"
ORANGE = "#f0883e"

SIZE = (640, 480)  # pixels of a picture
_DPI = 100
_LIGHT = np.array([0.35, -0.45, 0.82])  # towards the light, about unit length
_ARC = np.linspace(-1.0, 1.0, 12)

Color = tuple[float, float, float]


class View(NamedTuple):
    """A pinhole camera; a picture of it is 2 units high."""

    eye: np.ndarray  # [3] m
    rotation: np.ndarray  # [3, 3], rows: right, up, forward
    zoom: float  # units per unit of tangent


class Capsule(NamedTuple):
    """A round bar in space."""

    start: np.ndarray  # [3] m
    end: np.ndarray  # [3] m
    radius: float  # m
    color: str


class Painted:
    """What a task is that says what it looks like as a `Scene`."""

    def scene(self, state: Any) -> Scene:
        """Returns what is to be seen of a state."""
        raise NotImplementedError

    def draw(self, state: Any, figure: Any) -> None:
        """Puts the picture of a state into an empty matplotlib figure."""
        width, height = figure.bbox.size
        image = painter((round(width), round(height)))(self.scene(state))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.imshow(image, aspect="auto")
        axes.axis("off")


def picture(
    task: Task, state: Any, size: tuple[int, int] = SIZE, caption: str = ""
) -> np.ndarray:
    """Returns a picture of one environment's state, uint8 [height, width, 3].

    Args:
      task: says what it looks like.
      state: of the task, without batch axis.
      size: width and height, pixels; even numbers, if it is to become a video.
      caption: a line at the bottom, for instance the time.
    """
    return next(pictures(task, [(state, caption)], size))


def pictures(
    task: Task, states: Iterable[tuple[Any, str]], size: tuple[int, int] = SIZE
) -> Iterator[np.ndarray]:
    """Yields a picture of each state with its caption; see `picture`."""
    if not isinstance(task, Painted):
        for state, caption in states:
            yield _drawn(task, state, size, caption)
        return
    paint = painter(size)
    for state, caption in states:
        scene = task.scene(state)
        if caption:
            scene = scene._replace(labels=[*scene.labels, Label(caption, y=0.05)])
        yield paint(scene)


def _drawn(task: Task, state: Any, size: tuple[int, int], caption: str) -> np.ndarray:
    """Returns the picture of a task that draws with matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure((width / _DPI, height / _DPI), dpi=_DPI, facecolor=PAPER)
    figure.set_layout_engine("none")  # whatever the user's rcParams ask for
    canvas = FigureCanvasAgg(figure)
    task.draw(state, figure)
    if caption:
        style = {"ha": "center", "va": "center", "color": INK, "fontsize": 10}
        figure.text(0.5, 0.05, caption, zorder=1000, **style)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def look(
    eye: tuple[float, float, float],
    target: tuple[float, float, float],
    field_of_view: float,
) -> View:
    """Returns a camera at `eye` that looks at `target`, both in m, z up.

    Args:
      eye: [3] m.
      target: [3] m.
      field_of_view: vertical, degrees.
    """
    forward = _unit(np.subtract(target, eye))
    right = _unit(np.cross(forward, (0.0, 0.0, 1.0)))
    rotation = np.stack([right, np.cross(right, forward), forward])
    zoom = 1 / np.tan(np.radians(field_of_view / 2))
    return View(np.array(eye), rotation, float(zoom))


def project(view: View, points: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns where points [..., 3] appear, [..., 2], and their depths [...], m."""
    local = (np.asarray(points) - view.eye) @ view.rotation.T
    depth = local[..., 2]
    return view.zoom * local[..., :2] / depth[..., None], depth


def floor(view: View, low: Sequence[float], high: Sequence[float]) -> list[Shape]:
    """Returns the floor from low to high, [2] m each, at z = 0, with a 10 cm grid."""
    (x0, y0), (x1, y1) = low, high
    corners = [(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)]
    across = [((x, y0, 0.0), (x, y1, 0.0)) for x in _ticks(x0, x1)]
    along = [((x0, y, 0.0), (x1, y, 0.0)) for y in _ticks(y0, y1)]
    lines = project(view, across + along)[0]
    grid = [Shape(x, edge="#cbd3da", width=0.8, is_open=True) for x in lines]
    ground = Shape(project(view, corners)[0], "#dde3e8", "#b4bfc9", depth=1.0)
    return [ground, *grid]


def shadow(view: View, capsules: Sequence[Capsule]) -> list[Shape]:
    """Returns the shadow of capsules on the floor: one shade, whatever overlaps."""
    shapes = []
    for start, end, radius, _ in capsules:
        ground = _hull_of_circles(start[:2], radius, end[:2], radius)
        points = np.column_stack([ground, np.zeros(len(ground))])
        outline = project(view, points)[0]
        shapes.append(Shape(outline, "#c2c9cf", depth=1000.0))
    return shapes


def capsule(view: View, bar: Capsule) -> list[Shape]:
    """Returns a round bar, shaded as if lit from the upper left."""
    ends, depth = project(view, [bar.start, bar.end])
    radii = view.zoom * bar.radius / depth
    layers = ((1.0, 0.0, 0.72), (0.84, 0.1, 0.9), (0.56, 0.24, 1.0), (0.2, 0.42, 1.12))
    shapes = []
    for scale, shift, brightness in layers:
        (a, b), (r, s) = ends + shift * np.array([-0.7, 0.7]) * radii[:, None], radii
        outline = _hull_of_circles(a, scale * r, b, scale * s)
        edge = _shade(bar.color, 0.45) if scale == 1.0 else None
        fill = _shade(bar.color, brightness)
        shapes.append(Shape(outline, fill, edge, depth=float(depth.mean())))
    return shapes


def ball(
    view: View, center: Any, radius: float, color: str, alpha: float = 1.0
) -> list[Shape]:
    """Returns a ball, m; a translucent one shows its rim."""
    middle, depth = project(view, center)
    size = view.zoom * radius / depth
    angle = np.linspace(0, 2 * np.pi, 40)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    how: Any = {"depth": float(depth), "alpha": alpha}
    shine = middle + size * np.array([-0.3, 0.3]) + 0.45 * size * circle
    return [
        Shape(middle + size * circle, color, _shade(color, 0.6), **how),
        Shape(shine, _shade(color, 1.3), **how),
    ]


def box(
    view: View,
    center: Any,
    rotation: Any,
    half_size: Sequence[float],
    color: str,
    alpha: float = 1.0,
) -> list[Shape]:
    """Returns the visible faces of a box.

    Args:
      view: it is seen from.
      center: [3] m.
      rotation: [3, 3], columns: the axes of the box.
      half_size: [3] m along these axes.
      color: of a face in full light.
      alpha: opacity.
    """
    center, rotation = np.asarray(center), np.asarray(rotation)
    depth = float(project(view, center)[1])
    faces = []
    for axis in range(3):
        u, v = rotation[:, axis - 2], rotation[:, axis - 1]
        u, v = u * half_size[axis - 2], v * half_size[axis - 1]
        for side in (-1.0, 1.0):
            normal = side * rotation[:, axis]
            middle = center + half_size[axis] * normal
            if normal @ (view.eye - middle) > 0:
                corners = middle + np.array([u + v, u - v, -u - v, v - u])
                fill = _shade(color, 0.72 + 0.36 * float(normal @ _LIGHT))
                edge = _shade(color, 0.45)
                outline = project(view, corners)[0]
                faces.append(Shape(outline, fill, edge, depth=depth, alpha=alpha))
    return faces


def axes(view: View, origin: Any, rotation: Any, length: float) -> list[Shape]:
    """Returns the axes of a frame, columns of `rotation`: x red, y green, z blue."""
    lines = []
    for axis, color in enumerate((RED, GREEN, BLUE)):
        tip = np.asarray(origin) + length * np.asarray(rotation)[:, axis]
        segment, depth = project(view, [origin, tip])
        nearer = float(depth.mean()) - 0.06
        how: Any = {"width": 3.5, "is_open": True, "depth": nearer}
        lines.append(Shape(segment, edge=color, **how))
    return lines


def stem(view: View, point: Any) -> list[Shape]:
    """Returns a dotted line from a point in the air down to the floor below it."""
    foot = np.array([point[0], point[1], 0.0])
    segment, depth = project(view, [point, foot])
    how: Any = {"width": 1.7, "is_open": True, "dash": (1.0, 1.65)}
    return [Shape(segment, edge=GREY, depth=float(depth.mean()), **how)]


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
    own = np.array(rgb(color))
    mixed = own * brightness if brightness <= 1 else own + (1 - own) * (brightness - 1)
    r, g, b = np.clip(mixed, 0.0, 1.0).tolist()
    return r, g, b


def _ticks(low: float, high: float) -> np.ndarray:
    return np.arange(np.ceil(low * 10 + 1e-6), high * 10 - 1e-6) / 10


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
