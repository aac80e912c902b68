"""Which tests are judged together, and the one verdict on any two results of a family.

Within a family of variants on one machine the pairs with the baseline are one family of tests, all
other pairs another; for each latency or throughput at each load, and, all metrics together, for
each task. Whoever asks about a pair gets the verdict that everybody gets.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

from report import stats
from report.differences import pair
from report.differences.pair import Difference
from report.rows.results import Results
from report.rows.rows import Metric, QualityRow, Result, SpeedRow

Row = TypeVar("Row", bound=Result)


def find_baseline(rows: Iterable[Result]) -> str | None:
    """The id of the baseline among rows of one family on one machine; the newest if it changed."""
    marked = [(row.finished_at or "", row.variant) for row in rows if row.is_baseline]
    return max(marked)[1] if marked else None


def against_baseline(
    rows: Iterable[Row], same: Callable[[Row], Hashable]
) -> Iterator[tuple[Row, Row]]:
    """Each row with that of its family's baseline on its machine that is the `same`."""
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kin, []).append(row)
    for group in groups.values():
        baseline = find_baseline(group)
        theirs = [row for row in group if row.variant == baseline]
        yield from matches([row for row in group if row.variant != baseline], theirs, same)


def matches(
    rows_a: Iterable[Row], rows_b: Iterable[Row], same: Callable[[Row], Hashable]
) -> Iterator[tuple[Row, Row]]:
    """Each row of a with the row of b that is the `same`."""
    by_key = {same(row): row for row in rows_b}
    return ((row, by_key[same(row)]) for row in rows_a if same(row) in by_key)


def sized(rows: Iterable[Result]) -> list[Result]:
    """One row for each variant, one that knows the weights' size in memory if there is any."""
    chosen: dict[Hashable, Result] = {}
    for row in rows:
        held = chosen.setdefault(row.who, row)
        if row.served.weights_gib and not held.served.weights_gib:
            chosen[row.who] = row
    return list(chosen.values())


def speeds(
    results: Results, a: SpeedRow, b: SpeedRow, metrics: Iterable[Metric]
) -> list[Difference]:
    """The tests of those metrics that both know."""
    known = [metric for metric in metrics if metric in a.metrics and metric in b.metrics]
    return [pair.speed(a, b, metric, results.drift) for metric in known]


def differences(results: Results) -> list[Difference]:
    """Every variant against its family's baseline on the same hardware, measured and published."""
    found: list[Difference] = []
    for a, b in against_baseline(results.speed, lambda row: row.workload):
        found += speeds(results, a, b, Metric)
    for one, other in against_baseline(results.quality, lambda row: row.asked):
        found.append(pair.quality(results, one, other))
    for x, y in against_baseline(sized([*results.quality, *results.speed]), lambda _: ()):
        found += pair.memory(x, y)
    return correct(found)


def correct(found: Sequence[Difference]) -> list[Difference]:
    """The same differences in the same order, each verdict corrected within its family of tests."""
    members: dict[Hashable, list[Difference]] = {}
    for difference in found:
        members.setdefault(_judged_with(difference), []).append(difference)
    corrected: dict[int, Difference] = {}
    for family in members.values():
        verdicts = stats.correct([difference.verdict for difference in family])
        for difference, verdict in zip(family, verdicts, strict=True):
            corrected[id(difference)] = replace(difference, verdict=verdict)
    return [corrected[id(difference)] for difference in found]


class Verdicts:
    """Every verdict on the results, each tested and corrected once, in whichever order asked.

    Those against a baseline are tested at once; all other pairs when first asked for.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.differences = differences(results)
        self._found = {(d.a.who, d.series, d.metric): d for d in self.differences}
        self._told = {
            (d.a.record, d.b.record, d.series, d.metric): d.verdict
            for d in self.differences
            if d.stage != "memory"
        }
        self._judged: dict[Hashable, list[Result]] = {}
        self._kin: dict[Hashable, list[Result]] = {}
        rows: list[Result] = [*results.speed, *results.quality]
        for row in rows:
            self._judged.setdefault(_group(row), []).append(row)
            self._kin.setdefault((type(row), row.kin), []).append(row)
        self._done: set[Hashable] = set()

    def speed(self, row: SpeedRow, metric: Metric) -> Difference | None:
        """A row against its baseline's; None for the baseline itself and what is not known."""
        return self._found.get((row.who, row.series, metric))

    def quality(self, row: QualityRow) -> Difference | None:
        """A score against its baseline's; None for the baseline itself."""
        return self._found.get((row.who, row.series, row.metric))

    def memory(self, row: Result) -> Difference | None:
        """The size of the weights against the baseline's; None for the baseline itself."""
        found = (self._found.get((row.who, "", size)) for size in pair.SIZES)
        return next((each for each in found if each is not None), None)

    def between_speeds(self, a: SpeedRow, b: SpeedRow, metric: Metric) -> Difference:
        """Any two, with the verdict that is told everywhere; alone where they are no family."""
        test = pair.speed(a, b, metric, self.results.drift)
        return replace(test, verdict=self.told(a, b, metric) or test.verdict)

    def between_scores(self, a: QualityRow, b: QualityRow) -> Difference:
        """Any two in one metric, with the verdict that is told everywhere."""
        test = pair.quality(self.results, a, b, fidelity=False)
        return replace(test, verdict=self.told(a, b, a.metric) or test.verdict)

    def told(self, a: Result, b: Result, metric: str) -> stats.Verdict | None:
        """The verdict of a against b; None where the two are no pair of one family."""
        there = (a.record, b.record, a.series, metric)
        back = (b.record, a.record, a.series, metric)
        if there not in self._told and back not in self._told:
            self._judge(a, b, metric)
        if there in self._told:
            return self._told[there]
        turned = self._told.get(back)
        return None if turned is None else stats.invert(turned)

    def _judge(self, a: Result, b: Result, metric: str) -> None:
        """Tests all pairs of the group of `a` that leave out the baseline, as one family."""
        group, asked = _group(a), metric if isinstance(a, SpeedRow) else ""
        if group != _group(b) or (group, asked) in self._done:
            return
        self._done.add((group, asked))
        baseline = find_baseline(self._kin.get((type(a), a.kin), []))
        others = [row for row in self._judged.get(group, []) if row.variant != baseline]
        found: list[Difference] = []
        for x, y in combinations(sorted(others, key=lambda row: row.variant), 2):
            if x.variant == y.variant:
                continue
            if isinstance(x, SpeedRow) and isinstance(y, SpeedRow):
                found += speeds(self.results, x, y, [Metric(metric)])
            elif isinstance(x, QualityRow) and isinstance(y, QualityRow) and x.asked == y.asked:
                found.append(pair.quality(self.results, x, y, fidelity=False))
        for d in correct(found):
            self._told[d.a.record, d.b.record, d.series, d.metric] = d.verdict


def _judged_with(difference: Difference) -> Hashable:
    a, b = difference.a, difference.b
    metric = "" if difference.stage == "quality" else difference.metric
    where = (a.source, a.hardware, b.source, b.hardware, a.family)
    return (*where, difference.stage, difference.series, metric)


def _group(row: Result) -> Hashable:
    return row.kin, row.workload if isinstance(row, SpeedRow) else row.task
