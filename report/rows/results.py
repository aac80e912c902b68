"""Everything the report is built from: which records are current, and the rows of all.

Nothing here depends on the order of files, on absolute paths or on the time of day, so two clones
give equal rows. Superseded records give their history from their JSON alone; only current ones
have their sidecars opened.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import Record
from report.rows import answers, drift, measured, published
from report.rows.rows import HistoryRow, QualityRow, RepeatRow, RunRow, SpeedRow

_MANY = 1000  # records from which on processes pay for their start, about two seconds


@dataclass(frozen=True)
class Results:
    """All rows, sorted. What is read or computed from them is kept: each record, each answer.

    speed: one row per current record and load, and per published row.
    quality: one row per current record, task and metric, and per published row.
    repeats: one row per repeat of the current speed records.
    history: one row per record, load or task (`series`) and metric.
    """

    root: Path
    runs: Sequence[RunRow]
    speed: Sequence[SpeedRow]
    quality: Sequence[QualityRow]
    repeats: Sequence[RepeatRow]
    history: Sequence[HistoryRow]
    references: tuple[published.Reference, ...] = ()
    _records: dict[str, Record] = field(default_factory=dict, init=False, repr=False)
    _answers: dict[tuple[str, str], answers.Answers] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def drift(self) -> drift.Drift:
        """How far the same thing, measured twice on one machine, lies apart."""
        return drift.of(self.history)

    def record(self, where: str) -> Record:
        """The whole record behind a row, by its path below `root`."""
        if where not in self._records:
            self._records[where] = store.read(self.root / where)
        return self._records[where]

    def answers(self, where: str, task: str) -> answers.Answers:
        """What a record answered to one of its tasks."""
        if (where, task) not in self._answers:
            quality = self.record(where).quality
            result = next(each for each in quality.tasks if each.name == task) if quality else None
            if result is None:
                raise KeyError(f"{where} has no task {task}")
            self._answers[where, task] = answers.read(self.root / where, result)
        return self._answers[where, task]


def load(results: Path, reference: Path | None) -> Results:
    """The results under `results`, beside the published ones under `reference` if given.

    Raises:
        ConfigError: a record or reference cannot be read, or is of a newer schema.
    """
    found = _gather(results)
    references = published.read_all(reference) if reference else ()
    level = published.common_level(found.speed)
    for each in references:
        found.speed += published.speed_rows(each, level)
        found.quality += published.quality_rows(each)
    found.runs.sort(key=lambda r: (r.hardware, r.variant, r.stage, r.finished_at, r.record))
    found.speed.sort(key=lambda r: (r.source, r.hardware, r.family, r.variant, r.request_rate_rps))
    found.quality.sort(key=lambda r: (r.source, r.hardware, r.family, r.variant, r.task, r.metric))
    found.repeats.sort(key=lambda r: (r.hardware, r.variant, r.request_rate_rps, r.repeat))
    found.history.sort(
        key=lambda r: (
            *(r.hardware, r.variant, r.stage, r.series, r.metric),
            *(r.finished_at, r.record),
        )
    )
    return Results(results, **vars(found), references=references)


@dataclass
class _Rows:
    runs: list[RunRow] = field(default_factory=list)
    speed: list[SpeedRow] = field(default_factory=list)
    quality: list[QualityRow] = field(default_factory=list)
    repeats: list[RepeatRow] = field(default_factory=list)
    history: list[HistoryRow] = field(default_factory=list)

    def add(self, other: _Rows) -> None:
        """Appends the other's rows."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(other, each.name))


def _gather(root: Path) -> _Rows:
    """Rows of all records, worked on by variant: what is current is decided within one."""
    groups: dict[Path, list[Path]] = {}
    for path in store.paths(root):
        groups.setdefault(path.parent, []).append(path)
    work, total = partial(_variant, root), _Rows()
    with ExitStack() as stack:
        apply: Any = map
        if sum(map(len, groups.values())) >= _MANY:
            # Not forked: the caller may hold threads.
            pool = ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))
            apply = partial(stack.enter_context(pool).map, chunksize=4)
        for rows in apply(work, groups.values()):
            total.add(rows)
    return total


def _variant(root: Path, paths: list[Path]) -> _Rows:
    """Everything of one variant on one hardware, and which record of each stage is current."""
    found = [_Found(path.relative_to(root).as_posix(), path, _read(path)) for path in sorted(paths)]
    usable: dict[str, list[_Found]] = {}
    for each in found:
        if each.record.status != "failed" and (each.record.speed or each.record.quality):
            usable.setdefault(each.record.stage, []).append(each)
    shown = {_current(own).where for own in usable.values()}
    rows = _Rows()
    for where, path, record in found:
        current = where in shown
        rows.runs.append(measured.run_row(record, where, current))
        rows.history += measured.history_rows(record, where, current)
        if current:
            rows.speed += measured.speed_rows(record, where, path)
            rows.repeats += measured.repeat_rows(record, where)
            rows.quality += measured.quality_rows(record, where)
    return rows


class _Found(NamedTuple):
    where: str
    path: Path
    record: Record


def _current(found: Sequence[_Found]) -> _Found:
    """The record to show of one stage: of what was asked last, the newest that is complete.

    A partial one stands in only where nothing complete answers the same key, as in `bench.store`.
    """

    def age(each: _Found) -> tuple[datetime, str]:
        return each.record.provenance.finished_at, each.where

    key = max(found, key=age).record.key
    same = [each for each in found if each.record.key == key]
    return max([each for each in same if each.record.status == "ok"] or same, key=age)


def _read(path: Path) -> Record:
    """A record that lies where its own hardware and variant say, so that folders can be trusted."""
    record = store.read(path)
    if (record.hardware, record.variant) != (path.parent.parent.name, path.parent.name):
        raise ConfigError(
            f"{path}: is a record of {record.hardware}/{record.variant}", "move it to that folder"
        )
    return record
