"""The quality page's table of a fixed text: how far each variant's expectations moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.records import store
from bench.records.record import Fidelity
from report import numbers
from report.pages.speed import head, record_cell
from report.pages.tables import Cell, Column, Row, Table, amount, unknown
from report.rows.load import Results
from report.stats import divergence

Frame = dict[str, Any]
_COLUMNS = (
    Column("variant", "Variant", numeric=False),
    Column("kl", "Divergence from baseline", "nats per token", better="lower", scale="ratio"),
    Column("perplexity", "Perplexity of the text", better="lower", scale="ratio"),
    Column("positions", "Positions"),
    Column("record", "Record", numeric=False, title="The JSON these numbers come from"),
)


def tables(results: Results, good: Sequence[Frame]) -> list[Table]:
    """Per machine, where the records hold it; each family is read beside its baseline."""
    read: dict[str, dict[str, tuple[Frame, Fidelity, list[Any]]]] = {}
    ours = {row["record"]: row for row in good if row["source"] == "measured"}
    for row in ours.values():
        record = results.read(row["record"])
        fidelity = record.quality.fidelity if record.quality else None
        if fidelity:
            rows = store.read_sidecar(results.root / row["record"], fidelity.logprobs)
            read.setdefault(row["hardware"], {})[row["variant"]] = (row, fidelity, rows)
    made = []
    for hardware, held in read.items():
        bases = {row["family"]: rows for row, _, rows in held.values() if row["is_baseline"]}
        body = [_row(*each, bases.get(each[0]["family"])) for each in held.values()]
        name = next(iter(held.values()))[0]["hardware_name"]
        caption = f"What each expects of one fixed text, on {name}"
        made.append(Table(f"expectations-{hardware}", caption, _COLUMNS, body))
    return made


def _row(row: Frame, fidelity: Fidelity, rows: list[Any], base: list[Any] | None) -> Row:
    if row["is_baseline"]:
        moved = Cell("baseline", tone="unknown")
    else:
        value = divergence.mean_kl(base, rows) if base else None
        moved = unknown() if value is None else Cell(f"≥ {numbers.number(value)}", value)
    cells = [
        moved,
        amount(math.exp(-fidelity.mean_logprob), lambda v: numbers.number(v, 4)),
        amount(fidelity.positions, numbers.whole),
        record_cell(row, ""),
    ]
    baseline = bool(row["is_baseline"])
    return Row(head(row, ""), cells, group="text", variant=row["variant"], baseline=baseline)
