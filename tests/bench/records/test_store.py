"""The store: written once, whole or not at all, and what of it is current."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import ConfigError, MachineError, MeasurementError
from bench.records import store
from bench.records.record import Record, canonical_json

RECORD, ATTACHED = synthetic.quality_record(synthetic.AWQ, documents=20, tasks=("a", "b"))
ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(("doc", "hash", "ttft_ms")),
        st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    ),
    max_size=5,
)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def later(record: Record, minutes: int, **changes: Any) -> Record:
    time = record.provenance.finished_at + timedelta(minutes=minutes)
    provenance = record.provenance.model_copy(update={"finished_at": time})
    return record.model_copy(update={"provenance": provenance, **changes})


def test_what_is_written_is_read_and_the_bytes_are_canonical(tmp_path: Path) -> None:
    path = store.write(tmp_path, RECORD, ATTACHED)
    assert store.read(path) == RECORD
    assert path.read_text() == canonical_json(RECORD.model_dump(mode="json"))
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.relative_to(tmp_path) == Path(
        f"l40/qwen3-8b-awq/quality-20260301T120000Z-{RECORD.key[:8]}.json"
    )
    assert store.paths(tmp_path) == [path]
    assert list(store.records(tmp_path)) == [(path, RECORD)]
    named = {sidecar.file for sidecar in store.sidecars(RECORD)}
    assert {path.name for path in path.parent.glob("*.json.gz")} == named
    for sidecar in store.sidecars(RECORD):
        assert len(store.read_sidecar(path, sidecar)) == sidecar.rows == 20
    assert len(files(tmp_path)) == 3, "nothing temporary stays"


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    path = store.write(tmp_path, RECORD, ATTACHED)
    before = {file: (tmp_path / file).read_bytes() for file in files(tmp_path)}
    changed = RECORD.model_copy(update={"hardware_name": "Other"})
    _, other = store.pack_sidecar([{"other": 1}])
    with pytest.raises(MachineError) as refused:
        store.write(tmp_path, changed, [*ATTACHED, other])
    assert refused.value.message == f"{path} exists already, and records are never overwritten"
    assert refused.value.fix == "its name is the time it was finished: check this machine's clock"
    assert {file: (tmp_path / file).read_bytes() for file in files(tmp_path)} == before


def test_two_records_may_share_a_sidecar(tmp_path: Path) -> None:
    first = store.write(tmp_path, RECORD, ATTACHED)
    second = store.write(tmp_path, later(RECORD, 1), ATTACHED)
    assert first != second
    assert len(files(tmp_path)) == 4


FAILING = {
    "folder": (Path, "mkdir"),
    "temporary file": (tempfile, "NamedTemporaryFile"),
    "fsync": (os, "fsync"),
    "link": (os, "link"),
}


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("where", FAILING)
@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "free some disk space, then run again: finished stages are kept"),
        (errno.EACCES, "make the folder writable, or name another with --results"),
        (errno.EROFS, "make the folder writable, or name another with --results"),
        (errno.EFBIG, "raise this shell's limit on the size of files (ulimit -f)"),
        (errno.EIO, "check the disk, or name another folder with --results"),
    ],
)
def test_a_full_disk_leaves_nothing_and_says_so(
    call: int, where: str, code: int, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system call fails the first, second or third time: sidecar, sidecar, record."""
    module, name = FAILING[where]
    real = getattr(module, name)
    calls = 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (1 if where == "folder" else call):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, fail)
    with pytest.raises(MachineError) as failed:
        store.write(tmp_path, RECORD, ATTACHED)
    assert failed.value.exit_code == 3
    assert failed.value.fix == fix
    assert os.strerror(code) in failed.value.message
    assert files(tmp_path) == []
    monkeypatch.undo()
    store.write(tmp_path, RECORD, ATTACHED)
    assert len(files(tmp_path)) == 3, "the next run continues"


def prepare(root: Path) -> None:
    store.prepare(root, [(RECORD.hardware, RECORD.variant)])


def test_a_folder_is_made_and_tried_before_anything_is_measured(tmp_path: Path) -> None:
    root = tmp_path / "new" / "results"
    prepare(root)
    assert (root / RECORD.hardware / RECORD.variant).is_dir()
    assert files(root) == []
    store.write(root, RECORD, ATTACHED)
    prepare(root)
    assert len(files(root)) == 3


@pytest.mark.parametrize("where", ["", RECORD.hardware, f"{RECORD.hardware}/{RECORD.variant}"])
def test_a_file_where_a_folder_must_be(where: str, tmp_path: Path) -> None:
    place = tmp_path / "results" / where
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")
    for act in (lambda: prepare(tmp_path / "results"), lambda: store.write(place, RECORD)):
        with pytest.raises(MachineError) as failed:
            act()
        assert failed.value.fix == "name a folder with --results"


def test_a_disk_that_fails_is_noticed_by_a_real_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError, match="Input/output error") as failed:
        prepare(tmp_path)
    assert failed.value.fix == "check the disk, or name another folder with --results"
    assert files(tmp_path) == []


def test_only_what_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / RECORD.hardware / RECORD.variant
    folder.mkdir(parents=True)
    old, new = folder / ".writing-killed", folder / ".writing-now"
    for path in (old, new):
        path.write_text("half a rec")
    os.utime(old, (0, 0))
    prepare(tmp_path)
    assert list(folder.iterdir()) == [new]


def test_a_disk_that_is_really_full_leaves_nothing(tmp_path: Path) -> None:
    """A file-size limit of the kernel stands for the disk: the write itself fails, half-way."""
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from bench.records import store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "record = store.read(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    store.write(Path(sys.argv[2]), record)\n"
        "except store.MachineError as error:\n"
        "    sys.exit(error.exit_code)\n"
    )
    source = store.write(tmp_path / "source", RECORD)
    target = tmp_path / "target"
    ran = subprocess.run(
        [sys.executable, "-c", program, source, target], capture_output=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (3, b"")
    assert files(target) == []


@given(ROWS)
def test_a_sidecar_reads_back_and_equal_rows_have_equal_bytes(rows: list[Any]) -> None:
    sidecar, data = store.pack_sidecar(rows)
    assert store.pack_sidecar([dict(reversed(row.items())) for row in rows]) == (sidecar, data)
    assert sidecar.sha256 == hashlib.sha256(data).hexdigest()
    assert (sidecar.file, sidecar.size_bytes) == (f"{sidecar.sha256}.json.gz", len(data))
    assert sidecar.rows == len(rows)
    assert data[4:8] == bytes(4), "no time of making"
    assert json.loads(gzip.decompress(data)) == rows


def test_a_sidecar_has_no_word_for_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.pack_sidecar([{"ttft_ms": float("nan")}])


def test_a_sidecar_that_was_changed_or_lost_is_not_read(tmp_path: Path) -> None:
    path = store.write(tmp_path, RECORD, ATTACHED)
    sidecar = store.sidecars(RECORD)[0]
    file = path.parent / sidecar.file
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError) as changed:
        store.read_sidecar(path, sidecar)
    assert changed.value.message == f"{file}: its SHA-256 is not its name"
    file.unlink()
    with pytest.raises(ConfigError) as lost:
        store.read_sidecar(path, sidecar)
    assert lost.value.message == f"{file}: No such file or directory"
    assert lost.value.fix == changed.value.fix == "restore it from git history"


def as_json(**changes: Any) -> bytes:
    return canonical_json(RECORD.model_dump(mode="json") | changes).encode()


@pytest.mark.parametrize(
    ("data", "message", "fix"),
    [
        (
            as_json(schema_version=2),
            "written with schema 2, this program knows 1",
            "update this program (git pull)",
        ),
        (as_json(schema_version=0), "schema_version: Input should be 1", "bench schema record"),
        (as_json(schema_version=True), "schema_version is missing", "this is not a result record"),
        (as_json(schema_version="1"), "schema_version is missing", "this is not a result record"),
        (b"[]", "schema_version is missing", "this is not a result record"),
        (as_json()[:-20], "not JSON (", "restore it from git history"),
        (b"", "not JSON (", "restore it from git history"),
        (b"\xff\xfe", "not JSON (", "restore it from git history"),
        (b"[" * 100_000, "not JSON (", "restore it from git history"),
        (b'{"schema_version": ' + b"1" * 5000 + b"}", "not JSON (", "restore it"),
        (as_json(spec={"a": 0}).replace(b'"a": 0', b'"a": NaN'), "NaN is not a JSON number", ""),
        (as_json(host_name="x"), "host_name: Extra inputs are not permitted", ""),
        (as_json(key="x"), "key: String should match pattern", ""),
        (as_json(variant="../x"), "variant: String should match pattern", ""),
        (as_json(price_per_hour_usd="1"), "price_per_hour_usd: Input should be a valid", ""),
    ],
)
def test_what_is_no_record_of_ours_is_refused_by_name(
    data: bytes, message: str, fix: str, tmp_path: Path
) -> None:
    path = tmp_path / "l40" / "v" / "speed-20260101T000000Z-00000000.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        store.read(path)
    assert refused.value.message.startswith(f"{path}: ")
    assert message in refused.value.message
    assert fix in refused.value.fix
    with pytest.raises(ConfigError):
        list(store.records(tmp_path))


def test_an_older_record_is_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_minus_one(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "schema_version": 0, "was": "-1"}

    def from_zero(raw: dict[str, Any]) -> dict[str, Any]:
        assert raw.pop("was") == "-1"
        return {**raw, "schema_version": 1}

    monkeypatch.setattr(store, "MIGRATIONS", {-1: from_minus_one, 0: from_zero})
    assert store.parse(as_json(schema_version=-1), Path("x")) == RECORD


def names(root: Path, *others: Path, stage: str = "speed") -> list[str]:
    found = store.of_stage([root, *others], RECORD.hardware, RECORD.variant, stage)
    assert [store.read(path) for path, _ in found] == [record for _, record in found]
    return [path.name for path, _ in found]


def test_a_stages_records_are_found_the_newest_first_whatever_became_of_them(
    tmp_path: Path,
) -> None:
    assert names(tmp_path) == []
    paths = [store.write(tmp_path, later(RECORD, minutes)) for minutes in (1, -1, 0)]
    failed = RECORD.model_copy(update={"status": "failed"})
    paths.append(store.write(tmp_path, later(failed, 2, key="f" * 64)))
    assert names(tmp_path, stage="quality" if RECORD.stage == "speed" else "speed") == []
    stage = RECORD.stage
    assert names(tmp_path, stage=stage) == [paths[n].name for n in (3, 0, 2, 1)]


def test_a_record_that_is_under_two_roots_counts_once(tmp_path: Path) -> None:
    for root in ("a", "b"):
        store.write(tmp_path / root, RECORD)
    other = store.write(tmp_path / "b", later(RECORD, 1))
    found = names(tmp_path / "a", tmp_path / "b", stage=RECORD.stage)
    assert found == [other.name, store.file_name(RECORD)]


def test_two_sessions_that_end_in_the_same_second_have_two_names(tmp_path: Path) -> None:
    """As they do on two machines; the first is named as records were before they were counted."""
    plain = store.file_name(RECORD)
    assert store.file_name(RECORD.model_copy(update={"session": 1})) == plain
    assert store.file_name(RECORD.model_copy(update={"session": 2})) == (
        plain.removesuffix(".json") + "-s2.json"
    )


def test_nothing_is_written_that_would_be_refused_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_SIDECAR_TEXT_BYTES", 10)
    with pytest.raises(MeasurementError, match="10 is the most taken"):
        store.write(tmp_path, RECORD, ATTACHED)
    monkeypatch.undo()
    monkeypatch.setattr(store, "MAX_RECORD_BYTES", 100)
    with pytest.raises(MeasurementError, match="100 is the most taken"):
        store.write(tmp_path, RECORD, ATTACHED)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
