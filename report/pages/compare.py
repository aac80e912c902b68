"""The compare page: every variant on every machine in one row, measured and published alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from report import numbers, rates
from report.pages import pair_tests
from report.pages.speed import head, record_href, tokens_text
from report.pages.tables import Cell, Column, Row, Table, amount, measured, text, unknown
from report.rows.service_level import Carried, carried

Frame = dict[str, Any]


def table(fast: Sequence[Frame], good: Sequence[Frame]) -> Table:
    """Every variant on every machine in one row, measured and published alike."""
    tasks = list(dict.fromkeys((row["task"], row["metric"]) for row in good))
    found: dict[tuple[str, str, str], dict[Any, Frame]] = {}
    for row in fast:
        key = (row["source"], row["hardware"], row["variant"])
        held = found.setdefault(key, {})
        slow, quick = held.get("fixed"), held.get("most")
        if slow is None or row["request_rate_rps"] < slow["request_rate_rps"]:
            held["fixed"] = row
        if quick is None or row["request_rate_rps"] > quick["request_rate_rps"]:
            held["most"] = row
    for row in good:
        key = (row["source"], row["hardware"], row["variant"])
        found.setdefault(key, {})[(row["task"], row["metric"])] = row
    columns = (
        Column("variant", "Variant", numeric=False),
        Column("machine", "On", numeric=False),
        Column("gib", "Weights", "GiB", better="lower", scale="ratio"),
        Column("kv", "KV cache", "tokens", better="higher", scale="ratio"),
        Column("load", "Lowest load", "requests", numeric=False),
        Column("ttft", "TTFT p90", "ms", better="lower", scale="ratio"),
        Column("tpot", "TPOT mean", "ms", better="lower", scale="ratio"),
        Column("e2e", "E2E mean", "ms", better="lower", scale="ratio"),
        Column("tps", "Most output", "tokens/s", better="higher", scale="ratio"),
        Column("carried", "Carries", "requests/s", title="Highest rate within the service level"),
        *(
            Column(f"{task}.{metric}", f"{task} {metric}", "%", better="higher", scale="points")
            for task, metric in tasks
        ),
        Column("record", "Records", numeric=False, title="The JSON these numbers come from"),
    )
    limits = carried(fast)
    rows = [_compared(key, held, tasks, limits.get(key)) for key, held in found.items()]
    return Table("compare", "All variants", columns, rows, choose=True)


def _compared(
    key: tuple[str, str, str],
    held: dict[Any, Frame],
    tasks: Sequence[Any],
    kept: Carried | None,
) -> Row:
    any_row = next(iter(held.values()))
    slow, quick = held.get("fixed"), held.get("most")
    load = "" if quick is None else rates.note(quick["request_rate_rps"])
    records = {
        record_href(row, ""): "quality" if "task" in row else "speed" for row in held.values()
    }
    (first, name), *others = records.items()
    cells = [
        text(any_row["hardware_name"]),
        _weights(held.values()),
        amount(_first(held.values(), "kv_cache_tokens"), numbers.whole),
        Cell(rates.short(slow["request_rate_rps"]), note=tokens_text(slow)) if slow else unknown(),
        *(
            measured(slow, name) if slow else unknown()
            for name in ("ttft_p90_ms", "tpot_mean_ms", "e2e_mean_ms")
        ),
        measured(quick, "output_throughput_tps", lambda v: numbers.number(v, 4), load)
        if quick
        else unknown(),
        _carries(kept),
        *(_score(held.get(pair)) for pair in tasks),
        Cell(name, href=first, links=[(text, href) for href, text in others]),
    ]
    return Row(
        head(any_row, ""),
        cells,
        id=pair_tests.identifier(key),
        variant=any_row["variant"],
        where=any_row["hardware_name"],
        published=any_row["source"] == "published",
    )


def _weights(rows: Iterable[Frame]) -> Cell:
    """In memory as the engine says, else on disk: the same weights are about the same size."""
    known = list(rows)
    held, stored = _first(known, "weights_gib"), _first(known, "checkpoint_gib")
    return amount(held) if stored is None or held is not None else amount(stored, note="on disk")


def _carries(kept: Carried | None) -> Cell:
    """The highest measured rate it is sure to keep, and the next one it may keep."""
    if kept is None:
        return unknown()
    note = "" if kept.unsure is None else f"unsure at {rates.short(kept.unsure)}"
    if kept.highest is None:
        return Cell("none measured", note=note)
    return Cell(rates.short(kept.highest), value=rates.sort_value(kept.highest), note=note)


def _first(rows: Iterable[Frame], name: str) -> Any:
    return next((row[name] for row in rows if row[name] is not None), None)


def _score(row: Frame | None) -> Cell:
    """An accuracy, with how many documents it is of: machines may have been asked others."""
    if row is None:
        return unknown()
    asked = "" if row["n"] is None else f"{numbers.whole(row['n'])} documents"
    return measured(row, "value", numbers.share, asked)
