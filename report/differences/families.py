"""Which tests are judged together, and the one verdict on any two results of a family.

Speed is judged by the sessions of a machine (`rows.sessions`), quality by what a variant kept over
all its tasks. Only published scores, of which nothing but counts are known, are tested one by one
and corrected: the pairs with the baseline are one family of tests, all other pairs another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

from report import stats
from report.differences import pair
from report.differences.pair import Difference
from report.differences.texts import OwnText, own_text
from report.rows.results import Results
from report.rows.rows import (
    Kin,
    Metric,
    QualityRow,
    Result,
    SpeedRow,
    Who,
    leading_metric,
)
from report.rows.sessions import find_baseline
from report.stats import recovery
from report.stats.recovery import Decision, Kept

Row = TypeVar("Row", bound=Result)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a variant kept of its baseline's quality over its tasks, and the decision on it.

    `tasks` are the differences it rests on, one for each task; `least` is the margin, a recovery
    or, where `in_points`, a difference of scores. `kept` is None where a task has no pairs.
    """

    kept: Kept | None
    decision: Decision
    least: float
    in_points: bool
    tasks: tuple[Difference, ...]

    def needs(self, of: str = "") -> str:
        """How many documents would decide it, in words; nothing where it is decided or unknown.

        Args:
            of: what they would decide, if that is not said already.
        """
        more = self.decision.more_documents
        if not more:
            return ""
        beyond = pair.more_than_there_are(more, self.tasks)
        told = f"{more:,} more documents would decide {of}".rstrip()
        return f"{told}, {beyond}" if beyond else told


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
    return [pair.speed(results, a, b, metric) for metric in known]


def differences(results: Results, kin: Collection[Kin] | None = None) -> list[Difference]:
    """Every variant against its family's baseline on the same hardware, measured and published.

    Args:
        kin: only of these families; of all where None.
    """
    speed, quality = among(results.speed, kin), among(results.quality, kin)
    found: list[Difference] = []
    for a, b in against_baseline(speed, lambda row: row.workload):
        found += speeds(results, a, b, Metric)
    for one, other in against_baseline(quality, lambda row: row.asked):
        found.append(pair.quality(results, one, other))
    for x, y in against_baseline(sized([*quality, *speed]), lambda _: ()):
        found += pair.memory(x, y)
    return correct(found)


def among(rows: Sequence[Row], kin: Collection[Kin] | None) -> Sequence[Row]:
    """The rows of these families; all of them where None is given."""
    return rows if kin is None else [row for row in rows if row.kin in kin]


def correct(found: Sequence[Difference]) -> list[Difference]:
    """The same differences in the same order, unpaired scores corrected within their family."""
    members: dict[Hashable, list[Difference]] = {}
    for difference in found:
        if not difference.unpaired:
            continue
        members.setdefault(_judged_with(difference), []).append(difference)
    corrected: dict[int, Difference] = {}
    for family in members.values():
        verdicts = stats.correct([difference.verdict for difference in family])
        for difference, verdict in zip(family, verdicts, strict=True):
            corrected[id(difference)] = replace(difference, verdict=verdict)
    return [corrected.get(id(difference), difference) for difference in found]


class Verdicts:
    """Every verdict on the results, each made once: whoever asks gets the same, in any order.

    Those of a family on a machine rest on no other family's answers, so some can be made alone:
    of `kin`, whose rows are `loads` and `scores`.
    """

    def __init__(self, results: Results, kin: Collection[Kin] | None = None) -> None:
        self.results = results
        self.loads, self.scores = among(results.speed, kin), among(results.quality, kin)
        self._qualities: dict[Who, Quality] = {}
        self._own_texts = _own_texts(results, self.scores)
        self.differences = self._with_decisions(differences(results, kin))
        self._found = {(d.a.who, d.series, d.metric): d for d in self.differences}
        self._told = {
            (d.a.record, d.b.record, d.series, d.metric): d.verdict
            for d in self.differences
            if d.unpaired
        }
        self._judged: dict[Hashable, list[QualityRow]] = {}
        self._kin: dict[Hashable, list[QualityRow]] = {}
        for row in self.scores:
            self._judged.setdefault(_group(row), []).append(row)
            self._kin.setdefault(row.kin, []).append(row)
        self._done: set[Hashable] = set()

    def speed(self, row: SpeedRow, metric: Metric) -> Difference | None:
        """A row against its baseline's; None for the baseline itself and what is not known."""
        return self._found.get((row.who, row.series, metric))

    def decision(self, who: Who) -> Quality | None:
        """What a variant kept over all its tasks; None for a baseline and what has none."""
        return self._qualities.get(who)

    def own_text(self, who: Who) -> OwnText | None:
        """What changed in the documents' own text; None where its baseline read none of it."""
        return self._own_texts.get(who)

    def quality(self, row: QualityRow) -> Difference | None:
        """A score against its baseline's; None for the baseline itself."""
        return self._found.get((row.who, row.series, row.metric))

    def memory(self, row: Result) -> Difference | None:
        """The size of the weights against the baseline's; None for the baseline itself."""
        found = (self._found.get((row.who, "", size)) for size in pair.SIZES)
        return next((each for each in found if each is not None), None)

    def between_speeds(self, a: SpeedRow, b: SpeedRow, metric: Metric) -> Difference:
        """Any two, with the verdict that is told everywhere."""
        return pair.speed(self.results, a, b, metric)

    def between_scores(self, a: QualityRow, b: QualityRow) -> Difference:
        """Any two in one metric, with the verdict that is told everywhere."""
        test = pair.quality(self.results, a, b, fidelity=False)
        if test.unpaired:
            return replace(test, verdict=self._told_of(a, b, a.metric) or test.verdict)
        its = self._found.get((a.who, a.series, a.metric))
        return replace(test, decision=its.decision) if its and its.b is b else test

    def _told_of(self, a: QualityRow, b: QualityRow, metric: str) -> stats.Verdict | None:
        """The verdict of a against b; None where the two are no pair of one family."""
        there = (a.record, b.record, a.series, metric)
        back = (b.record, a.record, a.series, metric)
        if there not in self._told and back not in self._told:
            self._judge(a, b)
        if there in self._told:
            return self._told[there]
        turned = self._told.get(back)
        return None if turned is None else stats.invert(turned)

    def _judge(self, a: QualityRow, b: QualityRow) -> None:
        """Tests all pairs of the group of `a` that leave out the baseline, as one family."""
        group = _group(a)
        if group != _group(b) or group in self._done:
            return
        self._done.add(group)
        baseline = find_baseline(self._kin.get(a.kin, []))
        others = [row for row in self._judged.get(group, []) if row.variant != baseline]
        pairs = combinations(sorted(others, key=lambda row: row.variant), 2)
        found = [
            pair.quality(self.results, x, y, fidelity=False)
            for x, y in pairs
            if x.variant != y.variant and x.asked == y.asked
        ]
        for d in correct(found):
            self._told[d.a.record, d.b.record, d.series, d.metric] = d.verdict

    def _with_decisions(self, found: Sequence[Difference]) -> list[Difference]:
        """The differences, those that decide a variant's quality alone with that decision."""
        tasks: dict[Who, dict[str, list[Difference]]] = {}
        for each in found:
            if each.stage == "quality" and not each.unpaired:
                tasks.setdefault(each.a.who, {}).setdefault(each.series, []).append(each)
        for who, by_task in tasks.items():
            if able := _of_one_kind([_leading(own) for own in by_task.values()]):
                self._qualities[who] = _decide(able)
        alone = {
            id(its.tasks[0]): its.decision
            for its in self._qualities.values()
            if len(its.tasks) == 1
        }
        told = [
            replace(each, decision=alone[id(each)]) if id(each) in alone else each for each in found
        ]
        return [
            replace(each, own_text=self.own_text(each.a.who)) if each.stage == "quality" else each
            for each in told
        ]


def _own_texts(results: Results, scores: Iterable[QualityRow]) -> dict[Who, OwnText]:
    """Of every variant whose baseline read some of the same texts, on the same machine."""
    pairs: dict[Who, tuple[list[QualityRow], list[QualityRow]]] = {}
    for a, b in against_baseline(scores, lambda row: row.asked):
        for rows, row in zip(pairs.setdefault(a.who, ([], [])), (a, b), strict=True):
            rows.append(row)
    found = {who: own_text(results, *rows) for who, rows in pairs.items()}
    return {who: told for who, told in found.items() if told is not None}


def _leading(found: Sequence[Difference]) -> Difference:
    """Of one task, the metric that stands for it."""
    first = leading_metric(each.metric for each in found)
    return next(each for each in found if each.metric == first)


def _of_one_kind(tasks: Sequence[Difference]) -> list[Difference]:
    """Those that have a common mean: only shares do where a loss is asked in points."""
    margin = tasks[0].b.margin if isinstance(tasks[0].b, QualityRow) else {}
    return [each for each in tasks if each.unit == "share" or "points" not in margin]


def _decide(tasks: Sequence[Difference]) -> Quality:
    """The mean over tasks decides; each has one weight."""
    margin = tasks[0].b.margin if isinstance(tasks[0].b, QualityRow) else {}
    least = pair.least(margin)
    kept = recovery.average([each.kept for each in tasks])
    return Quality(kept, recovery.decide(kept, least), least, "points" in margin, tuple(tasks))


def _judged_with(difference: Difference) -> Hashable:
    a, b = difference.a, difference.b
    return a.source, a.hardware, b.source, b.hardware, a.family, difference.series


def _group(row: QualityRow) -> Hashable:
    return row.kin, row.task
