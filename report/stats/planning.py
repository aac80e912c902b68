"""How many server sessions a difference in speed needs, at the spread seen so far.

All is told for a variant against its baseline, with the widths that `sessions.compare_family` will
use if no variant turns out noisier than the others (if it finds reason to doubt that, power is up
to 4 points less at three sessions, 9 at two). Documents are planned by `recovery.documents_needed`.

Source: Hochberg & Tamhane (1987), Multiple Comparison Procedures, ch. 6 (power of a single
comparison within simultaneous ones: the non-central t beyond its critical value).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, special

from report.stats.simultaneous import AIMED_AT, critical_values, spread_nodes, within_family

_POWER = 0.8
_MOST_SESSIONS = 100


@dataclass(frozen=True, slots=True)
class Design:
    """What will be compared, and how far sessions lie apart.

    `spread` is the standard deviation of a session's logarithm: 0.05 where sessions lie 5 % apart
    (`math.sqrt(pool.variance)`, or a stated guess). `variants` counts the family with its
    baseline, `pooled` all variants of the machine, which share the estimate of the spread.
    """

    spread: float
    variants: int
    pooled: int
    metrics: float = 3.0

    def __post_init__(self) -> None:
        if not (self.spread > 0 and 2 <= self.variants <= self.pooled and self.metrics >= 1):
            raise ValueError(f"{self} compares nothing")


def power(design: Design, ratio: float, sessions: int) -> float:
    """The chance that a true ratio to the baseline is shown, with so many sessions of each."""
    degrees, width = _width(design, sessions)
    return _shown(abs(math.log(ratio)) / _error(design, sessions), degrees, width)


def sessions_needed(design: Design, ratio: float) -> int | None:
    """The fewest sessions that show a true ratio four times out of five; None beyond a hundred."""
    if ratio <= 0 or ratio == 1:
        raise ValueError(f"no number of sessions shows a ratio of {ratio}")
    enough = (n for n in range(2, _MOST_SESSIONS + 1) if power(design, ratio, n) >= _POWER)
    return next(enough, None)


def smallest_ratio(design: Design, sessions: int) -> float:
    """The smallest ratio above 1 that so many sessions show four times out of five."""
    degrees, width = _width(design, sessions)
    distance = optimize.brentq(lambda x: _shown(x, degrees, width) - _POWER, 0.0, width + 10.0)
    return math.exp(float(distance) * _error(design, sessions))


def _error(design: Design, sessions: int) -> float:
    return design.spread * math.sqrt(2 / sessions)


def _width(design: Design, sessions: int) -> tuple[int, float]:
    """Degrees of freedom and half width, in standard errors, of an interval of the baseline."""
    if sessions < 2:
        raise ValueError("one session of each has no verdict")
    degrees = design.pooled * (sessions - 1)
    within = within_family([math.sqrt(0.5)] * (design.variants - 1))
    (width,) = critical_values(within, (float(degrees),), AIMED_AT / design.metrics)
    return degrees, width


def _shown(distance: float, degrees: int, width: float) -> float:
    """P(|T| > width) of a non-central t whose mean lies `distance` standard errors from 0.

    ∫ Φ(distance − width · s) + Φ(−distance − width · s), over s = √(χ²(ν)/ν).
    """
    spreads, weights = spread_nodes((float(degrees),))
    reach = width * spreads[0]
    return float(weights[0] @ (special.ndtr(distance - reach) + special.ndtr(-distance - reach)))
