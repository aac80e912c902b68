"""Which loads speak for a variant: the lowest for latency, the highest for output, those kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from report.rows.rows import SpeedRow, Who


@dataclass(frozen=True, slots=True)
class Kept:
    """Requests per second within the service level; None where no judged rate is such.

    `highest` is the highest rate that is sure to be kept, `unsure` the next one above it whose
    intervals straddle a limit.
    """

    highest: float | None
    unsure: float | None


def lowest(rows: Iterable[SpeedRow]) -> dict[Who, SpeedRow]:
    """For each variant on each machine its row at the lowest load, in the order of the rows."""
    found: dict[Who, SpeedRow] = {}
    for row in rows:
        held = found.setdefault(row.who, row)
        if row.request_rate_rps < held.request_rate_rps:
            found[row.who] = row
    return found


def highest(rows: Iterable[SpeedRow]) -> dict[Who, SpeedRow]:
    """For each variant on each machine its row at the highest load, in the order of the rows."""
    found: dict[Who, SpeedRow] = {}
    for row in rows:
        held = found.setdefault(row.who, row)
        if row.request_rate_rps > held.request_rate_rps:
            found[row.who] = row
    return found


def at_lowest(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the lowest load there is."""
    rate = min((row.request_rate_rps for row in rows), default=0.0)
    return [row for row in rows if row.request_rate_rps == rate]


def usual_rate(rows: Sequence[SpeedRow]) -> float:
    """The request rate that most variants share; the lowest of those, so a limited one if any."""
    offered = [row.request_rate_rps for row in rows]
    return max(sorted(set(offered)), key=offered.count)


def at_usual(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the usual rate and workload, for what is said of latency."""
    return at_rate(rows, usual_rate(rows)) if rows else []


def at_highest_shared(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the highest rate that two variants share, for what is said of output."""
    offered = [row.request_rate_rps for row in rows]
    shared = [rate for rate in offered if offered.count(rate) > 1]
    return at_rate(rows, max(shared)) if shared else []


def at_most(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The rows at the highest rate there is, for what is said of output."""
    return at_rate(rows, max((row.request_rate_rps for row in rows), default=0.0))


def at_rate(rows: Sequence[SpeedRow], rate: float) -> list[SpeedRow]:
    """The rows at one request rate and, of those, at the workload most of them share."""
    here = [row for row in rows if row.request_rate_rps == rate]
    kinds = [(row.input_tokens, row.output_tokens) for row in here]
    usual = max(sorted(set(kinds)), key=kinds.count, default=None)
    return [row for row, kind in zip(here, kinds, strict=True) if kind == usual]


def kept(rows: Iterable[SpeedRow]) -> dict[Who, Kept]:
    """For each variant on each machine with a judged load, in the order of the rows.

    All requests at once are a burst and no rate that can be kept.
    """
    judged: dict[Who, list[SpeedRow]] = {}
    for row in rows:
        if row.sustained != "unknown" and math.isfinite(row.request_rate_rps):
            judged.setdefault(row.who, []).append(row)
    return {who: _kept(own) for who, own in judged.items()}


def _kept(rows: Sequence[SpeedRow]) -> Kept:
    sure = max((r.request_rate_rps for r in rows if r.sustained == "yes"), default=None)
    unsure = [r.request_rate_rps for r in rows if r.sustained == "unsure"]
    above = [rate for rate in unsure if sure is None or rate > sure]
    return Kept(sure, min(above, default=None))
