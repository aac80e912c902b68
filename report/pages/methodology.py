"""What the methodology page states of the results at hand rather than of the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from report import numbers

Frame = dict[str, Any]


def served(rows: Sequence[Frame]) -> list[str]:
    """By which versions of vLLM each machine's results were served, one line per machine."""
    found: dict[str, set[str]] = {}
    for row in rows:
        version = numbers.UNKNOWN if row["engine_version"] is None else row["engine_version"]
        found.setdefault(_place(row), set()).add(str(version))
    return [f"{place}: vLLM {', '.join(sorted(seen))}" for place, seen in sorted(found.items())]


def asked(rows: Sequence[Frame]) -> list[str]:
    """What each machine's variants were asked; more than one entry where they differ."""
    found: dict[str, set[str]] = {}
    for row in rows:
        chosen = {"first": "the first of the split", "random": "drawn by a seed"}
        how = chosen.get(str(row["selection"]), "selection unknown")
        shots = f"{numbers.whole(row['num_fewshot'])}-shot"
        kind = f"{numbers.whole(row['n'])} documents, {how}, {shots}"
        found.setdefault(f"{row['task']} on {_place(row)}", set()).add(kind)
    return [f"{place}: {'; or '.join(sorted(seen))}" for place, seen in sorted(found.items())]


def _place(row: Frame) -> str:
    elsewhere = ", published elsewhere" if row["source"] == "published" else ""
    return f"{row['hardware_name']}{elsewhere}"
