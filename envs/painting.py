"""Pictures from shapes, by Pillow alone: what stands still is painted once.

A scene is a list of outlines in units of its own, as a task returns it for a state. It
is painted at twice its size and halved, which smooths its edges; text is set at the
end, in its own size.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PAPER = "#eef1f4"
INK = "#2b3a47"
SMOOTHING = 2  # a picture is painted so many times larger
REFERENCE_HEIGHT = 480  # pixels of the picture for which widths and text are given
TEXT_SIZE = 13.9  # pixels there
FONT = Path("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"  # matplotlib brings it


class Shape(NamedTuple):
    """An outline, filled, or a line where there is nothing to fill."""

    points: np.ndarray  # [n, 2]
    fill: Any = None  # colour, "#rrggbb" or three numbers within [0, 1]
    edge: Any = None
    width: float = 0.8  # of the edge or the line, pixels of a picture 480 high
    depth: float = 0.0  # the farther, the earlier it is painted
    alpha: float = 1.0
    is_open: bool = False  # a line that does not come back
    dash: tuple[float, ...] = ()  # on and off, in widths


class Label(NamedTuple):
    """A line of text, centred at a place in fractions of the picture, from below."""

    text: str
    x: float = 0.5
    y: float = 0.94
    size: float = TEXT_SIZE
    color: str = INK


class Scene(NamedTuple):
    """What a picture shows, in units of its own."""

    shapes: Sequence[Shape]
    labels: Sequence[Label] = ()
    still: Sequence[Shape] = ()  # behind all others; the same object is painted once
    still_labels: Sequence[Label] = ()
    center: tuple[float, float] = (0.0, 0.0)  # of the picture
    height: float = 2.0  # units that it is high


def painter(size: tuple[int, int]) -> Callable[[Scene], np.ndarray]:
    """Returns a function that paints scenes, uint8 [height, width, 3] each.

    What stood still in the scene before, and is the same object, is not painted again.

    Args:
      size: width and height, pixels.
    """
    from PIL import Image

    width, height = size
    large = width * SMOOTHING, height * SMOOTHING
    before: tuple[Any, Any] = None, None

    def paint(scene: Scene) -> np.ndarray:
        nonlocal before
        if before[0] is not scene.still or before[1] is None:
            back = Image.new("RGB", large, PAPER)
            _paint_shapes(back, scene, scene.still)
            before = scene.still, back
        image = before[1].copy()
        _paint_shapes(image, scene, scene.shapes)
        image = image.reduce(SMOOTHING)
        _write(image, [*scene.still_labels, *scene.labels])
        return np.array(image)

    return paint


def circle(center: Any, radius: float, **how: Any) -> Shape:
    """Returns a circle; see `Shape`."""
    return Shape(np.asarray(center) + radius * _ROUND, **how)


def bar(start: Any, end: Any, color: Any, width: float, **how: Any) -> Shape:
    """Returns a line from a point to another; `width` in pixels, see `Shape`."""
    points = np.array([start, end], float)
    return Shape(points, edge=color, width=width, is_open=True, **how)


def rectangle(low: Any, high: Any, corner: float = 0.0, **how: Any) -> Shape:
    """Returns an upright rectangle, its corners rounded by a radius."""
    (x0, y0), (x1, y1) = low, high
    if not corner:
        return Shape(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float), **how)
    centers = [(x1, y1), (x0, y1), (x0, y0), (x1, y0)]
    arcs = np.split(_ROUND, 4)
    signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    parts = [
        np.add(c, np.multiply(corner, s)) + corner * arc
        for c, s, arc in zip(centers, signs, arcs, strict=True)
    ]
    return Shape(np.concatenate(parts), **how)


_ANGLE = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_ROUND = np.column_stack([np.cos(_ANGLE), np.sin(_ANGLE)])


def _paint_shapes(image: Any, scene: Scene, shapes: Sequence[Shape]) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image, "RGBA")  # blends
    width, height = image.size
    scale = height / scene.height
    unit = height / REFERENCE_HEIGHT  # of widths
    shift = np.array([width / 2, height / 2])
    for shape in sorted(shapes, key=lambda shape: -shape.depth):
        points = (np.asarray(shape.points) - scene.center) * (scale, -scale) + shift
        if shape.fill is not None:
            pen.polygon(points.ravel().tolist(), fill=_color(shape.fill, shape.alpha))
        if shape.edge is not None:
            color = _color(shape.edge, shape.alpha)
            _stroke(pen, points, color, shape.width * unit, shape.is_open, shape.dash)


def _stroke(
    pen: Any,
    points: np.ndarray,
    color: tuple[int, ...],
    width: float,
    is_open: bool,
    dash: tuple[float, ...],
) -> None:
    """Draws a line with round ends."""
    if dash:
        for piece in _dashes(points, *(x * width for x in dash)):
            pen.line(piece.ravel().tolist(), color, max(1, round(width)))
        return
    ring = points if is_open else np.concatenate([points, points[:1]])
    pen.line(ring.ravel().tolist(), color, max(1, round(width)), joint="curve")
    if is_open and width > 3:
        r = width / 2
        for x, y in points[[0, -1]].tolist():
            pen.ellipse((x - r, y - r, x + r, y + r), fill=color)


def _dashes(points: np.ndarray, on: float, off: float) -> list[np.ndarray]:
    """Cuts a straight line into pieces of a length, with gaps between."""
    start, end = points[0], points[-1]
    length = float(np.hypot(*(end - start)))
    steps = np.arange(0, length, on + off) / max(length, 1e-9)
    reach = on / max(length, 1e-9)
    return [
        np.array([start + a * (end - start), start + min(a + reach, 1) * (end - start)])
        for a in steps
    ]


def _write(image: Any, labels: Sequence[Label]) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    width, height = image.size
    for label in labels:
        place = label.x * width, (1 - label.y) * height
        font = _font(label.size * height / REFERENCE_HEIGHT)
        pen.text(place, label.text, fill=label.color, font=font, anchor="mm")


@functools.cache
def _font(size: float) -> Any:
    from PIL import ImageFont

    package = importlib.util.find_spec("matplotlib")  # found, not imported
    if package and package.origin:
        path = Path(package.origin).parent / FONT
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def _color(color: Any, alpha: float) -> tuple[int, int, int, int]:
    r, g, b = (255 * x for x in rgb(color))
    return round(r), round(g), round(b), round(255 * alpha)


def rgb(color: Any) -> tuple[float, float, float]:
    """Returns a colour, "#rrggbb" or three numbers, as numbers within [0, 1]."""
    if not isinstance(color, str):
        return tuple(color)
    r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return r, g, b
