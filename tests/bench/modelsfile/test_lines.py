"""Every key's line is where it stands, however the file is written, and soon."""

from __future__ import annotations

import time
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.modelsfile import lines as toml_lines
from bench.modelsfile import problems
from bench.modelsfile.lines import KeyPath

SCALARS = (
    "1", "-1.5e3", "inf", "true", "1979-05-27 07:32:00.999", '""', "''", '"a # [b] = \\" {"',
    "'c:\\'", '"""x"""', '""""two quotes""\\\n[not.a.table]\nnot_a_key = "x # \\""""',
    "'''\n[[no]]\nno = [ # {\n'' '''", '"""x""""', '"\u2028\x85 = ["',
)  # fmt: skip
KEYS = ("k{}", '"a.b {}"', "'# [{}] = '", '"\\u0041\\"{}"', "{}", '"é\u2028{}"')
GAPS = ("", " ", "\n", "  # ]} \"\"\" ''' [\n\n", "\n\t# a = [1,\n")


class Written:
    """A TOML document in the making, and where each of its keys was put."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {(): 1}
        self._keys = 0

    def one_of(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def note(self, path: KeyPath) -> None:
        for depth in range(1, len(path) + 1):
            self.lines.setdefault(path[:depth], self.text.count("\n") + 1)

    def key(self) -> tuple[str, str]:
        """A new key as written and as it reads."""
        self._keys += 1
        written = self.one_of(KEYS).format(self._keys)
        return written, next(iter(tomllib.loads(f"{written} = 0")))

    def pair(self, table: KeyPath, depth: int) -> None:
        parts = [self.key() for _ in range(self.one_of((1, 1, 2, 3)))]
        path = table + tuple(plain for _, plain in parts)
        self.note(path)
        self.text += self.one_of((".", " . ")).join(written for written, _ in parts) + " = "
        self.value(path, depth)

    def value(self, path: KeyPath, depth: int) -> None:
        self.note(path)
        kind = self.one_of(("scalar", "array", "inline")) if depth else "scalar"
        if kind == "scalar":
            self.text += self.one_of(SCALARS)
        elif kind == "array":
            self.text += "["
            for n in range(self.one_of((0, 1, 3))):
                self.text += self.one_of(GAPS)
                self.value((*path, n), depth - 1)
                self.text += self.one_of(GAPS) + ","
            self.text += self.one_of(GAPS) + "]"
        else:
            self.text += "{ "
            for n in range(self.one_of((0, 1, 2))):
                self.text += ", " if n else ""
                self.pair(path, depth - 1)
            self.text += " }"

    def pairs(self, table: KeyPath) -> None:
        for _ in range(self.one_of((0, 1, 2))):
            self.text += self.one_of(("", "\n", "# [x]\n", '# """\n'))
            self.pair(table, 2)
            self.text += self.one_of(("\n", "  # a = '''\n"))

    def table(self, written: str, path: KeyPath) -> None:
        self.note(path)
        self.text += written + self.one_of(("\n", " # [[ ]\n"))
        self.pairs(path)


@st.composite
def documents(draw: Any) -> tuple[str, dict[KeyPath, int]]:
    """A TOML document and the line of everything in it."""
    doc = Written(draw)
    doc.pairs(())
    for _ in range(doc.one_of((0, 1, 3))):
        name, plain = doc.key()
        if doc.one_of((True, False)):
            doc.table(f"[{name}]", (plain,))
            sub, plain_sub = doc.key()
            doc.table(f"[ {name} . {sub} ]", (plain, plain_sub))
            continue
        for n in range(doc.one_of((1, 2))):
            doc.table(f"[[{name}]]", (plain, n))
            doc.table(f"[{name}.sub]", (plain, n, "sub"))
            for m in range(2):
                doc.table(f"[[{name}.more]]", (plain, n, "more", m))
                doc.table(f"[{name}.more.on.l40]", (plain, n, "more", m, "on", "l40"))
    return doc.text.replace("\n", doc.one_of(("\n", "\r\n"))), doc.lines


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """The path of everything in a document as read."""
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    return {path}.union(*(paths(child, (*path, key)) for key, child in children))


@given(documents())
def test_every_key_is_where_it_stands(made: tuple[str, dict[KeyPath, int]]) -> None:
    text, lines = made
    assert paths(tomllib.loads(text)) == set(lines)  # else the generator itself is wrong
    assert toml_lines.key_lines(text) == lines
    assert toml_lines.find_excess(text) is None
    assert toml_lines.find_repeated(text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a = 1\n\na = 2", (("a",), 1, 3)),
        ("a = 1\n'a' = [\n1,\n2]\nz = z", (("a",), 1, 2)),
        ("a = 1\na.b = 2", (("a",), 1, 2)),
        ("a.b = 1\na.c = 1\na.b = 2", (("a", "b"), 1, 3)),
        ("a = { b = 1, b = 2 }", (("a", "b"), 1, 1)),
        ("a = { b = 1 }\na.c = 2", (("a",), 1, 2)),
        ("a = [{ b = 1 }, { b = 1, b = 2 }]", (("a", 1, "b"), 1, 1)),
        ("[a]\nb = 1\n[a]\n", (("a",), 1, 3)),
        ("[a.b]\n[a]\n[a]\n", (("a",), 2, 3)),
        ("a = 1\n[a]\n", (("a",), 1, 2)),
        ("[a]\n[[a]]\n", (("a",), 1, 2)),
        ("[[a]]\n[a]\n", (("a", 0), 1, 2)),
        ("a = []\n[[a]]\n", (("a",), 1, 2)),
        ("[[a]]\n[a.b]\n[[a]]\n[a.b]\n[a.b]\n", (("a", 1, "b"), 4, 5)),
    ],
)
def test_what_is_there_twice(text: str, found: tuple[KeyPath, int, int]) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    assert toml_lines.find_repeated(text) == found


def test_a_missing_key_is_on_its_tables_line() -> None:
    lines = toml_lines.key_lines("\n[[a]]\nb = 1\n")
    assert toml_lines.line_of(lines, ("a", 0, "c", "d")) == 2
    assert toml_lines.line_of(lines, ("z",)) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a = 1\nb = " + "[" * 17, (2, "is nested too deeply")),
        ("\n[" + "a." * 17 + "a]", (2, "is nested too deeply")),
        ("a" + " . 'b'" * 17 + " = 1", (1, "is nested too deeply")),
        ("a = {" + "b = {" * 17, (1, "is nested too deeply")),
        ("\n\na = " + "1" * 5000, (3, "has a word of 5,000 characters")),
        ("a = 0x" + "f" * 99, (1, "has a word of 101 characters")),
        ("a = " + "1" * 100, None),
        ("[" + "a." * 16 + "a]", None),
        ("a = [" * 1 + "[1.5], " * 99 + "]", None),
        ("a = '" + "[" * 200 + "'", None),
        ("# " + "[" * 200, None),
    ],
)
def test_what_would_cost_a_parser_its_stack_is_found_before_one_sees_it(
    text: str, found: tuple[int, str] | None
) -> None:
    assert toml_lines.find_excess(text) == found


@given(st.text(alphabet="ab.=[]{},#\"'\\\n\t 1", max_size=80))
def test_no_text_is_too_strange_for_either(text: str) -> None:
    excess = toml_lines.find_excess(text)
    assert excess is None or 1 <= excess[0] <= text.count("\n") + 1
    found = problems.find_problems(text)
    assert found, "no such text is an experiment"
    assert found == sorted(found, key=lambda problem: (problem.line, problem.key))


# Each is the unit of a file of any length that once cost, or could cost, time beyond its length.
HOSTILE = {
    "statements in a string": ("a = '''\n", "a=[\n[#\n", "'''\n"),
    "brackets in a string": ("a = '''\n", "x=[\n" + "[[[[[[[[\n" * 30, "'''\n"),
    "a long array": ("a = [\n", "[1],\n", "]\n"),
    "open strings": ("", '\\"""\n', ""),
    "escaped quotes": ('a = "', '\\"', '"\n'),
    "quotes": ("", '"""\\"""', ""),
    "unknown keys": ("", "a{n}=1\n", ""),
    "unknown tables": ("", "[[a{n}]]\n", ""),
    "variants of no family": ('[[family]]\nname="x"\n', '[[variant]]\nfamily="y{n}"\n', ""),
    "families": ("", '[[family]]\nname="{n}"\nbaseline="y"\n[[variant]]\nfamily="z{n}"\n', ""),
    "hardware": ("", '[[hardware]]\nid="h{n}"\n[[variant]]\nhardware=["g{n}"]\n', ""),
    "dotted keys": ("", "a{n}.b.c.d.e.f.g.h.i.j.k.l.m.n.o=1\n", ""),
    "blanks": ("a =", " ", "1"),
}


def cpu_s(text: str) -> float:
    """The quickest of two runs, in this process's own time: neighbours do not count."""
    times = []
    for _ in range(2):
        began = time.process_time()
        problems.find_problems(text)
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_time_for_a_hostile_file_grows_no_faster_than_its_length(name: str) -> None:
    first, unit, last = HOSTILE[name]

    def text(size: int) -> str:
        return first + "".join(unit.replace("{n}", str(n)) for n in range(size // len(unit))) + last

    small, large = text(problems.MAX_BYTES // 16), text(problems.MAX_BYTES // 2)
    # Eight times the length: 64 times the time would be quadratic, however often it is tried.
    assert any(cpu_s(large) < 24 * max(cpu_s(small), 0.002) for _ in range(3))
