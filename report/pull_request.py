"""What a pull request's new records say, as the document of its comment."""

from __future__ import annotations

import shutil
import tempfile
from itertools import groupby
from pathlib import Path

from bench.github.comment import MAX_TABLES, Document, Table
from bench.records import store
from report import numbers
from report.decisions.compare import (
    HEADER,
    HEADLINES,
    asked_text,
    cells,
    metric_text,
    sentences,
    who,
)
from report.differences.families import Verdicts
from report.differences.pair import Difference
from report.rows.results import Results, load
from report.rows.rows import QualityRow, Result
from report.stats import Estimate

_ALONE = ("load or task", "metric", "value", "95 % interval")


def describe(head_sha: str, measured: Path, results: Path) -> Document:
    """The records under `measured` against their baselines, old or new, with intervals.

    Args:
        measured: the pull request's records, checked.
        results: the committed records, where a baseline may be.
    """
    records = [record for _, record in store.records(measured)]
    notes = [
        f"{record.variant} on {record.hardware}, {record.stage}: {record.status}"
        + (f", {record.error.message}" if record.error else "")
        for record in records
    ]
    new = {(record.hardware, record.variant) for record in records}
    with tempfile.TemporaryDirectory() as folder:
        for source in (results, measured):
            if source.is_dir():
                shutil.copytree(source, folder, dirs_exist_ok=True)
        loaded = load(Path(folder), None)
        said = sentences(loaded)
        tables = [*_against_baselines(loaded, new), *_alone(loaded, new)]
    new_ones = [sentence for (_, *where), sentence in said.items() if (where[0], where[1]) in new]
    notes = [*new_ones, *notes]
    headline = f"{len(records)} records of {len(new)} variants were measured."
    return Document("results", head_sha, headline, tuple(tables[:MAX_TABLES]), tuple(notes))


def _against_baselines(results: Results, new: set[tuple[str, str]]) -> list[Table]:
    shown = [
        difference
        for difference in Verdicts(results).differences
        if (difference.a.hardware, difference.a.variant) in new
        and (difference.stage != "speed" or difference.metric in HEADLINES)
    ]
    return [
        Table(pair, HEADER, tuple(cells(difference) for difference in group))
        for pair, group in groupby(sorted(shown, key=_pair), key=_pair)
    ]


def _pair(difference: Difference) -> str:
    return f"{who(difference.a)} against {who(difference.b)}"


def _alone(results: Results, new: set[tuple[str, str]]) -> list[Table]:
    """A baseline is compared with nothing: its own values."""
    lines: dict[str, list[tuple[str, ...]]] = {}
    rows: list[Result] = [*results.speed, *results.quality]
    for row in rows:
        if (row.hardware, row.variant) not in new or not row.is_baseline:
            continue
        mine = lines.setdefault(who(row), [])
        if isinstance(row, QualityRow):
            mine.append((row.task, row.metric, *_value(row.value, numbers.score(row.unit))))
            continue
        for metric in HEADLINES:
            value = _value(row.metrics.get(metric), numbers.number)
            mine.append((asked_text(row), metric_text(metric), *value))
    return [Table(place, _ALONE, tuple(own)) for place, own in lines.items()]


def _value(estimate: Estimate | None, form: numbers.Form) -> tuple[str, str]:
    """A value and its interval."""
    if estimate is None or estimate.interval is None:
        return form(estimate.value if estimate else None), ""
    ends = estimate.interval
    return form(estimate.value), numbers.interval(ends.low, ends.high, form)
