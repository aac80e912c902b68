"""Throughput against latency over the measured loads, and what each variant carries of them.

The page's script says the second anew for whatever service level a reader asks for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from report import numbers, rates
from report.charts import charts
from report.charts.drawing import Chart
from report.decisions.decision import Decision
from report.rows.results import Results
from report.rows.rows import Metric, SpeedRow
from report.stats import Estimate

LEAST = 3  # loads that make a line
_NEEDED = (Metric.OUTPUT, Metric.TTFT_P90, Metric.TPOT_P90)
_WOULD_DRAW = (
    "Too few loads were measured to draw throughput against latency: concurrency = "
    "[1, 8, 32, 64, 128] in [speed] of models.toml would."
)


@dataclass(frozen=True, slots=True)
class Load:
    """One load of one variant: its output, and both latencies with their upper ends, in ms."""

    load: str
    output: float
    text: str
    ttft: tuple[float, float]
    tpot: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A variant: its loads, as the script reads them, and what it carries at the level asked."""

    name: str
    href: str
    loads: str
    carries: str


@dataclass(frozen=True, slots=True)
class Frontier:
    """The picture with its service level in ms, or what would draw it."""

    chart: Chart | None = None
    lines: tuple[Line, ...] = ()
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0
    would_draw: str = ""


def frontier(name: str, results: Results, decision: Decision) -> Frontier | None:
    """Of the variants of a decision that were measured at enough loads of one kind."""
    if decision.source == "published":
        return None
    kin = (decision.source, decision.hardware, decision.family)
    rows = [
        row
        for row in results.speed
        if row.kin == kin and all(metric in row.metrics for metric in _NEEDED)
    ]
    if not rows:
        return None
    kinds = (
        [row for row in rows if row.pace.is_closed],
        [row for row in rows if not row.pace.is_closed and not row.pace.is_unthrottled],
    )
    most = max(kinds, key=lambda own: len({row.workload for row in own}))
    lines = {
        variant: sorted((row for row in most if row.variant == variant), key=lambda row: row.pace)
        for variant in dict.fromkeys(each.row.variant for each in decision.variants)
    }
    drawn = [own for own in lines.values() if len(own) >= LEAST]
    if not drawn:
        return Frontier(would_draw=_WOULD_DRAW)
    ttft_ms, tpot_ms = drawn[0][0].limit_ttft_p90_ms, drawn[0][0].limit_tpot_p90_ms
    chart = charts.frontier(
        f"frontier-{name}", f"{decision.family} on {decision.hardware_name}", drawn
    )
    if ttft_ms is None or tpot_ms is None:
        return Frontier(chart)
    return Frontier(chart, tuple(_line(own, ttft_ms, tpot_ms) for own in drawn), ttft_ms, tpot_ms)


def _line(rows: Sequence[SpeedRow], ttft_ms: float, tpot_ms: float) -> Line:
    loads = [
        Load(
            rates.short(row.pace),
            row.metrics[Metric.OUTPUT].value,
            numbers.number(row.metrics[Metric.OUTPUT].value, 4),
            _ends(row.metrics[Metric.TTFT_P90]),
            _ends(row.metrics[Metric.TPOT_P90]),
        )
        for row in rows
    ]
    first = rows[0]
    told = json.dumps([asdict(load) for load in loads])
    return Line(first.variant_name, first.page, told, carries(loads, ttft_ms, tpot_ms))


def _ends(estimate: Estimate) -> tuple[float, float]:
    """The value and the upper end of its interval: the value again where there is none."""
    high = estimate.interval.high if estimate.interval else estimate.value
    return round(estimate.value, 3), round(high, 3)


def carries(loads: Sequence[Load], ttft_ms: float, tpot_ms: float) -> str:
    """The most output within a service level, at which load, and what may still be within it."""

    def best(end: int) -> Load | None:
        within = [each for each in loads if each.ttft[end] <= ttft_ms and each.tpot[end] <= tpot_ms]
        return max(within, key=lambda each: each.output, default=None)

    may, sure = best(0), best(1)
    told = f"{sure.text} tokens/s, {sure.load}" if sure else "no measured load for sure"
    if may is not None and may is not sure:
        told += f"; perhaps {may.text}, {may.load}"
    return told
