"""Every record to frames: which are current, what each measured, how sure that is.

Nothing here depends on the order of files, on absolute paths or on the time of day, so two clones
give equal frames. Superseded records give their history from their JSON alone; only current ones
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

import pandas as pd

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import Record
from report.rows import drift, published, speed_rows
from report.rows import rows as build
from report.rows.columns import HISTORY, QUALITY, REPEATS, RUNS, SPEED
from report.rows.drift import Drift
from report.rows.rows import Row

_MANY = 1000  # records from which on processes pay for their start, about two seconds


@dataclass(frozen=True)
class Results:
    """Everything the report is built from. Frames are sorted and share their column names.

    runs: one row per record, failed and superseded ones too; `current` marks those shown.
    speed: one row per current record and load, and per published row (`source`).
    quality: one row per current record, task and metric, and per published row.
    repeats: one row per repeat of the current speed records.
    history: one row per record, load or task (`series`) and metric.
    `record` is a path relative to `root`, or `reference/<file>#<id>` for a published row.
    """

    root: Path
    runs: pd.DataFrame
    speed: pd.DataFrame
    quality: pd.DataFrame
    repeats: pd.DataFrame
    history: pd.DataFrame
    references: tuple[published.Reference, ...] = ()

    @cached_property
    def drift(self) -> Drift:
        """How far the same thing, measured twice on one machine, lies apart."""
        return drift.of(rows_of(self.history))

    def read(self, record: str) -> Record:
        """The whole record behind a row of `runs`."""
        return store.read(self.root / record)


def load(results: Path, reference: Path | None) -> Results:
    """The results under `results`, beside the published ones under `reference` if given.

    Raises:
        ConfigError: a record or reference cannot be read, or is of a newer schema.
    """
    parts = _gather(results)
    references = published.read_all(reference) if reference else ()
    level = published.common_level(parts.speed)
    speed = parts.speed + [row for each in references for row in published.speed_rows(each, level)]
    quality = parts.quality + [row for each in references for row in published.quality_rows(each)]
    return Results(
        root=results,
        runs=frame(parts.runs, RUNS, ["hardware", "variant", "stage", "finished_at", "record"]),
        speed=frame(speed, SPEED, ["source", "hardware", "family", "variant", "request_rate_rps"]),
        quality=frame(
            quality, QUALITY, ["source", "hardware", "family", "variant", "task", "metric"]
        ),
        repeats=frame(
            parts.repeats, REPEATS, ["hardware", "variant", "request_rate_rps", "repeat"]
        ),
        history=frame(
            parts.history,
            HISTORY,
            ["hardware", "variant", "stage", "series", "metric", "finished_at", "record"],
        ),
        references=references,
    )


def frame(rows: list[Row], columns: dict[str, str], order: list[str]) -> pd.DataFrame:
    """Rows as a frame of exactly these columns and types, in an order that ties cannot change."""
    made = pd.DataFrame.from_records(rows, columns=list(columns)).astype(columns)
    return made.sort_values(order, kind="stable", ignore_index=True)


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """A frame's rows as dictionaries in which whatever is missing is None."""
    whole = frame.astype(object).where(frame.notna(), None)
    columns = list(map(str, whole.columns))
    return [dict(zip(columns, row, strict=True)) for row in whole.itertuples(index=False)]


@dataclass
class _Parts:
    runs: list[Row] = field(default_factory=list)
    speed: list[Row] = field(default_factory=list)
    quality: list[Row] = field(default_factory=list)
    repeats: list[Row] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)

    def add(self, other: _Parts) -> None:
        """Appends the other's rows."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(other, each.name))


def _gather(root: Path) -> _Parts:
    """Rows of all records, worked on by variant: what is current is decided within one."""
    groups: dict[Path, list[Path]] = {}
    for path in store.paths(root):
        groups.setdefault(path.parent, []).append(path)
    work, total = partial(_variant, root), _Parts()
    with ExitStack() as stack:
        apply: Any = map
        if sum(map(len, groups.values())) >= _MANY:
            # Not forked: the caller may hold threads.
            pool = ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))
            apply = partial(stack.enter_context(pool).map, chunksize=4)
        for parts in apply(work, groups.values()):
            total.add(parts)
    return total


def _variant(root: Path, paths: list[Path]) -> _Parts:
    """Everything of one variant on one hardware, and which record of each stage is current."""
    parts = _Parts()
    usable: dict[str, list[_Found]] = {}
    for path in sorted(paths):
        record, where = _read(path), path.relative_to(root).as_posix()
        parts.runs.append(build.run_row(record, where))
        parts.history += build.history_rows(record, where)
        if record.status != "failed" and (record.speed or record.quality):
            usable.setdefault(record.stage, []).append(_Found(where, path, record))
    current = [_current(found) for found in usable.values()]
    for where, path, record in current:
        parts.speed += speed_rows.speed_rows(record, where, path)
        parts.repeats += speed_rows.repeat_rows(record, where)
        parts.quality += build.quality_rows(record, where)
    shown = {found.where for found in current}
    for row in parts.runs + parts.history:
        row["current"] = row["record"] in shown
    return parts


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
