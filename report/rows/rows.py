"""The rows that everything in the report is about: typed, frozen, made once.

A field is a column of an exported table: its name ends in its unit, its type is the column's, and
the order of the fields is that of the columns, those marked FIRST before the subject's. An
estimate fills four columns. What is missing is None and means "unknown", never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args

from bench.records.pace import Pace
from report import rates
from report.stats import Estimate

Source = Literal["measured", "published"]
Stage = Literal["speed", "quality"]
Status = Literal["ok", "partial", "failed"]
Sustained = Literal["yes", "no", "unsure", "unknown"]
Size = Literal["weights_gib", "checkpoint_gib"]
Unit = Literal["share", "perplexity", "bits per byte", "score"]
Event = Literal["ttft", "tpot", "itl", "e2e"]
Statistic = Literal["mean", "p50", "p90", "p99"]
Who = tuple[Source, str, str]  # source, hardware, variant
Kin = tuple[Source, str, str]  # source, hardware, family
Place = tuple[str, str]  # hardware, the machine's own name
Workload = tuple[Pace, int, int]  # what is offered, tokens in, tokens out


class Metric(StrEnum):
    """What a speed row can tell, by the names of the columns."""

    TTFT_MEAN = "ttft_mean_ms"
    TTFT_P50 = "ttft_p50_ms"
    TTFT_P90 = "ttft_p90_ms"
    TTFT_P99 = "ttft_p99_ms"
    TPOT_MEAN = "tpot_mean_ms"
    TPOT_P50 = "tpot_p50_ms"
    TPOT_P90 = "tpot_p90_ms"
    TPOT_P99 = "tpot_p99_ms"
    ITL_MEAN = "itl_mean_ms"
    ITL_P50 = "itl_p50_ms"
    ITL_P90 = "itl_p90_ms"
    ITL_P99 = "itl_p99_ms"
    E2E_MEAN = "e2e_mean_ms"
    E2E_P50 = "e2e_p50_ms"
    E2E_P90 = "e2e_p90_ms"
    E2E_P99 = "e2e_p99_ms"
    REQUESTS = "request_throughput_rps"
    OUTPUT = "output_throughput_tps"
    ALL_TOKENS = "total_throughput_tps"
    GOODPUT = "goodput_rps"

    @property
    def label(self) -> str:
        """What it is called above a column: TTFT p90."""
        if self in LATENCIES:
            event, statistic = LATENCIES[self]
            return f"{event.upper()} {statistic}"
        return _RATES[self][0]

    @property
    def unit(self) -> str:
        """Its unit as a reader sees it."""
        return "ms" if self in LATENCIES else _RATES[self][1]


EVENTS: tuple[Event, ...] = get_args(Event)
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
LATENCIES = {
    Metric(f"{event}_{statistic}_ms"): (event, statistic)
    for event in EVENTS
    for statistic in STATISTICS
}
THROUGHPUTS = (Metric.REQUESTS, Metric.OUTPUT, Metric.ALL_TOKENS)
_RATES = {
    Metric.REQUESTS: ("Completed", "requests/s"),
    Metric.OUTPUT: ("Output", "tokens/s"),
    Metric.ALL_TOKENS: ("All tokens", "tokens/s"),
    Metric.GOODPUT: ("Goodput", "requests/s"),
}
# The metrics that stand for a task, the first that it has.
_LEADING = ("acc", "acc_norm", "exact_match", "prompt_level_strict_acc", "word_perplexity")
# Of those, the ones whose unit older records do not say: shares of documents.
_SHARES = _LEADING[:3]

FIRST = {"first": True}  # its column stands before those of the subject
HIDDEN = {"hidden": True}  # no column


def unit_of(metric: str) -> Unit:
    """The unit of a metric of which only the name is known; a filter stands after a comma."""
    name = metric.partition(",")[0]
    if name in _SHARES:
        return "share"
    return "perplexity" if "perplexity" in name else "score"


def leading_metric(metrics: Iterable[str]) -> str:
    """The metric that stands for a task: `acc` where it has that."""
    return min(metrics, key=metric_order)


def metric_order(metric: str) -> tuple[int, bool, str]:
    """Sorts a task's metrics, the one that stands for it first: of two filters the strict one."""
    name, _, kept = metric.partition(",")
    place = _LEADING.index(name) if name in _LEADING else len(_LEADING)
    return place, "flexible" in kept, metric


def anchor(stage: Stage, source: Source, hardware: str, variant: str, *rest: str) -> str:
    """The HTML id of a row; ids of hardware and variant hold no underscore, so it separates."""
    first = stage if source == "measured" else f"published-{stage}"
    return "_".join((first, hardware, variant, *(part.replace(".", "-") for part in rest)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a row is about: a variant on a machine, as its record or publication names them."""

    hardware: str
    hardware_name: str
    variant: str
    variant_name: str
    family: str
    is_baseline: bool
    machine: str
    engine_version: str | None
    finished_at: str | None = None  # ISO 8601 in UTC
    key: str | None = None

    @property
    def variant_page(self) -> str:
        """Where the site tells everything of the variant."""
        return f"variants/{self.variant}.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What both stages say of what was served, and on what.

    Attributes:
        gpus: that share the model; what it takes of memory is that of all together.
    """

    gpus: int = 1
    engine_build: str | None = None
    quantization: str | None = None
    kernel: str | None = None
    attention_backend: str | None = None
    weights: str | None = None
    parameters: int | None = None
    checkpoint_gib: float | None = None
    weights_gib: float | None = None
    kv_cache_tokens: int | None = None
    kv_cache_gib: float | None = None
    load_s: float | None = None
    startup_s: float | None = None
    gpu_memory_gib: float | None = None
    memory_gib: float | None = None
    price_per_hour_usd: float | None = None
    random_weights: bool = False

    def size(self, which: Size) -> float | None:
        """What the weights take in memory, or on disk, in GiB."""
        return self.weights_gib if which == "weights_gib" else self.checkpoint_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow(Subject):
    """What a speed and a quality row share; `records` are those behind it, the newest last."""

    source: Source = field(metadata=FIRST)
    records: tuple[str, ...] = field(metadata={**FIRST, "column": "record"})
    anchor: str = field(metadata=FIRST)
    date: str
    status: Status
    reproduces: str | None = None
    served: Served

    @property
    def record(self) -> str:
        """The newest of its records: a path below the results, or reference/FILE#ID."""
        return self.records[-1]

    @property
    def who(self) -> Who:
        """The variant on its machine, measured or published."""
        return self.source, self.hardware, self.variant

    @property
    def kin(self) -> Kin:
        """Its family on its machine, measured or published."""
        return self.source, self.hardware, self.family

    @property
    def page(self) -> str:
        """Where the site tells more of the variant."""
        published = self.source == "published"
        return f"data.html#published-{self.variant}" if published else self.variant_page

    @property
    def record_page(self) -> str:
        """Where the site has the record."""
        path = self.record.partition("#")[0]
        return path if self.source == "published" else f"records/{path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow(ResultRow):
    """A variant under one load, over all its sessions. An unknown metric is not in `metrics`.

    `by_session` has each session's value of a metric, the oldest first, None where one lacks it;
    nothing for a published row. `repeats` counts those of all sessions.
    """

    input_tokens: int
    output_tokens: int
    prompts: int
    request_rate_rps: float  # infinite where requests were not throttled
    concurrency: int | None = None  # of a closed loop
    sessions: int = 1
    repeats: int
    metrics: Mapping[Metric, Estimate] = field(metadata={"keys": tuple(Metric)})
    limit_ttft_p90_ms: float | None
    limit_tpot_p90_ms: float | None
    sustained: Sustained
    usd_per_million_output_tokens: float | None = None
    peak_memory_gib: float | None = None
    memory_kind: str | None = None
    mean_power_w: float | None = None
    energy_per_output_token_j: float | None = None
    throttled: bool | None = None
    throttle_reasons: tuple[str, ...] = ()
    shared: bool | None = None
    server_queue_ms: float | None = None
    server_prefill_ms: float | None = None
    server_tpot_ms: float | None = None
    client_tpot_ms: float | None = None  # as the client saw it, of the same sessions
    tokens_per_iteration: float | None = None
    front_end_share: float | None = None  # of the time per token, outside the engine
    by_session: Mapping[Metric, tuple[float | None, ...]] = field(
        default_factory=dict, metadata=HIDDEN
    )

    @property
    def place(self) -> Place:
        """The machine whose sessions are compared with one another."""
        return self.hardware, self.machine

    @property
    def series(self) -> str:
        """Its load, as it is exported."""
        return rates.name(self.pace)

    @property
    def pace(self) -> Pace:
        """What its load offers."""
        return Pace(self.request_rate_rps, self.concurrency or math.inf)

    @property
    def workload(self) -> Workload:
        """What two rows must share to be compared."""
        return self.pace, self.input_tokens, self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRow(ResultRow):
    """A variant's score in one metric of one task or group, over `n` documents of all its batches.

    A task that is told as part of a group names that in `part_of`. `aggregation` is how the score
    comes from the documents' values (see `bench.records.record.Metric`), `counted` whether those
    are right or wrong. Where answers are sampled with several seeds, `spread_over_seeds` is the
    standard deviation from seed to seed. `margin` is what counts as kept, as the newest record
    asks: recovery, or points.
    """

    task: str
    metric: str
    value: Estimate
    unit: Unit = "share"
    higher_is_better: bool = True
    stderr: float | None
    n: int
    chance: float | None
    part_of: str | None = None
    task_version: str | None = None
    config_sha256: str | None = None
    documents_sha256: str | None = None
    dataset: str | None = None
    dataset_revision: str | None = None
    documents_original: int | None = None
    selection: str | None
    num_fewshot: int
    apply_chat_template: bool | None = None
    generation: str | None = None
    sampling_seeds: int | None = None
    spread_over_seeds: float | None = None
    requests_per_s: float
    samples: str | None = None
    aggregation: str | None = field(default="mean", metadata=HIDDEN)
    counted: bool = field(default=True, metadata=HIDDEN)
    margin: Mapping[str, float] = field(default_factory=dict, metadata=HIDDEN)
    settings: str = field(default="", metadata=HIDDEN)  # equal where a task was asked alike

    @property
    def series(self) -> str:
        """Its task."""
        return self.task

    @property
    def asked(self) -> tuple[str, str]:
        """What two rows must share to be compared."""
        return self.task, self.metric


Result = SpeedRow | QualityRow
_TOY_GIB = 1.0  # weights of half a billion parameters in BF16


def is_toy(rows: Iterable[Result]) -> bool:
    """Whether all is of random weights, or of models too small to be put to use."""
    served = [row.served for row in rows]
    sizes = [gib for each in served if (gib := each.weights_gib or each.checkpoint_gib)]
    return max(sizes, default=math.inf) < _TOY_GIB or all(each.random_weights for each in served)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow(Subject):
    """One record, failed and superseded ones too; `current` marks those shown."""

    record: str = field(metadata=FIRST)
    stage: Stage = field(metadata=FIRST)
    status: Status = field(metadata=FIRST)
    current: bool = field(metadata=FIRST)
    error_kind: str | None = field(metadata=FIRST)
    error: str | None = field(metadata=FIRST)
    commit: str | None
    dirty: bool | None
    workflow: str | None
    run_id: str | None
    started_at: str
    random_weights: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatRow:
    """One repeat of a current speed record as it was measured."""

    record: str
    anchor: str
    hardware: str
    variant: str
    request_rate_rps: float
    concurrency: int | None
    repeat: int
    seed: int
    started_at: str
    duration_s: float
    asked: int
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    server_input_tokens: int
    server_output_tokens: int
    prefix_cache_queries: int | None
    prefix_cache_hits: int | None
    metrics: Mapping[Metric, float] = field(metadata={"keys": (*THROUGHPUTS, *LATENCIES)})

    @property
    def pace(self) -> Pace:
        """What its load offers."""
        return Pace(self.request_rate_rps, self.concurrency or math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow(Subject):
    """One metric of one load or task (`series`) of one record, current or superseded.

    A task has no pace.
    """

    record: str = field(metadata=FIRST)
    stage: Stage = field(metadata=FIRST)
    current: bool = field(metadata=FIRST)
    asked: str
    series: str
    metric: str
    n: int
    value: Estimate | None
    pace: Pace | None = field(default=None, metadata=HIDDEN)
    unit: Unit = field(default="share", metadata=HIDDEN)
    counted: bool = field(default=True, metadata=HIDDEN)
