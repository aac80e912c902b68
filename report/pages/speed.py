"""The speed page's tables: one machine at a time, since ratios across machines compare machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from report import numbers, rates
from report.pages.tables import Cell, Column, Row, Table, amount, measured, text

Frame = dict[str, Any]
Compare = Callable[[Frame], Cell]

_HEAD = Column("variant", "Variant", numeric=False)
_LOAD = Column("load", "Load", "requests", numeric=False)
_RECORD = Column("record", "Record", numeric=False, title="The JSON these numbers come from")


def _time(key: str, label: str) -> Column:
    return Column(key, label, "ms", better="lower", scale="ratio")


LATENCY = (
    _HEAD,
    _LOAD,
    Column("tps", "Output", "tokens/s", better="higher", scale="ratio"),
    _time("tpot", "TPOT mean"),
    Column("tested", "Against baseline", "TPOT, %", title="Ratio of means, Welch's t"),
    _time("tpot90", "TPOT p90"),
    _time("ttft", "TTFT mean"),
    _time("ttft90", "TTFT p90"),
    _time("e2e", "E2E mean"),
    _time("e2e90", "E2E p90"),
    _RECORD,
)
_TAILS = (
    _HEAD,
    _LOAD,
    *(
        _time(f"{name}{which}", f"{name.upper()} {which}")
        for name in ("ttft", "tpot", "itl", "e2e")
        for which in ("p50", "p99")
    ),
    _RECORD,
)
_COST = (
    _HEAD,
    _LOAD,
    Column("rps", "Completed", "requests/s", better="higher", scale="ratio"),
    Column("total", "All tokens", "tokens/s", better="higher", scale="ratio"),
    Column("goodput", "Goodput", "requests/s", better="higher", scale="ratio"),
    Column("sustained", "Within service level", numeric=False),
    Column(
        "memory",
        "Peak memory",
        "GiB",
        title="On a GPU what vLLM reserves, KV cache included: near the limit it is given",
    ),
    Column("energy", "Energy", "J/output token", better="lower", scale="ratio"),
    Column("usd", "Price", "$ per million output tokens", better="lower", scale="ratio"),
    Column("repeats", "Repeats"),
    _RECORD,
)


def tables(rows: Sequence[Frame], root: str, tested: Compare) -> list[dict[str, Any]]:
    """Per machine: latency and throughput, the tails, and what it costs."""
    sections = []
    for hardware, group in groupby(rows, key=lambda row: row["hardware"]):
        own = list(group)
        name = own[0]["hardware_name"]
        sections.append(
            {
                "id": hardware,
                "title": name,
                "workload": _workload(own),
                "level": _level(own),
                "latency": _table(
                    "speed",
                    hardware,
                    f"Latency and throughput, {name}",
                    LATENCY,
                    [_row(row, root, latency(row, tested)) for row in own],
                ),
                "tails": _table(
                    "tails",
                    hardware,
                    f"Medians and tails, {name}",
                    _TAILS,
                    [_row(row, root, _tail(row), anchored=False) for row in own],
                ),
                "cost": _table(
                    "cost",
                    hardware,
                    f"Load carried and its cost, {name}",
                    _COST,
                    [_row(row, root, _costs(row), anchored=False) for row in own],
                ),
            }
        )
    return sections


def head(row: Frame, root: str) -> Cell:
    """A row's variant: its name, where that leads, and what marks it."""
    published = row["source"] == "published"
    method = row.get("quantization")
    known = (row.get("kernel"), "not quantized" if method == "none" else method)
    once = "published: one run" if "task" in row else "published: one run, no interval"
    marks = [
        *([once] if published else []),
        *(["random weights"] if row.get("random_weights") else []),
        *([_throttled(row)] if row.get("throttled") else []),
        *(["shared its GPU"] if row.get("shared") else []),
    ]
    href = f"{root}data.html#published-{row['variant']}" if published else ""
    return Cell(
        row["variant_name"],
        href=href or f"{root}variants/{row['variant']}.html",
        note=", ".join(dict.fromkeys(str(word) for word in known if not numbers.is_missing(word))),
        tag="; ".join(marks),
    )


def _throttled(row: Frame) -> str:
    reasons = row.get("throttle_reasons")
    return "clocks limited" + ("" if numbers.is_missing(reasons) else f": {reasons}")


def record_cell(row: Frame, root: str) -> Cell:
    """The link from a row to the record its numbers stand in."""
    return Cell("JSON", href=record_href(row, root), note=numbers.date(row["date"]))


def record_href(row: Frame, root: str) -> str:
    """Where the record of a row is on the site."""
    path = str(row["record"]).partition("#")[0]
    folder = "" if row["source"] == "published" else "records/"
    return f"{root}{folder}{path}"


def _table(
    kind: str, hardware: str, caption: str, columns: Sequence[Column], rows: list[Row]
) -> Table:
    return Table(f"{kind}-{hardware}", caption, columns, rows, baselines=len(rows) > 1)


def _row(row: Frame, root: str, cells: Sequence[Cell], anchored: bool = True) -> Row:
    rate = row["request_rate_rps"]
    load = Cell(rates.short(rate), value=rates.sort_value(rate))
    return Row(
        head(row, root),
        [load, *cells, record_cell(row, root)],
        id=row["anchor"] if anchored else "",
        group=rates.name(rate),
        variant=row["variant"],
        baseline=bool(row["is_baseline"]),
        published=row["source"] == "published",
    )


def latency(row: Frame, tested: Compare) -> list[Cell]:
    """The cells of LATENCY after the load."""
    return [
        measured(row, "output_throughput_tps", lambda v: numbers.number(v, 4)),
        measured(row, "tpot_mean_ms"),
        tested(row),
        measured(row, "tpot_p90_ms"),
        *(measured(row, f"{m}_{w}_ms") for m in ("ttft", "e2e") for w in ("mean", "p90")),
    ]


def _tail(row: Frame) -> list[Cell]:
    names = ("ttft", "tpot", "itl", "e2e")
    return [measured(row, f"{name}_{which}_ms") for name in names for which in ("p50", "p99")]


def _costs(row: Frame) -> list[Cell]:
    kind = "" if numbers.is_missing(row["memory_kind"]) else str(row["memory_kind"])
    return [
        measured(row, "request_throughput_rps"),
        measured(row, "total_throughput_tps", lambda v: numbers.number(v, 4)),
        measured(row, "goodput_rps"),
        text(row["sustained"]),
        amount(row["peak_memory_gib"], note=kind),
        amount(row["energy_per_output_token_j"]),
        amount(row["usd_per_million_output_tokens"]),
        amount(row["repeats"], numbers.whole),
    ]


def _workload(rows: Sequence[Frame]) -> str:
    """What was sent, once for all rows that agree."""
    kinds = sorted({(row["input_tokens"], row["output_tokens"], row["prompts"]) for row in rows})
    return "; ".join(f"{i:,} tokens in, {o:,} out, {p:,} prompts" for i, o, p in kinds)


def tokens_text(row: Frame) -> str:
    """How long its requests and answers were, in few words."""
    return f"{row['input_tokens']:,} tokens in, {row['output_tokens']:,} out"


def _level(rows: Sequence[Frame]) -> str:
    """The service level that goodput and the load carried are judged by."""
    limits = {(row["limit_ttft_p90_ms"], row["limit_tpot_p90_ms"]) for row in rows}
    told = [
        f"TTFT p90 ≤ {t:g} ms and TPOT p90 ≤ {p:g} ms" for t, p in sorted(limits - {(None, None)})
    ]
    return "; ".join(told) or numbers.UNKNOWN
