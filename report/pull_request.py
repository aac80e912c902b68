"""What a pull request's new records say, as the document of its comment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from bench.github.comment import MAX_NOTES, MAX_TABLES, Document, Table
from bench.records import store
from bench.records.record import Record
from report import numbers
from report.decisions.compare import (
    HEADER,
    HEADLINES,
    asked_text,
    cells,
    metric_text,
    remarks,
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
    new = {(record.hardware, record.variant) for record in records}
    with tempfile.TemporaryDirectory() as folder:
        for source in (results, measured):
            if source.is_dir():
                shutil.copytree(source, folder, dirs_exist_ok=True)
        loaded = load(Path(folder), None)
        rows: list[Result] = [*loaded.speed, *loaded.quality]
        kin = {row.kin for row in rows if (row.hardware, row.variant) in new}
        found = _differences(Verdicts(loaded, kin), new)
        said = [text for (_, *where), text in sentences(loaded, kin).items() if tuple(where) in new]
        tables = [*_against_baselines(found), *_alone(loaded, new)]
    notes = [*_unfinished(records), *remarks(found), *_checkpoints(records)]
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES - 1 :] = [f"and {len(notes) - MAX_NOTES + 1} more: see the run"]
    headline = f"{_count(len(records), 'record')} of {_count(len(new), 'variant')} measured."
    return Document(
        "results",
        head_sha,
        headline,
        tuple(tables[:MAX_TABLES]),
        tuple(notes),
        tuple(said[:MAX_NOTES]),
    )


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _unfinished(records: Iterable[Record]) -> Iterator[str]:
    """What went wrong."""
    for record in records:
        if record.status != "ok":
            why = f", {record.error.message}" if record.error else ""
            where = f"{record.variant} on {record.hardware}, {record.stage}"
            yield f"{where}: {record.status}{why}"


def _checkpoints(records: Iterable[Record]) -> list[str]:
    """Of which repository and revision each variant is."""
    told = {}
    for record in records:
        model = record.model
        if model is None:
            continue
        name = model.repo or model.bundled or model.source
        file = f", {model.file}" if model.file else ""
        revision = f" at {model.revision}" if model.revision else ""
        told[record.variant] = f"{record.variant_name} is {name}{file}{revision}"
    return list(told.values())


def _differences(verdicts: Verdicts, new: set[tuple[str, str]]) -> list[Difference]:
    """The new variants against their baselines, in the headline metrics."""
    return [
        difference
        for difference in verdicts.differences
        if (difference.a.hardware, difference.a.variant) in new
        and (difference.stage != "speed" or difference.metric in HEADLINES)
    ]


def _against_baselines(found: Iterable[Difference]) -> list[Table]:
    return [
        Table(pair, HEADER, tuple(cells(difference) for difference in group))
        for pair, group in groupby(sorted(found, key=_pair), key=_pair)
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
