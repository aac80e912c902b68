"""What was made of the records, kept in the cache, so that each folder of them is read once.

One SQLite file. A row of it is one part of what was made of one folder, and tells the hash of all
that it rests on: the bytes of every file in the folder, sidecars too, and the code that made it.
Nothing goes by a file's time or size. Whoever finds another hash, or a row that is not what was
written, makes it anew; a file that is no such table is thrown away. So the table may be removed,
broken or shared at any time, and changes how long something takes and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from bench.records.store import WRITING

T = TypeVar("T")
Parts = Mapping[str, bytes]  # by name; packed

_MAKE = """
    CREATE TABLE IF NOT EXISTS made (
        root TEXT, folder TEXT, part TEXT, rests_on TEXT, sha256 TEXT, packed BLOB,
        PRIMARY KEY (root, folder, part))
"""
PACKAGES = ("numpy", "scipy", "pydantic")  # that take part in making rows
_WAIT_S = 5  # for another process that writes; then one does without
# Nothing is wrong with the table itself; it is only not to be had.
_NOT_NOW = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM),
}


class Hashes(dict[str, str | None]):
    """By folder below a root, the hash of all files in it, each read when it is first asked for.

    None where they cannot be read. Whoever asks twice gets what was true at first.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def __missing__(self, folder: str) -> str | None:
        told = hashlib.sha256()
        try:
            with os.scandir(self._root / folder) as found:
                files = [each for each in found if not each.name.startswith(WRITING)]
            for each in sorted(files, key=attrgetter("name")):
                if each.is_file():
                    with open(each.path, "rb", buffering=0) as file:  # noqa: PTH123 - many
                        told.update(f"{each.name}\0{sha256(file.read())}\0".encode())
        except OSError:
            return self.setdefault(folder, None)
        return self.setdefault(folder, told.hexdigest())


class Table:
    """The parts that were made of the folders of one store."""

    def __init__(
        self,
        file: Path | None,
        root: Path,
        code: Iterable[Path],
        hashes: Hashes | None = None,
        packages: Sequence[str] = PACKAGES,
    ) -> None:
        """A table in `file`, of the folders below `root`; none at all where `file` is None.

        Args:
            code: the files that decide what is made; what is kept rests on them.
            hashes: of the folders, where another table asks for them too.
            packages: those that decide it too, by name.
        """
        self._packages = packages
        self._file, self._root, self._code = file, root.absolute(), sorted(code)
        self._hashes = Hashes(self._root) if hashes is None else hashes
        self._rested_on: dict[str, str | None] = {}

    def complete(
        self,
        folders: Collection[str],
        parts: Collection[str],
        make: Callable[[Sequence[str]], Iterable[Parts]],
    ) -> list[Parts]:
        """The parts of each folder, in their order: as they are kept, else made, and kept then.

        Args:
            make: is asked once, for all folders of which not all parts are kept.
        """
        found = self.read(folders, parts)
        missing = [folder for folder in folders if folder not in found]
        made = dict(zip(missing, make(missing), strict=True))
        self.keep(made)
        every = {**found, **made}
        return [every[folder] for folder in folders]

    def read(self, folders: Iterable[str], parts: Collection[str]) -> dict[str, Parts]:
        """What is kept of each of the folders, below `root`, that has all parts as made today."""
        if self._file is None:
            return {}
        self._rested_on = {folder: self._rests_on(self._hashes[folder]) for folder in folders}
        rows = ask(self._file, self._read(parts)) or ()
        found: dict[str, dict[str, bytes]] = {}
        for folder, part, rests_on, told, packed in rows:
            is_ours = isinstance(packed, bytes) and told == _sum(folder, part, rests_on, packed)
            if is_ours and rests_on == self._rested_on.get(folder):
                found.setdefault(folder, {})[part] = packed
        return {folder: own for folder, own in found.items() if len(own) == len(parts)}

    def _read(self, parts: Iterable[str]) -> Callable[[sqlite3.Connection], list[Any]]:
        """What is kept of some parts; others may be long."""
        return lambda table: [
            row for part in parts for row in table.execute(_READ, (str(self._root), part))
        ]

    def keep(self, made: Mapping[str, Parts]) -> None:
        """Keeps the parts made of folders that are still as they were when they were asked for."""
        now = Hashes(self._root)
        rows = [
            (str(self._root), folder, part, told, _sum(folder, part, told, packed), packed)
            for folder, parts in made.items()
            if (told := self._rested_on.get(folder)) and told == self._rests_on(now[folder])
            for part, packed in parts.items()
        ]
        if rows:
            ask(self._file, lambda table: _write(table, rows))

    def _rests_on(self, files: str | None) -> str | None:
        """The hash of all that decides what is made of a folder, its files' hash among it."""
        return None if files is None else sha256(self._made_by + files.encode())

    @cached_property
    def _made_by(self) -> bytes:
        used = [sys.version, *map(metadata.version, self._packages)]
        return "\0".join([*used, *(sha256(path.read_bytes()) for path in self._code)]).encode()


def ask(file: Path | None, what: Callable[[sqlite3.Connection], T]) -> T | None:
    """What the table answers, or None where there is none to ask; a broken one is removed."""
    if file is None:
        return None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file, timeout=_WAIT_S)) as table, table:
            table.execute(_MAKE)
            return what(table)
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF not in _NOT_NOW:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
    except OSError:
        return None  # no place for a cache
    return None


_READ = "SELECT folder, part, rests_on, sha256, packed FROM made WHERE root = ? AND part = ?"


def pack(text: bytes) -> bytes:
    """A part as it is kept."""
    return zlib.compress(text, 1)


def unpack(packed: bytes) -> bytes:
    """A part as it was made."""
    return zlib.decompress(packed)


def _write(table: sqlite3.Connection, rows: list[tuple[str, str, str, str, str, bytes]]) -> None:
    """Puts rows in place of those of the same folder, and removes those of stores that are gone."""
    for (root,) in table.execute("SELECT DISTINCT root FROM made").fetchall():
        gone = [(root, folder) for folder in _gone(table, root)]
        table.executemany("DELETE FROM made WHERE root = ? AND folder = ?", gone)
    table.executemany("INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, ?, ?)", rows)


def _gone(table: sqlite3.Connection, root: str) -> Iterator[str]:
    known = table.execute("SELECT DISTINCT folder FROM made WHERE root = ?", (root,)).fetchall()
    return (folder for (folder,) in known if not Path(root, folder).is_dir())


def sha256(data: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _sum(folder: str, part: str, rests_on: str, packed: bytes) -> str:
    """What tells that a row is as it was written."""
    return sha256(f"{folder}\0{part}\0{rests_on}\0".encode() + packed)
