"""On which line of a TOML file does each key stand?

`tomllib` gives values without positions. This walks over the words and brackets of a file once, in
time proportional to its length, and takes no value apart: `tomllib` says what the values are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]  # such as ("variant", 2, "serve", "dtype")

# Far more than any models.toml needs, far less than costs a parser minutes or its stack.
_DEEPEST = 16
_LONGEST_WORD = 100

_TOKEN = re.compile(
    r"""(?P<skipped>[ \t\r]+|\#[^\n]*)
    |(?P<quoted>\"""(?:[^\\]|\\.)*?"{3,5}|'''.*?'{3,5}|"(?!"")(?:[^"\\\n]|\\.)*"|'(?!'')[^'\n]*')
    |(?P<word>[^\s"'\[\]{}=,.\#]+)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)


def find_excess(text: str) -> tuple[int, str] | None:
    """The line and the reason where a text would cost its parser minutes, its stack or a traceback.

    Args:
        text: any text; no parser has seen it yet.
    """
    brackets = parts = 0
    for kind, piece, line in _tokens(text):
        brackets += (piece in ("[", "{")) - (piece in ("]", "}"))
        parts = parts + 1 if piece == "." else parts if kind != "mark" else 0
        if max(brackets, parts) > _DEEPEST:
            return line, "is nested too deeply"
        if kind == "word" and len(piece) > _LONGEST_WORD:
            return line, f"has a word of {len(piece):,} characters"
    return None


def key_lines(text: str) -> dict[KeyPath, int]:
    """Maps the path of every table, array element and key to its 1-based line.

    Args:
        text: a TOML document that `tomllib.loads` accepts.
    """
    lines: dict[KeyPath, int] = {(): 1}
    for path, line, _ in _places(text):
        for depth in range(1, len(path) + 1):
            lines.setdefault(path[:depth], line)
    return lines


def find_repeated(text: str) -> tuple[KeyPath, int, int] | None:
    """The first key or table that a text has twice: its path, and the lines of both.

    Args:
        text: a TOML document with nothing else wrong before that.
    """
    lines: dict[KeyPath, int] = {}
    keys: set[KeyPath] = set()
    for path, line, kind in _places(text):
        if kind == "value":
            continue
        again = [path] if path in lines else []
        if kind != "inner":  # a key gives its value whole; only a table may be continued
            again += [path[:depth] for depth in range(1, len(path)) if path[:depth] in keys]
        if kind == "table" and path[-1] == 0 and path[:-1] in lines:  # [[x]] after [x]
            again.append(path[:-1])
        if again:
            return again[0], lines[again[0]], line
        lines[path] = line
        if kind != "table":
            keys.add(path)
    return None


def _places(text: str) -> Iterator[tuple[KeyPath, int, str]]:
    """KeyPath, line and kind of all that is written, in its order.

    The kind is "table", "key", "inner" (a key between the braces of a value), or "value".
    """
    lengths: dict[KeyPath, int] = {}  # of arrays of tables
    table: KeyPath = ()
    inside: list[tuple[KeyPath, int | None]] = []  # open brackets; in an array, which element
    key: list[str] = []
    value: KeyPath | None = None  # what is being read; None while a key is expected
    header = 0
    for kind, piece, line in _tokens(text):
        if kind != "mark":
            if value is None:
                key.append(_plain(piece))
            else:
                yield value, line, "value"
        elif piece == "\n" and not inside:
            key, value, header = [], None, 0
        elif piece == "[" and value is None:
            header += 1
        elif piece == "]" and header:
            if key:
                table = _enter_table(key, header == 2, lengths)
                yield table, line, "table"
            key = []
        elif piece == "=":
            value = (inside[-1][0] if inside else table) + tuple(key)
            yield value, line, "inner" if inside else "key"
            key = []
        elif piece in "[{" and value is not None:
            yield value, line, "value"
            inside.append((value, 0 if piece == "[" else None))
            value = (*value, 0) if piece == "[" else None
        elif piece == "," and inside:
            path, element = inside.pop()
            inside.append((path, None if element is None else element + 1))
            value = None if element is None else (*path, element + 1)
        elif piece in "]}" and inside:
            value = inside.pop()[0]


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of the longest part of `path` that the file has."""
    while path not in lines:
        path = path[:-1]
    return lines[path]


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind ("quoted", "word" or "mark"), text and line of each; ends at an open quote."""
    line = 1
    for match in _TOKEN.finditer(text):
        kind, piece = match.lastgroup or "", match[0]
        if piece in ('"', "'"):
            return  # what follows would be searched for its end again and again
        if kind != "skipped":
            yield kind, piece, line
        line += piece.count("\n")


def _plain(key: str) -> str:
    if key[0] not in "\"'":
        return key
    plain: str = tomllib.loads(f"key = {key}")["key"]
    return plain


def _enter_table(key: list[str], is_array: bool, lengths: dict[KeyPath, int]) -> KeyPath:
    """The path a header opens; the last element of an array of tables is the open one."""
    path: KeyPath = ()
    for depth, part in enumerate(key, 1):
        path += (part,)
        if is_array and depth == len(key):
            lengths[path] = lengths.get(path, 0) + 1
        if path in lengths:
            path += (lengths[path] - 1,)
    return path
