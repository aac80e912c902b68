"""Take-aways about memory: the smallest, what fits on the card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from report import numbers
from report.differences.pair import SIZES
from report.findings import words
from report.findings.finding import (
    Finding,
    Place,
    Row,
    baseline_of,
    compared,
    evidence,
)
from report.rows.rows import Size


def smallest(here: Place) -> Iterator[Finding]:
    """The least weights, or on disk where the engine tells no memory."""
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
        about_size=True,
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
