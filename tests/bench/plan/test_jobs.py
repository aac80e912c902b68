"""What still has to be measured, and how a person and a workflow are told."""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import synthetic
from folders import ROOT
from models_texts import LAYERS

from bench import config
from bench.config import Experiment
from bench.errors import ConfigError
from bench.modelsfile import problems
from bench.plan import forecast
from bench.plan import jobs as plan
from bench.plan.jobs import Job
from bench.records import store
from bench.records.record import Record, spec_key

EXPERIMENT = config.parse(Experiment, tomllib.loads(LAYERS))
ALL = [
    ("v", "a", "speed"), ("v", "a", "quality"),
    ("v", "b", "speed"), ("v", "b", "quality"),
    ("only-b", "b", "speed"), ("only-b", "b", "quality"),
]  # fmt: skip


def names(jobs: list[Job]) -> list[tuple[str, str, str]]:
    return [(job.variant.id, job.hardware.id, job.stage) for job in jobs]


def changed(text: str, old: str, new: str) -> Experiment:
    assert text.count(old) == 1
    return config.parse(Experiment, tomllib.loads(text.replace(old, new)))


def measured(job: Job, *, status: str = "ok", minutes: int = 0) -> Record:
    """A record of the job, which took half an hour."""
    record, _ = (
        synthetic.speed_record(synthetic.BF16, prompts=2)
        if job.stage == "speed"
        else synthetic.quality_record(synthetic.BF16, documents=2)
    )
    finished = synthetic.START + timedelta(minutes=minutes)
    times = {"started_at": finished - timedelta(minutes=30), "finished_at": finished}
    return record.model_copy(
        update={
            "key": job.key,
            "spec": job.spec,
            "status": status,
            "variant": job.variant.id,
            "hardware": job.hardware.id,
            "provenance": record.provenance.model_copy(update=times),
        }
    )


def test_everything_is_planned_in_the_files_order(tmp_path: Path) -> None:
    jobs = plan.jobs(EXPERIMENT, tmp_path)
    assert names(jobs) == ALL
    assert {(job.needed, job.reason, job.current) for job in jobs} == {
        (True, "not measured yet", None)
    }
    assert len({job.key for job in jobs}) == len(jobs)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"variants": ["v"]}, ALL[:4]),
        ({"variants": ["Only B", "V"]}, ALL),
        ({"hardware": ["b"], "stages": ["quality"]}, [ALL[3], ALL[5]]),
        ({"variants": ["only-b"], "hardware": ["a"]}, []),
    ],
)
def test_the_plan_can_be_restricted(asked: Any, expected: Any, tmp_path: Path) -> None:
    assert names(plan.jobs(EXPERIMENT, tmp_path, **asked)) == expected


@pytest.mark.parametrize(
    ("asked", "message", "fix"),
    [
        ({"variants": ["w"]}, "unknown variant 'w'", "use one of: only-b, v"),
        ({"stages": ["Speed"]}, "unknown stage 'Speed'", "use one of: quality, speed"),
        ({"hardware": ["c"]}, "unknown hardware 'c'", "use one of: a, b"),
    ],
)
def test_an_unknown_name_is_wrong_usage(asked: Any, message: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        plan.jobs(EXPERIMENT, tmp_path, **asked)
    assert (refused.value.message, refused.value.fix) == (message, fix)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["V, Marlin kernel"], ["v-marlin-kernel"]),
        (["V", "Marlin kernel"], ["v-marlin-kernel"]),  # as `--variants` splits it
        (["V", "Marlin kernel", "V"], ["v-marlin-kernel", "v"]),
        (["v-marlin-kernel", "v"], ["v-marlin-kernel", "v"]),
        (["V", "Marlin kernel", "Only B"], ["v-marlin-kernel", "only-b"]),
        (["V", "Only B"], ["v", "only-b"]),
        (["V,Marlin kernel,with more,Only B"], ["v-marlin-kernel-with-more", "only-b"]),
    ],
)
def test_names_may_hold_commas(
    asked: list[str], expected: list[str], tmp_path: Path, bench: Any
) -> None:
    more = "".join(
        f'[[variant]]\nname = "{name}"\nfamily = "F"\nrepo = "x/y"\n'
        for name in ("V, Marlin kernel", "V, Marlin kernel, with more")
    )
    (tmp_path / "models.toml").write_text(LAYERS + more)
    experiment = config.parse(Experiment, tomllib.loads(LAYERS + more))
    jobs = plan.jobs(experiment, tmp_path, variants=asked)
    assert {job.variant.id for job in jobs} == set(expected)
    options = ("--models", tmp_path / "models.toml", "--results", tmp_path, "--json")
    ran = bench("plan", *options, "--variants", ", ".join(asked))
    assert {row["variant"] for row in json.loads(ran.out)} == set(expected)
    with pytest.raises(ConfigError) as refused:
        plan.jobs(experiment, tmp_path, variants=["V", "Marlin"])
    assert refused.value.message == "unknown variant 'Marlin'"


def test_a_finished_record_makes_its_job_and_no_other_current(tmp_path: Path) -> None:
    job = plan.jobs(EXPERIMENT, tmp_path)[0]
    path = store.write(tmp_path, measured(job))
    jobs = plan.jobs(EXPERIMENT, tmp_path)
    assert [job.needed for job in jobs] == [False, *[True] * 5]
    assert (jobs[0].current, jobs[0].reason) == (path, "current")
    (forced,) = plan.jobs(
        EXPERIMENT, tmp_path, variants=["v"], hardware=["a"], stages=["speed"], force=True
    )
    assert (forced.needed, forced.current, forced.reason) == (True, path, "forced")


@pytest.mark.parametrize("status", ["failed", "partial"])
def test_a_failed_stage_is_planned_again(status: str, tmp_path: Path) -> None:
    job = plan.jobs(EXPERIMENT, tmp_path)[0]
    store.write(tmp_path, measured(job, status=status))
    again = plan.jobs(EXPERIMENT, tmp_path)[0]
    assert (again.needed, again.reason) == (True, "changed since measured, or failed")


@pytest.mark.parametrize(
    ("old", "new", "stages"),
    [
        ("block_size = 16", "block_size = 32", {"speed", "quality"}),
        ('repo = "x/y"', 'repo = "x/y2"', {"speed", "quality"}),
        ('repo = "x/y"', 'repo = "x/y"\nrevision = "main"', {"speed", "quality"}),
        ('repo = "x/y"', 'repo = "x/y"\ntokenizer_revision = "main"', {"speed", "quality"}),
        ("speed.repeats = 5", "speed.repeats = 6", {"speed"}),
        ("speed.repeats = 5", "speed.repeats = 5\nspeed.seed = 1", {"speed"}),
        ('quality.documents = "all"', "quality.documents = 400", {"quality"}),
        ('quality.documents = "all"', 'quality.documents = "all"\nquality.seed = 1', {"quality"}),
        ('name = "A"\nengine = "cpu"', 'name = "A"\nengine = "cuda"', {"speed", "quality"}),
        # What says nothing about the measurement measures nothing again.
        ("block_size = 16", "block_size = 16\n[service_level]\nttft_p90_ms = 1", set()),
        ('name = "A"', 'name = "Another"\nprice_per_hour_usd = 2.5', set()),
        ('repo = "x/y"', 'repo = "x/y"\nnote = "new"', set()),
        ('name = "Only B"', 'name = "Other"', set()),
        ("block_size = 16\n[speed]\nprompts = 50", "block_size = 16\n[speed]\nprompts = 40", set()),
    ],
)
def test_what_is_asked_decides_the_key_and_nothing_else(
    old: str, new: str, stages: set[str], tmp_path: Path
) -> None:
    """The jobs of variant V on hardware A, which set their own prompts."""
    before = plan.jobs(EXPERIMENT, tmp_path, variants=["v"], hardware=["a"])
    after = plan.jobs(changed(LAYERS, old, new), tmp_path, variants=["v"], hardware=["a"])
    assert {one.stage for one, two in zip(before, after, strict=True) if one.key != two.key} == (
        stages
    )


def test_the_spec_is_all_that_is_asked_as_json(tmp_path: Path) -> None:
    job = plan.jobs(EXPERIMENT, tmp_path)[0]
    assert job.spec == {
        "stage": "speed",
        "hardware": "a",
        "engine": {"name": "vllm", "build": "cpu", "version": "0.32.0"},
        "model": {"repo": "x/y"},
        "serve": {"dtype": "bfloat16", "max_model_len": 2048, "block_size": 16, "max_num_seqs": 2},
        "speed": {
            "input_tokens": 512,
            "output_tokens": 128,
            "prompts": 60,
            "request_rates": [10.0, "inf"],
            "repeats": 5,
            "warmup_prompts": 10,
            "seed": 0,
        },
    }
    assert job.key == spec_key(json.loads(json.dumps(job.spec)))


def test_the_matrix_has_one_entry_per_server_with_something_to_do(tmp_path: Path) -> None:
    jobs = plan.jobs(EXPERIMENT, tmp_path)
    for job in (jobs[0], jobs[4], jobs[5]):
        store.write(tmp_path, measured(job))
    jobs = plan.jobs(EXPERIMENT, tmp_path)
    assert plan.matrix(jobs) == [
        {
            "variant": "v",
            "hardware": hardware,
            "runner": ["x"],
            "timeout_minutes": 360,
            "stages": [job.stage for job in found],
            "keys": [job.key for job in found],
        }
        for hardware, found in (("a", jobs[1:2]), ("b", jobs[2:4]))
    ]
    assert plan.matrix([]) == []


def stored(results: Path, job: Job, record: Record | None = None, **changes: Any) -> Record:
    """A finished record of the job in the store, changed."""
    record = (record or measured(job)).model_copy(update=changes)
    store.write(results, record)
    return record


def test_the_outlook_says_how_long_it_took_last_time(tmp_path: Path) -> None:
    job = plan.jobs(EXPERIMENT, tmp_path)[0]
    record = stored(tmp_path, job)
    assert record.engine is not None
    store.write(tmp_path, measured(job, status="failed", minutes=60))
    rows = forecast.rows(plan.jobs(EXPERIMENT, tmp_path), tmp_path)
    assert (rows[0]["needed"], rows[0]["expected_minutes"]) == (False, 30.0)
    assert rows[0]["measured_on"] == "2026-03-01"
    assert (rows[1]["expected_minutes"], rows[1]["measured_on"]) == (None, None)
    told = forecast.table(rows)
    assert "5 of 6 stages to measure" in told
    assert "current" in told
    again = forecast.rows(plan.jobs(EXPERIMENT, tmp_path, force=True), tmp_path)
    minutes = again[0]["expected_minutes"]
    assert minutes == round(30 + record.engine.startup_s / 60, 1)
    assert (again[0]["least_minutes"], again[0]["time_basis"]) == (None, "earlier records")
    assert f"about {minutes:.0f} minutes for the 1 measured before" in forecast.table(again)


def test_a_servers_start_is_counted_once_for_both_stages(tmp_path: Path) -> None:
    jobs = plan.jobs(EXPERIMENT, tmp_path, variants=["v"], hardware=["a"], force=True)
    for job in jobs:
        stored(tmp_path, job)
    record = measured(jobs[0])
    assert record.engine is not None
    start = round(record.engine.startup_s / 60, 1)
    assert start > 0
    minutes = [row["expected_minutes"] for row in forecast.rows(jobs, tmp_path)]
    assert minutes == [pytest.approx(30 + start), 30.0]
    alone = plan.jobs(EXPERIMENT, tmp_path, variants=["v"], hardware=["a"], stages=["quality"])
    assert forecast.rows(alone, tmp_path)[0]["expected_minutes"] == 30.0  # it is current
    forced = plan.jobs(EXPERIMENT, tmp_path, hardware=["a"], stages=["quality"], force=True)
    assert forecast.rows(forced, tmp_path)[0]["expected_minutes"] == pytest.approx(30 + start)


def test_without_a_record_the_load_alone_says_how_long_at_least(tmp_path: Path) -> None:
    """60 prompts at 10 a second, five times; at no rate, and of a quality stage, nothing."""
    speed, quality = forecast.rows(plan.jobs(EXPERIMENT, tmp_path)[:2], tmp_path)
    assert (speed["least_minutes"], speed["time_basis"]) == (0.5, "requests / rate")
    assert (quality["least_minutes"], quality["time_basis"]) == (None, "unknown")
    told = forecast.table([speed, quality])
    assert "at least 0.5" in told
    assert "unknown" in told
    assert "at least 0 minutes for 1 never measured: requests / rate" in told


def test_the_quickest_records_say_how_long_at_least(tmp_path: Path) -> None:
    """Those of this hardware, or of any where it has none; more questions are no measure."""
    jobs = plan.jobs(EXPERIMENT, tmp_path)
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
        rows = forecast.rows(plan.jobs(experiment, tmp_path, hardware=[hardware])[:2], tmp_path)
        where = hardware if hardware == "a" else "any hardware"
        assert [row["expected_minutes"] for row in rows] == [None, None]
        assert [row["least_minutes"] for row in rows] == [pytest.approx(minutes[0]), minutes[1]]
        assert rows[0]["time_basis"] == f"requests / rate + the quickest server start on {where}"
        assert rows[1]["time_basis"] == (
            f"the quickest such stage on {where}" if minutes[1] else "unknown"
        )


def test_every_published_row_says_how_long_at_least() -> None:
    root = ROOT
    experiment = problems.load_experiment(root / "models.toml")
    results = root / "bench" / "results"
    rows = forecast.rows(plan.jobs(experiment, results, hardware=["l40"]), results)
    assert {row["variant"] for row in rows} == {variant.id for variant in experiment.variant}
    for row in rows:
        assert row["expected_minutes"] or row["least_minutes"]
        assert row["time_basis"] != "unknown"


def test_the_command_tells_the_plan_in_both_ways(tmp_path: Path, bench: Any) -> None:
    models = tmp_path / "models.toml"
    models.write_text(LAYERS)
    where = ("--models", models, "--results", tmp_path / "results")
    ran = bench("plan", *where, "--json")
    assert ran.code == 0
    rows = json.loads(ran.out)
    assert [(row["variant"], row["hardware"], row["stage"]) for row in rows] == ALL
    assert [row["key"] for row in rows] == [
        job.key for job in plan.jobs(EXPERIMENT, tmp_path / "results")
    ]
    ran = bench("plan", *where, "--variants", "V, only-b", "--stages", "speed")
    assert (ran.code, ran.err) == (0, "")
    assert "3 of 3 stages to measure" in ran.out
    ran = bench("plan", *where, "--variants", "nobody")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: unknown variant 'nobody'\n  fix: use one of: ")
