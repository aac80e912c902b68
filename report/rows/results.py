"""Everything the report is built from: which records are current, and the rows of all.

Nothing here depends on the order of files, on absolute paths or on the time of day, so two clones
give equal rows. Superseded records give their history from their JSON alone; only current ones
have their sidecars opened. A record that cannot be shown is left out and named: it spoils no other.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bench.errors import BenchError, ConfigError
from bench.records import identity, sense, store
from bench.records.pace import of_load
from bench.records.record import Record, TaskResult
from report.rows import answers, measured, published, sessions
from report.rows.rows import HistoryRow, Place, QualityRow, RepeatRow, RunRow, SpeedRow

Row = TypeVar("Row", SpeedRow, QualityRow)

_MANY = 1000  # records from which on processes pay for their start, about two seconds


@dataclass(frozen=True, order=True)
class LeftOut:
    """A record that is stored and cannot be shown: its path below the store, and why."""

    record: str
    reason: str


@dataclass(frozen=True)
class Results:
    """All rows, sorted. What is read or computed from them is kept: each record, each answer.

    speed: one row per variant, machine and load, over its sessions; and per published row.
    quality: one row per variant, task or group, and metric, over its documents; and per published
        row.
    parts: the same for tasks that are told as part of a group: described and never judged.
    repeats: one row per repeat of the current speed records.
    history: one row per record, load or task (`series`) and metric.
    left_out: records that cannot be shown.
    """

    root: Path
    runs: Sequence[RunRow]
    speed: Sequence[SpeedRow]
    quality: Sequence[QualityRow]
    parts: Sequence[QualityRow]
    repeats: Sequence[RepeatRow]
    history: Sequence[HistoryRow]
    left_out: Sequence[LeftOut] = ()
    references: tuple[published.Reference, ...] = ()
    _records: dict[str, Record] = field(default_factory=dict, init=False, repr=False)
    _answers: dict[tuple[tuple[str, ...], str], answers.Answers] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def machines(self) -> dict[Place, sessions.Machine]:
        """The measured speed rows by machine, with all that their sessions say together."""
        return sessions.machines(self.speed)

    def record(self, where: str) -> Record:
        """The whole record behind a row, by its path below `root`."""
        if where not in self._records:
            self._records[where] = store.read(self.root / where)
        return self._records[where]

    def superseded_sidecars(self) -> list[Path]:
        """The sidecars that nothing shown rests on, nor what is still to be measured; sorted.

        A task that is asked as a current one's was counts on, whatever machine answered it.
        """
        kept: set[Path] = set()
        asked: dict[Path, set[str]] = {}
        for run in self.runs:
            if run.current:
                place = (self.root / run.record).parent
                kept |= self._sidecars(run.record)
                asked.setdefault(place, set()).update(_questions(self.record(run.record)))
        found: set[Path] = set()
        for run in self.runs:
            still = asked.get((self.root / run.record).parent, set())
            if not run.current and not still & _questions(self.record(run.record)):
                found |= self._sidecars(run.record)
        return sorted(found - kept)

    def _sidecars(self, where: str) -> set[Path]:
        folder = (self.root / where).parent
        every = (folder / sidecar.file for sidecar in store.sidecars(self.record(where)))
        return {path for path in every if path.is_file()}

    def _of_group(self, records: tuple[str, ...], name: str) -> answers.Answers:
        found = [
            group
            for where in records
            for group in measured.groups(self.record(where))
            if group.name == name
        ]
        if not found:
            raise KeyError(f"{records} have no task {name}")
        group = found[-1]
        parts = {task: self.answers(records, task) for task in sorted(group.tasks)}
        return answers.of_group(
            parts, [each.name for each in group.metrics if not each.weight_by_size]
        )

    def answers(self, records: tuple[str, ...], task: str) -> answers.Answers:
        """What a variant answered to a task or group, in records that add up, the oldest first."""
        if (records, task) not in self._answers:
            batches = [
                (self.root / where, result)
                for where in records
                for result in _tasks(self.record(where))
                if result.name == task
            ]
            if not batches:
                self._answers[records, task] = self._of_group(records, task)
            else:
                self._answers[records, task] = answers.read(batches)
        return self._answers[records, task]


def load(results: Path, reference: Path | None) -> Results:
    """The results under `results`, beside the published ones under `reference` if given.

    Raises:
        ConfigError: a reference cannot be read, or a record is of a newer schema.
    """
    found = _gather(results)
    places = sessions.machines(found.speed)
    found.speed = [measured.judge(places[row.place].describe(row)) for row in found.speed]
    references = published.read_all(reference) if reference else ()
    level = published.common_level(found.speed)
    for each in references:
        found.speed += published.speed_rows(each, level)
        found.quality += published.quality_rows(each)
    found.left_out.sort()
    found.runs.sort(key=lambda r: (r.hardware, r.variant, r.stage, r.finished_at, r.record))
    found.speed.sort(key=lambda r: (r.source, r.hardware, r.family, r.variant, r.pace))
    for scores in (found.quality, found.parts):
        scores.sort(key=lambda r: (r.source, r.hardware, r.family, r.variant, r.task, r.metric))
    found.repeats.sort(key=lambda r: (r.hardware, r.variant, r.pace, r.repeat))
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
    parts: list[QualityRow] = field(default_factory=list)
    repeats: list[RepeatRow] = field(default_factory=list)
    history: list[HistoryRow] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

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
    """Everything of one variant on one hardware, without the records that cannot be shown."""
    found, left_out = [], []
    for path in sorted(paths):
        where = path.relative_to(root).as_posix()
        try:
            record = _read(path)
        except store.NewerSchemaError:
            raise  # this program is too old: its site would lack the newest without need
        except BenchError as error:
            left_out.append(LeftOut(where, _reason(root, error)))
            continue
        if fault := sense.find_nonsense(record):
            left_out.append(LeftOut(where, fault))
        else:
            found.append(_Found(where, path, record))
    found.sort(key=lambda each: (each.record.provenance.finished_at, each.where))
    rows, unshown = _shown(root, found)
    rows.left_out += left_out + unshown
    return rows


def _shown(root: Path, found: Sequence[_Found]) -> tuple[_Rows, list[LeftOut]]:
    """The rows of these records, of one variant, the oldest first; and those that have none."""
    with suppress(Exception):  # which record it is, and why, is found out below and told
        return _together(root, found), []
    sound: list[_Found] = []
    left_out = []
    for each in reversed(found):  # the newest first: of those it supersedes less is asked
        try:
            _together(root, [each, *sound])
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are to be shown
            left_out.append(LeftOut(each.where, _reason(root, error)))
        else:
            sound.insert(0, each)
    return _together(root, sound), left_out


def _reason(root: Path, error: Exception) -> str:
    """Why a record is left out, without this machine's folders."""
    text = error.message if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
    return text.replace(f"{root}/", "")


def _together(root: Path, found: Sequence[_Found]) -> _Rows:
    """What the newest of the records ask, over all that ask it.

    Records of the same identity on the same machine add up: sessions of a load, documents of a
    task. A partial record counts only where no complete one does.
    """
    usable = [each for each in found if each.record.status != "failed"]
    rows = _Rows()
    for sessions_of_load in _add_up([each for each in usable if each.record.speed], _loads):
        rows.speed.append(sessions.pool(sessions_of_load))
    for batches in _add_up([each for each in usable if each.record.quality], _scores):
        rows.quality.append(measured.pool(root, batches))
    shown = {where for row in (*rows.speed, *rows.quality) for where in row.records}
    rows.quality, rows.parts = fold(root, rows.quality, [each.record for each in usable])
    for where, path, record in found:
        current = where in shown
        rows.runs.append(measured.run_row(record, where, current))
        rows.history += measured.history_rows(record, where, current)
        if current:
            rows.repeats += measured.repeat_rows(record, where)
            for task in _tasks(record):
                answers.read([(path, task)])  # what pairs are made of: told now if it is not there
    return rows


def fold(
    root: Path, rows: Sequence[QualityRow], records: Sequence[Record]
) -> tuple[list[QualityRow], list[QualityRow]]:
    """The rows of one variant with groups in their tasks' place, and those of their tasks.

    Args:
        root: where the records are.
        records: the variant's, the oldest first.
    """
    of_groups: dict[str, list[QualityRow]] = {}
    for row in rows:
        if row.part_of is not None:
            of_groups.setdefault(row.part_of, []).append(row)
    newest = {
        group.name: (group, record) for record in records for group in measured.groups(record)
    }
    whole = [row for row in rows if row.part_of is None]
    for name, own in of_groups.items():
        whole += measured.group_rows(root, own, *newest[name])
    return whole, [row for own in of_groups.values() for row in own]


class _Found(NamedTuple):
    where: str
    path: Path
    record: Record


def _loads(found: _Found, asked: Record) -> Iterator[tuple[Hashable, SpeedRow]]:
    """The loads of a record that are those of the newest, each with what it is pooled by.

    The sidecar of a record that has none is not opened.
    """
    loads = found.record.speed.loads if found.record.speed else ()
    same = {
        pace: own
        for pace in map(of_load, loads)
        if (own := identity.load_identity(found.record.spec, pace))
        == identity.load_identity(asked.spec, pace)
    }
    for row in measured.speed_rows(found.record, found.where, found.path) if same else ():
        if row.pace in same:
            yield same[row.pace], row


def _scores(found: _Found, asked: Record) -> Iterator[tuple[Hashable, QualityRow]]:
    """The scores of a record in tasks that the newest asks alike."""
    by_name = {task.name: task.asked for task in _tasks(found.record)}
    for row in measured.quality_rows(found.record, found.where):
        brought = by_name[row.task]
        own = identity.task_identity(found.record.spec, row.task, brought)
        if own == identity.task_identity(asked.spec, row.task, brought):
            yield (own, row.metric), row


def _add_up(
    found: Sequence[_Found],
    tell: Callable[[_Found, Record], Iterator[tuple[Hashable, Row]]],
) -> Iterator[list[Row]]:
    """The rows that add up, of what the newest record asks on its machine, the oldest first."""
    if not found:
        return
    newest = found[-1].record
    groups: dict[Hashable, list[Row]] = {}
    for each in found:
        if measured.machine(each.record) == measured.machine(newest):
            for asked, row in tell(each, newest):
                groups.setdefault(asked, []).append(row)
    for rows in groups.values():
        yield [row for row in rows if row.status == "ok"] or rows[-1:]


def _tasks(record: Record) -> Sequence[TaskResult]:
    return record.quality.tasks if record.quality else ()


def _questions(record: Record) -> set[str]:
    """The identities of the tasks of a record; loads need no sidecar to count on."""
    return {identity.task_identity(record.spec, task.name, task.asked) for task in _tasks(record)}


def _read(path: Path) -> Record:
    """A record that lies where its own hardware and variant say, so that folders can be trusted."""
    record = store.read(path)
    if (record.hardware, record.variant) != (path.parent.parent.name, path.parent.name):
        raise ConfigError(
            f"{path}: is a record of {record.hardware}/{record.variant}", "move it to that folder"
        )
    return record
