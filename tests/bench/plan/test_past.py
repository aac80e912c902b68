"""What finished records tell of time."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic import BF16, START

from bench.plan import past
from bench.plan.past import Past
from bench.records import store
from bench.records.pace import Pace
from bench.records.record import Record

SPEED, _ = synthetic.speed_record(BF16, repeats=2)
QUALITY, _ = synthetic.quality_record(BF16, tasks=("hellaswag", "piqa"), documents=30)


def started(start_s: float, load_s: float | None = None, weights_bytes: int | None = None) -> Past:
    times = {"start_s": start_s, "load_s": load_s, "weights_bytes": weights_bytes}
    return replace(past.of(SPEED), **times)  # type: ignore[arg-type]


def test_a_record_of_speed_tells_its_repeats() -> None:
    found = past.of(SPEED)
    assert SPEED.speed and SPEED.engine
    told = [(pace.rate_rps, repeats) for pace, repeats in found.repeats_s]
    assert told == [
        (rate, tuple(repeat.duration_s for repeat in load.repeats))
        for rate, load in zip((10.0, math.inf), SPEED.speed.loads, strict=True)
    ]
    source = SPEED.provenance
    assert found.took_s == (source.finished_at - source.started_at).total_seconds() > 0
    assert (found.start_s, found.load_s) == (SPEED.engine.startup_s, SPEED.engine.load_s)
    assert (found.documents, found.questions, found.wanted) == (None, None, None)


def test_a_record_of_quality_tells_its_documents() -> None:
    found = past.of(QUALITY)
    assert found.documents == 60
    assert found.repeats_s == ()
    asked = QUALITY.spec["quality"]
    assert found.questions == past.questions(asked)
    assert found.wanted == past.wanted(asked)
    assert past.wanted({"documents": "all"}) == math.inf
    assert past.wanted({"documents": 7}) == 7


def test_a_record_that_says_nothing_of_its_server_has_no_start() -> None:
    found = past.of(SPEED.model_copy(update={"engine": None, "model": None}))
    assert (found.start_s, found.load_s, found.weights_bytes) == (0.0, None, None)


def test_a_start_without_the_weights_is_what_is_left_of_it() -> None:
    """Of a start that took no longer than its load nothing is left, and nothing is told."""
    assert past.experience([started(60.0, 20.0)]).start_s == 40
    assert past.experience([started(60.0)]).start_s == 60
    for nothing in (started(20.0, 20.0), started(10.0, 20.0), started(0.0)):
        assert past.experience([nothing]).start_s is None
        assert past.experience([nothing, started(60.0, 20.0)]).start_s == 40


@given(st.lists(st.integers(1, 100), min_size=1, max_size=9))
def test_the_middle_of_several_is_told_and_the_quickest_start(loads_s: list[int]) -> None:
    records = [started(100.0 + load, load, 1000) for load in loads_s]
    found = past.experience(records)
    ordered = sorted(1000 / load for load in loads_s)
    assert found.bytes_per_s == ordered[len(ordered) // 2]
    assert found.start_s == 100
    assert found.quickest_start_s == 100 + min(loads_s)


@pytest.mark.parametrize(
    "lacking", [started(9.0, None, 1000), started(9.0, 5.0), started(9.0, 0.0, 1)]
)
def test_without_the_weights_or_their_time_no_speed_is_told(lacking: Past) -> None:
    assert past.experience([lacking]).bytes_per_s is None
    assert past.experience([]) == past.Experience()


def test_what_was_asked_alike_is_told_together() -> None:
    one, other = past.of(QUALITY), past.of(SPEED)
    found = past.experience([one, other, replace(one, wanted=math.inf, took_s=9.0)])
    assert one.questions is not None
    assert found.asked == {one.questions: [(one.wanted, one.took_s), (math.inf, 9.0)]}


@pytest.mark.parametrize("kept", [False, True])
def test_all_that_finished_is_read_the_newest_last(kept: bool, tmp_path: Path) -> None:
    def later(record: Record, minutes: int, **change: object) -> Record:
        source = record.provenance
        times = {
            name: getattr(source, name) + timedelta(minutes=minutes)
            for name in ("started_at", "finished_at")
        }
        return record.model_copy(update={"provenance": source.model_copy(update=times), **change})

    results = tmp_path / "results"
    for record in (
        later(SPEED, 3, variant="a"), later(QUALITY, 2, variant="b"), later(SPEED, 1, variant="c"),
        later(SPEED, 4, status="failed"),
    ):  # fmt: skip
        store.write(results, record)
    file = tmp_path / "kept" if kept else None
    for _ in range(2):
        found = past.read(results, file)
        assert [each.variant for each in found] == ["c", "b", "a"]
        assert [each.finished_at - START for each in found] == [
            timedelta(minutes=minutes) for minutes in (1, 2, 3)
        ]
        assert found[0].repeats_s == past.of(SPEED).repeats_s, "infinite rates too"
        assert found[0].repeats_s[1][0] == Pace(math.inf)
