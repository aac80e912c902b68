"""The words certainty is told in: intervals, estimates, verdicts, and verdicts as one family."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

Outcome = Literal["higher", "lower", "noise", "described", "unknown"]
Speed = Literal["faster", "slower", "noise", "described", "unknown"]
Floats = npt.NDArray[np.float64]
Numbers = Sequence[float] | Floats | npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval; `level` is 0.95 for 95 %."""

    low: float
    high: float
    level: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its uncertainty; `n` counts the independent observations behind it.

    `n` is the number of repeats, or of documents, never of requests: requests of one run share
    that run's clocks and batches. `interval` and `standard_error` are None where the spread is
    unknown: a single observation, or observations without any spread.
    """

    value: float
    interval: Interval | None
    standard_error: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a test says about a difference (`null` 0), a ratio (`null` 1) or a rate (chance).

    Ratios and differences are value against baseline: variant / baseline, variant − baseline.
    `p_adjusted` and `tests` are set once the verdict was corrected within its family of so many.
    `judged` is False for what is only described: it has an interval and carries no verdict.
    """

    estimate: float | None
    null: float
    interval: Interval | None
    p: float | None
    test: str
    p_adjusted: float | None = None
    tests: int = 1
    judged: bool = True

    @property
    def outcome(self) -> Outcome:
        """Where test and interval exclude the null, the side; else noise; or what there is not."""
        if self.estimate is None or self.interval is None:
            return "unknown"
        if not self.judged:
            return "described"
        p = self.p if self.p_adjusted is None else self.p_adjusted
        if p is None:
            return "unknown"
        if p >= 1 - self.interval.level or self.null in self.interval:
            return "noise"
        return "higher" if self.estimate > self.null else "lower"

    @property
    def significant(self) -> bool:
        """Whether a difference is shown; False covers all else."""
        return self.outcome in ("higher", "lower")


def speed(verdict: Verdict, *, higher_is_faster: bool) -> Speed:
    """Read a verdict as speed: more tokens per second are faster, more milliseconds slower."""
    outcome = verdict.outcome
    if outcome == "higher":
        return "faster" if higher_is_faster else "slower"
    if outcome == "lower":
        return "slower" if higher_is_faster else "faster"
    return outcome


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's step-down adjusted p-values of one family; unknown ones stay None and do not count.

    Source: Holm (1979), Scand. J. Statist. 6:65-70.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(known):
        running = max(running, min(1.0, p * (len(known) - rank)))
        adjusted[i] = running
    return tuple(adjusted)


def correct(family: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The same verdicts, judged as one family by Holm's correction (source: see `holm`)."""
    adjusted = holm([verdict.p for verdict in family])
    tests = max(1, sum(p is not None for p in adjusted))
    return tuple(
        replace(v, p_adjusted=p, tests=tests) for v, p in zip(family, adjusted, strict=True)
    )


def invert(verdict: Verdict) -> Verdict:
    """The verdict of b against a, from that of a against b: a reciprocal or a change of sign."""

    def turn(value: float) -> float:
        return 1 / value if verdict.null == 1 else verdict.null - value

    ends = verdict.interval
    return replace(
        verdict,
        estimate=turn(verdict.estimate) if verdict.estimate is not None else None,
        interval=Interval(turn(ends.high), turn(ends.low), ends.level) if ends else None,
    )


def finite(values: Numbers) -> Floats:
    """The values as one flat array; ValueError for NaN and infinity, which no record holds."""
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1:
        raise ValueError("statistics need a flat sequence of numbers")
    return _finite(data)


def finite_rows(values: Sequence[Sequence[float]]) -> Floats:
    """The rows, of one length each, as one array; ValueError as of `finite`."""
    return _finite(np.asarray(values, dtype=np.float64))


def _finite(data: Floats) -> Floats:
    if not np.isfinite(data).all():
        raise ValueError("statistics need finite numbers; drop missing ones")
    return data


def t_quantile(level: float, degrees: float) -> float:
    """The two-sided critical value of Student's t; `degrees` need not be whole."""
    return float(special.stdtrit(degrees, (1 + level) / 2))
