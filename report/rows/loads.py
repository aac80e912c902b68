"""Which loads speak for a variant: the lowest for latency, the highest for output, those kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.records.pace import Pace
from report.rows.rows import SpeedRow, Who


@dataclass(frozen=True, slots=True)
class Kept:
    """Requests per second within the service level; None where no judged rate is such.

    `highest` is the highest rate that is sure to be kept; above it, `unsure` is the next one whose
    intervals straddle a limit, `fails` the next one that is sure not to be kept.
    """

    highest: float | None
    unsure: float | None
    fails: float | None = None


def lowest(rows: Iterable[SpeedRow]) -> dict[Who, SpeedRow]:
    """For each variant on each machine its row at the lowest load, in the order of the rows."""
    found: dict[Who, SpeedRow] = {}
    for row in rows:
        held = found.setdefault(row.who, row)
        if row.pace < held.pace:
            found[row.who] = row
    return found


def highest(rows: Iterable[SpeedRow]) -> dict[Who, SpeedRow]:
    """For each variant on each machine its row at the highest load, in the order of the rows."""
    found: dict[Who, SpeedRow] = {}
    for row in rows:
        held = found.setdefault(row.who, row)
        if row.pace > held.pace:
            found[row.who] = row
    return found


def at_lowest(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the lowest load there is."""
    pace = min((row.pace for row in rows), default=None)
    return [row for row in rows if row.pace == pace]


def usual_pace(rows: Sequence[SpeedRow]) -> Pace:
    """What most variants are offered; the gentlest of those, so a limited rate if there is any."""
    offered = [row.pace for row in rows]
    return max(sorted(set(offered)), key=offered.count)


def at_usual(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the usual pace and workload, for what is said of latency."""
    return at_pace(rows, usual_pace(rows)) if rows else []


def at_highest_shared(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the highest load that two variants share, for what is said of output."""
    offered = [row.pace for row in rows]
    shared = [pace for pace in offered if offered.count(pace) > 1]
    return at_pace(rows, max(shared)) if shared else []


def at_most(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the highest load there is, for what is said of output."""
    return at_pace(rows, max(row.pace for row in rows)) if rows else []


def at_pace(rows: Sequence[SpeedRow], pace: Pace) -> list[SpeedRow]:
    """The rows at one pace and, of those, at the workload most of them share."""
    here = [row for row in rows if row.pace == pace]
    kinds = [(row.input_tokens, row.output_tokens) for row in here]
    usual = max(sorted(set(kinds)), key=kinds.count, default=None)
    return [row for row, kind in zip(here, kinds, strict=True) if kind == usual]


def kept(rows: Iterable[SpeedRow]) -> dict[Who, Kept]:
    """For each variant on each machine with a judged load, in the order of the rows.

    All requests at once are a burst, a closed loop waits for answers: neither is a rate to keep.
    """
    judged: dict[Who, list[SpeedRow]] = {}
    for row in rows:
        if row.sustained != "unknown" and math.isfinite(row.request_rate_rps):
            judged.setdefault(row.who, []).append(row)
    return {who: _kept(own) for who, own in judged.items()}


def _kept(rows: Sequence[SpeedRow]) -> Kept:
    sure = max((r.request_rate_rps for r in rows if r.sustained == "yes"), default=None)
    above = [row for row in rows if sure is None or row.request_rate_rps > sure]
    unsure, fails = (
        min((r.request_rate_rps for r in above if r.sustained == word), default=None)
        for word in ("unsure", "no")
    )
    return Kept(sure, unsure, fails)
