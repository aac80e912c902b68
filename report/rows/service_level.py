"""The highest request rate that each variant carries within the service level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from report.rows.rows import Row

Key = tuple[str, str, str]  # source, hardware, variant


@dataclass(frozen=True, slots=True)
class Carried:
    """Requests per second, infinite where unthrottled; None where no judged rate is such.

    `highest` is the highest rate that is sure to be kept within the service level, `unsure` the
    next one above it whose intervals straddle a limit.
    """

    highest: float | None
    unsure: float | None


def carried(rows: Iterable[Row]) -> dict[Key, Carried]:
    """For each variant on each machine with a judged load, in the order of the speed rows given."""
    judged: dict[Key, list[Row]] = {}
    for row in rows:
        if row["sustained"] in ("yes", "no", "unsure"):
            judged.setdefault((row["source"], row["hardware"], row["variant"]), []).append(row)
    return {key: _of(own) for key, own in judged.items()}


def _of(rows: Iterable[Row]) -> Carried:
    rates: dict[str, list[float]] = {"yes": [], "no": [], "unsure": []}
    for row in rows:
        rates[row["sustained"]].append(row["request_rate_rps"])
    highest = max(rates["yes"], default=None)
    above = [rate for rate in rates["unsure"] if highest is None or rate > highest]
    return Carried(highest, min(above, default=None))
