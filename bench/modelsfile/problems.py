"""Everything wrong with a models.toml, in two rounds: line, key, what is wrong, what to write."""

from __future__ import annotations

import codecs
import difflib
import json
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench import config
from bench.errors import ConfigError
from bench.modelsfile import consistency
from bench.modelsfile import lines as toml_lines
from bench.modelsfile.lines import KeyPath

MAX_BYTES = 128 * 1024
_MOST = 100  # problems that anybody reads; finding the nearest word for thousands takes minutes
_TABLES: dict[str, type[config.Model]] = {
    "serve": config.ServeOptions,
    "speed": config.SpeedOptions,
    "quality": config.QualityOptions,
    "task": config.TaskOptions,
    "generation": config.Generation,
    "service_level": config.ServiceLevel,
    "decision": config.Decision,
    "hardware": config.Hardware,
    "family": config.Family,
    "variant": config.Variant,
}
_LISTS = ("hardware", "family", "variant")  # tables with double brackets, as quality's tasks are
# What `tomllib` says of a key or table that is there already.
_TWICE = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate inline")
# What `tomllib` says begins so, and there stands: what to write. The first that fits.
_SYNTAX = (
    ("Invalid", "[“”„‘’‚«»`]", "write straight quotes"),
    ("Invalid value", r"(?i:true|false|yes|no)(?![\w.-])", "write true or false, in lower case"),
    ("Invalid value", r"(?i:null|none|nil)(?![\w.-])", "leave the key out: TOML has no null"),
    ("Invalid value", r"\w", "write text in double quotes"),
    ("Invalid value", r"\.\d", "write a digit in front of the point"),
    ("Invalid value", r"\s*(?:#|$)", "write a value after the =, and ] after a list"),
    ("Expected newline", r"(?<=\w)[A-Za-z_]", "write text in double quotes"),  # such as 8B
    ("Expected newline", r"(?<=\s)\w", "write one key = value on a line"),
    ("Expected '=' after a key", r"", "write key = value"),
    ("Cannot declare", r"$", "write ] at its end"),
    ("Expected ']", r"", "write [name] above a table, [[name]] above each of a list"),
    ("Illegal character '\\n'", r"", "close the text on its line, with a straight quote"),
    ("Unescaped '\\'", r"", r"write \\ for each \, or put the text in single quotes"),
    ("Unclosed array", r"", "write commas between the values, and ] after the last"),
    ("Unclosed inline table", r"", "write commas between the keys, and } after the last"),
)
_TYPES = {
    "int_type": "write a whole number, without quotes",
    "float_type": "write a number, without quotes",
    "bool_type": "write true or false, without quotes",
    "string_type": "write it in double quotes",
    "tuple_type": "write a list, in [ ]",
    "model_type": "write a table, in { }",
    "dict_type": "write a table, in { }",
    "literal_error": "write one of these words, in double quotes",
    "finite_number": "write a number that is not infinite",
    "greater_than": "write a larger number",
    "greater_than_equal": "write a larger number",
    "less_than": "write a smaller number",
    "less_than_equal": "write a smaller number",
    "string_too_long": "shorten it",
    "too_long": "shorten the list",
    "too_short": "add to the list",
    "string_pattern_mismatch": "start with a letter or digit; then letters, digits, . _ and - only",
}
_SHAPES = {
    "name": "start with a letter or digit; then letters, digits, spaces and . , _ + ( ) - only",
    "family": "use the name of a [[family]]",
    "baseline": "use the name of a [[variant]]",
    "repo": "write it as the Hub does: owner/name",
    "tokenizer": "write it as the Hub does: owner/name",
    "file": "name one .gguf file inside the repository, without '..'",
    "revision": "use a 40-digit commit, a tag or a branch",
    "tokenizer_revision": "use a 40-digit commit, a tag or a branch",
    "id": "use lower-case letters, digits and hyphens",
    "reproduces": "use lower-case letters, digits and hyphens",
    "documents": 'write a whole number, or "all"',
    "request_rates": "write positive numbers of requests per second; inf for no limit",
    "concurrency": "write whole numbers of requests under way at once",
    "stages": 'write one or both of "speed" and "quality"',
}


@dataclass(frozen=True)
class Problem:
    """One thing to mend in models.toml."""

    line: int
    key: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.line}: {self.key}: {self.message}\n    fix: {self.fix}"


def load_experiment(path: Path) -> config.Experiment:
    """Reads and checks a models.toml.

    Raises:
        ConfigError: naming every problem of a round (see `check`), not just the first.
    """
    text, problems = read_text(path)
    experiment, problems = (None, problems) if problems else check(text)
    if experiment is None or problems:
        listing = "\n".join(f"  {path}:{problem}" for problem in problems)
        raise ConfigError(f"{path} has {len(problems)} problem(s):\n{listing}")
    return experiment


def read_text(path: Path) -> tuple[str, list[Problem]]:
    """The file's text, or why it is not a text this program will parse."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            return "", [Problem(1, "file", "is not a file", "name an existing models.toml")]
        if found.st_size > MAX_BYTES:
            fix = f"keep it under {MAX_BYTES // 1024} KiB"
            return "", [Problem(1, "file", f"is {found.st_size:,} bytes long", fix)]
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        return "", [Problem(1, "file", reason.lower(), "name an existing models.toml")]
    if data.startswith(codecs.BOM_UTF8):
        fix = "save the file as UTF-8 without one"
        return "", [Problem(1, "file", "begins with a byte-order mark", fix)]
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return "", [Problem(line, "file", "is not UTF-8 text", "save the file as UTF-8")]


def find_problems(text: str) -> list[Problem]:
    """All problems of a models.toml's text, in the order of its lines; of very many, the first."""
    return check(text)[1]


def check(
    text: str, references: Path | None = None
) -> tuple[config.Experiment | None, list[Problem]]:
    """The experiment as the schema has it, and everything wrong with it.

    In two rounds: what the schema refuses; and when that is mended, where tables disagree.

    Args:
        references: the folder of the published results that `reproduces` is held against. A run
            does without: there the word is a label.
    """
    if excess := toml_lines.find_excess(text):
        line, reason = excess
        fix = "write only what `bench schema models` knows"
        return None, [Problem(line, "file", reason, fix)]
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, [_syntax_problem(text, str(error))]
    lines = toml_lines.key_lines(text)
    try:
        experiment = config.parse(config.Experiment, raw)
    except ValidationError as error:
        return None, _located(_refusals(error, raw, lines), lines)
    found = list(consistency.disagreements(experiment))
    if references:
        found += consistency.unpublished(experiment.variant, published_ids(references))
    return experiment, _located(found, lines)


def published_ids(folder: Path) -> list[str]:
    """The ids of the rows of every publication in a folder.

    Raises:
        ConfigError: a file is not a publication.
    """
    ids: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            ids += [row["id"] for row in json.loads(path.read_bytes())["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} has no rows with ids", "mend the file") from error
    return ids


def _located(found: Iterable[consistency.Disagreement], lines: dict[KeyPath, int]) -> list[Problem]:
    """Each with its line, in their order; what many variants share is said of the first."""
    problems: dict[tuple[int, str, str], Problem] = {}
    for path, message, fix in found:
        problem = Problem(toml_lines.line_of(lines, path), dotted(path), message, fix)
        problems.setdefault((problem.line, problem.key, fix), problem)
        if len(problems) > _MOST:
            break
    ordered = sorted(problems.values(), key=lambda problem: (problem.line, problem.key))
    if len(ordered) > _MOST:
        line = ordered[_MOST].line
        ordered[_MOST:] = [Problem(line, "file", "has further problems", "mend those above first")]
    return ordered


def _syntax_problem(text: str, message: str) -> Problem:
    if message.startswith(_TWICE) and (found := toml_lines.find_repeated(text)):
        path, first, line = found
        fix = "keep one of the two"
        if isinstance(path[-1], int) and _is_list(path[:-1]):
            told = "is one table here, and a list of tables above"
            return Problem(line, dotted(path[:-1]), told, f"write [[{_heading(path)}]]")
        if _is_list(path):
            fix = f"write [[{_heading(path)}]] above each"
        elif message.startswith("Cannot declare"):
            fix = "keep one of the two, with the keys of both"
        return Problem(line, dotted(path), f"is given twice, first on line {first}", fix)
    reason, _, position = message.rpartition(" (at ")
    lines = text.split("\n")
    stands = [int(number) for number in re.findall(r"\d+", position)]  # none at the text's end
    line, column = stands or (len(lines), len(lines[-1]) + 1)
    fixes = (
        fix
        for said, there, fix in _SYNTAX
        if reason.startswith(said) and re.compile(there).match(lines[line - 1], column - 1)
    )
    fix = next(fixes, "write valid TOML 1.0 here")
    return Problem(line, "syntax", reason[:1].lower() + reason[1:], fix)


def _refusals(
    error: ValidationError, raw: dict[str, Any], lines: dict[KeyPath, int]
) -> Iterator[consistency.Disagreement]:
    """What the schema refuses, in the order of the lines."""
    details: list[tuple[KeyPath, str, str]] = []
    seen: set[KeyPath] = set()
    for detail in error.errors(include_url=False):
        path = _written_part(raw, detail["loc"], detail["type"])
        # A union's branches fail one by one: one of them is enough to say.
        told = len(path) < len(detail["loc"]) and path in seen
        seen.add(path)
        # Some arrays are too short only because pydantic left out elements with problems.
        short = detail["type"] == "too_short" and _at(raw, path)
        if not told and not short:
            details.append((path, detail["type"], detail["msg"]))
    details.sort(key=lambda detail: toml_lines.line_of(lines, detail[0]))
    for path, kind, message in details:
        yield (path, *_explain(path, kind, message))


def _at(value: Any, path: KeyPath) -> Any:
    for part in path:
        value = value[part]
    return value


def _written_part(raw: Any, loc: tuple[int | str, ...], kind: str) -> KeyPath:
    """Cuts what pydantic adds to a location (union branches) off; keeps a missing key."""
    path: KeyPath = ()
    for part in loc:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return (*path, part) if kind == "missing" else path
        path += (part,)
    return path


def _explain(path: KeyPath, kind: str, message: str) -> tuple[str, str]:
    key = str(path[-1]) if path else "file"
    if kind == "tuple_type" and _is_list(path):
        return "is one table, not a list of tables", f"write [[{_heading(path)}]] above each"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, _known_keys(path[:-1]), n=1)
        known = ", ".join(sorted(_known_keys(path[:-1])))
        return "unknown key", f"did you mean {near[0]!r}?" if near else f"use one of: {known}"
    if kind == "missing":
        return "missing", f"add {key}; see `bench schema models`"
    table = next((part for part in reversed(path[:-1]) if isinstance(part, str)), "")
    shape = _SHAPES.get(key) or _SHAPES.get(table)
    how = _TYPES.get(kind, "change the value; see `bench schema models`")
    fix = f"{how}; {shape}" if shape and kind in ("string_type", "tuple_type") else shape or how
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:], fix


def _known_keys(table: KeyPath) -> list[str]:
    names = [part for part in table if isinstance(part, str)]
    if not names:
        return list(config.Experiment.model_fields)
    if len(names) >= 2 and names[-2] == "on":
        return list(config.Overrides.model_fields)
    return list(_TABLES[names[-1]].model_fields) if names[-1] in _TABLES else []


def _is_list(path: KeyPath) -> bool:
    heading = _heading(path)
    is_element = bool(path) and isinstance(path[-1], int)
    return not is_element and (heading in _LISTS or f".{heading}".endswith(".quality.task"))


def _heading(path: KeyPath) -> str:
    """The path as it stands between the brackets above a table."""
    return ".".join(part for part in path if isinstance(part, str))


def dotted(path: Iterable[str | int]) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            # Any text can be a key; what is printed must neither steer a terminal nor fill it.
            shown = part if re.fullmatch(r"[\w-]{1,64}", part, re.ASCII) else json.dumps(part[:64])
            text += f".{shown}" if text else shown
    return text or "file"
