"""bench/results/: canonical JSON, written once, atomically, never edited.

A record is `<hardware>/<variant>/<stage>-<UTC time>-<first 8 digits of the key>.json`, with `-s2`
before the dot for a second session; its sidecars lie beside it, named by their hash. Records that
ask the same add up (see `identity`); none replaces another.
The disk must know hard links: only a link takes a name at once, and only if it is free.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from bench.errors import ConfigError, MachineError, MeasurementError
from bench.records.record import SCHEMA_VERSION, Record, Sidecar, canonical_json

Found = tuple[Path, Record]  # a record and where it is

# From the version before to the one named; a record on disk keeps the version it was written in.
MIGRATIONS: dict[int, Any] = {}

WRITING = ".writing-"  # what the name of a file begins with until it is whole
_LEFT_AFTER_S = 3600  # such a file is nobody's any more
_SECONDS_AHEAD = 60  # that a record's time may be moved on: so many of one stage and key
_SPACE = "free some disk space, then run again: finished stages are kept"
_WRITABLE = "make the folder writable, or name another with --results"
_FOLDER = "name a folder with --results"
_FIXES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise this shell's limit on the size of files (ulimit -f)",
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.ENOTDIR: _FOLDER,
    errno.EEXIST: _FOLDER,  # a file where a folder must be
    errno.ENAMETOOLONG: "name a shorter folder with --results",
}


# What `bench.ingest` takes of a stranger, so nothing longer is measured or written.
MAX_RECORD_BYTES = 4 * 2**20
MAX_SIDECAR_BYTES = 32 * 2**20
# What a sidecar unpacks to: 10,000 documents are 7 MB. Parsed, JSON may take 20 times its size.
MAX_SIDECAR_TEXT_BYTES = 64 * 2**20
# What fits, with room: a request takes three numbers, a document a hash and two for each choice.
MAX_REQUESTS = MAX_SIDECAR_TEXT_BYTES // 80
MAX_DOCUMENTS = MAX_SIDECAR_TEXT_BYTES // 800


class TakenError(MachineError):
    """There is a record of this name already."""


def pack_sidecar(rows: list[Any]) -> tuple[Sidecar, bytes]:
    """Rows as gzipped JSON lines of one array, the same bytes for the same rows."""
    text = "[\n" + ",\n".join(json.dumps(row, sort_keys=True, allow_nan=False) for row in rows)
    data = gzip.compress((text + "\n]\n").encode(), compresslevel=9, mtime=0)
    digest = hashlib.sha256(data).hexdigest()
    sidecar = Sidecar(file=f"{digest}.json.gz", sha256=digest, size_bytes=len(data), rows=len(rows))
    return sidecar, data


def read_sidecar(record_path: Path, sidecar: Sidecar) -> list[Any]:
    """The rows of a record's sidecar, after checking its hash.

    Raises:
        ConfigError: the file is missing or its bytes are not those the record names.
    """
    path = record_path.parent / sidecar.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "restore it from git history") from error
    if hashlib.sha256(data).hexdigest() != sidecar.sha256:
        raise ConfigError(f"{path}: its SHA-256 is not its name", "restore it from git history")
    rows: list[Any] = from_json(gzip.decompress(data))
    return rows


def sidecars(record: Record) -> list[Sidecar]:
    """Every sidecar that a record names."""
    found = [record.speed.requests] if record.speed else []
    if record.quality:
        found += [task.samples for task in record.quality.tasks]
        found += [record.quality.fidelity.logprobs] if record.quality.fidelity else []
    return found


def file_name(record: Record) -> str:
    """`<stage>-<UTC time>-<short key>.json`, the time being when the stage finished.

    Two machines may end sessions of one variant in the same second, so a later session is named.
    """
    which = f"-s{record.session}" if (record.session or 1) > 1 else ""
    time = f"{record.provenance.finished_at:%Y%m%dT%H%M%SZ}"
    return f"{record.stage}-{time}-{record.key[:8]}{which}.json"


def write(root: Path, record: Record, attached: Iterable[bytes] = ()) -> Path:
    """Stores a record and its attached sidecars, the record last, so that what is there is whole.

    Raises:
        MachineError: the disk is full or not writable, or there is a record of this name already,
            which is not overwritten; no file of this record is left.
        MeasurementError: it is larger than what `bench ingest` takes.
    """
    folder = root / record.hardware / record.variant
    path = folder / file_name(record)
    text = canonical_json(record.model_dump(mode="json")).encode()
    for size, most in ((len(text), MAX_RECORD_BYTES), *_sizes(attached := list(attached))):
        if size > most:
            raise MeasurementError(
                f"{path.name} would be {size:,} bytes long, and {most:,} is the most taken",
                "ask for fewer documents, prompts or repeats at once",
            )
    with _explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            for data in attached:
                sidecar = folder / f"{hashlib.sha256(data).hexdigest()}.json.gz"
                if _write_once(sidecar, data):  # else the same bytes are there: it is their hash
                    undo.callback(sidecar.unlink)
            if not _write_once(path, text):
                raise TakenError(
                    f"{path} exists already, and records are never overwritten",
                    "its name is the time it was finished: check this machine's clock",
                )
            undo.pop_all()
    return path


def write_finished(root: Path, record: Record, attached: Iterable[bytes] = ()) -> Path:
    """Stores a record that was just measured: it is none the worse for another of the same second.

    Its name is the time when it was finished, which another program, or a clock that was put back,
    may have used; then it is a second later, in what the record says too.

    Raises:
        MachineError, MeasurementError: as `write`.
    """
    attached = list(attached)
    for _ in range(_SECONDS_AHEAD):
        try:
            return write(root, record, attached)
        except TakenError:
            later = record.provenance.finished_at + timedelta(seconds=1)
            provenance = record.provenance.model_copy(update={"finished_at": later})
            record = record.model_copy(update={"provenance": provenance})
    return write(root, record, attached)


def archive(root: Path, sidecars: Iterable[Path], target: Path) -> None:
    """Moves sidecars out of the store into a new .tar file, which unpacks them into their places.

    Their records stay, and name each by the hash of its bytes.

    Raises:
        MachineError: the file is there already, or cannot be written; nothing was removed.
    """
    sidecars = list(sidecars)
    with _explained(target):
        with target.open("xb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for path in sidecars:
                entry = tarfile.TarInfo(path.relative_to(root).as_posix())
                data = path.read_bytes()
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        for path in sidecars:
            path.unlink()


def prepare(root: Path, wanted: Iterable[tuple[str, str]]) -> None:
    """Makes sure that records can be written, before anything is measured for them.

    Removes what killed processes left half written.

    Args:
        wanted: hardware and variant of the records to come, by their ids.

    Raises:
        MachineError: they cannot.
    """
    for hardware, variant in wanted:
        folder = root / hardware / variant
        probe = folder / f"{WRITING}probe-{os.getpid()}"
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                _write_once(probe, b"a record would be longer\n")
            finally:
                probe.unlink(missing_ok=True)
    for left in root.glob(f"*/*/{WRITING}*"):
        with contextlib.suppress(OSError):  # whole in the meantime, or another user's to remove
            if left.stat().st_mtime < time.time() - _LEFT_AFTER_S:
                left.unlink()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "check the disk, or name another folder with --results")
        raise MachineError(f"{path}: {error.strerror}", fix) from error


_GZIP = b"\x1f\x8b"


def _sizes(attached: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """The length of each sidecar, and the most that it may be."""
    for data in attached:
        yield len(data), MAX_SIDECAR_BYTES
        if data.startswith(_GZIP):  # which ends with the length of what is packed
            yield int.from_bytes(data[-4:], "little"), MAX_SIDECAR_TEXT_BYTES


def _write_once(path: Path, data: bytes) -> bool:
    """Whether the file is new; one that is there stays as it is."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=WRITING) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        try:
            os.link(file.name, path)  # fails if the name is taken, unlike a rename
        except FileExistsError:
            return False
    return True


class NewerSchemaError(ConfigError):
    """A record that only a newer version of this program can read."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def parse(text: str | bytes, path: Path) -> Record:
    """A record from its JSON, migrated from an older schema where needed.

    Raises:
        ConfigError: not JSON, not a record, or of a schema newer than this program.
    """
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if not isinstance(version, int) or isinstance(version, bool):
            raise ConfigError(f"{path}: schema_version is missing", "this is not a result record")
        if version > SCHEMA_VERSION:
            raise NewerSchemaError(
                f"{path}: written with schema {version}, this program knows {SCHEMA_VERSION}",
                "update this program (git pull)",
            )
        while version < SCHEMA_VERSION and version in MIGRATIONS:
            raw = MIGRATIONS[version](raw)
            version, text = raw["schema_version"], json.dumps(raw)
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path}: {where}: {first['msg']}", "see `bench schema record`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error})", "restore it from git history") from error


def read(path: Path) -> Record:
    """One record from disk; see `parse` for what it raises."""
    return parse(path.read_bytes(), path)


def paths(root: Path) -> list[Path]:
    """Every record's path, in the order of hardware, variant, stage and time."""
    return [path for own in by_folder(root).values() for path in own]


def by_folder(root: Path) -> dict[str, list[Path]]:
    """The same by the folder below `root` that they lie in: a variant on a hardware."""
    found: dict[str, list[Path]] = {}
    for hardware in _names(root):
        for variant in _names(root / hardware):
            folder = root / hardware / variant
            if own := [folder / name for name in fnmatch.filter(_names(folder), "*-*.json")]:
                found[f"{hardware}/{variant}"] = own
    return found


def _names(folder: Path) -> list[str]:
    """What is in a folder, sorted; nothing where it is none."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - ten times as quick as paths
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def records(root: Path) -> Iterator[tuple[Path, Record]]:
    """Every record with its path, in the order of `paths`."""
    for path in paths(root):
        yield path, read(path)


def of_stage(roots: Iterable[Path], hardware: str, variant: str, stage: str) -> list[Found]:
    """Every record of a stage of a variant on a hardware, the newest first.

    One that is under several roots is there once.
    """
    by_name = {
        name: folder / name
        for folder in (root / hardware / variant for root in roots)
        for name in fnmatch.filter(_names(folder), f"{stage}-*.json")
    }
    return [(path, read(path)) for _, path in sorted(by_name.items(), reverse=True)]
