"""Where sense ends: the last number that a record may have, and the first that it may not."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

import nonsense
import pytest
import synthetic

from bench.records.record import Record, canonical_json
from bench.records.sense import find_nonsense

Path = tuple[str | int, ...]
LOAD: Path = ("speed", "loads", 0)
REPEAT: Path = (*LOAD, "repeats", 0)
TASK: Path = ("quality", "tasks", 0)
METRIC: Path = (*TASK, "metrics", 0)
TINY = 5e-324

# The stage, where in its record, the last value that makes sense there, and the first that does
# not.
EDGES: list[tuple[str, Path, object, object]] = [
    ("speed", ("price_per_hour_usd",), TINY, 0.0),
    ("speed", ("service_level", "ttft_p90_ms"), TINY, 0.0),
    ("quality", ("decision",), {"points": TINY}, {"points": 0.0}),
    ("quality", ("decision",), {"points": 99.99}, {"points": 100.0}),
    ("speed", ("price_per_hour_usd",), 1e15, 1.01e15),
    ("speed", ("engine", "linear_kernel"), "x" * 10_000, "x" * 10_001),
    ("speed", ("engine", "weights_gib"), 0.0, -TINY),
    ("quality", ("engine", "startup_s"), 0.0, -TINY),
    ("speed", ("environment", "memory_gib"), 0.0, -TINY),
    ("speed", ("speed", "workload", "output_tokens"), 2, 1),
    ("speed", (*LOAD, "request_rate_rps"), TINY, 0.0),
    ("speed", (*LOAD, "telemetry", "mean_power_w"), 0.0, -TINY),
    ("speed", (*REPEAT, "duration_s"), 1e-6, 0.99e-6),
    ("speed", (*REPEAT, "failed"), 0, 1),
    ("speed", (*REPEAT, "prefix_cache_hits"), 0, 1),
    ("speed", (*REPEAT, "request_throughput_rps"), 1e-6, 0.99e-6),
    ("speed", (*REPEAT, "output_throughput_tps"), 1e-6, 0.99e-6),
    ("speed", (*REPEAT, "total_throughput_tps"), 1e-6, 0.99e-6),
    ("speed", (*REPEAT, "ttft_ms", "mean"), 1e-6, 0.99e-6),
    ("speed", (*REPEAT, "tpot_ms", "mean"), 1e-6, 0.99e-6),
    ("speed", (*REPEAT, "e2e_ms", "mean"), 1e-6, 0.99e-6),
    ("speed", (*REPEAT, "itl_ms", "mean"), 0.0, -TINY),
    ("speed", (*REPEAT, "ttft_ms", "p99"), 0.0, -TINY),
    ("quality", ("quality", "duration_s"), 1e-6, 0.99e-6),
    ("quality", ("quality", "requests_per_s"), 1e-6, 0.99e-6),
    ("quality", (*TASK, "documents_original"), 200, 199),
    ("quality", (*TASK, "documents_effective"), 1, 0),
    ("quality", (*TASK, "choices"), 1, 0),
    ("quality", (*METRIC, "value"), 0.0, -TINY),
    ("quality", (*METRIC, "value"), 1.0, 1.000001),
    ("quality", (*METRIC, "stderr"), 0.0, -TINY),
]


def with_value(raw: dict[str, Any], path: Path, value: object) -> Record:
    raw = copy.deepcopy(raw)
    *way, last = path
    place: Any = raw
    for step in way:
        place = place[step]
    place[last] = value
    return Record.model_validate_json(canonical_json(raw))


def sound(stage: str) -> dict[str, Any]:
    make = synthetic.speed_record if stage == "speed" else synthetic.quality_record
    return make(synthetic.BF16)[0].model_dump(mode="json")


@pytest.mark.parametrize(
    ("stage", "path", "last", "first"), EDGES, ids=lambda part: str(part)[-60:]
)
def test_sense_ends_where_it_is_said_to(
    stage: str, path: Path, last: object, first: object
) -> None:
    raw = sound(stage)
    assert find_nonsense(with_value(raw, path, last)) is None
    assert find_nonsense(with_value(raw, path, first)) is not None


@pytest.mark.parametrize("kind", nonsense.RECORDS)
def test_each_kind_of_nonsense_is_found(kind: str) -> None:
    raw, _ = nonsense.make(kind)
    assert find_nonsense(Record.model_validate_json(canonical_json(raw))) is not None


# Of a metric's name and unit, the first value that makes no sense; None where every one does.
UNITS: list[tuple[str, str | None, float | None, float | None]] = [
    ("acc", None, None, 1.1), ("acc_norm", None, None, -0.1), ("exact_match,strict", None, None, 2),
    ("acc", "score", 7.0, None), ("f1", None, 70.0, None), ("f1", "share", None, 1.1),
    ("ppl", "perplexity", 1.0, 0.999), ("ppl", "score", 0.5, None), ("ppl", None, 0.5, None),
    ("bpb", "bits per byte", 0.5, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "unit", "last", "first"), UNITS)
def test_the_range_is_that_of_the_unit(
    name: str, unit: str | None, last: float | None, first: float | None
) -> None:
    for value, is_sense in ((last, True), (first, False)):
        if value is not None:
            metric = {"name": name, "unit": unit, "value": value, "stderr": None}
            record = with_value(sound("quality"), METRIC, metric)
            assert (find_nonsense(record) is None) == is_sense


def test_a_failed_record_may_have_neither_part_nor_load() -> None:
    raw = sound("speed") | {"status": "failed", "speed": None}
    raw["error"] = {"kind": "ServerError", "message": "died"}
    assert find_nonsense(Record.model_validate_json(canonical_json(raw))) is None


FIDELITY = {
    "text_sha256": "a" * 64, "positions": 3, "top": 1, "mean_logprob": 0.0,
    "logprobs": {"file": f"{'b' * 64}.json.gz", "sha256": "b" * 64, "size_bytes": 9, "rows": 3},
}  # fmt: skip


@pytest.mark.parametrize("change", [{"mean_logprob": 0.1}, {"positions": 0}, {"top": 0}])
def test_a_fixed_text_has_places_and_probabilities_up_to_1(change: dict[str, float]) -> None:
    raw, path = sound("quality"), ("quality", "fidelity")
    assert find_nonsense(with_value(raw, path, FIDELITY)) is None
    assert find_nonsense(with_value(raw, path, FIDELITY | change)) is not None


def test_a_quality_stage_has_no_negative_reading_of_the_machine() -> None:
    telemetry = sound("speed")["speed"]["loads"][0]["telemetry"]
    path = ("quality", "telemetry")
    assert find_nonsense(with_value(sound("quality"), path, telemetry)) is None
    below = telemetry | {"mean_power_w": -1.0}
    assert find_nonsense(with_value(sound("quality"), path, below)) is not None


def test_a_closed_loop_has_no_rate_and_its_servers_times_are_not_negative() -> None:
    record, _ = synthetic.speed_record(synthetic.BF16, rates=(), loops=(1, 8))
    assert find_nonsense(record) is None
    raw = record.model_dump(mode="json")
    times = {name: -1.0 for name, each in raw["speed"]["loads"][0]["repeats"][0]["server"].items()
             if isinstance(each, float)}  # fmt: skip
    assert times
    for name, value in times.items():
        assert find_nonsense(with_value(raw, (*REPEAT, "server", name), value)) is not None


@pytest.mark.parametrize("apart_s", [-1, 0, 1])
def test_a_stage_ends_no_sooner_than_it_began(apart_s: int) -> None:
    raw = sound("speed")
    ended = datetime.fromisoformat(raw["provenance"]["finished_at"])
    began = f"{ended + timedelta(seconds=apart_s):%Y-%m-%dT%H:%M:%SZ}"
    record = with_value(raw, ("provenance", "started_at"), began)
    assert (find_nonsense(record) is None) == (apart_s <= 0)
