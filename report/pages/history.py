"""The history page: each series over time, and a change only where the test says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from bench.errors import ConfigError
from report import numbers, rates, stats
from report.charts import charts
from report.charts.drawing import Chart
from report.numbers import Form
from report.pages import cells
from report.pages.tables import Cell, Column, Row, Table
from report.rows.answers import paired
from report.rows.results import Results
from report.rows.rows import HistoryRow, Metric

_LEAST = 3  # two results before one can be tested
_CHANGED = "changed on"
_TOO_FEW = "too few results"
_ALL_EQUAL = "not tested: all equal before"
_NO_RATIO = "not tested: a value is zero or unknown"
_UNTESTED = {
    _TOO_FEW: "too few results",
    _ALL_EQUAL: "only equal results before",
    _NO_RATIO: "a value that is zero or unknown",
}
_MOST_EARLIER = 4
_MOST = 240  # series on the page, in all; a reader finds no more, and a phone loads no more
_COLUMNS = (
    cells.VARIANT,
    Column("series", "Series", numeric=False),
    Column("results", "Results", numeric=False),
    Column("newest", "Newest"),
    Column("earlier", "Earlier", "newest first", numeric=False),
    Column(
        "change",
        "Against those before",
        title="Newest against the mean of the earlier ones; an accuracy against the one before",
    ),
    Column("verdict", "Verdict", numeric=False),
    Column("engines", "vLLM", numeric=False),
)


@dataclass(frozen=True, slots=True)
class Section:
    """The series of one machine, and what the tests say; `left_out` are not in the table."""

    id: str
    title: str
    told: str
    count: int
    left_out: int
    left_out_flagged: int
    table: Table
    chart: Chart | None


def sections(results: Results) -> list[Section]:
    """Per machine: a table of the series with at least two results, and a picture of TPOT.

    Where there are too many for a page, those that changed stand there, then those that are newest.
    """
    rows = sorted(results.history, key=_identity)
    series = [list(group) for _, group in groupby(rows, key=_identity)]
    series = [group for group in series if len(group) > 1]
    tests = sum(len(group) - (1 if _is_share(group) else 2) for group in series)
    machines = [list(own) for _, own in groupby(series, key=lambda group: group[0].hardware)]
    return [_section(own, tests, results, max(_MOST // len(machines), 1)) for own in machines]


def _section(
    own: Sequence[Sequence[HistoryRow]], tests: int, results: Results, most: int
) -> Section:
    """One machine, with at most so many series."""
    hardware, name = own[0][0].hardware, own[0][0].hardware_name
    verdicts = [_changes(group, tests, results) for group in own]
    changed = [any(v.significant for v in seen) for seen in verdicts]
    newest = [(changed[i], group[-1].finished_at or "") for i, group in enumerate(own)]
    first = sorted(range(len(own)), key=lambda i: newest[i], reverse=True)[:most]
    shown = sorted(first)
    what = "Every series" if len(shown) == len(own) else f"{len(shown):,} of {len(own):,} series"
    return Section(
        hardware,
        name,
        told=_told(list(map(_word, own, verdicts))),
        count=len(own),
        left_out=len(own) - len(shown),
        left_out_flagged=sum(changed) - sum(changed[i] for i in shown),
        table=Table(
            f"history-{hardware}",
            f"{what} with two or more results, {name}",
            _COLUMNS,
            [_row(own[i], verdicts[i]) for i in shown],
        ),
        chart=charts.over_time(hardware, name, own),
    )


def _told(words: Sequence[str]) -> str:
    """How many of the tested series changed, and why the others were not tested."""
    untested = {why: words.count(word) for word, why in _UNTESTED.items()}
    tested = len(words) - sum(untested.values())
    flagged = sum(word.startswith(_CHANGED) for word in words)
    first = f"{flagged:,} of {tested:,} tested series changed" if tested else "No series was tested"
    more = [f"{count:,} have {why}" for why, count in untested.items() if count]
    return "; ".join([first, *more])


def _identity(row: HistoryRow) -> tuple[str, ...]:
    """What one series shares: all but the engine and the time."""
    where = (row.hardware, row.variant, row.stage, row.series, row.metric)
    return (*where, row.machine, row.asked)


def _is_share(group: Sequence[HistoryRow]) -> bool:
    return group[0].stage == "quality" and all(row.counted for row in group)


def _changes(
    group: Sequence[HistoryRow], tests: int, results: Results
) -> tuple[stats.Verdict, ...]:
    """One verdict per result, the first against nothing.

    An accuracy is tested against the one before it, on the documents both answered; anything else
    against the spread of all earlier values.
    """
    if _is_share(group):
        nothing = stats.Verdict(None, 0.0, None, None, "exact McNemar, Bonferroni")
        return (nothing, *(_flipped(old, new, tests, results) for old, new in pairwise(group)))
    values = [row.value.value for row in group if row.value is not None]
    if len(values) < len(group) or min(values) <= 0:
        return ()
    return stats.changes(values, tests=max(tests, 1))


def _flipped(old: HistoryRow, new: HistoryRow, tests: int, results: Results) -> stats.Verdict:
    """The change of an accuracy; sidecars are opened only where the two differ."""
    if _value(old) == _value(new):
        return stats.Verdict(0.0, 0.0, None, 1.0, "equal")
    scores: list[np.ndarray[Any, Any] | None] = [None, None]
    with suppress(ConfigError):  # archived: then the counts alone are compared
        answers = (results.answers((row.record,), row.series) for row in (new, old))
        scores = [each.scores.get(new.metric) for each in paired(*answers)]
    if scores[0] is not None and scores[1] is not None and len(scores[0]) > 1:
        verdict = stats.compare_paired(scores[0] == 1, scores[1] == 1).verdict
    else:
        now, then = (round((_value(row) or 0.0) * row.n) for row in (new, old))
        verdict = stats.compare_counts(now, new.n, then, old.n)
    corrected = None if verdict.p is None else min(1.0, verdict.p * tests)
    return replace(verdict, p_adjusted=corrected, tests=tests)


def _row(group: Sequence[HistoryRow], seen: Sequence[stats.Verdict]) -> Row:
    last, share = group[-1], _is_share(group)
    form: Form = numbers.score(last.unit) if last.stage == "quality" else numbers.number
    days = _changed_on(group, seen)
    engines = dict.fromkeys(str(row.engine_version) for row in group)
    return Row(
        Cell(last.variant_name, href=last.variant_page),
        [
            Cell(_name(last)),
            Cell(f"{len(group)} since {numbers.date(group[0].finished_at)}", value=len(group)),
            replace(cells.measured(last.value, form), href=f"records/{last.record}"),
            Cell("", links=list(_earlier(group, form))),
            _change(seen[-1] if seen else None, share),
            Cell(_word(group, seen), tone="" if days else "unknown", title=", ".join(days)),
            Cell(" → ".join(engines)),
        ],
        variant=last.variant,
    )


def _word(group: Sequence[HistoryRow], seen: Sequence[stats.Verdict]) -> str:
    """The verdict on a series; that a test found no change is not that there is none."""
    share, days = _is_share(group), _changed_on(group, seen)
    if days:
        return f"{_CHANGED} {days[-1]}"
    if share and len({_value(row) for row in group}) == 1:
        return "always the same"
    if len(group) < _LEAST and not share:
        return _TOO_FEW
    if not seen:
        return _NO_RATIO
    if all(verdict.outcome == "unknown" for verdict in seen):
        return _ALL_EQUAL
    return "no change found"


def _changed_on(group: Sequence[HistoryRow], seen: Sequence[stats.Verdict]) -> list[str]:
    """The days on which a test shows a change, in order."""
    flagged = [row for row, verdict in zip(group, seen, strict=False) if verdict.significant]
    return [numbers.date(row.finished_at) for row in flagged]


def _name(row: HistoryRow) -> str:
    if row.pace is None:
        return f"{row.series}, {row.metric}{', %' if row.unit == 'share' else ''}"
    metric = Metric(row.metric)
    return f"{metric.label}, {metric.unit} at {rates.short_load(row.pace)}"


def _change(newest: stats.Verdict | None, share: bool) -> Cell:
    """In percent, an accuracy's in percentage points."""
    if newest is None or newest.estimate is None:
        return cells.unknown()
    shown = f"{numbers.points(newest.estimate)} pp" if share else numbers.change(newest.estimate)
    return Cell(shown, value=newest.estimate - newest.null)


def _earlier(group: Sequence[HistoryRow], form: Form) -> Iterator[tuple[str, str]]:
    """The results before the newest, each a link to its record."""
    for row in list(group[:-1])[: -_MOST_EARLIER - 1 : -1]:
        yield form(_value(row)), f"records/{row.record}"


def _value(row: HistoryRow) -> float | None:
    return row.value.value if row.value else None
