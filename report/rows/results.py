"""Everything the report is built from: which records are current, and the rows of all.

Nothing here depends on the order of files, on absolute paths or on the time of day, so two clones
give equal rows. Superseded records give their history from their JSON alone; only current ones
have their sidecars opened. A record that cannot be shown is left out and named: it spoils no other.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ConfigDict, TypeAdapter

from bench import config
from bench.errors import BenchError, ConfigError
from bench.records import identity, sense, store, table
from bench.records.pace import of_load
from bench.records.record import Record, TaskResult
from report.places import TEMPLATES
from report.rows import answers, measured, published, sessions
from report.rows.later import Later
from report.rows.rows import HistoryRow, Place, QualityRow, RepeatRow, RunRow, SpeedRow, Stage

Row = TypeVar("Row", SpeedRow, QualityRow)
A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")

_HELD = 256  # records that are held decoded at once
_SELDOM = 100_000  # new objects until Python looks for garbage; 700 otherwise
_MANY = 1000  # records from which on processes pay for their start, about two seconds
# What takes part in making texts of rows.
_PACKAGES = (*table.PACKAGES, "huggingface_hub", "jinja2", "markupsafe", "pyyaml", "tabulate")


@dataclass(frozen=True, order=True)
class LeftOut:
    """A record that is stored and cannot be shown: its path below the store, and why."""

    record: str
    reason: str


@dataclass(frozen=True)
class Folder:
    """What can be shown of one variant on one machine, and nothing of others.

    name: `<hardware>/<variant>`, where its records are below the `root` of all.
    packed: its rows as they are kept.
    """

    root: Path
    name: str
    packed: table.Parts

    @cached_property
    def runs(self) -> Sequence[RunRow]:
        """One row per record."""
        return sorted(_unpack([self.packed], "runs", _RUNS), key=_by_time)

    @cached_property
    def repeats(self) -> Sequence[RepeatRow]:
        """One row per repeat of the current speed records."""
        return sorted(_unpack([self.packed], "repeats", _REPEATS), key=_by_repeat)

    @cached_property
    def history(self) -> Sequence[HistoryRow]:
        """One row per record, load or task and metric."""
        return sorted(_unpack([self.packed], "history", _HISTORY), key=_by_series)

    def current(self, stage: Stage | None = None) -> list[Record]:
        """The whole current records, of a stage or of both, in the order of `runs`."""
        wanted = (run for run in self.runs if run.current and stage in (None, run.stage))
        return [store.read(self.root / run.record) for run in wanted]


@dataclass(frozen=True)
class Results:
    """All rows, sorted. What is read or computed from them is kept: each record, each answer.

    speed: one row per variant, machine and load, over its sessions; and per published row.
    quality: one row per variant, task or group, and metric, over its documents; and per published
        row.
    parts: the same for tasks that are told as part of a group: described and never judged.
    repeats: one row per repeat of the current speed records.
    history: one row per record, load or task (`series`) and metric.
    machines: what the sessions of all measured speed rows of each machine say together.
    left_out: records that cannot be shown.
    kept: the file in which what is made of records is kept; None keeps nothing.
    packed: the rows as they are kept, by the folder that they were made of.
    hashes: of those folders, as they were then.
    """

    root: Path
    runs: Sequence[RunRow]
    speed: Sequence[SpeedRow]
    quality: Sequence[QualityRow]
    parts: Sequence[QualityRow]
    repeats: Sequence[RepeatRow]
    history: Sequence[HistoryRow]
    machines: Mapping[Place, sessions.Machine]
    left_out: Sequence[LeftOut] = ()
    references: tuple[published.Reference, ...] = ()
    kept: Path | None = None
    packed: Mapping[str, table.Parts] = field(default_factory=dict, repr=False, compare=False)
    hashes: table.Hashes | None = field(default=None, repr=False, compare=False)
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _answers: dict[tuple[tuple[str, ...], str], answers.Answers] = field(
        default_factory=dict, init=False, repr=False
    )

    def once(self, make: Callable[[Results], T]) -> T:
        """What is made of all rows, whoever asks: a function, or a class, is asked once."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    def of_folders(
        self, name: str, make: Callable[[Folder], str], many: int
    ) -> Callable[[str], str]:
        """What is made of each folder's records and of nothing else: as it is kept, or anew.

        What is returned tells it of one of `packed`; those of all together may be long.

        Args:
            name: by which it is kept.
            make: a function of a module of the report, as other processes may be told to call it.
            many: folders from which on they pay for their start, some three seconds of processors.
        """
        known = table.Table(self.kept, self.root, _all_code(), self.hashes, _PACKAGES)

        def make_all(missing: Sequence[str]) -> Iterable[table.Parts]:
            folders = [Folder(self.root, folder, self.packed[folder]) for folder in missing]
            made = _spread(partial(_pack_text, make), folders, many=len(folders) >= many)
            return ({name: packed} for packed in made)

        parts = known.complete(self.packed, [name], make_all)
        made = dict(zip(self.packed, parts, strict=True))
        return lambda folder: table.unpack(made[folder][name]).decode()

    def record(self, where: str) -> Record:
        """The whole record behind a row, by its path below `root`."""
        return self._read(where)

    @cached_property
    def _read(self) -> Callable[[str], Record]:
        """Reads a record; the last ones are held, as who asks for one asks for its fellows."""
        return lru_cache(maxsize=_HELD)(lambda where: store.read(self.root / where))

    def superseded_sidecars(self) -> list[Path]:
        """The sidecars that nothing shown rests on, nor what is still to be measured; sorted.

        A task that is asked as a current one's was counts on, whatever machine answered it.
        """
        places: dict[Path, list[RunRow]] = {}
        for run in self.runs:
            places.setdefault((self.root / run.record).parent, []).append(run)
        found: set[Path] = set()
        for runs in places.values():
            if all(run.current for run in runs):
                continue
            kept: set[Path] = set()
            asked: set[str] = set()
            for run in runs:
                if run.current:
                    kept |= self._sidecars(run.record)
                    asked |= _questions(self.record(run.record))
            for run in runs:
                if not run.current and not asked & _questions(self.record(run.record)):
                    found |= self._sidecars(run.record) - kept
        return sorted(found)

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
            batches = _batches(((self.root / each, self.record(each)) for each in records), task)
            if not batches:
                self._answers[records, task] = self._of_group(records, task)
            else:
                self._answers[records, task] = answers.read(batches)
        return self._answers[records, task]


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Has Python look for garbage seldom: each look goes through all rows, which are none."""
    before = gc.get_threshold()
    gc.set_threshold(_SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def load(
    results: Path,
    reference: Path | None,
    kept: Path | None = None,
    hardware: Collection[str] | None = None,
    hashes: table.Hashes | None = None,
) -> Results:
    """The results under `results`, beside the published ones under `reference` if given.

    Args:
        kept: the file in which rows are kept from one time to the next (see `bench.records.table`).
        hashes: of the folders of `results`, where they are asked for elsewhere too.
        hardware: only of records on this, by id; machines say nothing of one another.

    Raises:
        ConfigError: a reference cannot be read, or a record is of a newer schema.
    """
    hashes = table.Hashes(results) if hashes is None else hashes
    packed = _gather(results, kept, hardware, hashes)
    made = packed.values()
    speed = list(_unpack(made, "speed", _SPEED))
    machines = sessions.machines(speed)
    speed = [measured.judge(machines[row.place].describe(row)) for row in speed]
    quality = list(_unpack(made, "quality", _QUALITY))
    references = published.read_all(reference) if reference else ()
    level = published.common_level(speed)
    for each in references:
        speed += published.speed_rows(each, level)
        quality += published.quality_rows(each)
    return Results(
        results,
        runs=Later(lambda: sorted(_unpack(made, "runs", _RUNS), key=_by_time)),
        speed=sorted(speed, key=lambda r: (r.source, r.hardware, r.family, r.variant, r.pace)),
        quality=sorted(quality, key=_by_task),
        parts=sorted(_unpack(made, "parts", _QUALITY), key=_by_task),
        repeats=Later(lambda: sorted(_unpack(made, "repeats", _REPEATS), key=_by_repeat)),
        history=Later(lambda: sorted(_unpack(made, "history", _HISTORY), key=_by_series)),
        machines=machines,
        left_out=sorted(_unpack(made, "left_out", _LEFT_OUT)),
        references=references,
        kept=kept,
        packed=packed,
        hashes=hashes,
    )


def _by_time(row: RunRow) -> tuple[Any, ...]:
    return row.hardware, row.variant, row.stage, row.finished_at, row.record


def _by_task(row: QualityRow) -> tuple[Any, ...]:
    return row.source, row.hardware, row.family, row.variant, row.task, row.metric


def _by_repeat(row: RepeatRow) -> tuple[Any, ...]:
    return row.hardware, row.variant, row.pace, row.repeat


def _by_series(row: HistoryRow) -> tuple[Any, ...]:
    series = row.hardware, row.variant, row.stage, row.series, row.metric
    return *series, row.finished_at, row.record


_JSON = ConfigDict(ser_json_inf_nan="constants")
_SPEED = TypeAdapter(list[SpeedRow], config=_JSON)
_QUALITY = TypeAdapter(list[QualityRow], config=_JSON)
_RUNS = TypeAdapter(list[RunRow], config=_JSON)
_REPEATS = TypeAdapter(list[RepeatRow], config=_JSON)
_HISTORY = TypeAdapter(list[HistoryRow], config=_JSON)
_LEFT_OUT = TypeAdapter(list[LeftOut], config=_JSON)
_PARTS: Mapping[str, TypeAdapter[Any]] = {
    **{"runs": _RUNS, "speed": _SPEED, "quality": _QUALITY, "parts": _QUALITY},
    **{"repeats": _REPEATS, "history": _HISTORY, "left_out": _LEFT_OUT},
}


def _unpack(made: Iterable[table.Parts], part: str, rows: TypeAdapter[list[Any]]) -> Iterator[Any]:
    """The rows of all folders; they are read from JSON even if they were made a moment ago."""
    for parts in made:
        yield from rows.validate_json(table.unpack(parts[part]), strict=True)


@dataclass
class _Rows:
    runs: list[RunRow] = field(default_factory=list)
    speed: list[SpeedRow] = field(default_factory=list)
    quality: list[QualityRow] = field(default_factory=list)
    parts: list[QualityRow] = field(default_factory=list)
    repeats: list[RepeatRow] = field(default_factory=list)
    history: list[HistoryRow] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def pack(self) -> dict[str, bytes]:
        """Them as JSON, packed, by the name of the field."""
        return {
            name: table.pack(rows.dump_json(getattr(self, name))) for name, rows in _PARTS.items()
        }


def _gather(
    root: Path,
    kept: Path | None,
    hardware: Collection[str] | None,
    hashes: table.Hashes,
) -> dict[str, table.Parts]:
    """Rows of all records by their folder, a variant's: what is current is decided within one."""
    groups = {
        folder: paths
        for folder, paths in store.by_folder(root).items()
        if hardware is None or folder.partition("/")[0] in hardware
    }
    known = table.Table(kept, root, _code(), hashes)
    parts = known.complete(
        groups, _PARTS, lambda some: _pack_all(root, [groups[folder] for folder in some])
    )
    return dict(zip(groups, parts, strict=True))


def _code() -> Iterator[Path]:
    """The Python files that decide what rows there are and what is in them."""
    here = Path(__file__).parent
    for room in (here, here.parent / "stats", Path(store.__file__).parent):
        yield from room.glob("*.py")
    yield from (Path(config.__file__), here.parent / "rates.py")


def _all_code() -> Iterator[Path]:
    """The files that decide whatever is made of rows, too: all of this package but its data."""
    yield from {*_code(), *Path(__file__).parent.parent.rglob("*.py"), *TEMPLATES.iterdir()}


def _pack_all(root: Path, groups: Sequence[Sequence[Path]]) -> list[table.Parts]:
    """What is made of each variant's records, in their order."""
    return _spread(partial(_pack, root), groups, many=sum(map(len, groups)) >= _MANY)


def _spread(make: Callable[[A], B], asked: Sequence[A], *, many: bool) -> list[B]:
    """What is made of each, in their order, if they are many by several processes."""
    if not many:
        return list(map(make, asked))
    # Not forked: the caller may hold threads.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        mp_context=spawn, initializer=gc.set_threshold, initargs=(_SELDOM,)
    ) as pool:
        return list(pool.map(make, asked, chunksize=4))


def _pack_text(make: Callable[[Folder], str], folder: Folder) -> bytes:
    return table.pack(make(folder).encode())


def _pack(root: Path, paths: Sequence[Path]) -> table.Parts:
    return _variant(root, paths).pack()


def _variant(root: Path, paths: Sequence[Path]) -> _Rows:
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
    held = {each.where: each for each in usable}
    told: set[tuple[str, str]] = set()

    @lru_cache(maxsize=1)  # the metrics of a task are in a row
    def tell(records: tuple[str, ...], name: str) -> answers.Answers:
        told.update((where, name) for where in records)
        asked = ((held[where].path, held[where].record) for where in records)
        return answers.read(_batches(asked, name), each=True)

    for batches in _add_up([each for each in usable if each.record.quality], _scores):
        rows.quality.append(measured.pool(batches, tell))
    shown = {where for row in (*rows.speed, *rows.quality) for where in row.records}
    rows.quality, rows.parts = fold(root, rows.quality, [each.record for each in usable])
    for where, path, record in found:
        current = where in shown
        rows.runs.append(measured.run_row(record, where, current))
        rows.history += measured.history_rows(record, where, current)
        if current:
            rows.repeats += measured.repeat_rows(record, where)
            for task in _tasks(record):
                if (where, task.name) not in told:
                    answers.read([(path, task)])  # what pairs are made of: it must be there
    return rows


def _batches(records: Iterable[tuple[Path, Record]], name: str) -> list[tuple[Path, TaskResult]]:
    """What records, each with where it is, say of a task."""
    return [
        (path, task) for path, record in records for task in _tasks(record) if task.name == name
    ]


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
