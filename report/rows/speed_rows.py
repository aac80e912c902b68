"""The speed rows of one record: intervals over repeats, percentiles, goodput, telemetry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import THROTTLE_REASONS, Load, Record
from report import rates, stats
from report.rows.rows import (
    LATENCIES,
    LATENCY_COLUMNS,
    STATISTICS,
    THROUGHPUTS,
    Row,
    anchor,
    context,
    of_repeat,
    offered_rate,
    spread,
    utc,
)


def speed_rows(record: Record, where: str, path: Path) -> list[Row]:
    """One row per load of a current record; opens its sidecar for percentiles and goodput."""
    result = record.speed
    if result is None:
        return []
    requests = iter(store.read_sidecar(path, result.requests))
    rows: list[Row] = []
    for load in result.loads:
        samples: list[Row] = [next(requests, {}) for _ in load.repeats]
        if [sample.get("seed") for sample in samples] != [r.seed for r in load.repeats]:
            raise ConfigError(
                f"{path}: its sidecar does not hold its repeats in their order",
                "restore both from git history",
            )
        rows.append(
            {
                **context(record, where, rates.name(offered_rate(load))),
                "input_tokens": result.workload.input_tokens,
                "output_tokens": result.workload.output_tokens,
                "prompts": result.workload.prompts,
                "request_rate_rps": offered_rate(load),
                "repeats": len(load.repeats),
                **_latencies(load, samples),
                **_throughputs(load, record.price_per_hour_usd),
                **_service(load, samples, record.service_level),
                **_telemetry(load),
            }
        )
        rows[-1]["sustained"] = sustained(rows[-1])
    return rows


def repeat_rows(record: Record, where: str) -> list[Row]:
    """Every repeat of a speed record as it was measured."""
    rows: list[Row] = []
    for load in record.speed.loads if record.speed else ():
        rate = rates.name(offered_rate(load))
        owner = anchor("speed", "measured", record.hardware, record.variant, rate)
        for number, repeat in enumerate(load.repeats, 1):
            counts = repeat.model_dump(exclude={*(f"{m}_ms" for m in LATENCIES), "started_at"})
            rows.append(
                {
                    "record": where,
                    "anchor": owner,
                    "hardware": record.hardware,
                    "variant": record.variant,
                    "request_rate_rps": offered_rate(load),
                    "repeat": number,
                    "started_at": utc(repeat.started_at),
                    **counts,
                    **{name: of_repeat(repeat, name) for name in LATENCY_COLUMNS},
                }
            )
    return rows


def sustained(row: Mapping[str, Any]) -> str:
    """Whether both 90th percentiles are within the service level: yes, no, unsure or unknown.

    With intervals, "yes" and "no" need the whole interval on one side; a single run answers by
    its value alone.
    """
    answers = []
    for name in ("ttft_p90_ms", "tpot_p90_ms"):
        limit, value = row[f"limit_{name}"], row[name]
        if limit is None or value is None:
            return "unknown"
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        low, high = (value, value) if low is None or high is None else (low, high)
        answers.append("yes" if high <= limit else "no" if low > limit else "unsure")
    return "no" if "no" in answers else "unsure" if "unsure" in answers else "yes"


def _latencies(load: Load, samples: list[Row]) -> Row:
    """Means by t over repeats; percentiles over all requests, by bootstrap.

    The sidecar has no inter-token times, so a percentile of ITL is the mean over repeats of the
    repeat's own percentile.
    """
    columns: Row = {}
    for column in LATENCY_COLUMNS:
        columns |= spread(column, _mean(load, column))
    ranks = [float(which[1:]) for which in STATISTICS if which != "mean"]
    for name in LATENCIES:
        requests = [sample[f"{name}_ms"] for sample in samples if f"{name}_ms" in sample]
        if requests:
            for rank, value in zip(ranks, stats.percentiles(requests, ranks), strict=True):
                columns |= spread(f"{name}_p{rank:g}_ms", value)
    return columns


def _mean(load: Load, column: str) -> stats.Estimate | None:
    return stats.mean_of_positive([of_repeat(repeat, column) for repeat in load.repeats])


def _throughputs(load: Load, price_per_hour_usd: float | None) -> Row:
    columns: Row = {}
    for column in THROUGHPUTS:
        columns |= spread(column, _mean(load, column))
    tokens_per_s = columns["output_throughput_tps"]
    cost = None
    if price_per_hour_usd is not None and tokens_per_s:
        cost = price_per_hour_usd / 3600 / tokens_per_s * 1e6
    return {**columns, "usd_per_million_output_tokens": cost}


def _service(load: Load, samples: list[Row], level: Mapping[str, float]) -> Row:
    """Goodput: requests per second within both limits, each request judged by itself.

    Source: Zhong et al. (2024), DistServe, arXiv:2401.09670, §2 (goodput).
    """
    ttft, tpot = level.get("ttft_p90_ms"), level.get("tpot_p90_ms")
    goodput = None
    if ttft is not None and tpot is not None:
        good = [
            sum(t <= ttft and p <= tpot for t, p in zip(s["ttft_ms"], s["tpot_ms"], strict=True))
            for s in samples
        ]
        pairs = zip(good, load.repeats, strict=True)
        goodput = stats.mean_of_positive([count / repeat.duration_s for count, repeat in pairs])
    return {
        "limit_ttft_p90_ms": ttft,
        "limit_tpot_p90_ms": tpot,
        **spread("goodput_rps", goodput),
    }


def _telemetry(load: Load) -> Row:
    seen = load.telemetry
    clocks = [each for each in (seen.start, seen.during, seen.end) if each] if seen else []
    reasons = {reason for each in clocks for reason in each.throttle_reasons}
    return {
        "peak_memory_gib": seen.peak_memory_gib if seen else None,
        "memory_kind": seen.memory_kind if seen else None,
        "mean_power_w": seen.mean_power_w if seen else None,
        "energy_per_output_token_j": seen.energy_per_output_token_j if seen else None,
        "throttled": seen.throttled if seen else None,
        "throttle_reasons": ", ".join(sorted(reasons & set(THROTTLE_REASONS.values()))) or None,
        "shared": seen.shared if seen else None,
    }
