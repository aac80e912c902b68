"""Which arguments the engine accepts, from its own parsers, and the command line made of them.

`locks/serve-arguments.json` holds, for each engine version and build, every argument of `vllm
serve` and `vllm bench serve` as vLLM's parsers describe it (`locks/dump_arguments.py` writes it).
Whether this machine's GPU has the chosen kernel, only the running engine knows.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.config import Build, ServeOptions
from bench.engine import installed

Command = Literal["serve", "bench serve"]
_TABLE = Path(__file__).parent / "locks" / "serve-arguments.json"
_NUMBERS = {"int": int, "float": float}


@dataclass(frozen=True)
class Refusal:
    """One option the engine would not take; `key` is as in models.toml, or the argument's name."""

    key: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message} ({self.fix})"


def serve_argv(options: ServeOptions) -> list[str]:
    """The options that are set as arguments of `vllm serve`, in the order of their fields."""
    return _argv(options.model_dump(mode="json", exclude_none=True))


def _argv(options: Mapping[str, Any]) -> list[str]:
    argv = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            argv.append(f"--{name}" if value else f"--no-{name}")
        else:
            argv += [f"--{name}", str(value)]
    return argv


def check(
    options: ServeOptions | Mapping[str, Any], build: Build, version: str | None = None
) -> list[Refusal]:
    """What the engine does not know among the options of a `serve` table.

    Args:
        options: the options, or a `serve` table of models.toml as read.
        build: the CPU and the CUDA build differ: GGUF is a plugin of the CUDA environment.
        version: of the engine; by default that of the one that would run.
    """
    if isinstance(options, ServeOptions):
        options = options.model_dump(mode="json", exclude_none=True)
    return [
        Refusal(refusal.key.removeprefix("--").replace("-", "_"), refusal.message, refusal.fix)
        for refusal in check_argv("serve", _argv(options), build, version)
    ]


def check_argv(
    command: Command, argv: Sequence[str], build: Build, version: str | None = None
) -> list[Refusal]:
    """What the engine's parser of `command` would not take of a command line; not what it lacks."""
    version = version or installed.version(build)
    known = accepted(command, build, version)
    if known is None and installed.external_python():
        return []  # a version of the user's choosing: its own parser will say
    if known is None:
        fix = "add it with bench/engine/locks/dump_arguments.py"
        return [Refusal("engine", f"no table of the arguments of vLLM {version} ({build})", fix)]
    return list(_refusals(argv, known, f"vLLM {version} ({build})"))


def accepted(command: Command, build: Build, version: str) -> dict[str, dict[str, Any]] | None:
    """The arguments of a command by long name, or None if the version is not in the table."""
    for table in _tables():
        if (table["version"], table["build"]) == (version, build):
            arguments: dict[str, dict[str, Any]] = table["arguments"][command]
            return arguments
    return None


@dataclass(frozen=True)
class Method:
    """What becomes of a checkpoint that states a method, and the words that may ask for it."""

    method: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """What an engine has.

    Attributes:
        methods: by what a checkpoint states; see `formats.Format.method`.
        words: all that `--quantization` takes.
        online: those of them that quantize a checkpoint in 16 bits while it is loaded.
        pooling: architectures that generate no text.
        dropped: architectures that it had once, with the last version.
    """

    methods: dict[str, Method]
    words: frozenset[str]
    online: tuple[str, ...]
    pooling: frozenset[str]
    dropped: dict[str, str]


@functools.cache
def table(build: Build, version: str) -> Table | None:
    """What an engine has, or None if the version is not in the file, or was added before this."""
    for found in _tables():
        if (found["version"], found["build"]) == (version, build) and "methods" in found:
            return Table(
                {
                    stated: Method(method["method"], tuple(method["words"]))
                    for stated, method in found["methods"].items()
                },
                frozenset(found["arguments"]["serve"]["--quantization"]["words"]),
                tuple(found["online"]),
                frozenset(found["models"]["pooling"]),
                dict(found["models"]["dropped"]),
            )
    return None


@functools.cache
def _tables() -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return tables


def _refusals(
    argv: Sequence[str], known: Mapping[str, dict[str, Any]], engine_name: str
) -> Iterator[Refusal]:
    rest = list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            continue  # a positional argument: the model
        argument = known.get(name)
        nargs = argument.get("nargs") if argument is not None else None
        most = 0 if nargs == 0 or equals else len(rest) if nargs in ("+", "*") else 1
        values = [value] if equals else []
        while len(values) < most and rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if argument is None:
            yield Refusal(name, f"{engine_name} has no such option", _suggest(name, known))
        elif nargs != 0 and not values:
            yield Refusal(name, f"{engine_name} wants a value", "write one")
        else:
            yield from _refused_values(name, values, argument, engine_name)


def _refused_values(
    name: str, values: Sequence[str], argument: Mapping[str, Any], engine_name: str
) -> Iterator[Refusal]:
    words = argument.get("choices") or argument.get("words")
    number = _NUMBERS.get(argument.get("type", ""))
    for value in values:
        if words and value not in words:
            yield Refusal(name, f"{engine_name} does not know {value!r}", _suggest(value, words))
        elif number is not None and not words:
            try:
                number(value)
            except ValueError:
                yield Refusal(name, f"{engine_name} wants a number, not {value!r}", "write one")


def _suggest(word: str, known: Collection[str]) -> str:
    """The nearest known word, else all of them if they are few enough to read."""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), folded, n=1)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return f"use one of: {', '.join(known)}" if len(known) < 100 else "remove it"
