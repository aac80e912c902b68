"""The cells of tests: every variant against its family's baseline, judged once in `compare`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from report import numbers, rates, stats
from report.differences import compare
from report.differences.pair import Difference
from report.pages.tables import Cell, Tone, unknown

Frame = dict[str, Any]
Key = tuple[str, str, str, str, str, str]
_TONES: dict[str, Tone] = {
    "faster": "better",
    "better": "better",
    "slower": "worse",
    "worse": "worse",
}


class Tests:
    """The differences of `compare.differences`, found by the row of `a`."""

    def __init__(self, differences: Iterable[Difference]) -> None:
        self._found = {_key(each): each for each in differences}

    def speed(self, row: Frame, metric: str = "tpot_mean_ms") -> Cell:
        """A latency's change against the baseline at the same load."""
        found = self._of(row, "speed", rates.name(row["request_rate_rps"]), metric)
        return against(found) if found else _untested(row)

    def quality(self, row: Frame) -> Sequence[Cell]:
        """An accuracy's difference, its flips, what could be seen, and how answers changed."""
        found = self._of(row, "quality", row["task"], row["metric"])
        if found is None:
            return [_untested(row), *(Cell("") for _ in range(4))]
        flips = unknown()
        if found.lost is not None and found.gained is not None:
            flips = Cell(f"{found.lost:,} / {found.gained:,}", found.lost + found.gained)
        smallest = unknown("too few flips to show any" if found.paired else "")
        if (seen := found.detectable) is not None:
            smallest = Cell(f"±{numbers.share(seen)}", 100 * seen)
        changed = _estimate(found.changed_answers, numbers.share)
        return [against(found), flips, smallest, changed, _estimate(found.shift, numbers.number)]

    def _of(self, row: Frame, stage: str, series: str, metric: str) -> Difference | None:
        who = (row["source"], row["hardware"], row["variant"])
        return self._found.get((*who, stage, series, metric))


def against(found: Difference) -> Cell:
    """A difference with its interval and, in words, what the test says."""
    quality = found.stage == "quality"
    form = numbers.points if quality else numbers.change
    verdict, word = found.verdict, compare.verdict_word(found)
    if verdict.estimate is None:
        return unknown(word)
    ends = verdict.interval
    mind = [text for text in found.caveats if not text.endswith("the test is unpaired")]
    return Cell(
        form(verdict.estimate),
        verdict.estimate - verdict.null,
        f"{form(ends.low)} to {form(ends.high)}" if ends else "",
        "; ".join([word, *([] if found.paired or not quality else ["unpaired"]), *mind]),
        tone=_TONES.get(word, ""),
    )


def _key(found: Difference) -> Key:
    side = found.a
    return (side.source, side.hardware, side.variant, found.stage, found.series, found.metric)


def _untested(row: Frame) -> Cell:
    return Cell("baseline" if row["is_baseline"] else "no baseline here", tone="unknown")


def _estimate(value: stats.Estimate | None, form: Any) -> Cell:
    if value is None:
        return unknown()
    ends = value.interval
    return Cell(
        form(value.value), value.value, numbers.interval(ends.low, ends.high, form) if ends else ""
    )
