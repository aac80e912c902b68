"""Which tasks, groups and tags the locked lm-eval knows, and why one of them cannot be asked.

`locks/lm-eval-tasks.json` holds every name with what it wants (`locks/dump_tasks.py` writes it), so
a wrong name is told when models.toml is checked and not when a GPU waits.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from bench.config import TaskOptions
from bench.engine import installed

_TABLE = Path(__file__).parent / "locks" / "lm-eval-tasks.json"
_MOST_LETTERS = 3  # by which a name that is meant is longer or shorter


class Known(BaseModel):
    """One name: of a task unless `kind` says otherwise; see `locks/dump_tasks.py`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    kind: str = "task"
    of: tuple[str, ...] = ()
    output: str = "multiple_choice"
    shots: int | None = None
    unsafe: bool = False
    lacks: tuple[str, ...] = ()


class _Table(BaseModel):
    version: str
    names: dict[str, Known]


class Refusal(NamedTuple):
    """Why a task cannot be asked so; `key` is of its table in models.toml."""

    key: str
    message: str
    fix: str


@functools.cache
def known() -> dict[str, Known]:
    """Every name that the locked lm-eval has."""
    return _Table.model_validate_json(_TABLE.read_bytes()).names


def check(table: TaskOptions) -> Iterator[Refusal]:
    """What is wrong with a task's name, or with how it is asked."""
    if table.seeds > 1 and not table.generation.temperature:
        fix = "add generation = { temperature = 0.6 }, or remove seeds"
        yield Refusal("seeds", "sampling without a temperature gives one answer every time", fix)
    if installed.external_python():
        return  # an lm-eval of the user's choosing: it will say
    if table.name not in known():
        yield Refusal("name", f"lm-eval has no task {table.name!r}", _nearest(table.name))
        return
    for name in members(table.name):
        task = known()[name]
        which = name if name == table.name else f"{name}, of {table.name},"
        if task.unsafe:
            message = f"{which} runs code that the model wrote"
            yield Refusal("name", message, "ask another task: no model's code is run here")
            return
        if task.lacks:
            message = f"{which} needs the Python package {', '.join(task.lacks)}"
            fix = "ask another task, or add the package to bench/engine/locks/*.in and renew them"
            yield Refusal("name", message, fix)
            return
    own = known()[table.name]
    if own.kind == "task" and own.output not in ("generate_until", "unknown"):
        for key in ("generation", "think_end_token", "seeds"):
            if getattr(table, key) != type(table).model_fields[key].get_default(
                call_default_factory=True
            ):
                fix = "remove it"
                yield Refusal(key, f"{table.name} has no answers that a model writes", fix)


def members(name: str) -> list[str]:
    """The single tasks of a group or a tag, as far as its configuration names them; else itself."""
    found: dict[str, None] = {}
    waiting = [name]
    seen = set()
    while waiting:
        each = waiting.pop()
        if each in seen or each not in known():
            continue
        seen.add(each)
        if known()[each].kind in ("group", "tag"):
            waiting += known()[each].of
        else:
            found[each] = None
    return sorted(found)


@functools.cache
def _nearest(name: str) -> str:
    alike = [
        other
        for other in known()
        if other[:1] == name[:1] and abs(len(other) - len(name)) <= _MOST_LETTERS
    ]
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0.7)
    return f"did you mean {near[0]!r}?" if near else "use a name that `lm_eval ls tasks` shows"
