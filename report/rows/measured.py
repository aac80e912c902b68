"""One record to its rows: what ran, what each load and task measured, every repeat."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import ServeOptions
from bench.errors import ConfigError
from bench.records import identity, store
from bench.records.pace import of_load
from bench.records.record import (
    THROTTLE_REASONS,
    GroupResult,
    Load,
    ModelFacts,
    Record,
    Repeat,
    TaskResult,
    canonical_json,
    spec_key,
)
from bench.records.record import Metric as RecordMetric
from report import rates, stats
from report.rows import answers
from report.rows.rows import (
    EVENTS,
    LATENCIES,
    STATISTICS,
    THROUGHPUTS,
    HistoryRow,
    Metric,
    QualityRow,
    RepeatRow,
    RunRow,
    Served,
    SpeedRow,
    Sustained,
    Unit,
    anchor,
    unit_of,
)
from report.stats.verdict import t_quantile

# What the history follows of a speed record; of a quality record it follows every metric.
FOLLOWED = (Metric.TTFT_MEAN, Metric.TPOT_MEAN, Metric.E2E_MEAN, Metric.OUTPUT)
GIB = 2**30


def run_row(record: Record, where: str, current: bool) -> RunRow:
    """What every record has, failed ones included."""
    source = record.provenance
    return RunRow(
        record=where,
        stage=record.stage,
        status=record.status,
        current=current,
        error_kind=record.error.kind if record.error else None,
        error=record.error.message if record.error else None,
        **_subject(record),
        commit=source.commit,
        dirty=source.dirty,
        workflow=source.workflow,
        run_id=source.run_id,
        started_at=_utc(source.started_at),
        random_weights=is_random(record),
    )


def speed_rows(record: Record, where: str, path: Path) -> Iterator[SpeedRow]:
    """One row per load, of this session alone; opens the sidecar for percentiles and goodput."""
    result = record.speed
    if result is None:
        return
    requests = iter(store.read_sidecar(path, result.requests))
    shared, level = _result(record, where), record.service_level
    ttft, tpot = level.get("ttft_p90_ms"), level.get("tpot_p90_ms")
    for load in result.loads:
        samples: list[dict[str, Any]] = [next(requests, {}) for _ in load.repeats]
        if [sample.get("seed") for sample in samples] != [r.seed for r in load.repeats]:
            raise ConfigError(
                f"{path}: its sidecar does not hold its repeats in their order",
                "restore both from git history",
            )
        pace, metrics = of_load(load), _metrics(load, samples, ttft, tpot)
        yield SpeedRow(
            **shared,
            anchor=_anchor(record, rates.name(pace)),
            input_tokens=result.workload.input_tokens,
            output_tokens=result.workload.output_tokens,
            prompts=load.repeats[0].asked if load.repeats else result.workload.prompts,
            request_rate_rps=pace.rate_rps,
            concurrency=load.concurrency,
            repeats=len(load.repeats),
            metrics=metrics,
            limit_ttft_p90_ms=ttft,
            limit_tpot_p90_ms=tpot,
            sustained="unknown",
            **_telemetry(load),
            **_server_times(load, result.workload.output_tokens),
        )


def judge(row: SpeedRow) -> SpeedRow:
    """A row with what follows from its metrics: the service level, and the price of its output."""
    output, price = row.metrics.get(Metric.OUTPUT), row.served.price_per_hour_usd
    usd = (
        price / 3600 / output.value * 1e6 if price is not None and output and output.value else None
    )
    level = sustained(row.metrics, row.limit_ttft_p90_ms, row.limit_tpot_p90_ms)
    return replace(row, sustained=level, usd_per_million_output_tokens=usd)


def quality_rows(record: Record, where: str) -> Iterator[QualityRow]:
    """One row per task and metric; none for random weights, whose answers mean nothing."""
    if record.quality is None or is_random(record):
        return
    shared = _result(record, where)
    for task in record.quality.tasks:
        for metric in task.metrics:
            yield QualityRow(
                **shared,
                **_metric(metric, task.documents_effective),
                anchor=_anchor(record, task.name, metric.name),
                task=task.name,
                metric=metric.name,
                part_of=_group(record, task),
                n=task.documents_effective,
                chance=1 / task.choices if task.choices else None,
                task_version=task.version,
                config_sha256=task.config_sha256,
                documents_sha256=task.documents_sha256,
                dataset=task.dataset,
                dataset_revision=task.dataset_revision,
                documents_original=task.documents_original,
                selection=task.selection,
                num_fewshot=task.num_fewshot,
                apply_chat_template=task.apply_chat_template,
                generation=canonical_json(task.generation) if task.generation else None,
                sampling_seeds=len(task.sampling_seeds) or None,
                requests_per_s=record.quality.requests_per_s,
                samples=task.samples.file,
                margin=record.decision,
                settings=identity.task_settings(record.spec, task.name, task.asked),
            )


def pool(
    rows: Sequence[QualityRow], tell: Callable[[tuple[str, ...], str], answers.Answers]
) -> QualityRow:
    """Batches of documents of one variant as one row; a metric of no document is the newest's.

    Args:
        rows: one metric of one task, the oldest record first.
        tell: what was answered to a task in records.
    """
    newest = rows[-1]
    if len(rows) == 1:
        return newest
    records = tuple(row.record for row in rows)
    whole = tell(records, newest.task)
    if newest.metric not in whole.scores or newest.aggregation is None:
        return newest
    return replace(newest, records=records, **_estimated(newest, whole))


def answered(root: Path, records: Sequence[str], name: str) -> answers.Answers:
    """What was answered to a task in records below `root`, the oldest first."""
    return answers.read(
        [
            (root / where, task)
            for where in records
            for task in _tasks(store.read(root / where))
            if task.name == name
        ]
    )


def _estimated(row: QualityRow, whole: answers.Answers) -> dict[str, Any]:
    """A score over all documents, with the error of a mean where it is one of equal documents."""
    scores, n = whole.scores[row.metric], len(whole.documents)
    value = answers.score(whole, row.metric, row.aggregation)
    error = None
    if row.aggregation == "mean" and row.metric not in whole.weights and n > 1:
        error = float(scores.std(ddof=1)) / math.sqrt(n)
    estimate = _estimate(value, error, n, row.unit, row.counted)
    return {"value": estimate, "stderr": error, "n": n, "spread_over_seeds": None}


def _group(record: Record, task: TaskResult) -> str | None:
    """The group as part of which a task is told: the largest that has figures of its own."""
    around = [group for group in groups(record) if task.name in group.tasks and group.metrics]
    return max(around, key=lambda group: len(group.tasks)).name if around else None


def group_rows(
    root: Path, rows: Sequence[QualityRow], group: GroupResult, record: Record
) -> Iterator[QualityRow]:
    """One row per metric of a group that all its tasks have, over all their documents.

    Args:
        rows: those of the group's tasks, of one variant.
        record: the newest that has the group.
    """
    for metric in group.metrics:
        parts = [row for row in rows if row.metric == metric.name]
        if {row.task for row in parts} != {*group.tasks}:
            continue
        records = tuple(dict.fromkeys(where for row in parts for where in row.records))
        chances = {row.chance for row in parts}
        first, n = parts[0], sum(row.n for row in parts)
        counted = all(row.counted for row in parts) and metric.weight_by_size
        whole = replace(
            first,
            value=_estimate(metric.value, metric.stderr, n, first.unit, counted),
            stderr=metric.stderr,
            n=n,
            records=records,
            anchor=_anchor(record, group.name, metric.name),
            task=group.name,
            part_of=None,
            chance=chances.pop() if len(chances) == 1 else None,
            task_version=group.version,
            config_sha256=None,
            documents_sha256=None,
            documents_original=sum(row.documents_original or 0 for row in parts),
            aggregation="mean" if {row.aggregation for row in parts} == {"mean"} else None,
            counted=counted,
            spread_over_seeds=_spread(metric.by_seed),
            samples=None,
            settings=identity.task_settings(record.spec, group.name, group.name),
        )
        if len(records) > 1:
            batches = {row.task: answered(root, row.records, row.task) for row in parts}
            alike = () if metric.weight_by_size else (metric.name,)
            of_all = answers.of_group(batches, alike)
            if metric.name in of_all.scores and whole.aggregation is not None:
                whole = replace(whole, **_estimated(whole, of_all))
        yield whole


def repeat_rows(record: Record, where: str) -> Iterator[RepeatRow]:
    """Every repeat of a speed record as it was measured."""
    known = {*THROUGHPUTS, *(f"{event}_ms" for event in EVENTS), "started_at", "server"}
    for load in record.speed.loads if record.speed else ():
        pace = of_load(load)
        for number, repeat in enumerate(load.repeats, 1):
            yield RepeatRow(
                record=where,
                anchor=_anchor(record, rates.name(pace)),
                hardware=record.hardware,
                variant=record.variant,
                request_rate_rps=pace.rate_rps,
                concurrency=load.concurrency,
                repeat=number,
                started_at=_utc(repeat.started_at),
                metrics={name: _of_repeat(repeat, name) for name in (*THROUGHPUTS, *LATENCIES)},
                **repeat.model_dump(exclude=known),
            )


def history_rows(record: Record, where: str, current: bool) -> Iterator[HistoryRow]:
    """What the history follows, from the record alone: superseded sidecars are never opened."""
    asked = spec_key({key: value for key, value in record.spec.items() if key != "engine"})
    shared = {
        **{"record": where, "stage": record.stage, "current": current},
        **_subject(record),
        "asked": asked,
    }
    for load in record.speed.loads if record.speed else ():
        pace = of_load(load)
        for name in FOLLOWED:
            yield HistoryRow(
                **shared,
                series=rates.name(pace),
                pace=pace,
                metric=name,
                n=len(load.repeats),
                value=_mean(load, name),
            )
    for series, metric, n in _followed(record) if not is_random(record) else ():
        own = _metric(metric, n)
        yield HistoryRow(
            **shared,
            series=series,
            metric=metric.name,
            n=n,
            **{key: own[key] for key in ("value", "unit", "counted")},
        )


def groups(record: Record) -> Sequence[GroupResult]:
    """The groups of tasks that a record was asked for."""
    return record.quality.groups if record.quality else ()


def is_random(record: Record) -> bool:
    """Whether the weights were random numbers: fit for speed, meaningless for quality."""
    drawn = record.model is not None and record.model.source == "random"
    return drawn or (record.speed is not None and record.speed.workload.random_weights)


def sustained(
    metrics: Mapping[Metric, stats.Estimate], ttft_ms: float | None, tpot_ms: float | None
) -> Sustained:
    """Whether both 90th percentiles are within the service level.

    With intervals, "yes" and "no" need the whole interval on one side; a single run answers by
    its value alone.
    """
    answers: list[Sustained] = []
    for name, limit in ((Metric.TTFT_P90, ttft_ms), (Metric.TPOT_P90, tpot_ms)):
        seen = metrics.get(name)
        if limit is None or seen is None:
            return "unknown"
        ends = seen.interval or stats.Interval(seen.value, seen.value, 0.95)
        answers.append("yes" if ends.high <= limit else "no" if ends.low > limit else "unsure")
    return "no" if "no" in answers else "unsure" if "unsure" in answers else "yes"


def _subject(record: Record) -> dict[str, Any]:
    return {
        "hardware": record.hardware,
        "hardware_name": record.hardware_name,
        "variant": record.variant,
        "variant_name": record.variant_name,
        "family": record.family,
        "is_baseline": record.baseline,
        "machine": machine(record),
        "engine_version": record.engine.version if record.engine else None,
        "finished_at": _utc(record.provenance.finished_at),
        "key": record.key,
    }


def _result(record: Record, where: str) -> dict[str, Any]:
    """What all rows of a record share."""
    return {
        "source": "measured",
        "records": (where,),
        **_subject(record),
        "date": _utc(record.provenance.finished_at)[:10],
        "status": record.status,
        "reproduces": record.reproduces,
        "served": _served(record),
    }


def _served(record: Record) -> Served:
    engine, model, environment = record.engine, record.model, record.environment
    size = sum(file.size_bytes for file in model.files) / GIB if model and model.files else None
    gpus = gpus_of(record)
    return Served(
        gpus=gpus,
        engine_build=engine.build if engine else None,
        quantization=engine.quantization if engine else None,
        kernel=engine.linear_kernel if engine else None,
        attention_backend=engine.attention_backend if engine else None,
        weights=_weights_id(model) if model else None,
        parameters=model.parameters if model else None,
        checkpoint_gib=size,
        # The engine tells those of each GPU.
        weights_gib=engine.weights_gib * gpus if engine and engine.weights_gib else None,
        kv_cache_tokens=engine.kv_cache_tokens if engine else None,
        kv_cache_gib=engine.kv_cache_gib if engine else None,
        load_s=engine.load_s if engine else None,
        startup_s=engine.startup_s if engine else None,
        gpu_memory_gib=environment.gpu_memory_gib,
        memory_gib=environment.memory_gib,
        price_per_hour_usd=record.price_per_hour_usd,
        random_weights=is_random(record),
    )


def gpus_of(record: Record) -> int:
    """How many GPUs share the model."""
    return ServeOptions.model_validate(record.spec.get("serve", {})).gpus


def machine(record: Record) -> str:
    """The processor that did the work, as it names itself: two machines are not one series."""
    environment = record.environment
    if environment.gpu_name:
        return f"{max(environment.gpu_count, 1)} × {environment.gpu_name}"
    return f"{environment.cpu_model} ({environment.cpu_count} CPUs)"


def _weights_id(model: ModelFacts) -> str:
    """Which weights were served: equal for two variants that differ only in how they run."""
    named = model.bundled or f"{model.repo or ''}@{model.revision or ''}/{model.file or ''}"
    return f"{model.source}:{named}"


def _utc(time: datetime) -> str:
    """ISO 8601 in UTC to the second, which sorts as text."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _anchor(record: Record, *rest: str) -> str:
    return anchor(record.stage, "measured", record.hardware, record.variant, *rest)


def _of_repeat(repeat: Repeat, name: Metric) -> float:
    """The value of one metric in one repeat."""
    if name not in LATENCIES:
        return float(getattr(repeat, name))
    event, statistic = LATENCIES[name]
    return float(getattr(getattr(repeat, f"{event}_ms"), statistic))


def _mean(load: Load, name: Metric) -> stats.Estimate:
    """A session's value: the mean over its repeats, which say nothing of how sessions differ."""
    return _session([_of_repeat(repeat, name) for repeat in load.repeats])


def _session(values: Sequence[float]) -> stats.Estimate:
    return stats.Estimate(math.fsum(values) / len(values), None, None, len(values))


def _metrics(
    load: Load, samples: Sequence[Mapping[str, Any]], ttft_ms: float | None, tpot_ms: float | None
) -> dict[Metric, stats.Estimate]:
    """Means over the session's repeats; percentiles over all its requests.

    The sidecar has no inter-token times, so a percentile of ITL is the mean over repeats of the
    repeat's own percentile.
    """
    found: dict[Metric, stats.Estimate | None] = {
        name: _mean(load, name) for name in (*LATENCIES, *THROUGHPUTS)
    }
    ranks = {statistic: float(statistic[1:]) for statistic in STATISTICS if statistic != "mean"}
    for event in EVENTS:
        requests = [time for sample in samples for time in sample.get(f"{event}_ms", ())]
        if requests:
            for statistic, value in zip(
                ranks, np.percentile(requests, list(ranks.values())), strict=True
            ):
                found[Metric(f"{event}_{statistic}_ms")] = stats.Estimate(
                    float(value), None, None, 1
                )
    found[Metric.GOODPUT] = _goodput(load, samples, ttft_ms, tpot_ms)
    return {name: value for name, value in found.items() if value is not None}


def _goodput(
    load: Load, samples: Sequence[Mapping[str, Any]], ttft_ms: float | None, tpot_ms: float | None
) -> stats.Estimate | None:
    """Requests per second within both limits, each request judged by itself.

    Source: Zhong et al. (2024), DistServe, arXiv:2401.09670, §2 (goodput).
    """
    if ttft_ms is None or tpot_ms is None:
        return None
    good = [
        sum(t <= ttft_ms and p <= tpot_ms for t, p in zip(s["ttft_ms"], s["tpot_ms"], strict=True))
        for s in samples
    ]
    pairs = zip(good, load.repeats, strict=True)
    return _session([count / repeat.duration_s for count, repeat in pairs])


def _telemetry(load: Load) -> dict[str, Any]:
    seen = load.telemetry
    if seen is None:
        return {}
    clocks = [each for each in (seen.start, seen.during, seen.end) if each]
    reasons = {reason for each in clocks for reason in each.throttle_reasons}
    return {
        "peak_memory_gib": seen.peak_memory_gib,
        "memory_kind": seen.memory_kind,
        "mean_power_w": seen.mean_power_w,
        "energy_per_output_token_j": seen.energy_per_output_token_j,
        "throttled": seen.throttled,
        "throttle_reasons": tuple(sorted(reasons & set(THROTTLE_REASONS.values()))),
        "shared": seen.shared,
    }


def _server_times(load: Load, output_tokens: int) -> dict[str, Any]:
    """What the server counted by its own clock, over the repeats that have it.

    What the client saw beyond it is set against the same session: others may lack it.
    """

    def mean(name: str) -> float | None:
        known = [getattr(r.server, name) for r in load.repeats if r.server]
        known = [value for value in known if value is not None]
        return math.fsum(known) / len(known) if known else None

    decode_ms, seen_ms = mean("decode_ms"), _mean(load, Metric.TPOT_MEAN).value
    own_ms = None if decode_ms is None else decode_ms / (output_tokens - 1)
    return {
        "server_queue_ms": mean("queue_ms"),
        "server_prefill_ms": mean("prefill_ms"),
        "server_tpot_ms": own_ms,
        "client_tpot_ms": None if own_ms is None else seen_ms,
        "tokens_per_iteration": mean("tokens_per_iteration"),
    }


def _tasks(record: Record) -> Sequence[TaskResult]:
    return record.quality.tasks if record.quality else ()


def _followed(record: Record) -> Iterator[tuple[str, RecordMetric, int]]:
    """What the history follows: metrics of groups, and of tasks that are part of none."""
    if record.quality is None:
        return
    sizes: dict[str, int] = {}
    for task in record.quality.tasks:
        group = _group(record, task)
        if group is not None:
            sizes[group] = sizes.get(group, 0) + task.documents_effective
        for metric in task.metrics if group is None else ():
            yield task.name, metric, task.documents_effective
    for found in groups(record):
        for whole in found.metrics if found.name in sizes else ():
            yield found.name, whole, sizes[found.name]


def _metric(metric: RecordMetric, n: int) -> dict[str, Any]:
    """What a row says of a metric over `n` documents; older records know its name only."""
    unit = metric.unit or unit_of(metric.name)
    counted = unit == "share" and (metric.unit is None or _is_of_answers(metric, n))
    better = metric.higher_is_better
    value = stats.Estimate(metric.value, None, metric.stderr, n)
    if metric.unit is not None or counted:
        value = _estimate(metric.value, metric.stderr, n, unit, counted)
    return {
        "value": value,
        "unit": unit,
        "higher_is_better": unit != "perplexity" if better is None else better,
        "counted": counted,
        "aggregation": "mean" if metric.unit is None else metric.aggregation,
        "stderr": metric.stderr,
        "spread_over_seeds": _spread(metric.by_seed),
    }


def _is_of_answers(metric: RecordMetric, n: int) -> bool:
    """Whether a share is of right answers, each right or wrong: its standard error tells."""
    spread = metric.value * (1 - metric.value)
    if metric.stderr is None or metric.by_seed or n < 2:
        return n == 1 and spread == 0
    return math.isclose(metric.stderr, math.sqrt(spread / (n - 1)), rel_tol=1e-6, abs_tol=1e-9)


def _spread(by_seed: Sequence[float]) -> float | None:
    return statistics.stdev(by_seed) if len(by_seed) > 1 else None


def _estimate(
    value: float, stderr: float | None, n: int, unit: Unit, counted: bool
) -> stats.Estimate:
    """The value with Wilson's interval for a share of documents, else the interval of a mean."""
    if counted:
        found = stats.proportion(round(value * n), n)
        return replace(found, value=value) if found else stats.Estimate(value, None, None, n)
    if stderr is None or n < 2:
        return stats.Estimate(value, None, stderr, n)
    reach = t_quantile(0.95, n - 1) * stderr
    low, high = value - reach, value + reach
    if unit == "share":
        low, high = max(0.0, low), min(1.0, high)
    return stats.Estimate(value, stats.Interval(low, high, 0.95), stderr, n)
