"""One record to its rows: plain dictionaries that `report/load.py` gathers into frames.

An estimate fills four columns: its value under its own name, then `_low`, `_high` and `_se`; each
is None where the data do not carry it. `estimate` turns such a row back into an Estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bench.records.record import Load, ModelFacts, Record, Repeat, TaskResult, spec_key
from report import rates, stats

Row = dict[str, Any]

LATENCIES = ("ttft", "tpot", "itl", "e2e")
STATISTICS = ("mean", "p50", "p90", "p99")
THROUGHPUTS = ("request_throughput_rps", "output_throughput_tps", "total_throughput_tps")
LATENCY_COLUMNS = tuple(f"{name}_{which}_ms" for name in LATENCIES for which in STATISTICS)
# The metrics of lm-eval that are shares of documents, for which binomial statistics hold.
PROPORTIONS = ("acc", "acc_norm", "exact_match")
# What the history follows of a speed record; of a quality record it follows every metric.
FOLLOWED = ("ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms", "output_throughput_tps")
GIB = 2**30


def is_share(metric: str) -> bool:
    """Whether a metric is a share of documents; lm-eval names a filter after a comma."""
    return metric.partition(",")[0] in PROPORTIONS


def spread(name: str, estimate: stats.Estimate | None) -> Row:
    """The four columns of an estimate."""
    interval = estimate.interval if estimate else None
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_se": estimate.standard_error if estimate else None,
    }


def estimate(row: Mapping[str, Any], name: str, n: str = "repeats") -> stats.Estimate | None:
    """The estimate that `spread` wrote into a row; `n` is the column that counts observations."""
    if row[name] is None:
        return None
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = None if low is None or high is None else stats.Interval(low, high, 0.95)
    return stats.Estimate(row[name], interval, row[f"{name}_se"], row[n])


def anchor(stage: str, source: str, hardware: str, variant: str, *rest: str) -> str:
    """The HTML id of a row; ids of hardware and variant hold no underscore, so it separates."""
    first = stage if source == "measured" else f"published-{stage}"
    return "_".join((first, hardware, variant, *(part.replace(".", "-") for part in rest)))


def utc(time: datetime) -> str:
    """ISO 8601 in UTC to the second, which sorts as text."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine(record: Record) -> str:
    """The processor that did the work, as it names itself: two machines are not one series."""
    environment = record.environment
    if environment.gpu_name:
        return f"{max(environment.gpu_count, 1)} × {environment.gpu_name}"
    return f"{environment.cpu_model} ({environment.cpu_count} CPUs)"


def weights_id(model: ModelFacts) -> str:
    """Which weights were served: equal for two variants that differ only in how they run."""
    named = model.bundled or f"{model.repo or ''}@{model.revision or ''}/{model.file or ''}"
    return f"{model.source}:{named}"


def is_random(record: Record) -> bool:
    """Whether the weights were random numbers: fit for speed, meaningless for quality."""
    drawn = record.model is not None and record.model.source == "random"
    return drawn or (record.speed is not None and record.speed.workload.random_weights)


def run_row(record: Record, where: str) -> Row:
    """What every record has, failed ones included."""
    return {
        "record": where,
        "stage": record.stage,
        "status": record.status,
        "error_kind": record.error.kind if record.error else None,
        "error": record.error.message if record.error else None,
        **identity(record),
        "commit": record.provenance.commit,
        "dirty": record.provenance.dirty,
        "workflow": record.provenance.workflow,
        "run_id": record.provenance.run_id,
        "started_at": utc(record.provenance.started_at),
        "random_weights": is_random(record),
    }


def history_rows(record: Record, where: str) -> list[Row]:
    """What the history follows, from the record alone: superseded sidecars are never opened."""
    asked = spec_key({key: value for key, value in record.spec.items() if key != "engine"})
    base = {"record": where, "stage": record.stage, **identity(record), "asked": asked}
    rows: list[Row] = []
    for load in record.speed.loads if record.speed else ():
        series = rates.name(offered_rate(load))
        for metric in FOLLOWED:
            value = stats.mean_of_positive([of_repeat(repeat, metric) for repeat in load.repeats])
            row = {"series": series, "metric": metric, "n": len(load.repeats)}
            rows.append({**base, **row, **spread("value", value)})
    for task in record.quality.tasks if record.quality and not is_random(record) else ():
        rows += [
            {
                **base,
                "series": task.name,
                "metric": each.name,
                "n": task.documents_effective,
                **_metric_value(task, each.name),
            }
            for each in task.metrics
        ]
    return rows


def quality_rows(record: Record, where: str) -> list[Row]:
    """One row per task and metric; none for random weights, whose answers mean nothing."""
    if record.quality is None or is_random(record):
        return []
    return [
        {
            **context(record, where, task.name, metric.name),
            "task": task.name,
            "metric": metric.name,
            "task_version": task.version,
            "config_sha256": task.config_sha256,
            "documents_sha256": task.documents_sha256,
            "dataset": task.dataset,
            "dataset_revision": task.dataset_revision,
            "selection": task.selection,
            "num_fewshot": task.num_fewshot,
            "n": task.documents_effective,
            "documents_original": task.documents_original,
            "chance": 1 / task.choices if task.choices else None,
            **_metric_value(task, metric.name),
            "stderr": metric.stderr,
            "requests_per_s": record.quality.requests_per_s,
            "samples": task.samples.file,
        }
        for task in record.quality.tasks
        for metric in task.metrics
    ]


def identity(record: Record) -> Row:
    engine = record.engine
    return {
        "hardware": record.hardware,
        "hardware_name": record.hardware_name,
        "variant": record.variant,
        "variant_name": record.variant_name,
        "family": record.family,
        "is_baseline": record.baseline,
        "machine": machine(record),
        "engine_version": engine.version if engine else None,
        "finished_at": utc(record.provenance.finished_at),
        "key": record.key,
    }


def context(record: Record, where: str, *rest: str) -> Row:
    """What a row of either stage says about what was served, on what."""
    engine, model = record.engine, record.model
    size = sum(file.size_bytes for file in model.files) / GIB if model and model.files else None
    return {
        "source": "measured",
        "record": where,
        "anchor": anchor(record.stage, "measured", record.hardware, record.variant, *rest),
        **identity(record),
        "date": utc(record.provenance.finished_at)[:10],
        "status": record.status,
        "reproduces": record.reproduces,
        "engine_build": engine.build if engine else None,
        "quantization": engine.quantization if engine else None,
        "kernel": engine.linear_kernel if engine else None,
        "attention_backend": engine.attention_backend if engine else None,
        "weights": weights_id(model) if model else None,
        "parameters": model.parameters if model else None,
        "checkpoint_gib": size,
        "weights_gib": engine.weights_gib if engine else None,
        "kv_cache_tokens": engine.kv_cache_tokens if engine else None,
        "kv_cache_gib": engine.kv_cache_gib if engine else None,
        "load_s": engine.load_s if engine else None,
        "startup_s": engine.startup_s if engine else None,
        "gpu_memory_gib": record.environment.gpu_memory_gib,
        "memory_gib": record.environment.memory_gib,
        "price_per_hour_usd": record.price_per_hour_usd,
        "random_weights": is_random(record),
    }


def offered_rate(load: Load) -> float:
    """Requests per second, infinite where they were not throttled."""
    return float(load.request_rate_rps)


def of_repeat(repeat: Repeat, column: str) -> float:
    """The value of one column, such as `ttft_p90_ms` or `output_throughput_tps`, in one repeat."""
    if column in THROUGHPUTS:
        return float(getattr(repeat, column))
    name, which, _ = column.split("_")
    return float(getattr(getattr(repeat, f"{name}_ms"), which))


def _metric_value(task: TaskResult, name: str) -> Row:
    """The value with Wilson's interval for a share of documents, else lm-eval's standard error."""
    metric = next(m for m in task.metrics if m.name == name)
    n = task.documents_effective
    if is_share(name):
        correct = round(metric.value * n)
        return {**spread("value", stats.proportion(correct, n)), "value": metric.value}
    return spread("value", stats.Estimate(metric.value, None, metric.stderr, n))
