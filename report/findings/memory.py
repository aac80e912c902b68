"""Take-aways about memory: the smallest, what fits on the card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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
from report.rows.rows import Result, Size


def smallest(here: Place) -> Iterator[Finding]:
    """The least weights, or on disk where the engine tells no memory; what reads the same is so.

    It counts all GPUs together; what each of several holds is told beside it.
    """
    size, known = _sized(here.rows)
    if len(known) < 2:
        return
    known.sort(key=lambda each: (each[0], each[1].variant))
    gib, _ = known[0]
    least = [row for held, row in known if words.same_size(held, gib)]
    every = words.names([row.variant_name for row in least])
    what = "memory" if size == "weights_gib" else "space on disk"
    amount = f"{numbers.number(gib)} GiB of weights"
    headline = f"{every} take{'' if len(least) > 1 else 's'} the least {what}: {amount}"
    if len(least) == len(known):
        headline = f"{every} take the same {what}: {amount}"
    if size == "weights_gib":
        headline += _on_each(least)
    base = baseline_of([row for _, row in known])
    detail, shown = "", least
    if base is not None and base not in least:
        more = next(held for held, row in known if row is base)
        saved = numbers.change(gib / more)
        detail = f"{saved} against {base.variant_name} ({numbers.number(more)} GiB)."
        shown = [*least, base]
    yield compared("smallest", 13, here.scope, "fact", headline, detail, *shown, about_size=True)


def fit(here: Place) -> Iterator[Finding]:
    """Which variant of a family leaves the least room on the card, and which the most.

    The only one whose room is known fits, and is compared with none: sizes say nothing across
    families.
    """
    known = {r.variant: r for r in here.rows if r.served.weights_gib and r.served.kv_cache_tokens}
    ranked = sorted(known.values(), key=lambda r: (r.served.kv_cache_tokens or 0, r.variant))
    if not ranked or len({row.variant for row in here.rows}) < 2:
        return
    if len(ranked) > 1 and _room(ranked[0]) == _room(ranked[-1]):
        return
    tight, roomy = ranked[0], ranked[-1]
    card = tight.served.gpu_memory_gib
    headline = (
        f"{tight.variant_name} fits{' with the least room' if len(ranked) > 1 else ''}:"
        f" {_weights(tight)}"
        f"{f' of {numbers.number(card)} GiB' if card else ''}"
        f" leave {_room(tight)} tokens of KV cache"
    )
    detail = (
        f"The most room has {roomy.variant_name}: {_weights(roomy)},"
        f" {_room(roomy)} tokens of KV cache."
        if roomy is not tight
        else "Of no other of its family is the room known."
    )
    rests_on = evidence(tight, roomy)
    yield Finding("fit", 30, here.scope, "fact", headline, detail, rests_on, about_size=True)


def _room(row: Result) -> str:
    return numbers.whole(row.served.kv_cache_tokens)


def _weights(row: Result) -> str:
    """What a GPU holds of the weights."""
    gpus = row.served.gpus
    each = f" on each of {gpus} GPUs" if gpus > 1 else ""
    return f"{numbers.number((row.served.weights_gib or 0) / gpus, 4)} GiB of weights{each}"


def _on_each(rows: Sequence[Result]) -> str:
    """What one GPU holds where several share the weights, of each such variant."""
    told = [(row.variant_name, each) for row in rows if (each := words.on_each(row))]
    listed = [f"{name}: {each}" if len(rows) > 1 else each for name, each in told]
    return f" ({'; '.join(listed)})" if listed else ""


def _sized(rows: Iterable[Row]) -> tuple[Size, list[tuple[float, Row]]]:
    """The first size that two variants know, and that with a row of each that knows it."""
    for size in SIZES:
        known = {row.variant: (gib, row) for row in rows if (gib := row.served.size(size))}
        if len(known) > 1:
            return size, list(known.values())
    return SIZES[0], []
