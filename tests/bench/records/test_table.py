"""What is kept of the records: it changes how long something takes, and nothing else."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from bench.records import store
from bench.records.table import Parts, Table, pack, unpack

NAMES = ("h/a", "h/b", "h/c")


class Maker:
    """Makes two parts of each folder, and remembers of which it was asked to."""

    def __init__(self, root: Path, during: Callable[[], object] = lambda: None) -> None:
        self.root, self.during = root, during
        self.asked: list[list[str]] = []

    def __call__(self, folders: Sequence[str]) -> Iterable[Parts]:
        self.asked.append(list(folders))
        self.during()
        for folder in folders:
            path = self.root / folder / "x"
            yield {"text": path.read_bytes() if path.is_file() else b"", "name": folder.encode()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "x").write_text(name)
    (tmp_path / "code.py").write_text("one")
    return tmp_path / "results"


def complete(
    root: Path, *names: str, file: Path | None = None, during: Callable[[], object] = lambda: None
) -> list[list[str]]:
    """Which folders had to be made anew; that what was answered is right is seen here."""
    beside = root.parent
    table = Table(file or beside / "cache" / "made.sqlite", root, [beside / "code.py"])
    maker = Maker(root, during)
    found = table.complete(names or NAMES, ("text", "name"), maker)
    assert [each["name"].decode() for each in found] == list(names or NAMES)
    for name, each in zip(names or NAMES, found, strict=True):
        path = root / name / "x"
        assert each["text"] == (path.read_bytes() if path.is_file() else b"")
    return maker.asked


def rows(root: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(root.parent / "cache" / "made.sqlite")) as table:
        asked = table.execute("SELECT DISTINCT root, folder FROM made ORDER BY folder")
        return [(Path(where).name, folder) for where, folder in asked]


def test_what_is_kept_is_made_once_and_only_what_is_missing_after_that(root: Path) -> None:
    assert complete(root, "h/a", "h/c") == [["h/a", "h/c"]]
    assert complete(root) == [["h/b"]], "in one go, whatever stands between"
    assert complete(root) == [[]]
    assert complete(root, "h/c", "h/a") == [[]], "in the order that is asked for"
    assert rows(root) == [("results", name) for name in NAMES]


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file's bytes": lambda root: (root / "h/b/x").write_text("H/b"),
    "a new file": lambda root: (root / "h/b/y").write_text(""),
    "another name": lambda root: (root / "h/b/x").rename(root / "h/b/z"),
    "a file less": lambda root: (root / "h/b/x").unlink(),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_folder_that_changed_is_made_anew_and_no_other(kind: str, root: Path) -> None:
    complete(root)
    CHANGES[kind](root)
    assert complete(root) == [["h/b"]]
    assert complete(root) == [[]]


def test_other_code_makes_everything_anew(root: Path) -> None:
    complete(root)
    (root.parent / "code.py").write_text("two")
    assert complete(root) == [list(NAMES)]


def test_half_written_files_and_folders_below_are_nothing(root: Path) -> None:
    complete(root)
    (root / "h/a" / f"{store.WRITING}1").write_text("half")
    (root / "h/a" / "below").mkdir()
    assert complete(root) == [[]]


def test_nothing_is_kept_of_what_changed_while_it_was_made(root: Path) -> None:
    def change() -> None:
        (root / "h/b/x").write_text("meanwhile")

    assert complete(root, during=change) == [list(NAMES)]
    assert rows(root) == [("results", "h/a"), ("results", "h/c")]
    assert complete(root) == [["h/b"]]


def test_a_folder_that_is_not_there_is_made_each_time_and_not_kept(root: Path) -> None:
    assert complete(root, "h/none") == [["h/none"]]
    assert complete(root, "h/none", "h/a") == [["h/none", "h/a"]]
    assert rows(root) == [("results", "h/a")]


FORGED = {
    "what was made": "packed = X'00'",
    "a text, without a sum": "packed = 'text', sha256 = ''",
    "nothing, without a sum": "packed = NULL, sha256 = NULL",
    "of what it rests on": "rests_on = rests_on || 'x'",
    "the folder": "folder = 'h/other'",
    "the part": "part = 'other'",
    "the sum": "sha256 = 'x'",
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_row_that_is_not_what_was_written_counts_nothing(kind: str, root: Path) -> None:
    complete(root)
    forge = f"UPDATE made SET {FORGED[kind]} WHERE folder = 'h/b' AND part = 'text'"  # noqa: S608
    with contextlib.closing(sqlite3.connect(root.parent / "cache" / "made.sqlite")) as table, table:
        assert table.execute(forge).rowcount == 1
    assert complete(root) == [["h/b"]]
    assert complete(root) == [[]]


def test_a_part_more_or_less_than_is_asked_for_is_not_all_of_a_folder(root: Path) -> None:
    complete(root)
    table = Table(root.parent / "cache" / "made.sqlite", root, [root.parent / "code.py"])
    assert set(table.read(NAMES, ("text", "name"))) == set(NAMES)
    assert set(table.read(NAMES, ("text",))["h/a"]) == {"text"}
    assert table.read(NAMES, ("text", "name", "third")) == {}
    assert table.read((), ("text",)) == {}


def test_a_file_that_is_no_table_is_thrown_away(root: Path) -> None:
    complete(root)
    file = root.parent / "cache" / "made.sqlite"
    file.write_bytes(b"no table at all, and long enough to be seen as none" * 100)
    assert complete(root) == [list(NAMES)]
    assert complete(root) == [[]]


def test_a_table_that_is_only_not_to_be_had_stays_as_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.records.table._WAIT_S", 0.01)
    complete(root, "h/a", "h/b")
    file = root.parent / "cache" / "made.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert complete(root) == [list(NAMES)]
        assert file.exists()
        other.rollback()
    assert complete(root) == [["h/c"]]


@pytest.mark.parametrize("place", ["code.py/made.sqlite", "results"])
def test_where_no_file_can_be_nothing_is_kept_and_all_is_made(place: str, root: Path) -> None:
    file = root.parent / place  # below a file; a folder
    assert complete(root, file=file) == [list(NAMES)]
    assert complete(root, file=file) == [list(NAMES)]
    assert (root / "h/a/x").exists()


def test_without_a_file_all_is_made(root: Path) -> None:
    maker = Maker(root)
    for _ in range(2):
        table = Table(None, root, [])
        assert [each["name"] for each in table.complete(NAMES, ("text", "name"), maker)] == [
            name.encode() for name in NAMES
        ]
    assert maker.asked == [list(NAMES)] * 2


def test_folders_of_any_store_that_are_gone_leave_the_table_and_others_stay(root: Path) -> None:
    complete(root)
    other = root.rename(root.parent / "moved")
    (other / "h/c/x").write_text("changed")
    assert complete(other) == [list(NAMES)], "another store"
    assert rows(other) == [("moved", name) for name in NAMES]
    (other / "h/a/x").unlink()
    (other / "h/a").rmdir()
    (other / "h/b/x").write_text("changed")
    assert complete(other, "h/b", "h/c") == [["h/b"]]
    assert rows(other) == [("moved", "h/b"), ("moved", "h/c")]


def test_two_stores_share_a_table(root: Path) -> None:
    (root.parent / "second" / "h" / "a").mkdir(parents=True)
    (root.parent / "second" / "h" / "a" / "x").write_text("another")
    assert complete(root, "h/a") == [["h/a"]]
    assert complete(root.parent / "second", "h/a") == [["h/a"]]
    assert complete(root, "h/a") == complete(root.parent / "second", "h/a") == [[]]


def test_what_is_packed_unpacks_and_is_smaller() -> None:
    text = b"0123456789" * 1000
    assert unpack(pack(text)) == text
    assert len(pack(text)) < len(text) / 10
