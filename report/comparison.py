"""The compare page: every variant on every machine in one row, measured and published alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from report import numbers, pair_tests
from report.speed import head
from report.tables import Cell, Column, Row, Table, amount, measured, text, unknown

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
        Column("load", "Lowest load", "requests", numeric=False),
        Column("ttft", "TTFT p90", "ms", better="lower", scale="ratio"),
        Column("tpot", "TPOT mean", "ms", better="lower", scale="ratio"),
        Column("e2e", "E2E mean", "ms", better="lower", scale="ratio"),
        Column("tps", "Most output", "tokens/s", better="higher", scale="ratio"),
        *(
            Column(f"{task}.{metric}", f"{task} {metric}", "%", better="higher", scale="points")
            for task, metric in tasks
        ),
    )
    rows = [_compared(key, held, tasks) for key, held in found.items()]
    return Table("compare", "All variants", columns, rows, choose=True)


def _compared(key: tuple[str, str, str], held: dict[Any, Frame], tasks: Sequence[Any]) -> Row:
    any_row = next(iter(held.values()))
    slow, quick = held.get("fixed"), held.get("most")
    gib = next((r["weights_gib"] for r in held.values() if r["weights_gib"] is not None), None)
    load = "" if quick is None else _load(quick["request_rate_rps"])
    cells = [
        text(any_row["hardware_name"]),
        amount(gib),
        Cell(numbers.rate(slow["request_rate_rps"])) if slow else unknown(),
        *(
            measured(slow, name) if slow else unknown()
            for name in ("ttft_p90_ms", "tpot_mean_ms", "e2e_mean_ms")
        ),
        measured(quick, "output_throughput_tps", lambda v: numbers.number(v, 4), load)
        if quick
        else unknown(),
        *(
            measured(held[pair], "value", numbers.share) if pair in held else unknown()
            for pair in tasks
        ),
    ]
    return Row(
        head(any_row, ""),
        cells,
        id=pair_tests.identifier(key),
        variant=any_row["variant"],
        where=any_row["hardware_name"],
        published=any_row["source"] == "published",
    )


def _load(rate: float) -> str:
    return "unthrottled" if rate == float("inf") else f"at {numbers.rate(rate)}"
