"""The exported tables: one for each kind of row, as CSV, Parquet and JSON.

A column is declared where its row is: `report/rows/rows.py`. pandas comes in only here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter, methodcaller
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pandas as pd

from report.exports.verdicts import VerdictRow, verdict_rows
from report.rows.results import Results
from report.rows.rows import HistoryRow, QualityRow, RepeatRow, RunRow, Served, SpeedRow
from report.stats import Estimate

FORMATS = ("csv", "parquet", "json")
FRAMES: dict[str, tuple[type, str]] = {
    "runs": (RunRow, "one row per record, failed and superseded ones too"),
    "speed": (
        SpeedRow,
        "one row per variant, machine and load over its sessions, and per published row",
    ),
    "quality": (
        QualityRow,
        "one row per variant, machine, task or group, and metric, and per published row",
    ),
    "repeats": (RepeatRow, "one row per repeat of the current speed records"),
    "history": (HistoryRow, "one row per record, load or task and metric"),
    "verdicts": (VerdictRow, "one row per metric of a variant against its baseline"),
}
_KINDS = {float: "float64", int: "Int64", bool: "boolean"}
_PARTS: dict[str, Callable[[Estimate], float | None]] = {
    "": lambda estimate: estimate.value,
    "_low": lambda estimate: estimate.interval.low if estimate.interval else None,
    "_high": lambda estimate: estimate.interval.high if estimate.interval else None,
    "_se": lambda estimate: estimate.standard_error,
}
_AT_ONCE = 5_000  # rows that are held as Python's own values
Getter = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, pandas' type for it, and how a row fills it; None is unknown."""

    name: str
    kind: str
    value: Getter


def write(results: Results, folder: Path) -> None:
    """Writes every frame in every format."""
    for name, (kind, _) in FRAMES.items():
        _write(frame(kind, rows(results, name)), folder / name)


def rows(results: Results, name: str) -> Sequence[object]:
    """The rows of a frame; those of the verdicts are made of all others."""
    if name == "verdicts":
        return list(verdict_rows(results))
    if name == "quality":
        return [*results.quality, *results.parts]
    held: Sequence[object] = getattr(results, name)
    return held


def frame(kind: type, rows: Sequence[object]) -> pd.DataFrame:
    """Rows of one kind as a frame of exactly its columns and their types."""
    made = {
        each.name: _typed([each.value(row) for row in rows], each.kind) for each in columns(kind)
    }
    return pd.DataFrame(made)


def _typed(values: Sequence[Any], kind: Any) -> pd.Series[Any]:
    """One column: never are all of them held as Python's own values at once."""
    return pd.Series(values, dtype=object).astype(kind)


def columns(kind: type) -> list[Column]:
    """The columns of a kind of row, in the order of its fields, those marked first before."""
    hints = get_type_hints(kind)
    shown = [each for each in fields(kind) if not each.metadata.get("hidden")]
    shown.sort(key=lambda each: not each.metadata.get("first"))
    return [
        column
        for each in shown
        for column in _columns(
            each.metadata.get("column", each.name),
            hints[each.name],
            attrgetter(each.name),
            each.metadata.get("keys", ()),
        )
    ]


def _columns(name: str, hint: Any, get: Getter, keys: Sequence[str] = ()) -> Iterator[Column]:
    """What a field fills: one column; four for an estimate; those of each key for a mapping."""
    if NoneType in get_args(hint):
        hint = get_args(hint)[0]
    if hint is Served:
        for column in columns(Served):
            yield replace(column, value=_then(get, column.value))
    elif hint is Estimate:
        for end, part in _PARTS.items():
            yield Column(f"{name}{end}", "float64", _then(get, part))
    elif get_origin(hint) is Mapping:
        for key in keys:
            yield from _columns(key, get_args(hint)[1], _then(get, methodcaller("get", key)))
    elif get_origin(hint) is tuple:
        yield Column(name, "str", _then(get, lambda texts: ", ".join(texts) or None))
    else:
        yield Column(name, _KINDS.get(hint, "str"), get)


def _then(get: Getter, part: Getter) -> Getter:
    """A part of what a row holds; None where it holds nothing."""
    return lambda row: None if (held := get(row)) is None else part(held)


def _write(frame: pd.DataFrame, path: Path) -> None:
    """A frame three times; a text no spreadsheet takes for a formula; infinity as vLLM's "inf"."""
    texts = frame.select_dtypes(include=["str"]).columns
    safe = frame.assign(
        **{name: frame[name].map(_no_formula, na_action="ignore") for name in texts}
    )
    safe.to_csv(path.with_suffix(".csv"), index=False, lineterminator="\n")
    frame.to_parquet(path.with_suffix(".parquet"), index=False)
    with path.with_suffix(".json").open("w", encoding="utf-8", newline="\n") as file:
        file.write("[\n")
        for first in range(0, len(frame), _AT_ONCE):
            file.write(",\n" if first else "")
            file.write(",\n".join(_objects(frame.iloc[first : first + _AT_ONCE])))
        file.write("\n]\n")


def _objects(frame: pd.DataFrame) -> Iterator[str]:
    """Each row as an object of JSON."""
    names, whole = list(frame.columns), frame.astype(object).where(frame.notna(), None)
    for row in whole.itertuples(index=False):
        named = dict(zip(names, map(_finite, row), strict=True))
        yield json.dumps(named, ensure_ascii=False, allow_nan=False)


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _finite(value: Any) -> Any:
    return "inf" if isinstance(value, float) and math.isinf(value) else value
