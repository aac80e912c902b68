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
_MOST_EARLIER = 4
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
    """Every series of one machine, and how many of them changed."""

    id: str
    title: str
    flagged: int
    count: int
    table: Table
    chart: Chart | None


def sections(results: Results) -> list[Section]:
    """Per machine: a table of every series with at least two results, and a picture of TPOT."""
    rows = sorted(results.history, key=_identity)
    series = [list(group) for _, group in groupby(rows, key=_identity)]
    series = [group for group in series if len(group) > 1]
    tests = sum(len(group) - (1 if _is_share(group) else 2) for group in series)
    made = []
    for hardware, groups in groupby(series, key=lambda group: group[0].hardware):
        own = list(groups)
        name = own[0][0].hardware_name
        verdicts = [_changes(group, tests, results) for group in own]
        body = [_row(group, seen) for group, seen in zip(own, verdicts, strict=True)]
        caption = f"Every series with two or more results, {name}"
        made.append(
            Section(
                hardware,
                name,
                flagged=sum(any(v.significant for v in seen) for seen in verdicts),
                count=len(own),
                table=Table(f"history-{hardware}", caption, _COLUMNS, body),
                chart=charts.over_time(hardware, name, own),
            )
        )
    return made


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
    flagged = [row for row, verdict in zip(group, seen, strict=False) if verdict.significant]
    word = "no change"
    if share and len({_value(row) for row in group}) == 1:
        word = "always the same"
    elif len(group) < _LEAST and not share:
        word = "too few results"
    elif not seen or all(verdict.outcome == "unknown" for verdict in seen):
        word = "not tested: all equal before"
    days = [numbers.date(row.finished_at) for row in flagged]
    if flagged:
        word = f"changed on {days[-1]}"
    engines = dict.fromkeys(str(row.engine_version) for row in group)
    return Row(
        Cell(last.variant_name, href=last.variant_page),
        [
            Cell(_name(last)),
            Cell(f"{len(group)} since {numbers.date(group[0].finished_at)}", value=len(group)),
            replace(cells.measured(last.value, form), href=f"records/{last.record}"),
            Cell("", links=list(_earlier(group, form))),
            _change(seen[-1] if seen else None, share),
            Cell(word, tone="" if flagged else "unknown", title=", ".join(days)),
            Cell(" → ".join(engines)),
        ],
        variant=last.variant,
    )


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
