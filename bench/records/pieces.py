"""What was made of one text and of nothing else, kept beside the table, so that it is made once.

It is found by the hash of that text; so there is nothing that could be stale. What was not asked
for the last time is removed, and what is not as it was written is made anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.records import table

_MAKE = """
    CREATE TABLE IF NOT EXISTS pieces (
        root TEXT, kind TEXT, made_of TEXT, sha256 TEXT, packed BLOB,
        PRIMARY KEY (root, kind, made_of))
"""
_Row = tuple[str, str, str, str, bytes]


def complete(
    file: Path | None,
    root: Path,
    kind: str,
    texts: Iterable[str],
    make: Callable[[Sequence[str]], Iterable[str]],
) -> dict[str, str]:
    """What is made of each text: as it is kept in `file`, else made, and kept then.

    Args:
        file: None where nothing is kept.
        root: for whose report it is made; another's is left alone.
        kind: of which the texts are all that is asked for.
        make: is asked once, for all texts of which nothing is kept.
    """
    hashes = {text: table.sha256(text.encode()) for text in texts}
    where = (str(root.absolute()), kind)
    kept = table.ask(file, lambda asked: _read(asked, where)) or {}
    found = {text: kept[own] for text, own in hashes.items() if own in kept}
    missing = [text for text in hashes if text not in found]
    made = dict(zip(missing, make(missing), strict=True))
    unasked = kept.keys() - set(hashes.values())
    rows = [_row(where, hashes[text], own) for text, own in made.items()]
    if rows or unasked:
        table.ask(file, lambda asked: _write(asked, rows, [(*where, own) for own in unasked]))
    return {**found, **made}


def _read(asked: sqlite3.Connection, where: tuple[str, str]) -> dict[str, str]:
    """What is kept, as it was written, by the hash of what it was made of."""
    asked.execute(_MAKE)
    rows = asked.execute(
        "SELECT made_of, sha256, packed FROM pieces WHERE root = ? AND kind = ?", where
    )
    return {
        made_of: table.unpack(packed).decode()
        for made_of, told, packed in rows
        if isinstance(packed, bytes) and told == _sum(where, made_of, packed)
    }


def _write(
    asked: sqlite3.Connection, rows: Sequence[_Row], unasked: Sequence[tuple[str, str, str]]
) -> None:
    """Adds rows, and removes what nobody asks for, nor anybody can."""
    gone = [
        (root,)
        for (root,) in asked.execute("SELECT DISTINCT root FROM pieces").fetchall()
        if not Path(root).is_dir()
    ]
    asked.executemany("DELETE FROM pieces WHERE root = ?", gone)
    asked.executemany("DELETE FROM pieces WHERE root = ? AND kind = ? AND made_of = ?", unasked)
    asked.executemany("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?, ?)", rows)


def _row(where: tuple[str, str], made_of: str, made: str) -> _Row:
    packed = table.pack(made.encode())
    return *where, made_of, _sum(where, made_of, packed), packed


def _sum(where: tuple[str, str], made_of: str, packed: bytes) -> str:
    return table.sha256("\0".join([*where, made_of, ""]).encode() + packed)
