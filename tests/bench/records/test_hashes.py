"""The hashes of folders: of all bytes in them, each read once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.records.store import WRITING
from bench.records.table import Hashes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "gpu" / "bf16"
    made.mkdir(parents=True)
    (made / "speed-1.json").write_text("one")
    (made / "rows.json.gz").write_text("two")
    return made


def test_whoever_asks_twice_is_told_the_same(tmp_path: Path, folder: Path) -> None:
    asked = Hashes(tmp_path)
    at_first = asked["gpu/bf16"]
    (folder / "speed-1.json").write_text("ONE")
    assert asked["gpu/bf16"] == at_first != Hashes(tmp_path)["gpu/bf16"]


def test_equal_time_and_size_hide_no_change(tmp_path: Path, folder: Path) -> None:
    path = folder / "rows.json.gz"
    before, times = Hashes(tmp_path)["gpu/bf16"], path.stat()
    path.write_text("six")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Hashes(tmp_path)["gpu/bf16"] != before


def test_a_name_counts_and_what_is_being_written_does_not(tmp_path: Path, folder: Path) -> None:
    before = Hashes(tmp_path)["gpu/bf16"]
    (folder / f"{WRITING}x").write_text("half of it")
    (folder / "a-folder.json").mkdir()
    assert Hashes(tmp_path)["gpu/bf16"] == before
    (folder / "speed-1.json").rename(folder / "speed-2.json")
    assert Hashes(tmp_path)["gpu/bf16"] != before


def test_a_folder_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    assert Hashes(tmp_path)["gpu/none"] is None
