"""Take-aways about memory: the smallest, the most quality for its size, what fits on the card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from report import numbers
from report.differences.pair import SIZES
from report.findings import words
from report.findings.finding import (
    Certainty,
    Finding,
    Pick,
    Place,
    Row,
    baseline_of,
    compared,
    evidence,
)
from report.findings.quality import guesses
from report.rows.rows import QualityRow, Size


def smallest(here: Place) -> Iterator[Finding]:
    """The pick for memory: the least weights, or on disk where the engine tells no memory."""
    size, known = _sized(here.rows)
    if len(known) < 2:
        return
    gib, best = min(known, key=lambda each: (each[0], each[1].variant))
    base = baseline_of([row for _, row in known])
    ties = [row.variant_name for held, row in known if row is not best and held == gib]
    claim = (
        f"takes the least {_held(size, 'memory', 'space on disk')}:"
        f" {numbers.number(gib)} GiB of weights"
    )
    if ties:
        claim += f", the same as {words.names(ties)}"
    name, detail, shown = best.variant_name, "", [best]
    if base is not None and base is not best:
        more = next(held for held, row in known if row is base)
        saved = numbers.change(gib / more)
        detail = f"{saved} against {base.variant_name} ({numbers.number(more)} GiB)."
        shown.append(base)
    yield compared(
        "smallest", 13, here.scope, "fact", f"{name} {claim}", detail, *shown,
        pick=Pick("For the least memory", (name, *ties), claim),
        about_size=True,
    )  # fmt: skip


def quality_per_gib(here: Place) -> Iterator[Finding]:
    """The pick for quality per gigabyte; told apart only where the intervals do not overlap.

    That is no test: its certainty is "by its interval" at best.
    """
    for task, variants in here.tasks():
        able = [rows[0] for rows in variants if not guesses(rows)]
        able = [row for row in able if row.chance and row.value.interval]
        size, known = _sized(able)
        ranked = sorted(
            (_per_gib(row, gib) for gib, row in known),
            key=lambda each: (-each.value, each.row.variant),
        )
        if len(ranked) < 2 or ranked[0].low <= 0:
            continue
        best = ranked[0]
        name, points = best.row.variant_name, numbers.share(best.value)
        ties = [each.row.variant_name for each in ranked[1:] if each.high >= best.low]
        claim = (
            f"gives the most quality per gigabyte: {points} points above guessing per GiB"
            f"{_held(size, '', ' on disk')} on {task}{words.tied(ties)}"
        )
        detail = (
            f"Accuracy above chance divided by the weights {_held(size, 'in memory', 'on disk')}:"
            f" {numbers.share(best.row.value.value)} % at {numbers.number(best.gib)} GiB."
        )
        certainty: Certainty = "noise" if ties else "interval"
        yield compared(
            "quality_per_gib", 14, here.scope, certainty, f"{name} {claim}", detail,
            *(each.row for each in ranked),
            pick=Pick("For the most quality per gigabyte", (name, *ties), claim),
        )  # fmt: skip


def fit(here: Place) -> Iterator[Finding]:
    """Which variant leaves the least room on the card, and which the most."""
    known = {r.variant: r for r in here.rows if r.served.weights_gib and r.served.kv_cache_tokens}
    if len(known) < 2:
        return
    ranked = sorted(known.values(), key=lambda r: (r.served.kv_cache_tokens or 0, r.variant))
    tight, roomy = ranked[0], ranked[-1]
    card = tight.served.gpu_memory_gib
    headline = (
        f"{tight.variant_name} fits with the least room:"
        f" {numbers.number(tight.served.weights_gib, 4)} GiB of weights"
        f"{f' of {numbers.number(card)} GiB' if card else ''}"
        f" leave {numbers.whole(tight.served.kv_cache_tokens)} tokens of KV cache"
    )
    detail = (
        f"The most room has {roomy.variant_name}:"
        f" {numbers.number(roomy.served.weights_gib, 4)} GiB of weights,"
        f" {numbers.whole(roomy.served.kv_cache_tokens)} tokens of KV cache."
    )
    rests_on = evidence(tight, roomy)
    yield Finding("fit", 30, here.scope, "fact", headline, detail, rests_on, about_size=True)


def _held(size: Size, in_memory: str, on_disk: str) -> str:
    return in_memory if size == "weights_gib" else on_disk


def _sized(rows: Iterable[Row]) -> tuple[Size, list[tuple[float, Row]]]:
    """The first size that two variants know, and that with a row of each that knows it."""
    for size in SIZES:
        known = {row.variant: (gib, row) for row in rows if (gib := row.served.size(size))}
        if len(known) > 1:
            return size, list(known.values())
    return SIZES[0], []


@dataclass(frozen=True, slots=True)
class _PerGib:
    """An accuracy above chance, and the ends of its interval, divided by the weights in GiB."""

    row: QualityRow
    gib: float
    value: float
    low: float
    high: float


def _per_gib(row: QualityRow, gib: float) -> _PerGib:
    value, ends, chance = row.value.value, row.value.interval, row.chance or 0.0
    low, high = (ends.low, ends.high) if ends else (value, value)
    return _PerGib(row, gib, *((each - chance) / gib for each in (value, low, high)))
