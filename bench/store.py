"""bench/results/: canonical JSON, written once, atomically, never edited.

A record is `<hardware>/<variant>/<stage>-<UTC time>-<first 8 digits of the key>.json`; its
sidecars lie beside it, named by their hash. A newer record with the same key supersedes an older.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import BenchError, ConfigError, MachineError
from bench.record import SCHEMA_VERSION, Record, Sidecar, canonical_json

# From the version before to the one named; a record on disk keeps the version it was written in.
MIGRATIONS: dict[int, Any] = {}


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
    rows: list[Any] = json.loads(gzip.decompress(data))
    return rows


def sidecars(record: Record) -> list[Sidecar]:
    """Every sidecar that a record names."""
    found = [record.speed.requests] if record.speed else []
    if record.quality:
        found += [task.samples for task in record.quality.tasks]
        found += [record.quality.fidelity.logprobs] if record.quality.fidelity else []
    return found


def file_name(record: Record) -> str:
    """`<stage>-<UTC time>-<short key>.json`, the time being when the stage finished."""
    return f"{record.stage}-{record.provenance.finished_at:%Y%m%dT%H%M%SZ}-{record.key[:8]}.json"


def write(root: Path, record: Record, attached: Iterable[bytes] = ()) -> Path:
    """Stores a record and its attached sidecars, the record last, so that what is there is whole.

    Raises:
        MachineError: the disk is full or not writable; no file of this record is left.
        BenchError: a record of this name exists already; records are never overwritten.
    """
    folder = root / record.hardware / record.variant
    path = folder / file_name(record)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            for data in attached:
                sidecar = folder / f"{hashlib.sha256(data).hexdigest()}.json.gz"
                with contextlib.suppress(FileExistsError):  # named by its hash: the same bytes
                    _write_once(sidecar, data)
                    undo.callback(sidecar.unlink)
            _write_once(path, canonical_json(record.model_dump(mode="json")).encode())
            undo.pop_all()
    except FileExistsError as error:
        raise BenchError(f"{path} exists already", "records are never overwritten") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some disk space, then run again: finished stages are kept"
        raise MachineError(
            f"{path}: {error.strerror}", fix if full else "make the folder writable"
        ) from error
    return path


def _write_once(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.link(temporary, path)  # fails if the name is taken, unlike a rename
    finally:
        Path(temporary).unlink()


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
            raise ConfigError(
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
    return sorted(root.glob("*/*/*-*.json"))


def records(root: Path) -> Iterator[tuple[Path, Record]]:
    """Every record with its path, in the order of `paths`."""
    for path in paths(root):
        yield path, read(path)


def current(root: Path, hardware: str, variant: str, stage: str, key: str) -> Path | None:
    """The newest finished record of exactly this spec, or None if it must be measured."""
    for path in sorted((root / hardware / variant).glob(f"{stage}-*-{key[:8]}.json"), reverse=True):
        record = read(path)
        if record.key == key and record.status == "ok":
            return path
    return None
