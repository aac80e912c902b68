"""Results from an untrusted runner: everything is checked before anything is stored.

A GPU runner executes third-party engines and models, so what it uploads is treated as bytes from a
stranger. Files are read into memory under caps and judged; only then are they written, through
the same store as any record. The source may be a folder, or hold the artifacts' .zip files as they
were uploaded: those are never unpacked to disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from bench.archive import members, read_capped, refused
from bench.config import QualityOptions, TaskOptions, parse
from bench.errors import ConfigError
from bench.plan import documents
from bench.plan.commits import Repository
from bench.plan.jobs import Description
from bench.records import store
from bench.records.identity import task_settings
from bench.records.pace import of_load, of_spec
from bench.records.record import (
    Record,
    Sha256,
    Sidecar,
    Slug,
    TaskResult,
    canonical_json,
    spec_key,
)
from bench.records.sense import find_nonsense
from bench.records.sidecars import document_hashes, find_fault
from bench.supervise import TEMPORARY

MAX_FILES = 2_000
# Of an artifact: its files, and again what its sidecars unpack to.
MAX_TOTAL_BYTES = 256 * 2**20
_LIMITS = f"one may to {store.MAX_SIDECAR_TEXT_BYTES:,}, all to {MAX_TOTAL_BYTES:,}"
CLOCK_SKEW = timedelta(hours=1)
MAX_TRIES = 8  # records of one session, or of one quality stage: one that counts, and failed ones
_PATH = re.compile(
    r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*/"
    r"(?:(?:speed|quality)-\d{8}T\d{6}Z-[0-9a-f]{8}(?:-s\d{1,6})?\.json"
    r"|[0-9a-f]{64}\.json\.gz)"
)


# The records of a store that a report of it leaves out, with the reason; a RefusedError where no
# report can be made. `bench.cli` brings it, as nothing else here knows the report.
Unshown = Callable[[Path], Mapping[str, str]]


class _PlanRow(BaseModel):
    """One row of `bench plan --json`, as far as results are held against it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    variant: Slug
    hardware: Slug
    stage: Literal["speed", "quality"]
    key: Sha256
    needed: bool
    description: Description
    repositories: tuple[Repository, ...] = ()
    sessions: tuple[int, ...] = ()


_PLAN = TypeAdapter(tuple[_PlanRow, ...])


@dataclass(frozen=True)
class Ticket:
    """What identifies one stage that was asked for."""

    hardware: str
    variant: str
    stage: str


@dataclass(frozen=True)
class Asked:
    """What was asked for of a stage: the key of its spec, and which sessions, if not any.

    `description` is what its records must say of themselves, and `repositories` what they must say
    was fetched.
    """

    key: str
    description: Description
    sessions: frozenset[int] | None = None
    repositories: tuple[Repository, ...] = ()


def read_plan(path: Path) -> dict[Ticket, Asked]:
    """What was asked for: every needed stage with the key its spec must have, and its sessions.

    Raises:
        ConfigError: the file is not what `bench plan --json` writes.
    """
    try:
        rows = _PLAN.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: not a plan: {error}", "make it with `bench plan --json`"
        ) from error
    return {
        Ticket(row.hardware, row.variant, row.stage): Asked(
            row.key, row.description, frozenset(row.sessions), row.repositories
        )
        for row in rows
        if row.needed
    }


def store_results(
    source: Path,
    plan: Mapping[Ticket, Asked],
    results: Path,
    *,
    beside: Sequence[Path] = (),
    find_unshown: Unshown = lambda _: {},
    most_bytes: int = MAX_TOTAL_BYTES,
) -> list[Path]:
    """Stores the records found under `source`, all of them or none.

    Args:
        source: a folder of `<hardware>/<variant>/…` files, of .zip files of such, or both; or one
            such .zip file.
        plan: the stages asked for.
        results: the store, bench/results.
        beside: other stores, whose records of the same data have the same documents.
        find_unshown: what a report of a store leaves out; asked of one of these records alone.
        most_bytes: that its files may have.

    Returns:
        The paths written: records and sidecars. What is stored already, byte for byte, is not
        written again, so that a rerun is harmless.

    Raises:
        RefusedError: anything at all is not as it must be; nothing was written.
    """
    files = read_files(source, most_bytes)
    records: list[tuple[Record, list[bytes]]] = []
    named: set[str] = set()
    answers: list[_Answers] = []
    left = MAX_TOTAL_BYTES
    for name in sorted(files):
        if name.endswith(".json"):
            record = _checked_record(name, files[name], plan)
            places = set()
            for sidecar in store.sidecars(record):
                place = _beside(name, sidecar)
                text = _unpack(place, sidecar, files, left)
                left -= len(text)
                if fault := find_fault(record, sidecar, text):
                    raise refused(place, fault)
                answers += _answers(place, record, sidecar, text)
                places.add(place)
            records.append((record, [files[place] for place in sorted(places)]))
            named |= {name, *places}
    _check_once([record for record, _ in records])
    _check_documents(answers, [*beside, results])
    for name in sorted(set(files) - named):
        # A run killed between a sidecar and its record leaves one: no harm, and not stored.
        if not name.endswith(f"/{hashlib.sha256(files[name]).hexdigest()}.json.gz"):
            raise refused(name, "no record names this file, and its name is not its SHA-256")
    new = [entry for entry in records if not _stored(results, entry[0])]
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        for record, contents in new:
            store.write(Path(folder), record, contents)
        for name, reason in find_unshown(Path(folder)).items():
            raise refused(name, f"could not be shown: {reason}")
    before = _inventory(results)
    for record, contents in new:
        store.write(results, record, contents)
    return sorted(_inventory(results) - before)


def read_files(source: Path, most_bytes: int = MAX_TOTAL_BYTES) -> dict[str, bytes]:
    """Every file under `source` by its path as a record's place, read under the caps.

    Raises:
        RefusedError: a link, a device, a path that is no record's or sidecar's, a name twice, or
            more than the caps allow.
    """
    files: dict[str, bytes] = {}
    total = 0
    for name, data in _walk(source):
        if not _PATH.fullmatch(name) or len(name) > 300:
            raise refused(name, "not the path of a record or a sidecar")
        if files.get(name, data) != data:
            raise refused(name, "is there twice, with different contents")
        files[name] = data
        total += len(data)
        if total > most_bytes or len(files) > MAX_FILES:
            raise refused(name, f"more than {MAX_FILES:,} files or {most_bytes:,} bytes in all")
    return files


def _walk(path: Path, name: str = "") -> Iterator[tuple[str, bytes]]:
    """Every file at or below `path`, by its name from where the walk began."""
    try:
        status = path.lstat()
    except OSError as error:
        raise refused(str(path), f"cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(status.st_mode) and name.count("/") < 4:
        # Artifacts downloaded side by side each lie in a folder of their own name.
        for entry in sorted(path.iterdir()):
            yield from _walk(entry, f"{name}/{entry.name}" if name else entry.name)
    elif not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise refused(
            name or str(path), "not a plain file (a link, a device, or nested too deeply)"
        )
    elif status.st_size > MAX_TOTAL_BYTES:
        raise refused(name, f"is larger than {MAX_TOTAL_BYTES:,} bytes")
    elif path.suffix == ".zip":
        yield from members(path, MAX_FILES, _cap)
    else:
        with path.open("rb") as file:
            yield name, read_capped(file, name, _cap(name))


def _cap(name: str) -> int:
    return store.MAX_SIDECAR_BYTES if name.endswith(".gz") else store.MAX_RECORD_BYTES


def _checked_record(name: str, data: bytes, plan: Mapping[Ticket, Asked]) -> Record:
    try:
        record = store.parse(data, Path(name))
        text = canonical_json(record.model_dump(mode="json"))
    except (ConfigError, ValueError, RecursionError) as error:
        raise refused(name, f"not a record: {str(error).splitlines()[0]}") from error
    if text.encode() != data:
        raise refused(name, "not in canonical form (a key twice, or other spacing)")
    if spec_key(record.spec) != record.key:
        raise refused(name, "its key is not the hash of its spec")
    if f"{record.hardware}/{record.variant}/{store.file_name(record)}" != name:
        raise refused(name, "its path does not follow from its contents")
    asked = plan.get(Ticket(record.hardware, record.variant, record.stage))
    if asked is None:
        raise refused(name, "the plan did not ask for this variant, stage and hardware")
    if asked.key != record.key:
        raise refused(name, "its spec is not the one the plan asked for")
    sessions = asked.sessions if record.stage == "speed" else None
    if sessions is not None and (record.session or 1) not in sessions:
        raise refused(name, "the plan did not ask for this session")
    for part, value in asdict(asked.description).items():
        if getattr(record, part) != value:
            raise refused(name, f"the plan has another {part}")
    for part, said, value in _served(record, asked.repositories):
        if value is not None and said != value:
            raise refused(name, f"the plan asks for another {part}")
    if record.status != "failed" and not (record.engine and record.model):
        raise refused(name, "has a result and does not say what was served")
    _check_sense(name, record)
    return record


def _served(record: Record, repositories: Sequence[Repository]) -> Iterator[tuple[str, Any, Any]]:
    """What a record says was served and sent, and what the plan and its spec ask for."""
    if engine := record.engine:
        asked = record.spec.get("engine", {})
        yield "engine build", engine.build, asked.get("build")
        yield "engine version", engine.version.partition("+")[0], asked.get("version")
    if model := record.model:
        asked = record.spec.get("model", {})
        for part in ("repo", "file", "bundled"):
            yield part, getattr(model, part), asked.get(part)
        commits = {each.key: each.commit for each in repositories}
        yield "revision", model.revision, commits.get("repo")
        yield "tokenizer_revision", model.tokenizer_revision, commits.get("tokenizer")
    if record.speed:
        asked = record.spec.get("speed", {})
        for part in ("input_tokens", "output_tokens", "prompts", "warmup_prompts"):
            yield part, getattr(record.speed.workload, part), asked.get(part)


def _unasked_loads(record: Record) -> Iterator[str]:
    """How the loads differ from what the record's spec, which is the plan's, asks for."""
    speed, asked = record.speed, record.spec.get("speed", {})
    if speed is None or "request_rates" not in asked:
        return
    paces = of_spec(asked)
    for load in speed.loads:
        pace = of_load(load)
        if pace not in paces:
            yield f"has a load that was not asked for ({pace.full})"
        if len(load.repeats) != asked["repeats"]:
            yield f"has {len(load.repeats)} repeats of a load, not {asked['repeats']}"
        sent = asked["prompts"]
        if pace.is_closed:
            sent = asked["prompts_each"] * int(pace.concurrency)
        counts = (sent, sent * asked["input_tokens"], sent * asked["output_tokens"])
        for each in load.repeats:
            if (each.asked, each.input_tokens, each.output_tokens) != counts:
                yield f"has a repeat of other than {sent:,} requests of the length asked for"
            if (each.server_input_tokens, each.server_output_tokens) != counts[1:]:
                yield "has a repeat of which the server counted other tokens than were asked for"


def _unasked_tasks(record: Record) -> Iterator[str]:
    """How the tasks differ from what the record's spec, which is the plan's, asks for."""
    for task, _, table in _asked_tasks(record):
        if table is None:
            yield f"has a task that was not asked for ({task.name})"
        elif task.apply_chat_template not in (None, table.apply_chat_template):
            yield f"has {task.name} asked in another form of prompt"
        elif len(task.sampling_seeds) != (table.seeds if table.seeds > 1 else 0):
            yield f"has {task.name} asked another number of times"


def _asked_tasks(
    record: Record,
) -> Iterator[tuple[TaskResult, QualityOptions, TaskOptions | None]]:
    """Each task of a record, with what its spec asks of the stage and of what brought the task."""
    if record.quality:
        options = parse(QualityOptions, record.spec["quality"])
        tables = {table.name: table for table in options.asked()}
        for task in record.quality.tasks:
            yield task, options, tables.get(task.asked or task.name)


@dataclass(frozen=True)
class _Answers:
    """A task's documents: the place of its sidecar, what is to be equal where `same` is."""

    place: str
    same: tuple[object, ...]
    family: str
    hashes: Mapping[int, str]


def _answers(place: str, record: Record, sidecar: Sidecar, text: bytes) -> Iterator[_Answers]:
    """The answers in a sidecar, if it is of a task.

    Raises:
        RefusedError: they are to other documents than were asked for.
    """
    for task, options, table in _asked_tasks(record):
        if task.samples != sidecar or table is None:
            continue
        hashes = document_hashes(text)
        chosen = documents.of_task(options, table)
        if not hashes.keys() <= set(documents.choose(task.documents_original, chosen)):
            raise refused(place, f"has documents of {task.name} that were not asked for")
        listed = "\n".join(f"{doc} {digest}" for doc, digest in hashes.items())
        if hashlib.sha256(listed.encode()).hexdigest() != task.documents_sha256:
            raise refused(place, f"has other documents of {task.name} than its record says")
        yield _Answers(place, _same(record, task), record.family, hashes)


def _same(record: Record, task: TaskResult) -> tuple[object, ...]:
    """Where it is equal, equal indices are equal documents: one data set, read by one lm-eval."""
    reader = record.engine.lm_eval_version if record.engine else None
    data = (task.dataset, task.dataset_revision, task.dataset_sha256)
    settings = task_settings(record.spec, task.name, task.asked)
    return (settings, task.name, task.version, *data, reader)


def _check_documents(answers: Sequence[_Answers], roots: Sequence[Path]) -> None:
    """Variants of a family that were asked the same data have the same documents of it."""
    families = {each.family for each in answers}
    known = [each for root in roots if families for each in _stored_answers(root, families)]
    held: dict[tuple[object, ...], dict[int, str]] = {}
    for each in (*known, *answers):
        if each.same[-3:-1] == (None, None):
            continue  # nobody said which data: it may have changed since
        others = held.setdefault((each.family, *each.same), {})
        if any(others.setdefault(doc, digest) != digest for doc, digest in each.hashes.items()):
            raise refused(each.place, "has other documents than its family's records of this data")


def _stored_answers(root: Path, families: set[str]) -> Iterator[_Answers]:
    """Those of the families; a record that cannot be read is the report's to name."""
    for path in sorted(root.glob("*/*/quality-*.json")):
        with suppress(ConfigError):
            record = store.read(path)
            for task in record.quality.tasks if record.quality else ():
                if record.family in families:
                    rows = store.read_sidecar(path, task.samples)
                    hashes = {row["doc"]: row["hash"] for row in rows}
                    yield _Answers(str(path), _same(record, task), record.family, hashes)


def _check_once(records: Sequence[Record]) -> None:
    """Of a session each load arrives once, and quality once: two would weigh twice."""
    held: set[tuple[object, ...]] = set()
    tries: Counter[tuple[object, ...]] = Counter()
    for record in records:
        of = (record.hardware, record.variant, record.stage, record.session or 1)
        tries[of] += 1
        if tries[of] > MAX_TRIES:
            name = f"{record.hardware}/{record.variant}/{store.file_name(record)}"
            raise refused(name, f"is one of more than {MAX_TRIES} records of one session")
        loads = [of_load(load) for load in record.speed.loads] if record.speed else [None]
        brought = {(*of, load) for load in loads if record.status != "failed"}
        if brought & held:
            name = f"{record.hardware}/{record.variant}/{store.file_name(record)}"
            raise refused(name, "another record has the same session of the same load or tasks")
        held |= brought


def _check_sense(name: str, record: Record) -> None:
    """What the schema cannot say but the report relies on, and how much was asked."""
    unasked = chain(_unasked_loads(record), _unasked_tasks(record))
    if fault := find_nonsense(record) or next(unasked, None):
        raise refused(name, fault)
    if record.provenance.finished_at > datetime.now(UTC) + CLOCK_SKEW:
        raise refused(name, "its time is in the future")


def _beside(name: str, sidecar: Sidecar) -> str:
    return f"{name.rpartition('/')[0]}/{sidecar.file}"


def _unpack(name: str, sidecar: Sidecar, files: Mapping[str, bytes], left: int) -> bytes:
    """The sidecar's text, if its bytes are those its record names.

    Args:
        left: the bytes the artifact may still unpack to.
    """
    data = files.get(name)
    if data is None:
        raise refused(name, "is named by a record and missing")
    digest = hashlib.sha256(data).hexdigest()
    if not digest == sidecar.sha256 == sidecar.file.removesuffix(".json.gz"):
        raise refused(name, "its SHA-256 is not the one its record names")
    if len(data) != sidecar.size_bytes:
        raise refused(name, "its size is not the one its record names")
    most = min(store.MAX_SIDECAR_TEXT_BYTES, left)
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise refused(name, f"not gzipped JSON ({error})") from error
    if len(text) > most:
        raise refused(name, f"unpacks to more than {most:,} bytes, {_LIMITS}")
    return text


def _stored(results: Path, record: Record) -> bool:
    path = results / record.hardware / record.variant / store.file_name(record)
    if not path.exists():
        return False
    if path.read_bytes() != canonical_json(record.model_dump(mode="json")).encode():
        raise refused(path.name, "a different record of this name is stored already")
    return True


def _inventory(results: Path) -> set[Path]:
    return {path for path in results.rglob("*") if path.is_file()}
