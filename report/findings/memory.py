"""Take-aways about memory: the smallest, the most quality for its size, what fits on the card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from report.differences.pair import SIZES
from report.findings.finding import (
    Certainty,
    Facts,
    Finding,
    baseline_of,
    by_task,
    compared,
    evidence,
    machines,
)
from report.findings.quality import guesses
from report.rows.rows import Row


def smallest(facts: Facts) -> Iterator[Finding]:
    """The pick for memory: the least weights, or on disk where the engine tells no memory."""
    for scope, (speed, quality) in facts.scopes.items():
        size, rows = _sized(quality + speed)
        if len(rows) < 2:
            continue
        best = min(rows, key=lambda row: (row[size], row["variant"]))
        base = baseline_of(rows)
        other = None if base is best else base
        ties = [row for row in rows if row is not best and row[size] == best[size]]
        params = {
            "best": best["variant_name"],
            "size": size,
            "value": best[size],
            "ties": [row["variant_name"] for row in ties],
            "baseline": other["variant_name"] if other else "",
            "ratio": best[size] / other[size] if other else None,
            "other": other[size] if other else None,
        }
        shown = [best, *([other] if other else [])]
        yield compared("smallest", 13, scope, "fact", params, *shown)


def quality_per_gib(facts: Facts) -> Iterator[Finding]:
    """The pick for quality per gigabyte; told apart only where the intervals do not overlap.

    That is no test: its certainty is "by its interval" at best.
    """
    for scope, task, variants in by_task(facts):
        able = [rows[0] for rows in variants if not guesses(rows)]
        able = [row for row in able if row["chance"] and row["value_low"] is not None]
        size, rows = _sized(able)
        if len(rows) < 2:
            continue
        ranked = sorted(rows, key=lambda row: (-_per_gib(row, "value", size), row["variant"]))
        best, low = ranked[0], _per_gib(ranked[0], "value_low", size)
        ties = [row for row in ranked[1:] if _per_gib(row, "value_high", size) >= low]
        if low <= 0:
            continue
        params = {
            "best": best["variant_name"],
            "size": size,
            "value": _per_gib(best, "value", size),
            "task": task,
            "ties": [row["variant_name"] for row in ties],
            "accuracy": best["value"],
            "weights": best[size],
        }
        certainty: Certainty = "noise" if ties else "interval"
        yield compared("quality_per_gib", 14, scope, certainty, params, *ranked)


def fit(facts: Facts) -> Iterator[Finding]:
    """Which variant leaves the least room on the card, and which the most."""
    for scope, rows in machines(facts.quality + facts.speed):
        known = {r["variant"]: r for r in rows if r["weights_gib"] and r["kv_cache_tokens"]}
        if len(known) < 2:
            continue
        ranked = sorted(known.values(), key=lambda r: (r["kv_cache_tokens"], r["variant"]))
        tight, roomy = ranked[0], ranked[-1]
        params = {
            "name": tight["variant_name"],
            "weights": tight["weights_gib"],
            "memory": tight["gpu_memory_gib"],
            "tokens": tight["kv_cache_tokens"],
            "other": roomy["variant_name"],
            "least": roomy["weights_gib"],
            "most": roomy["kv_cache_tokens"],
        }
        yield Finding("fit", 30, scope, "fact", params, evidence(tight, roomy))


def _sized(rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """The first size that two variants know, and one row of each variant that knows it."""
    for size in SIZES:
        known = {row["variant"]: row for row in rows if row[size]}
        if len(known) > 1:
            return size, list(known.values())
    return SIZES[0], []


def _per_gib(row: Row, column: str, size: str) -> float:
    return float((row[column] - row["chance"]) / row[size])
