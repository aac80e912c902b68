"""Pieces: made once for each text, and made anew whatever becomes of what is kept."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from bench.records import pieces


class Maker:
    """Writes a text in capitals, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Iterable[str]:
        self.asked += texts
        return [text.upper() for text in texts]


def complete(file: Path | None, root: Path, texts: Sequence[str], kind: str = "loud") -> list[str]:
    """What had to be made, once it is clear that all is there."""
    maker = Maker()
    assert pieces.complete(file, root, kind, texts, maker) == {each: each.upper() for each in texts}
    return maker.asked


def test_each_is_made_once_and_what_nobody_asks_for_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "records.sqlite"
    assert complete(file, tmp_path, ["a", "b", "a"]) == ["a", "b"]
    assert complete(file, tmp_path, ["b", "a"]) == []
    assert complete(file, tmp_path, ["b", "c"]) == ["c"]
    assert complete(file, tmp_path, ["a", "b"]) == ["a"]
    assert complete(None, tmp_path, ["a"]) == ["a"], "nothing is kept"


def test_another_store_and_another_kind_have_their_own(tmp_path: Path) -> None:
    file, gone = tmp_path / "records.sqlite", tmp_path / "gone"
    gone.mkdir()
    assert complete(file, gone, ["a"]) == ["a"]
    assert complete(file, tmp_path, ["a"]) == ["a"]
    assert complete(file, tmp_path, ["b"], "quiet") == ["b"]
    assert complete(file, gone, ["a"]) == complete(file, tmp_path, ["a"]) == []
    gone.rmdir()
    assert complete(file, tmp_path, ["a", "c"]) == ["c"]
    with sqlite3.connect(file) as table:
        roots = table.execute("SELECT DISTINCT root FROM pieces").fetchall()
    table.close()
    assert roots == [(str(tmp_path),)]


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE pieces SET packed = x'00'",
        "UPDATE pieces SET packed = NULL",
        "UPDATE pieces SET sha256 = 'another'",
        "UPDATE pieces SET made_of = made_of || 'x'",
        "UPDATE pieces SET root = root || '/x'",
        "DELETE FROM pieces",
    ],
)
def test_what_is_not_as_it_was_written_is_made_anew(tmp_path: Path, harm: str) -> None:
    file = tmp_path / "records.sqlite"
    complete(file, tmp_path, ["a"])
    with sqlite3.connect(file) as table:
        table.execute(harm)
    table.close()
    assert complete(file, tmp_path, ["a"]) == ["a"]
    assert complete(file, tmp_path, ["a"]) == []


@pytest.mark.parametrize("content", [b"", b"no table", b"SQLite format 3\0 and no more"])
def test_a_file_that_is_no_table_is_replaced(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "records.sqlite"
    file.write_bytes(content)
    assert complete(file, tmp_path, ["a"]) == ["a"]
    complete(file, tmp_path, ["a"])
    assert complete(file, tmp_path, ["a"]) == []


def test_a_table_of_other_columns_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite"
    with sqlite3.connect(file) as table:
        table.execute("CREATE TABLE pieces (other TEXT)")
    table.close()
    assert complete(file, tmp_path, ["a"]) == ["a"]
    complete(file, tmp_path, ["a"])
    assert complete(file, tmp_path, ["a"]) == []
