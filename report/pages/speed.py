"""The speed page: one machine at a time, since ratios across machines compare machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from report import numbers, rates
from report.charts import charts
from report.charts.drawing import Chart
from report.differences.families import Verdicts
from report.pages import cells
from report.pages.tables import Better, Cell, Column, Row, Table
from report.rows.rows import LATENCIES, Metric, SpeedRow

Filled = tuple[Column, Callable[[SpeedRow], Cell]]  # a column, and what a row shows in it
_PERCENTILES = {"p50": "Medians", "p90": "90th percentiles", "p99": "99th percentiles"}
_EACH = " for each that is under way at once"  # in a closed loop
LOAD = Column("load", "Load", numeric=False)


@dataclass(frozen=True, slots=True)
class Section:
    """Everything about the speed of one machine."""

    id: str
    title: str
    workload: str
    level: str
    charts: Sequence[Chart]
    latency: Table
    percentiles: Sequence[Table]
    cost: Table
    server: Table | None


def sections(rows: Sequence[SpeedRow], verdicts: Verdicts) -> list[Section]:
    """Per machine: latency and throughput, the tails, and what it costs."""
    made = []
    for hardware, group in groupby(rows, key=lambda row: row.hardware):
        own = list(group)
        name = own[0].hardware_name
        made.append(
            Section(
                hardware,
                name,
                _workload(own),
                _level(own),
                charts.speeds(hardware, name, own),
                latency=_table("speed", f"Latency and throughput, {name}", latency(verdicts), own),
                percentiles=[
                    _table(statistic, f"{caption}, {name}", _percentile(statistic), own)
                    for statistic, caption in _PERCENTILES.items()
                    if any(metric in row.metrics for row in own for metric in _at(statistic))
                ],
                cost=_table("cost", f"Load carried and its cost, {name}", _COST, own),
                server=_server(name, own),
            )
        )
    return made


def latency(verdicts: Verdicts) -> list[Filled]:
    """How long a reader waits, and the test of the time per token against the baseline."""
    tested = Column(
        "tested", "Against baseline", "TPOT, %", title="The time per token, with the verdict"
    )
    return [
        _metric("tps", Metric.OUTPUT, cells.four_digits),
        _metric("tpot", Metric.TPOT_MEAN),
        (tested, lambda row: cells.against_baseline(row, verdicts.speed(row, Metric.TPOT_MEAN))),
        _metric("ttft", Metric.TTFT_MEAN),
        _metric("e2e", Metric.E2E_MEAN),
    ]


def tokens_text(row: SpeedRow) -> str:
    """How long its requests and answers were, in few words."""
    return f"{row.input_tokens:,} tokens in, {row.output_tokens:,} out"


def _metric(key: str, metric: Metric, form: numbers.Form = numbers.number) -> Filled:
    better: Better = "lower" if metric in LATENCIES else "higher"
    column = Column(key, metric.label, metric.unit, better=better)
    return column, lambda row: cells.measured(row.metrics.get(metric), form)


def _percentile(wanted: str) -> list[Filled]:
    return [_metric(f"{LATENCIES[metric][0]}{wanted}", metric) for metric in _at(wanted)]


def _at(wanted: str) -> list[Metric]:
    """Every latency at a percentile."""
    return [metric for metric, (_, statistic) in LATENCIES.items() if statistic == wanted]


SESSIONS: Filled = (
    Column("sessions", "Sessions", title="Starts of the server, which a verdict goes by"),
    lambda row: cells.amount(row.sessions, numbers.whole),
)
_COST: list[Filled] = [
    _metric("rps", Metric.REQUESTS),
    _metric("total", Metric.ALL_TOKENS, cells.four_digits),
    _metric("goodput", Metric.GOODPUT),
    (
        Column("sustained", "Within service level", numeric=False),
        lambda row: cells.text(row.sustained),
    ),
    (
        Column("energy", "Energy", "J/output token", better="lower"),
        lambda row: cells.amount(row.energy_per_output_token_j),
    ),
    (
        Column("usd", "Price", "$/million tokens", better="lower"),
        lambda row: cells.amount(row.usd_per_million_output_tokens),
    ),
    SESSIONS,
]


# From this share of the time per token on, the front end is said to be the limit.
_FRONT_END = 0.15


def _front_end(row: SpeedRow) -> Cell:
    share = None if row.front_end_share is None else max(0.0, row.front_end_share)
    limit = share is not None and share > _FRONT_END
    return cells.amount(share, cells.whole_percent, "limits the server" if limit else "")


_SERVER: list[Filled] = [
    (
        Column("queue", "Queue", "ms", title="Waiting for a place in a batch, mean"),
        lambda row: cells.amount(row.server_queue_ms),
    ),
    (
        Column("prefill", "Prefill", "ms", title="Reading the prompt, mean"),
        lambda row: cells.amount(row.server_prefill_ms),
    ),
    (
        Column("own", "TPOT, engine", "ms", title="By the engine's own clock"),
        lambda row: cells.amount(row.server_tpot_ms),
    ),
    (
        Column("seen", "TPOT, client", "ms", title="As the client saw it"),
        lambda row: cells.amount(row.client_tpot_ms),
    ),
    (
        Column("front", "Front end", "% of TPOT", title="Outside the engine"),
        _front_end,
    ),
    (
        Column("batch", "Tokens per step", title="Tokens of all requests in one step, mean"),
        lambda row: cells.amount(row.tokens_per_iteration),
    ),
]


def _server(name: str, rows: Sequence[SpeedRow]) -> Table | None:
    """What the server counted by its own clock, of the rows that have it."""
    known = [row for row in rows if row.server_tpot_ms is not None]
    return _table("server", f"By the engine's own clock, {name}", _SERVER, known) if known else None


def _table(kind: str, caption: str, shown: Sequence[Filled], rows: Sequence[SpeedRow]) -> Table:
    """A row per variant and load; the first table has the ids of the rows."""
    columns = (cells.VARIANT, *(column for column, _ in shown))
    body = [
        Row(
            cells.head(row),
            [fill(row) for _, fill in shown],
            id=row.anchor if kind == "speed" else "",
            group=rates.name(row.pace),
            variant=row.variant,
            baseline=row.is_baseline,
            published=row.source == "published",
        )
        for row in rows
    ]
    name = f"{kind}-{rows[0].hardware}"
    loads = {rates.name(row.pace): rates.full(row.pace) for row in rows}
    return Table(name, caption, columns, body, headings=loads)


def _workload(rows: Sequence[SpeedRow]) -> str:
    """What was sent, once for all rows that agree."""
    kinds = {
        (row.input_tokens, row.output_tokens, row.prompts, "")
        if row.concurrency is None
        else (row.input_tokens, row.output_tokens, row.prompts // row.concurrency, _EACH)
        for row in rows
    }
    return "; ".join(
        f"{i:,} tokens in, {o:,} out, {p:,} prompts{each}" for i, o, p, each in sorted(kinds)
    )


def _level(rows: Sequence[SpeedRow]) -> str:
    """The service level that goodput and the load carried are judged by."""
    limits = {(row.limit_ttft_p90_ms, row.limit_tpot_p90_ms) for row in rows}
    told = [
        f"TTFT p90 ≤ {t:g} ms and TPOT p90 ≤ {p:g} ms" for t, p in sorted(limits - {(None, None)})
    ]
    return "; ".join(told) or numbers.UNKNOWN
