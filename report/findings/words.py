"""The phrases that take-aways share: names, ratios, differences, with what a test says of them.

They are plain text; names in them come from records and are escaped where the text lands.
"""

from __future__ import annotations

from collections.abc import Sequence

from report import numbers, stats
from report.differences.pair import Difference
from report.rows.rows import Result, Unit


def names(of: Sequence[str]) -> str:
    """At most four names: a, b and c. The words that all begin with are said once."""
    told = list(of) if len(of) <= 4 else list(of[:3])
    shown = [told[0], *short(told)[1:]]
    shown += [f"{len(of) - 3} more"] if len(of) > 4 else []
    comma = "; " if any("," in name for name in shown) else ", "
    return shown[0] if len(shown) == 1 else f"{comma.join(shown[:-1])} and {shown[-1]}"


def short(of: Sequence[str]) -> list[str]:
    """The names without the words that all begin with, but for one of each."""
    if len(of) < 2:
        return list(of)
    split = [name.split() for name in of]
    most = min(map(len, split)) - 1
    start = next((i for i in range(most) if len({each[i] for each in split}) > 1), most)
    return [" ".join(each[start:]) for each in split]


def tied(ties: Sequence[str], *, tested: bool) -> str:
    """What a pick adds to its claim where nothing tells others from it: no test, or no number."""
    if not ties:
        return ""
    return f", {'no difference found to' if tested else 'the same as'} {names(ties)}"


def same_size(gib: float, other: float) -> bool:
    """Whether a reader sees one number for two sizes: they are counted, so these are the same."""
    return numbers.number(gib) == numbers.number(other)


def size(test: Difference) -> str:
    """What the weights take against the baseline's: −57.2 % memory for weights."""
    a, b = test.values
    in_memory = test.metric == "weights_gib"
    same = a is not None and b is not None and same_size(a, b)
    told = "the same" if same else numbers.change(test.verdict.estimate)
    told += " memory for weights" if in_memory else " weights on disk"
    each = on_each(test.a) if in_memory else ""
    return f"{told} ({each})" if each else told


def on_each(row: Result) -> str:
    """What one GPU holds of weights that several share: 7.64 GiB on each of 2 GPUs."""
    gpus, held = row.served.gpus, row.served.weights_gib
    if gpus < 2 or not held:
        return ""
    return f"{numbers.number(held / gpus)} GiB on each of {gpus} GPUs"


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
    """A difference of scores, with its metric unless that is plain `acc`.

    What no test shows is marked by the quality page's word, without how many documents it needs.
    """
    metric = "" if test.metric == "acc" else f" {test.metric}"
    told = "" if test.verdict.significant else f" ({test.word.partition(':')[0]})"
    return f"{_change(test.verdict.estimate, test.unit)}{metric}{told}"


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
