"""What a record must be beyond its schema, for its numbers to mean anything.

Held against it twice: before a stranger's record is stored, and before any record is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from bench.records.pace import of_load
from bench.records.record import Load, QualityResult, Record, Repeat, SpeedResult, TaskResult

MAX_NUMBER = 1e15  # of any unit here; its square, which the report takes, is a number still
_LEAST = 1e-6  # of a duration in seconds, a latency in milliseconds, a rate per second
_MAX_TEXT = 10_000  # characters of one text, such as an error
# Shares of documents in records that do not say units; a filter's name may follow after a comma.
SHARES = frozenset({"acc", "acc_norm", "exact_match"})


def find_nonsense(record: Record) -> str | None:
    """Why a record's numbers cannot be what they say they are, or None."""
    return next(chain(_whole(record), _speed(record), _quality(record)), None)


def _whole(record: Record) -> Iterator[str]:
    parts = {"speed": record.speed, "quality": record.quality}
    numbers, texts = _leaves(record.model_dump(mode="json"))
    if record.status == "ok" and parts[record.stage] is None:
        yield f"says ok and has no {record.stage} part"
    if any(part for stage, part in parts.items() if stage != record.stage):
        yield "has a part of another stage"
    if record.status == "ok" and record.error is not None:
        yield "says ok and has an error"
    if record.stage == "quality" and record.session is not None:
        yield "is of quality and has the number of a session"
    if any(abs(number) > MAX_NUMBER for number in numbers):
        yield f"has a number beyond {MAX_NUMBER:g}"
    if any(len(text) > _MAX_TEXT for text in texts):
        yield f"has a text of more than {_MAX_TEXT:,} characters"
    if record.provenance.started_at > record.provenance.finished_at:
        yield "its times are out of order"
    asked = {**record.service_level, "price_per_hour_usd": record.price_per_hour_usd}
    if any(value is not None and value <= 0 for value in asked.values()):
        yield "has a price or a limit that is not above zero"
    if any(not 0 < value < 100 for value in record.decision.values()):
        yield "has a margin that is none"
    measured = record.model_dump(mode="json", include={"engine", "environment"})
    if any(number < 0 for number in _numbers(measured)):
        yield "has a negative size or time of the engine or the machine"


def _speed(record: Record) -> Iterator[str]:
    speed = record.speed
    if speed is None:
        return
    offered = [of_load(load) for load in speed.loads]
    if not offered or len(set(offered)) < len(offered):
        yield "has no load, or one twice"
    if speed.workload.output_tokens < 2:
        yield "has answers of less than two tokens"
    if any(not pace.is_closed and pace.rate_rps <= 0 for pace in offered):
        yield "has a request rate that is none"
    for load in speed.loads:
        yield from _load(load, speed)


def _load(load: Load, speed: SpeedResult) -> Iterator[str]:
    if not load.repeats:
        yield "has a load without repeats"
    seeds = {repeat.seed for repeat in load.repeats}
    if len(seeds) < len(load.repeats) or speed.workload.warmup_seed in seeds:
        yield "has two repeats of the same prompts"
    for repeat in load.repeats:
        yield from _repeat(repeat)
    told = load.telemetry.model_dump(mode="json") if load.telemetry else None
    if any(number < 0 for number in _numbers(told)):
        yield "has a negative reading of the machine"


def _repeat(repeat: Repeat) -> Iterator[str]:
    if repeat.duration_s < _LEAST:
        yield "has a repeat that took no time"
    if not 0 < repeat.completed == repeat.asked or repeat.failed:
        yield "has a repeat in which not every request was completed"
    if repeat.prefix_cache_hits:
        yield "has a repeat whose prompts the server had seen before"
    rates = (repeat.request_throughput_rps, repeat.output_throughput_tps)
    if min(*rates, repeat.total_throughput_tps) < _LEAST:
        yield "has a throughput that is not above zero"
    latencies = (repeat.ttft_ms, repeat.tpot_ms, repeat.itl_ms, repeat.e2e_ms)
    if any(number < 0 for each in latencies for number in _numbers(each.model_dump())):
        yield "has a negative latency"
    if min(repeat.ttft_ms.mean, repeat.tpot_ms.mean, repeat.e2e_ms.mean) < _LEAST:
        yield "has a latency of nothing"
    if repeat.server and any(number < 0 for number in _numbers(repeat.server.model_dump())):
        yield "has a negative time of the server"


def _quality(record: Record) -> Iterator[str]:
    quality = record.quality
    if quality is None:
        return
    names = [task.name for task in quality.tasks]
    if not names or len(set(names)) < len(names):
        yield "has no task, or one twice"
    yield from _totals(quality)
    for task in quality.tasks:
        yield from _task(task)


def _totals(quality: QualityResult) -> Iterator[str]:
    if quality.duration_s < _LEAST or quality.requests_per_s < _LEAST:
        yield "has tasks that took no time"
    told = quality.telemetry.model_dump(mode="json") if quality.telemetry else None
    if any(number < 0 for number in _numbers(told)):
        yield "has a negative reading of the machine"
    text = quality.fidelity
    if text and (text.mean_logprob > 0 or not text.positions or not text.top):
        yield "has a probability beyond 1 of the fixed text, or none"


def _task(task: TaskResult) -> Iterator[str]:
    if not 0 < task.documents_effective <= task.documents_original:
        yield "has a task of no documents, or of more than there are"
    if task.choices is not None and task.choices < 1:
        yield "has a task of no choices"
    names = [metric.name for metric in task.metrics]
    if not names or len(set(names)) < len(names):
        yield "has a task with no metric, or one twice"
    for metric in task.metrics:
        share = metric.unit == "share" or (
            metric.unit is None and metric.name.partition(",")[0] in SHARES
        )
        if share and not 0 <= metric.value <= 1:
            yield f"has a share of documents that is none ({metric.value:g})"
        if metric.unit == "perplexity" and metric.value < 1:
            yield f"has a perplexity below 1 ({metric.value:g})"
        if metric.stderr is not None and metric.stderr < 0:
            yield "has a negative standard error"


def _numbers(value: Any) -> list[float]:
    return _leaves(value)[0]


def _leaves(value: Any) -> tuple[list[float], list[str]]:
    """All numbers and all texts in a value of JSON, names of fields too."""
    numbers: list[float] = []
    texts: list[str] = []
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, int | float):
            numbers.append(part)
        elif isinstance(part, dict):
            texts += part
            left += part.values()
        elif isinstance(part, list | tuple):
            left += part
    return numbers, texts
