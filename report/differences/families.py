"""Which tests are judged together, and the one verdict on any two results of a family.

Within a family of variants on one machine the pairs with the baseline are one family of tests, all
other pairs another; for each latency or throughput at each load, and, all metrics together, for
each task. Whoever asks about a pair gets the verdict that everybody gets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from report import rates, stats
from report.differences import pair
from report.differences.pair import Difference
from report.rows.load import Results, rows_of
from report.rows.rows import Row

WORKLOAD = ("request_rate_rps", "input_tokens", "output_tokens")
ASKED = ("task", "metric")
_KIN = ("source", "hardware", "family")


def find_baseline(rows: Sequence[Row]) -> str | None:
    """The id of the baseline among rows of one family on one machine; the newest if it changed."""
    marked = [(row["finished_at"] or "", row["variant"]) for row in rows if row["is_baseline"]]
    return max(marked)[1] if marked else None


def against_baseline(rows: Sequence[Row], same: Sequence[str]) -> Iterator[tuple[Row, Row]]:
    """Each row with the baseline's of the same source, hardware, family and `same` columns."""
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(_values(row, _KIN), []).append(row)
    for group in groups.values():
        baseline = find_baseline(group)
        theirs = [row for row in group if row["variant"] == baseline]
        yield from matches([r for r in group if r["variant"] != baseline], theirs, same)


def matches(
    rows_a: Sequence[Row], rows_b: Sequence[Row], same: Sequence[str]
) -> Iterator[tuple[Row, Row]]:
    """Each row of a with the row of b that is equal in the columns `same`."""
    by_key = {_values(row, same): row for row in rows_b}
    for row in rows_a:
        other = by_key.get(_values(row, same))
        if other is not None:
            yield row, other


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
    """The verdict on any two current rows of a family, corrected once, in whichever order asked.

    `tests` are the results' `compare.differences`; all other pairs are tested when first asked for.
    """

    def __init__(
        self, results: Results, answers: pair.Answers, tests: Sequence[Difference]
    ) -> None:
        self._drift, self._answers = results.drift, answers
        self._told = {
            (d.a.record, d.b.record, d.series, d.metric): d.verdict
            for d in tests
            if d.stage != "memory"
        }
        self._judged: dict[Hashable, list[Row]] = {}
        self._kin: dict[Hashable, list[Row]] = {}
        for row in (*rows_of(results.speed), *rows_of(results.quality)):
            self._judged.setdefault(_group(row), []).append(row)
            self._kin.setdefault(_stage_kin(row), []).append(row)
        self._done: set[Hashable] = set()

    def of(self, a: Row, b: Row, metric: str) -> stats.Verdict | None:
        """The verdict of a against b; None where the two are no pair of one family."""
        series = _series(a)
        there, back = (a["record"], b["record"]), (b["record"], a["record"])
        if (*there, series, metric) not in self._told and (*back, series, metric) not in self._told:
            self._judge(a, b, metric)
        if (*there, series, metric) in self._told:
            return self._told[*there, series, metric]
        turned = self._told.get((*back, series, metric))
        return None if turned is None else stats.invert(turned)

    def _judge(self, a: Row, b: Row, metric: str) -> None:
        """Tests all pairs of the group of `a` that leave out the baseline, as one family."""
        group, asked = _group(a), "" if "task" in a else metric
        if group != _group(b) or (group, asked) in self._done:
            return
        self._done.add((group, asked))
        rows = self._judged.get(group, [])
        baseline = find_baseline(self._kin.get(_stage_kin(a), []))
        others = sorted(
            (row for row in rows if row["variant"] != baseline), key=lambda row: str(row["variant"])
        )
        couples = [(x, y) for x, y in combinations(others, 2) if x["variant"] != y["variant"]]
        found = [test for x, y in couples if (test := self._test(x, y, asked or None)) is not None]
        for d in correct(found):
            self._told[d.a.record, d.b.record, d.series, d.metric] = d.verdict

    def _test(self, a: Row, b: Row, metric: str | None) -> Difference | None:
        if metric is None:
            same = a["metric"] == b["metric"]
            return pair.quality(self._answers, a, b, fidelity=False) if same else None
        known = a[metric] is not None and b[metric] is not None
        return pair.speed(a, b, metric, self._drift) if known else None


def _judged_with(difference: Difference) -> Hashable:
    a, b = difference.a, difference.b
    metric = "" if difference.stage == "quality" else difference.metric
    where = (a.source, a.hardware, b.source, b.hardware, difference.family)
    return (*where, difference.stage, difference.series, metric)


def _group(row: Row) -> Hashable:
    return _values(row, (*_KIN, "task") if "task" in row else (*_KIN, *WORKLOAD))


def _stage_kin(row: Row) -> Hashable:
    return ("task" in row, _values(row, _KIN))


def _series(row: Row) -> str:
    return str(row["task"]) if "task" in row else rates.name(row["request_rate_rps"])


def _values(row: Row, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(row[name] for name in names)
