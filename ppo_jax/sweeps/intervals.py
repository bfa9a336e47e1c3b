"""How sure a mean over a few seeds is."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and between what it lies; NaN where too few numbers are known."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float]) -> Interval:
    """Returns the mean and its 95 % t interval; NaN and infinite values do not count.

        mean +- t(n - 1) s / sqrt(n)

    Seeds are few, and a bootstrap of few is too narrow: of three it reaches from the
    least to the largest, which holds the mean in 75 % of all cases. This one takes
    their returns for normal.
    """
    known = [x for x in values if math.isfinite(x)]
    if not known:
        return Interval(math.nan, math.nan, math.nan)
    mean = statistics.fmean(known)
    if len(known) < 2:
        return Interval(mean, math.nan, math.nan)
    error = statistics.stdev(known) / math.sqrt(len(known))
    reach = t_quantile(len(known) - 1) * error
    return Interval(mean, mean - reach, mean + reach)


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Returns what Student's t stays within, on both sides, with a probability.

    Args:
      freedom: degrees of it, a whole number above 0.
      confidence: the probability, in (0, 1).
    """
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(60):
        middle = (low + high) / 2
        if _within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """Returns the probability that |t| <= sqrt(freedom) tan(angle).

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    sin, cos = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cos if odd else 1.0), 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cos**2 * k / (k + 1)
    return 2 / math.pi * (angle + sin * total) if odd else sin * total
