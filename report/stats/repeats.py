"""Means, and changes in a history."""

import math
from dataclasses import replace

import numpy as np
from scipy import special

from report.stats.verdict import Estimate, Floats, Interval, Numbers, Verdict, finite, t_quantile


def mean(values: Numbers, *, level: float = 0.95) -> Estimate | None:
    """Mean of independent repeats with Student's t interval; None without values.

    Source: Student (1908), Biometrika 6:1-25; x̄ ± t(n−1) s/√n.
    """
    data = finite(values)
    if data.size == 0:
        return None
    centre = math.fsum(data) / data.size  # exactly rounded, so the order of rows cannot matter
    if np.ptp(data) == 0:  # as that of a single one is
        return Estimate(centre, None, None, data.size)
    variance = math.fsum((data - centre) ** 2) / (data.size - 1)
    error = math.sqrt(variance / data.size)
    reach = t_quantile(level, data.size - 1) * error
    return Estimate(centre, Interval(centre - reach, centre + reach, level), error, data.size)


def changes(
    series: Numbers, *, tests: int | None = None, level: float = 0.95
) -> tuple[Verdict, ...]:
    """Test each value of a history (oldest first) against those since the last flagged change.

    A verdict's ratio is value / geometric mean of the earlier ones (positive values), against
    how far apart single runs lie: (x − x̄)/(s √(1 + 1/n)) ~ t(n − 1) on logarithms, as a history's
    noise is that between runs. Unknown until two earlier values exist. Every p is multiplied by
    `tests` (Bonferroni, so that a later value never changes which test an earlier one had): by
    default the number of values of this series that can be tested; give the sum over all series
    shown together.

    Source: Geisser (1993), Predictive Inference (the t for one future observation); Dunn (1961),
    JASA 56:52-64 (the correction).
    """
    logs = finite(series)
    if logs.size and logs.min() <= 0:
        raise ValueError(f"changes: a series of ratios needs positive values, got {logs.min()}")
    logs = np.log(logs)
    tests = max(logs.size - 2, 1) if tests is None else tests
    verdicts: list[Verdict] = []
    start = 0
    for i in range(logs.size):
        verdict = _next_value(logs[start:i], float(logs[i]), level)
        if verdict.p is not None:
            verdict = replace(verdict, p_adjusted=min(1.0, verdict.p * tests))
        if verdict.significant:
            start = i
        verdicts.append(verdict)
    return tuple(verdicts)


def _log_verdict(
    log_ratio: float, error: float, degrees: float, level: float, test: str
) -> Verdict:
    """Two-sided t test of a log ratio against 0, told on the ratio's own scale."""
    estimate = math.exp(log_ratio)
    interval = _around(estimate, t_quantile(level, degrees) * error, level)
    p = float(2 * special.stdtr(degrees, -abs(log_ratio) / error))
    return Verdict(estimate, 1.0, interval, p, test)


def _around(value: float, log_reach: float, level: float) -> Interval | None:
    """Symmetric on the log scale; unknown where an end would leave the range of numbers."""
    if abs(math.log(value)) + log_reach > 700:
        return None
    return Interval(value / math.exp(log_reach), value * math.exp(log_reach), level)


def _next_value(earlier: Floats, value: float, level: float) -> Verdict:
    test = "t for one further value, Bonferroni"
    if earlier.size == 0:
        return Verdict(None, 1.0, None, None, test)
    centre = math.fsum(earlier) / earlier.size
    if np.ptp(earlier) == 0:  # as that of a single one is
        return Verdict(math.exp(value - centre), 1.0, None, None, test)
    variance = math.fsum((earlier - centre) ** 2) / (earlier.size - 1)
    error = math.sqrt(variance * (1 + 1 / earlier.size))
    return _log_verdict(value - centre, error, earlier.size - 1, level, test)
