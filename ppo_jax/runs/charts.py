"""Line charts as SVG text: no library, no network, light and dark by the page's CSS."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 360, 190  # units of the drawing; about pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 16, 34  # margins
MAX_BUCKETS = 240  # of which a curve keeps the least, the largest and the last value
NUM_COLORS = 8  # that the page's style has, .c0 to .c7
SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))

Points = list[tuple[float, float]]


class Series(NamedTuple):
    """A curve, with a band around it or without."""

    label: str
    x: Sequence[float]
    y: Sequence[float]  # NaN: there is no value
    color: int = 0
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    is_faint: bool = False


class Scale(NamedTuple):
    """From values to places on one axis; log10 of them where that is asked for."""

    low: float
    high: float
    start: float  # place of `low`
    end: float
    is_log: bool

    def place(self, value: float) -> float:
        """Returns where a value stands."""
        value = math.log10(value) if self.is_log else value
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def line_chart(
    series: Sequence[Series],
    label: str,
    x_label: str,
    is_log: bool = False,
    goal: float | None = None,
) -> str:
    """Returns curves as an SVG element; an empty chart says that there is no value.

    Args:
      series: the curves; the first lies on top.
      label: what the chart is for those who cannot see it.
      x_label: below the axis.
      is_log: the values stand on a logarithmic axis; those not above 0 are left out.
      goal: a value to mark by a dashed line.
    """
    usable = (lambda y: math.isfinite(y) and y > 0) if is_log else math.isfinite
    values = [y for s in series for ys in (s.y, s.low, s.high) for y in ys if usable(y)]
    xs = [x for s in series for x in s.x]
    head = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">'
    )
    if not values:
        middle = f'x="{WIDTH / 2:g}" y="{HEIGHT / 2:g}"'
        return f'{head}<text class="mid" {middle}>no value yet</text></svg>'
    across = _scale(xs, LEFT, WIDTH - RIGHT, False)
    up = _scale(values + ([] if goal is None else [goal]), HEIGHT - BOTTOM, TOP, is_log)
    parts = [head, *_grid(across, up, x_label)]
    if goal is not None:
        y = up.place(goal)
        parts.append(
            f'<path class="goal" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT + 3}" y="{y - 4:.1f}">goal {goal:g}</text>'
        )
    for s in reversed(series):
        parts += _curve(s, across, up, usable)
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Returns round numbers in a range: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [step * i for i in range(first, last + 1)]


def short(value: float) -> str:
    """Returns a number as an axis shows it: 1.5M, 20k, 0.003, 1e-05."""
    for size, suffix in SUFFIXES:
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def thinned(points: Points) -> Points:
    """Returns a curve with no more points than can be told apart.

    Of every bucket the least, the largest and the last value stay, so that no spike
    and no end is lost.
    """
    if len(points) <= 3 * MAX_BUCKETS:
        return points
    kept: Points = []
    for bucket in range(MAX_BUCKETS):
        start = bucket * len(points) // MAX_BUCKETS
        end = (bucket + 1) * len(points) // MAX_BUCKETS
        part = points[start:end]
        least = min(range(len(part)), key=lambda i: part[i][1])
        most = max(range(len(part)), key=lambda i: part[i][1])
        kept += [part[i] for i in sorted({least, most, len(part) - 1})]
    return kept


def _scale(values: Sequence[float], start: float, end: float, is_log: bool) -> Scale:
    low, high = min(values), max(values)
    if is_log:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    return Scale(low, high, start, end, is_log)


def _grid(across: Scale, up: Scale, x_label: str) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    if up.is_log:
        decades = range(math.ceil(up.low), math.floor(up.high) + 1)
        stride = max(1, -(-len(decades) // 5))
        marks = [10.0**power for power in decades[::stride]]
        if len(marks) < 2:  # all within a decade
            marks = [10.0**up.low, 10.0**up.high]
    else:
        marks = ticks(up.low, up.high)
    for value in marks:
        y = up.place(value)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>'
        at = f'x="{LEFT - 5}" y="{y + 3.5:.1f}"'
        yield f'<text class="end" {at}>{short(value)}</text>'
    yield f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>'
    for value in ticks(across.low, across.high):
        x = across.place(value)
        yield f'<text class="mid" x="{x:.1f}" y="{bottom + 14}">{short(value)}</text>'
    middle = (LEFT + right) / 2
    yield f'<text class="mid" x="{middle:g}" y="{HEIGHT - 4}">{escape(x_label)}</text>'


def _curve(s: Series, across: Scale, up: Scale, usable: object) -> Iterator[str]:
    """Yields a band, a line and a dot at its end."""
    is_usable = usable if callable(usable) else math.isfinite
    color = f"c{s.color % NUM_COLORS}"
    if s.low:
        rows = zip(s.x, s.low, s.high, strict=True)
        known = [row for row in rows if is_usable(row[1]) and is_usable(row[2])]
        there = thinned([(x, high) for x, _, high in known])
        back = thinned([(x, low) for x, low, _ in known])[::-1]
        outline = _path([[*there, *back]], across, up)
        yield f'<path class="band {color}" d="{outline}Z"/>' if known else ""
    pieces: list[Points] = [[]]
    for x, y in zip(s.x, s.y, strict=True):
        if is_usable(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    pieces = [thinned(piece) for piece in pieces if piece]
    kind = f"line {color}{' faint' if s.is_faint else ''}"
    title = f"<title>{escape(s.label)}</title>" if s.label else ""
    yield f'<path class="{kind}" d="{_path(pieces, across, up)}">{title}</path>'
    if pieces and not s.is_faint:
        x, y = pieces[-1][-1]
        at = f'cx="{across.place(x):.1f}" cy="{up.place(y):.1f}"'
        yield f'<circle class="dot {color}" {at} r="2.6"/>'


def _path(pieces: Sequence[Points], across: Scale, up: Scale) -> str:
    drawn = []
    for piece in pieces:
        places = [f"{across.place(x):.1f} {up.place(y):.1f}" for x, y in piece]
        drawn.append("M" + "L".join(places))
    return "".join(drawn)
