"""Records that fit their schema and whose numbers cannot be what they say they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import synthetic

from bench.records.record import Record, canonical_json

Raw = dict[str, Any]


def _sound(stage: str) -> tuple[Record, list[bytes]]:
    make = synthetic.speed_record if stage == "speed" else synthetic.quality_record
    return make(synthetic.BF16)


def _load(raw: Raw) -> Raw:
    return raw["speed"]["loads"][0]  # type: ignore[no-any-return]


def _repeat(raw: Raw) -> Raw:
    return _load(raw)["repeats"][0]  # type: ignore[no-any-return]


def _task(raw: Raw) -> Raw:
    return raw["quality"]["tasks"][0]  # type: ignore[no-any-return]


def _metric(raw: Raw) -> Raw:
    return _task(raw)["metrics"][0]  # type: ignore[no-any-return]


def _twice(values: list[Any]) -> None:
    values.append(values[0])


# By what is wrong: the stage, and what makes it wrong.
RECORDS: dict[str, tuple[str, Callable[[Raw], object]]] = {
    "no part": ("speed", lambda raw: raw.update(speed=None)),
    "a part of another stage": (
        "speed",
        lambda raw: raw.update(quality=_sound("quality")[0].model_dump(mode="json")["quality"]),
    ),
    "ok with an error": (
        "speed", lambda raw: raw.update(error={"kind": "ServerError", "message": "died"}),
    ),
    "quality in a session": ("quality", lambda raw: raw.update(session=1)),
    "times out of order": (
        "speed", lambda raw: raw["provenance"].update(started_at="2026-03-02T12:00:00Z"),
    ),
    "a price of nothing": ("speed", lambda raw: raw.update(price_per_hour_usd=0.0)),
    "a negative price": ("quality", lambda raw: raw.update(price_per_hour_usd=-1.0)),
    "a limit of nothing": ("speed", lambda raw: raw.update(service_level={"ttft_p90_ms": 0.0})),
    "a margin of all": ("quality", lambda raw: raw.update(decision={"points": 100.0})),
    "a negative margin": ("quality", lambda raw: raw.update(decision={"recovery": -0.5})),
    "negative weights": ("speed", lambda raw: raw["engine"].update(weights_gib=-1.0)),
    "a negative start": ("quality", lambda raw: raw["engine"].update(startup_s=-1.0)),
    "negative memory": ("speed", lambda raw: raw["environment"].update(memory_gib=-1.0)),
    "a number without end": ("speed", lambda raw: _repeat(raw).update(duration_s=1e300)),
    "a text without end": (
        "speed", lambda raw: raw["engine"].update(linear_kernel="x" * 100_000),
    ),
    "no loads": ("speed", lambda raw: raw["speed"].update(loads=[])),
    "no repeats": ("speed", lambda raw: _load(raw).update(repeats=[])),
    "a load twice": ("speed", lambda raw: _twice(raw["speed"]["loads"])),
    "a repeat twice": ("speed", lambda raw: _twice(_load(raw)["repeats"])),
    "the prompts of the warm-up": (
        "speed", lambda raw: _repeat(raw).update(seed=raw["speed"]["workload"]["warmup_seed"]),
    ),
    "a rate of 0": ("speed", lambda raw: _load(raw).update(request_rate_rps=0.0)),
    "a negative rate": ("speed", lambda raw: _load(raw).update(request_rate_rps=-2.0)),
    "answers of one token": (
        "speed", lambda raw: raw["speed"]["workload"].update(output_tokens=1),
    ),
    "no time": ("speed", lambda raw: _repeat(raw).update(duration_s=0.0)),
    "less than no time": ("speed", lambda raw: _repeat(raw).update(duration_s=-1.0)),
    "a request too few": ("speed", lambda raw: _repeat(raw).update(completed=23)),
    "no requests": ("speed", lambda raw: _repeat(raw).update(asked=0, completed=0)),
    "a failed request": ("speed", lambda raw: _repeat(raw).update(failed=1)),
    "hits of the prefix cache": ("speed", lambda raw: _repeat(raw).update(prefix_cache_hits=9)),
    "a throughput of 0": ("speed", lambda raw: _repeat(raw).update(output_throughput_tps=0.0)),
    "a negative throughput": (
        "speed", lambda raw: _repeat(raw).update(request_throughput_rps=-1.0),
    ),
    "a negative latency": ("speed", lambda raw: _repeat(raw)["tpot_ms"].update(mean=-5.0)),
    "a latency of 0": ("speed", lambda raw: _repeat(raw)["ttft_ms"].update(mean=0.0)),
    "a negative percentile": ("speed", lambda raw: _repeat(raw)["itl_ms"].update(p99=-1.0)),
    "negative power": ("speed", lambda raw: _load(raw)["telemetry"].update(mean_power_w=-1.0)),
    "negative memory in use": (
        "speed", lambda raw: _load(raw)["telemetry"].update(peak_memory_gib=-1.0),
    ),
    "no tasks": ("quality", lambda raw: raw["quality"].update(tasks=[])),
    "a task twice": ("quality", lambda raw: _twice(raw["quality"]["tasks"])),
    "tasks in no time": ("quality", lambda raw: raw["quality"].update(duration_s=0.0)),
    "no documents": ("quality", lambda raw: _task(raw).update(documents_effective=0)),
    "more documents than there are": (
        "quality", lambda raw: _task(raw).update(documents_original=1),
    ),
    "no choices": ("quality", lambda raw: _task(raw).update(choices=0)),
    "no metrics": ("quality", lambda raw: _task(raw).update(metrics=[])),
    "a metric twice": ("quality", lambda raw: _twice(_task(raw)["metrics"])),
    "an accuracy of 2": ("quality", lambda raw: _metric(raw).update(value=2.0)),
    "a negative accuracy": ("quality", lambda raw: _metric(raw).update(value=-0.1)),
    "a negative error": ("quality", lambda raw: _metric(raw).update(stderr=-0.1)),
}  # fmt: skip


def make(kind: str) -> tuple[Raw, list[bytes]]:
    """A record of Qwen3-8B BF16 with this fault, as JSON, and its sidecars."""
    stage, change = RECORDS[kind]
    record, sidecars = _sound(stage)
    raw = record.model_dump(mode="json")
    change(raw)
    return Record.model_validate_json(canonical_json(raw)).model_dump(mode="json"), sidecars
