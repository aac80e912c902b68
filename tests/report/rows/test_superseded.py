"""What nothing shown rests on leaves the site and, asked to, the tree, and can come back."""

from __future__ import annotations

import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import synthetic
from synthetic import BF16, FP8, START

from bench.errors import MachineError
from bench.records import store
from bench.records.record import Record, spec_key
from report.rows.results import load
from report.site import build

WEEK = timedelta(weeks=1)


def of_engine(record: Record, version: str) -> Record:
    """The record as the answer to what this version was asked."""
    spec = {**record.spec, "engine": {"name": "vllm", "version": version}}
    return record.model_copy(update={"spec": spec, "key": spec_key(spec)})


def sidecars(path: Path) -> set[Path]:
    return {path.parent / each.file for each in store.sidecars(store.read(path))}


@pytest.fixture
def records(tmp_path: Path) -> tuple[Path, set[Path], set[Path]]:
    """A store in which another engine measured anew; the sidecars of before and of today."""
    root = tmp_path / "results"
    before, today = set[Path](), set[Path]()
    for variant in (BF16, FP8):
        for make, places in ((synthetic.speed_record, 1), (synthetic.quality_record, 2)):
            old, new = (
                store.write(root, of_engine(record, version), data)
                for n, version in enumerate(("0.31.0", "0.32.0"))
                for record, data in (make(variant, finished=START + n * WEEK, seed=places + n),)
            )
            before |= sidecars(old)
            today |= sidecars(new)
    return root, before - today, today


def test_only_what_is_shown_has_its_raw_numbers_on_the_site(records: Any, tmp_path: Path) -> None:
    root, before, today = records
    assert before
    assert set(load(root, None).superseded_sidecars()) == before
    copied = tmp_path / "site"
    build._copy_records(load(root, None), copied)
    there = {path.relative_to(copied) for path in copied.rglob("*") if path.is_file()}
    kept = {*today, *store.paths(root)}
    assert there == {path.relative_to(root) for path in kept}


def test_documents_that_count_on_keep_their_raw_numbers(tmp_path: Path) -> None:
    """Of one question asked on another machine: not shown, and not asked again either."""
    record, data = synthetic.quality_record(BF16)
    store.write(tmp_path, record, data)
    moved, data = synthetic.quality_record(BF16, finished=START + WEEK, seed=7)
    machine = moved.environment.model_copy(update={"gpu_name": "Another"})
    store.write(tmp_path, moved.model_copy(update={"environment": machine}), data)
    loaded = load(tmp_path, None)
    assert [run.current for run in loaded.runs].count(False) == 1
    assert loaded.superseded_sidecars() == []


def test_archived_raw_numbers_leave_and_come_back(records: Any, tmp_path: Path, bench: Any) -> None:
    root, before, today = records
    held = {path: path.read_bytes() for path in before | today}
    target = tmp_path / "raw.tar"
    ran = bench("archive", target, "--results", root)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{len(before)} files, ")
    assert {path for path in held if path.is_file()} == today
    assert build.find_unshown(root) == {}, "every page is made without them"
    more = bench("archive", tmp_path / "more.tar", "--results", root)
    assert (more.code, more.out) == (0, "nothing is superseded; no file was written\n")
    assert not (tmp_path / "more.tar").exists()
    assert not (tmp_path / "more.tar").exists()
    with tarfile.open(target) as tar:
        tar.extractall(root, filter="data")
    assert {path: path.read_bytes() for path in held} == held
    for path in store.paths(root):
        for sidecar in store.sidecars(store.read(path)):
            store.read_sidecar(path, sidecar)  # checks its hash


def test_an_archive_is_never_overwritten(records: Any, tmp_path: Path) -> None:
    root, before, _ = records
    (tmp_path / "raw.tar").write_text("another year's")
    with pytest.raises(MachineError):
        store.archive(root, before, tmp_path / "raw.tar")
    assert (tmp_path / "raw.tar").read_text() == "another year's"
    assert all(path.is_file() for path in before)
