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
import json
import math
import re
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from bench.archive import members, read_capped, refused
from bench.errors import ConfigError
from bench.plan.jobs import Description
from bench.records import store
from bench.records.pace import of_load
from bench.records.record import (
    Count,
    Fidelity,
    Finite,
    Metric,
    Record,
    Sha256,
    Sidecar,
    Slug,
    SpeedResult,
    TaskResult,
    canonical_json,
    spec_key,
)
from bench.records.sense import find_nonsense

MAX_FILES = 2_000
# Of an artifact: its files, and again what its sidecars unpack to.
MAX_TOTAL_BYTES = 256 * 2**20
_LIMITS = f"one may to {store.MAX_SIDECAR_TEXT_BYTES:,}, all to {MAX_TOTAL_BYTES:,}"
CLOCK_SKEW = timedelta(hours=1)
_PATH = re.compile(
    r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*/"
    r"(?:(?:speed|quality)-\d{8}T\d{6}Z-[0-9a-f]{8}(?:-s\d{1,6})?\.json"
    r"|[0-9a-f]{64}\.json\.gz)"
)


class _PlanRow(BaseModel):
    """One row of `bench plan --json`, as far as results are held against it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    variant: Slug
    hardware: Slug
    stage: Literal["speed", "quality"]
    key: Sha256
    needed: bool
    description: Description
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

    `description` is what its records must say of themselves.
    """

    key: str
    description: Description
    sessions: frozenset[int] | None = None


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
            row.key, row.description, frozenset(row.sessions)
        )
        for row in rows
        if row.needed
    }


def store_results(source: Path, plan: Mapping[Ticket, Asked], results: Path) -> list[Path]:
    """Stores the records found under `source`, all of them or none.

    Args:
        source: a folder of `<hardware>/<variant>/…` files, of .zip files of such, or both; or one
            such .zip file.
        plan: the stages asked for.
        results: the store, bench/results.

    Returns:
        The paths written: records and sidecars. What is stored already, byte for byte, is not
        written again, so that a rerun is harmless.

    Raises:
        RefusedError: anything at all is not as it must be; nothing was written.
    """
    files = read_files(source)
    records: list[tuple[Record, list[bytes]]] = []
    named: set[str] = set()
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
                places.add(place)
            records.append((record, [files[place] for place in sorted(places)]))
            named |= {name, *places}
    _check_once([record for record, _ in records])
    for name in sorted(set(files) - named):
        # A run killed between a sidecar and its record leaves one: no harm, and not stored.
        if not name.endswith(f"/{hashlib.sha256(files[name]).hexdigest()}.json.gz"):
            raise refused(name, "no record names this file, and its name is not its SHA-256")
    new = [entry for entry in records if not _stored(results, entry[0])]
    before = _inventory(results)
    for record, contents in new:
        store.write(results, record, contents)
    return sorted(_inventory(results) - before)


def read_files(source: Path) -> dict[str, bytes]:
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
        if total > MAX_TOTAL_BYTES or len(files) > MAX_FILES:
            raise refused(
                name, f"more than {MAX_FILES:,} files or {MAX_TOTAL_BYTES // 2**20} MiB in all"
            )
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
    for part, said, value in _served(record):
        if value is not None and said is not None and said != value:
            raise refused(name, f"its spec asks for another {part}")
    if record.status != "failed" and not (record.engine and record.model):
        raise refused(name, "has a result and does not say what was served")
    _check_sense(name, record)
    return record


def _served(record: Record) -> Iterator[tuple[str, Any, Any]]:
    """What a record says was served and sent, and what its spec, which the plan knows, asks for."""
    if engine := record.engine:
        asked = record.spec.get("engine", {})
        yield "engine build", engine.build, asked.get("build")
        yield "engine version", engine.version.partition("+")[0], asked.get("version")
    if model := record.model:
        asked = record.spec.get("model", {})
        for part in ("repo", "file", "bundled"):
            yield part, getattr(model, part), asked.get(part)
        if re.fullmatch("[0-9a-f]{40}", asked.get("revision", "")):
            yield "revision", model.revision, asked["revision"]
    if record.speed:
        asked = record.spec.get("speed", {})
        for part in ("input_tokens", "output_tokens", "prompts", "warmup_prompts"):
            yield part, getattr(record.speed.workload, part), asked.get(part)


def _check_once(records: Sequence[Record]) -> None:
    """Of a session each load arrives once, and quality once: two would weigh twice."""
    held: set[tuple[object, ...]] = set()
    for record in records:
        of = (record.hardware, record.variant, record.stage, record.session or 1)
        loads = [of_load(load) for load in record.speed.loads] if record.speed else [None]
        brought = {(*of, load) for load in loads if record.status != "failed"}
        if brought & held:
            name = f"{record.hardware}/{record.variant}/{store.file_name(record)}"
            raise refused(name, "another record has the same session of the same load or tasks")
        held |= brought


def _check_sense(name: str, record: Record) -> None:
    """What the schema cannot say but the report relies on."""
    if fault := find_nonsense(record):
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


# -- what a sidecar must hold, row by row, for the report to read it as its record says -----------

# FailFast: an error for each of millions of wrong values would take more memory than they do.
_Number = Annotated[float, Field(ge=-1e15, le=1e15)]
_Numbers = Annotated[list[_Number], FailFast(), Field(min_length=1)]
# At a place of a text, log-probabilities by label.
_Label = Annotated[str, Field(pattern=r"^\d{1,6}$")]
_Logprob = Annotated[float, Field(ge=-1e15, le=0)]
_Expected = Annotated[dict[_Label, _Logprob], Field(min_length=1, max_length=100)]
_SUM = 1 + 1e-3  # of probabilities that were rounded
_Sizes = Annotated[list[Count], FailFast(), Field(min_length=1)]


class _SidecarRow(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _Repeat(_SidecarRow):
    request_rate_rps: Finite | Literal["inf"]
    concurrency: Count | None = None
    seed: Count
    ttft_ms: _Numbers
    tpot_ms: _Numbers
    e2e_ms: _Numbers

    @property
    def latencies(self) -> tuple[list[float], ...]:
        """Every kind, one number for each request."""
        return self.ttft_ms, self.tpot_ms, self.e2e_ms


# Of a metric, for a document: a number, or as many as it has instructions.
_Value = Annotated[
    Annotated[_Number, Tag("number")]
    | Annotated[list[_Number], Field(min_length=1, max_length=1000), Tag("numbers")],
    Discriminator(lambda value: "numbers" if isinstance(value, list) else "number"),
]


class _Text(_SidecarRow):
    """What a model expects of a document's text: probabilities, whole and at some places."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    logprob: _Logprob
    top: Annotated[dict[_Label, _Expected], Field(min_length=1, max_length=100)]

    @property
    def fault(self) -> str | None:
        """Why these are no probabilities of its tokens, or None."""
        if any(int(place) >= self.tokens for place in self.top):
            return "names a place that its text does not have"
        if any(math.fsum(map(math.exp, top.values())) > _SUM for top in self.top.values()):
            return "has probabilities that come to more than 1"
        return None


class _Document(_SidecarRow):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Value]  # the task's metrics

    doc: Count
    hash: Sha256
    target: Count | None = None
    targets: _Sizes = []
    loglikelihoods: _Numbers = []
    bytes: _Sizes = []
    by_seed: dict[str, list[_Value]] = {}
    text: _Text | None = None

    @property
    def metrics(self) -> dict[str, float | list[float]]:
        """Their values by name."""
        return self.model_extra or {}


class _Position(_SidecarRow):
    paragraph: Count
    token: Count
    logprob: _Number
    top: Annotated[dict[str, _Number], Field(min_length=1)]


_REPEATS = TypeAdapter(Annotated[list[_Repeat], FailFast()])
_DOCUMENTS = TypeAdapter(Annotated[list[_Document], FailFast()])
_POSITIONS = TypeAdapter(Annotated[list[_Position], FailFast()])


def find_fault(record: Record, sidecar: Sidecar, text: bytes) -> str | None:
    """Why a sidecar is not what `record` says of it, or None.

    Args:
        text: what the sidecar unpacks to.
    """
    try:
        rows: Any = json.loads(text)
        if not isinstance(rows, list) or len(rows) != sidecar.rows:
            return "does not have the rows its record names"
        return _fault(record, sidecar, rows)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"its rows: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        return f"not gzipped JSON ({error})"


def _fault(record: Record, sidecar: Sidecar, rows: list[Any]) -> str | None:
    quality = record.quality
    if record.speed and record.speed.requests == sidecar:
        return _repeats_fault(record.speed, _REPEATS.validate_python(rows))
    if quality and quality.fidelity and quality.fidelity.logprobs == sidecar:
        return _positions_fault(quality.fidelity, _POSITIONS.validate_python(rows))
    documents = _DOCUMENTS.validate_python(rows)
    asked = [task for task in quality.tasks if task.samples == sidecar] if quality else []
    return next(filter(None, (_documents_fault(task, documents) for task in asked)), None)


def _repeats_fault(speed: SpeedResult, rows: Sequence[_Repeat]) -> str | None:
    measured = [
        (load.request_rate_rps, load.concurrency, repeat.seed, *[repeat.completed] * 3)
        for load in speed.loads
        for repeat in load.repeats
    ]
    held = [
        (row.request_rate_rps, row.concurrency, row.seed, *map(len, row.latencies)) for row in rows
    ]
    return None if held == measured else "does not hold its record's repeats and requests"


def _documents_fault(task: TaskResult, rows: Sequence[_Document]) -> str | None:
    if not 0 < len(rows) == len({row.doc for row in rows}) == task.documents_effective:
        return "does not hold each of its record's documents once"
    if any(len(row.loglikelihoods) != len(row.bytes) for row in rows):
        return "does not hold a size for each log-likelihood"
    for row in rows:
        right = [*row.targets, *([] if row.target is None else [row.target])]
        if row.loglikelihoods and any(index >= len(row.loglikelihoods) for index in right):
            return "names a right choice that is none of the document's"
        if task.choices is not None and len(row.loglikelihoods) != task.choices:
            return "does not hold as many choices as its record says"
        if any(len(values) != len(task.sampling_seeds) for values in row.by_seed.values()):
            return "does not hold a value for each of its record's seeds"
    faults = (_metric_fault(metric, rows) for metric in task.metrics)
    return next(filter(None, faults), _texts_fault(task, [row.text for row in rows if row.text]))


def _texts_fault(task: TaskResult, texts: Sequence[_Text]) -> str | None:
    if len(texts) != (task.texts or 0):
        return "does not hold as many texts as its record says"
    return next(filter(None, (text.fault for text in texts)), None)


def _metric_fault(metric: Metric, rows: Sequence[_Document]) -> str | None:
    """Why the documents' values are not those of the metric; how it comes from them is recorded."""
    held = [row.metrics[metric.name] for row in rows if metric.name in row.metrics]
    if metric.aggregation is None:  # of a record from before it was, what can be known
        right = held.count(1)
        plain = len(held) == len(rows) == right + held.count(0)
        wrong = plain and abs(right / len(rows) - metric.value) > 1e-9
        return f"does not come to its record's {metric.name}" if wrong else None
    if metric.unit == "share" and any(not 0 <= value <= 1 for value in _all(held)):
        return f"has a share of {metric.name} that is not from 0 to 1"
    try:
        value = _aggregate(metric.aggregation, held)
    except (ArithmeticError, ValueError):
        return f"has values that no {metric.name} comes from"
    wrong = not math.isclose(value, metric.value, rel_tol=1e-6, abs_tol=1e-9)
    return f"does not come to its record's {metric.name}" if wrong else None


def _all(held: Sequence[float | list[float]]) -> list[float]:
    return [v for values in held for v in (values if isinstance(values, list) else [values])]


def _aggregate(how: str, held: Sequence[float | list[float]]) -> float:
    """A metric's value from its documents': see `records.record.Metric`.

    Raises:
        ValueError, ArithmeticError: they are not of the shape that it takes.
    """
    if how in ("mean", "perplexity"):
        values = _all(held)
        average = math.fsum(values) / len(values)
        return average if how == "mean" else math.exp(-average)
    pairs = [(values[0], values[1]) for values in held if isinstance(values, list) and values[1:]]
    if len(pairs) < len(held):
        raise ValueError("a document has no two numbers")
    nats = -math.fsum(first for first, _ in pairs) / math.fsum(second for _, second in pairs)
    return math.exp(nats) if how == "weighted perplexity" else nats / math.log(2)


def _positions_fault(fidelity: Fidelity, rows: Sequence[_Position]) -> str | None:
    return None if len(rows) == fidelity.positions else "does not hold its record's positions"
