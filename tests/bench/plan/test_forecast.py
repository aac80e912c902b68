"""How long it may take, from the records there are, and how a person is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from folders import MEASURED, PUBLISHED_MODELS
from models_texts import LAYERS
from plans import EXPERIMENT, changed, measured

from bench.modelsfile import problems
from bench.plan import forecast
from bench.plan.jobs import Job, find_jobs
from bench.records import store
from bench.records.record import Record, spec_key


def stored(results: Path, job: Job, record: Record | None = None, **changes: Any) -> Record:
    """A finished record of the job in the store, changed."""
    record = (record or measured(job)).model_copy(update=changes)
    store.write(results, record)
    return record


def test_the_forecast_says_how_long_it_took_last_time(tmp_path: Path) -> None:
    job = find_jobs(EXPERIMENT, tmp_path)[0]
    record = stored(tmp_path, job)
    assert record.engine is not None
    store.write(tmp_path, measured(job, status="failed", minutes=60))
    rows = forecast.for_jobs(find_jobs(EXPERIMENT, tmp_path), tmp_path)
    assert (rows[0].needed, rows[0].expected_minutes) == (False, 30.0)
    assert rows[0].measured_on == "2026-03-01"
    assert (rows[1].expected_minutes, rows[1].measured_on) == (None, None)
    told = forecast.table(rows)
    assert "5 of 6 stages to measure" in told
    assert "current" in told
    again = forecast.for_jobs(find_jobs(EXPERIMENT, tmp_path, force=True), tmp_path)
    minutes = again[0].expected_minutes
    assert minutes == round(30 + record.engine.startup_s / 60, 1)
    assert (again[0].least_minutes, again[0].time_basis) == (None, "earlier records")
    assert f"about {minutes:.0f} minutes for the 1 measured before" in forecast.table(again)


def test_each_number_of_the_plan_says_what_it_is() -> None:
    experiment = problems.load_experiment(PUBLISHED_MODELS)
    told = forecast.table(forecast.for_jobs(find_jobs(experiment, MEASURED), MEASURED))
    top, units, _ = told.split("\n", 2)
    for word in ("weights,", "context,", "at once,", "download,", "time,"):
        assert word in top
    assert units.split() == ["GiB", "tokens", "requests", "GiB", "minutes"]
    assert "context is the longest request that fits" in told
    assert "weights, fits, context and at once are estimates, " in told


def test_a_servers_start_is_counted_once_for_both_stages(tmp_path: Path) -> None:
    jobs = find_jobs(EXPERIMENT, tmp_path, variants=["v"], hardware=["a"], force=True)
    for job in jobs:
        stored(tmp_path, job)
    record = measured(jobs[0])
    assert record.engine is not None
    start = round(record.engine.startup_s / 60, 1)
    assert start > 0
    minutes = [row.expected_minutes for row in forecast.for_jobs(jobs, tmp_path)]
    assert minutes == [pytest.approx(30 + start), 30.0]
    alone = find_jobs(EXPERIMENT, tmp_path, variants=["v"], hardware=["a"], stages=["quality"])
    assert forecast.for_jobs(alone, tmp_path)[0].expected_minutes == 30.0  # it is current
    forced = find_jobs(EXPERIMENT, tmp_path, hardware=["a"], stages=["quality"], force=True)
    assert forecast.for_jobs(forced, tmp_path)[0].expected_minutes == pytest.approx(30 + start)


def test_the_minutes_are_those_of_what_is_missing(tmp_path: Path) -> None:
    """A session took half an hour, and another start of the server; of half its repeats, half."""
    asked = {"variants": ["v"], "hardware": ["a"], "stages": ["speed"]}
    (job,) = find_jobs(EXPERIMENT, tmp_path, **asked)  # type: ignore[arg-type]
    record = stored(tmp_path, job)
    assert record.engine is not None
    start = record.engine.startup_s / 60
    for repeats, session in ((5, 30.0), (1, 6.0)):
        more = changed(
            LAYERS.replace("repeats = 5", f"repeats = {repeats}"), "sessions = 1", "sessions = 3"
        )
        (row,) = forecast.for_jobs(find_jobs(more, tmp_path, **asked), tmp_path)  # type: ignore[arg-type]
        assert (row.measured, row.asked, row.sessions) == (1, 3, (2, 3))
        assert row.expected_minutes == pytest.approx(2 * (session + start))
        assert "1 of 3" in forecast.table([row])
        needs = {("a", "v", "speed"): forecast.Need(5, guessed=False)}
        (row,) = forecast.for_jobs(find_jobs(more, tmp_path, **asked), tmp_path, needs)  # type: ignore[arg-type]
        assert row.deciding_minutes == pytest.approx(4 * (30 + start), abs=0.06)
        assert "would bring the 1 measured before that far" in forecast.table([row])


def test_what_a_decision_needs_is_told_where_it_is_known(tmp_path: Path) -> None:
    jobs = find_jobs(EXPERIMENT, tmp_path)[:2]
    needs = {("a", "v", "speed"): forecast.Need(5_300, guessed=True)}
    known, unknown = forecast.for_jobs(jobs, tmp_path, needs)
    assert (known.decisive, known.guessed, known.deciding_minutes) == (5_300, True, None)
    assert (unknown.decisive, unknown.guessed) == (None, False)
    assert "5,300 (guess)" in forecast.table([known, unknown])
    assert "to decide" not in forecast.table([unknown])


def test_without_a_record_the_load_alone_says_how_long_at_least(tmp_path: Path) -> None:
    """60 prompts at 10 a second, five times; at no rate, and of a quality stage, nothing."""
    speed, quality = forecast.for_jobs(find_jobs(EXPERIMENT, tmp_path)[:2], tmp_path)
    assert (speed.least_minutes, speed.time_basis) == (0.5, "requests / rate")
    assert (quality.least_minutes, quality.time_basis) == (None, "unknown")
    told = forecast.table([speed, quality])
    assert "at least 0.5" in told
    assert "unknown" in told
    assert "at least 0 minutes for 1 never measured: requests / rate" in told


def test_the_quickest_records_say_how_long_at_least(tmp_path: Path) -> None:
    """Those of this hardware, or of any where it has none; more questions are no measure."""
    jobs = find_jobs(EXPERIMENT, tmp_path)
    asked = jobs[1].spec["quality"]
    for number, (hardware, documents, start_s) in enumerate(
        [("a", 400, 120.0), ("a", "all", 60.0), ("c", 400, 6.0)]
    ):
        record = measured(jobs[1], minutes=number)
        assert record.engine is not None
        spec = jobs[1].spec | {"quality": asked | {"documents": documents}}
        engine = record.engine.model_copy(update={"startup_s": start_s})
        changes = {"spec": spec, "key": spec_key(spec), "engine": engine, "hardware": hardware}
        stored(tmp_path, jobs[1], record, variant="other", **changes)
    fewer = changed(LAYERS, 'quality.documents = "all"', "quality.documents = 399")
    for experiment, hardware, minutes in (
        (EXPERIMENT, "a", (0.5 + 1, 30.0)),
        (EXPERIMENT, "b", (0.4 + 0.1, None)),  # its ten documents are fewer than any record's
        (fewer, "a", (0.5 + 1, None)),
    ):
        rows = forecast.for_jobs(find_jobs(experiment, tmp_path, hardware=[hardware])[:2], tmp_path)
        where = hardware if hardware == "a" else "any hardware"
        assert [row.expected_minutes for row in rows] == [None, None]
        assert [row.least_minutes for row in rows] == [pytest.approx(minutes[0]), minutes[1]]
        assert rows[0].time_basis == f"requests / rate + the quickest server start on {where}"
        assert rows[1].time_basis == (
            f"the quickest such stage on {where}" if minutes[1] else "unknown"
        )


def test_every_published_row_says_how_long_at_least() -> None:
    experiment, results = problems.load_experiment(PUBLISHED_MODELS), MEASURED
    rows = forecast.for_jobs(find_jobs(experiment, results, hardware=["l40"]), results)
    assert {row.variant for row in rows} == {variant.id for variant in experiment.variant}
    for row in rows:
        assert row.expected_minutes or row.least_minutes
        assert row.time_basis != "unknown"
