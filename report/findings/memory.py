"""Take-aways about memory: the smallest, the most quality for its size, what fits on the card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from report import numbers
from report.differences.pair import SIZES
from report.findings import words
from report.findings.finding import (
    Certainty,
    Facts,
    Finding,
    Pick,
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
        ties = [r["variant_name"] for r in rows if r is not best and r[size] == best[size]]
        claim = (
            f"takes the least {_held(size, 'memory', 'space on disk')}:"
            f" {numbers.number(best[size])} GiB of weights"
        )
        if ties:
            claim += f", the same as {words.names(ties)}"
        detail = ""
        if other:
            saved = numbers.change(best[size] / other[size])
            held = numbers.number(other[size])
            detail = f"{saved} against {other['variant_name']} ({held} GiB)."
        name = best["variant_name"]
        yield compared(
            "smallest", 13, scope, "fact", f"{name} {claim}", detail,
            best, *([other] if other else []),
            pick=Pick("For the least memory", (name, *ties), claim),
            about_size=True,
        )  # fmt: skip


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
        if low <= 0:
            continue
        ties = [r["variant_name"] for r in ranked[1:] if _per_gib(r, "value_high", size) >= low]
        name, points = best["variant_name"], numbers.share(_per_gib(best, "value", size))
        claim = (
            f"gives the most quality per gigabyte: {points} points above guessing per GiB"
            f"{_held(size, '', ' on disk')} on {task}{words.tied(ties)}"
        )
        detail = (
            f"Accuracy above chance divided by the weights {_held(size, 'in memory', 'on disk')}:"
            f" {numbers.share(best['value'])} % at {numbers.number(best[size])} GiB."
        )
        certainty: Certainty = "noise" if ties else "interval"
        yield compared(
            "quality_per_gib", 14, scope, certainty, f"{name} {claim}", detail, *ranked,
            pick=Pick("For the most quality per gigabyte", (name, *ties), claim),
        )  # fmt: skip


def fit(facts: Facts) -> Iterator[Finding]:
    """Which variant leaves the least room on the card, and which the most."""
    for scope, rows in machines(facts.quality + facts.speed):
        known = {r["variant"]: r for r in rows if r["weights_gib"] and r["kv_cache_tokens"]}
        if len(known) < 2:
            continue
        ranked = sorted(known.values(), key=lambda r: (r["kv_cache_tokens"], r["variant"]))
        tight, roomy = ranked[0], ranked[-1]
        card = tight["gpu_memory_gib"]
        headline = (
            f"{tight['variant_name']} fits with the least room:"
            f" {numbers.number(tight['weights_gib'], 4)} GiB of weights"
            f"{f' of {numbers.number(card)} GiB' if card else ''}"
            f" leave {numbers.whole(tight['kv_cache_tokens'])} tokens of KV cache"
        )
        detail = (
            f"The most room has {roomy['variant_name']}:"
            f" {numbers.number(roomy['weights_gib'], 4)} GiB of weights,"
            f" {numbers.whole(roomy['kv_cache_tokens'])} tokens of KV cache."
        )
        rests_on = evidence(tight, roomy)
        yield Finding("fit", 30, scope, "fact", headline, detail, rests_on, about_size=True)


def _held(size: str, in_memory: str, on_disk: str) -> str:
    return in_memory if size == "weights_gib" else on_disk


def _sized(rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """The first size that two variants know, and one row of each variant that knows it."""
    for size in SIZES:
        known = {row["variant"]: row for row in rows if row[size]}
        if len(known) > 1:
            return size, list(known.values())
    return SIZES[0], []


def _per_gib(row: Row, column: str, size: str) -> float:
    return float((row[column] - row["chance"]) / row[size])
