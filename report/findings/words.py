"""The phrases that take-aways share: names, ratios, differences, with what a test says of them.

They are plain text; names in them come from records and are escaped where the text lands.
"""

from __future__ import annotations

from collections.abc import Sequence

from report import numbers, stats
from report.differences.pair import Difference
from report.rows.rows import Unit


def names(of: Sequence[str]) -> str:
    """At most five names: a, b and c."""
    shown = list(of) if len(of) <= 5 else [*of[:4], f"{len(of) - 4} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def tied(ties: Sequence[str]) -> str:
    """What a pick adds to its claim where a test cannot tell others from it."""
    return f", no difference found to {names(ties)}" if ties else ""


def factor(ratio: stats.Verdict | None) -> str:
    """A ratio as a factor: 2.06×."""
    return f"{numbers.number(ratio.estimate if ratio else None)}×"


def effect(ratio: stats.Verdict | None) -> str:
    """A ratio as a change, or from twice on as a factor; marked where it may be noise."""
    if ratio is None or ratio.estimate is None:
        return numbers.UNKNOWN
    text = factor(ratio) if ratio.estimate >= 2 else numbers.change(ratio.estimate)
    return text + _noise(ratio)


def ends(ratio: stats.Verdict) -> str:
    """The interval of a factor, in brackets."""
    if ratio.interval is None:
        return ""
    low, high = numbers.number(ratio.interval.low), numbers.number(ratio.interval.high)
    return f" (95 % interval {low}× to {high}×)"


def gap(test: Difference) -> str:
    """A difference of scores, with its metric unless that is plain `acc`."""
    metric = "" if test.metric == "acc" else f" {test.metric}"
    return f"{_change(test.verdict.estimate, test.unit)}{metric}{_noise(test.verdict)}"


def tested(test: Difference) -> str:
    """A difference of scores with its metric, interval, test and p."""
    return f"{test.metric} {loss(test.verdict, test.unit)}"


def loss(verdict: stats.Verdict, unit: Unit | None = "share") -> str:
    """A difference of scores with its interval, test and p."""
    text = _change(verdict.estimate, unit)
    if verdict.interval is None:
        return f"{text}, not tested"
    form = numbers.score_gap(unit or "share")
    low, high = form(verdict.interval.low), form(verdict.interval.high)
    corrected = verdict.p_adjusted is not None and verdict.p_adjusted != verdict.p
    more = f", corrected {numbers.p_value(verdict.p_adjusted)}" if corrected else ""
    return (
        f"{text} ({100 * verdict.interval.level:.0f} % interval {low} to {high}; {verdict.test},"
        f" p {numbers.p_value(verdict.p)}{more})"
    )


def _change(value: float | None, unit: Unit | None) -> str:
    """In percentage points where it is one of shares."""
    return f"{numbers.score_gap(unit or 'share')(value)}{' pp' if unit == 'share' else ''}"


def _noise(verdict: stats.Verdict) -> str:
    return " (no difference found)" if verdict.outcome == "noise" else ""
