"""What a sidecar must hold, row by row, for the report to read it as its record says."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from bench.records.record import (
    Count,
    Fidelity,
    Finite,
    Metric,
    Record,
    Repeat,
    Sha256,
    Sidecar,
    SpeedResult,
    Summary,
    TaskResult,
)
from bench.records.sense import SHARES

# FailFast: an error for each of millions of wrong values would take more memory than they do.
_Number = Annotated[float, Field(ge=-1e15, le=1e15)]
_Numbers = Annotated[list[_Number], FailFast(), Field(min_length=1)]
# At a place of a text, log-probabilities by label.
_Label = Annotated[str, Field(pattern=r"^\d{1,6}$")]
_Logprob = Annotated[float, Field(ge=-1e15, le=0)]
_Expected = Annotated[dict[_Label, _Logprob], Field(min_length=1, max_length=100)]
_SUM = 1 + 1e-3  # of probabilities that were rounded
_Sizes = Annotated[list[Count], FailFast(), Field(min_length=1)]


class _SidecarRow(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _Repeat(_SidecarRow):
    request_rate_rps: Finite | Literal["inf"]
    concurrency: Count | None = None
    seed: Count
    ttft_ms: _Numbers
    tpot_ms: _Numbers
    e2e_ms: _Numbers

    @property
    def latencies(self) -> tuple[list[float], ...]:
        """Every kind, one number for each request."""
        return self.ttft_ms, self.tpot_ms, self.e2e_ms


# Of a metric, for a document: a number, or as many as it has instructions.
_Value = Annotated[
    Annotated[_Number, Tag("number")]
    | Annotated[list[_Number], Field(min_length=1, max_length=1000), Tag("numbers")],
    Discriminator(lambda value: "numbers" if isinstance(value, list) else "number"),
]


class _Text(_SidecarRow):
    """What a model expects of a document's text: probabilities, whole and at some places."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    logprob: _Logprob
    top: Annotated[dict[_Label, _Expected], Field(min_length=1, max_length=100)]

    @property
    def fault(self) -> str | None:
        """Why these are no probabilities of its tokens, or None."""
        if any(int(place) >= self.tokens for place in self.top):
            return "names a place that its text does not have"
        if any(math.fsum(map(math.exp, top.values())) > _SUM for top in self.top.values()):
            return "has probabilities that come to more than 1"
        return None


class _Document(_SidecarRow):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Value]  # the task's metrics

    doc: Count
    hash: Sha256
    target: Count | None = None
    targets: _Sizes = []
    loglikelihoods: _Numbers = []
    bytes: _Sizes = []
    by_seed: dict[str, list[_Value]] = {}
    text: _Text | None = None

    @property
    def metrics(self) -> dict[str, float | list[float]]:
        """Their values by name."""
        return self.model_extra or {}


class _Position(_SidecarRow):
    paragraph: Count
    token: Count
    logprob: _Number
    top: Annotated[dict[str, _Number], Field(min_length=1)]


_REPEATS = TypeAdapter(Annotated[list[_Repeat], FailFast()])
_DOCUMENTS = TypeAdapter(Annotated[list[_Document], FailFast()])
_POSITIONS = TypeAdapter(Annotated[list[_Position], FailFast()])


def document_hashes(text: bytes) -> dict[int, str]:
    """Of a task's sidecar in which no fault was found: each document's hash by its index."""
    return {row["doc"]: row["hash"] for row in json.loads(text)}


def find_fault(record: Record, sidecar: Sidecar, text: bytes) -> str | None:
    """Why a sidecar is not what `record` says of it, or None.

    Args:
        text: what the sidecar unpacks to.
    """
    try:
        rows: Any = json.loads(text)
        if not isinstance(rows, list) or len(rows) != sidecar.rows:
            return "does not have the rows its record names"
        return _fault(record, sidecar, rows)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"its rows: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        return f"not gzipped JSON ({error})"


def _fault(record: Record, sidecar: Sidecar, rows: list[Any]) -> str | None:
    quality = record.quality
    if record.speed and record.speed.requests == sidecar:
        return _repeats_fault(record.speed, _REPEATS.validate_python(rows))
    if quality and quality.fidelity and quality.fidelity.logprobs == sidecar:
        return _positions_fault(quality.fidelity, _POSITIONS.validate_python(rows))
    documents = _DOCUMENTS.validate_python(rows)
    asked = [task for task in quality.tasks if task.samples == sidecar] if quality else []
    return next(filter(None, (_documents_fault(task, documents) for task in asked)), None)


def _repeats_fault(speed: SpeedResult, rows: Sequence[_Repeat]) -> str | None:
    repeats = [(load, repeat) for load in speed.loads for repeat in load.repeats]
    measured = [
        (load.request_rate_rps, load.concurrency, repeat.seed, *[repeat.completed] * 3)
        for load, repeat in repeats
    ]
    held = [
        (row.request_rate_rps, row.concurrency, row.seed, *map(len, row.latencies)) for row in rows
    ]
    if held != measured:
        return "does not hold its record's repeats and requests"
    faults = (_summary_fault(repeat, row) for (_, repeat), row in zip(repeats, rows, strict=True))
    return next(filter(None, faults), None)


def _summary_fault(repeat: Repeat, row: _Repeat) -> str | None:
    """Why a repeat's numbers are not those of its requests, whose latencies are rounded."""
    tokens = repeat.output_tokens
    for name, count in (
        ("request_throughput_rps", repeat.completed),
        ("output_throughput_tps", tokens),
        ("total_throughput_tps", repeat.input_tokens + tokens),
    ):
        if not math.isclose(getattr(repeat, name), count / repeat.duration_s, rel_tol=1e-6):
            return f"does not come to its record's {name}"
    for name, values in zip(("ttft_ms", "tpot_ms", "e2e_ms"), row.latencies, strict=True):
        told: Summary = getattr(repeat, name)
        ordered = sorted(values)
        found = {"mean": math.fsum(values) / len(values), "median": _quantile(ordered, 0.5)}
        found |= {f"p{percent}": _quantile(ordered, percent / 100) for percent in (50, 90, 99)}
        found["std"] = statistics.pstdev(values, found["mean"])
        for part, value in found.items():
            if not math.isclose(getattr(told, part), value, rel_tol=1e-3, abs_tol=1e-3):
                return f"does not come to its record's {part} of {name}"
    between = repeat.output_tokens / repeat.completed - 1  # each answer has as many tokens
    for first, token, whole in zip(*row.latencies, strict=True):
        if not math.isclose(token * between, whole - first, rel_tol=1e-3, abs_tol=1e-3 * between):
            return "has a request whose ttft_ms, tpot_ms and e2e_ms do not agree"
    return None


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Of values in order, between the two nearest ones, as numpy has it."""
    at = (len(ordered) - 1) * share
    low, high = ordered[math.floor(at)], ordered[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


def _documents_fault(task: TaskResult, rows: Sequence[_Document]) -> str | None:
    if not 0 < len(rows) == len({row.doc for row in rows}) == task.documents_effective:
        return "does not hold each of its record's documents once"
    if any(len(row.loglikelihoods) != len(row.bytes) for row in rows):
        return "does not hold a size for each log-likelihood"
    for row in rows:
        right = [*row.targets, *([] if row.target is None else [row.target])]
        if row.loglikelihoods and any(index >= len(row.loglikelihoods) for index in right):
            return "names a right choice that is none of the document's"
        if task.choices is not None and len(row.loglikelihoods) != task.choices:
            return "does not hold as many choices as its record says"
        if any(len(values) != len(task.sampling_seeds) for values in row.by_seed.values()):
            return "does not hold a value for each of its record's seeds"
    checks = (_metric_fault, _error_fault, _seeds_fault)
    faults = (check(metric, rows) for metric in task.metrics for check in checks)
    return next(filter(None, faults), _texts_fault(task, [row.text for row in rows if row.text]))


def _texts_fault(task: TaskResult, texts: Sequence[_Text]) -> str | None:
    if len(texts) != (task.texts or 0):
        return "does not hold as many texts as its record says"
    return next(filter(None, (text.fault for text in texts)), None)


def _metric_fault(metric: Metric, rows: Sequence[_Document]) -> str | None:
    """Why the documents' values are not those of the metric; how it comes from them is recorded."""
    held = [row.metrics[metric.name] for row in rows if metric.name in row.metrics]
    if metric.aggregation is None:  # of a record from before it was, what can be known
        right = held.count(1)
        plain = len(held) == len(rows) == right + held.count(0)
        wrong = plain and abs(right / len(rows) - metric.value) > 1e-9
        return f"does not come to its record's {metric.name}" if wrong else None
    if metric.unit == "share" and any(not 0 <= value <= 1 for value in _all(held)):
        return f"has a share of {metric.name} that is not from 0 to 1"
    try:
        value = _aggregate(metric.aggregation, held)
    except (ArithmeticError, ValueError):
        return f"has values that no {metric.name} comes from"
    if not _same(value, metric.value):
        return f"does not come to its record's {metric.name}"
    return None


def _error_fault(metric: Metric, rows: Sequence[_Document]) -> str | None:
    """Why a metric's standard error is not that between the documents; of a mean it is."""
    held = [row.metrics[metric.name] for row in rows if metric.name in row.metrics]
    numbers = [value for value in held if isinstance(value, float)]
    is_mean = metric.aggregation == "mean" or (
        metric.aggregation is None and metric.name.partition(",")[0] in SHARES
    )
    if metric.stderr is None or not is_mean or not 1 < len(numbers) == len(held):
        return None
    wrong = not _same(statistics.stdev(numbers) / math.sqrt(len(numbers)), metric.stderr)
    return f"does not come to its record's standard error of {metric.name}" if wrong else None


def _seeds_fault(metric: Metric, rows: Sequence[_Document]) -> str | None:
    """Why the documents' values with each sampling seed are not those of the metric."""
    held = [row.by_seed[metric.name] for row in rows if metric.name in row.by_seed]
    if metric.aggregation is None or not (held and metric.by_seed):
        return None
    try:
        found = [_aggregate(metric.aggregation, values) for values in zip(*held, strict=True)]
    except (ArithmeticError, ValueError):
        return f"has values that no {metric.name} comes from"
    if len(found) != len(metric.by_seed) or not all(map(_same, found, metric.by_seed)):
        return f"does not come to its record's {metric.name} with each seed"
    return None


def _same(found: float, told: float) -> bool:
    return math.isclose(found, told, rel_tol=1e-6, abs_tol=1e-9)


def _all(held: Sequence[float | list[float]]) -> list[float]:
    return [v for values in held for v in (values if isinstance(values, list) else [values])]


def _aggregate(how: str, held: Sequence[float | list[float]]) -> float:
    """A metric's value from its documents': see `records.record.Metric`.

    Raises:
        ValueError, ArithmeticError: they are not of the shape that it takes.
    """
    if how in ("mean", "perplexity"):
        values = _all(held)
        average = math.fsum(values) / len(values)
        return average if how == "mean" else math.exp(-average)
    pairs = [(values[0], values[1]) for values in held if isinstance(values, list) and values[1:]]
    if len(pairs) < len(held):
        raise ValueError("a document has no two numbers")
    nats = -math.fsum(first for first, _ in pairs) / math.fsum(second for _, second in pairs)
    return math.exp(nats) if how == "weighted perplexity" else nats / math.log(2)


def _positions_fault(fidelity: Fidelity, rows: Sequence[_Position]) -> str | None:
    if len(rows) != fidelity.positions:
        return "does not hold its record's positions"
    found = math.fsum(row.logprob for row in rows) / len(rows)
    if not math.isclose(found, fidelity.mean_logprob, rel_tol=1e-4, abs_tol=1e-4):
        return "does not come to its record's mean_logprob"
    return None
