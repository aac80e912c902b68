"""What still has to be measured."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import synthetic
from folders import ROOT
from models_texts import LAYERS
from plans import EXPERIMENT, changed, measured

from bench.engine import installed
from bench.errors import ConfigError
from bench.modelsfile import problems
from bench.plan import documents
from bench.plan.jobs import Job, find_jobs
from bench.records import store
from bench.records.pace import Pace
from bench.records.record import Record, spec_key

ALL = [
    ("v", "a", "speed"), ("v", "a", "quality"),
    ("v", "b", "speed"), ("v", "b", "quality"),
    ("only-b", "b", "speed"), ("only-b", "b", "quality"),
]  # fmt: skip


def names(jobs: list[Job]) -> list[tuple[str, str, str]]:
    return [(job.variant.id, job.hardware.id, job.stage) for job in jobs]


def test_everything_is_planned_in_the_files_order(tmp_path: Path) -> None:
    jobs = find_jobs(EXPERIMENT, tmp_path)
    assert names(jobs) == ALL
    assert {(job.needed, job.reason, job.measured) for job in jobs} == {
        (True, "not measured yet", 0)
    }
    assert [job.asked for job in jobs] == [1, None, 1, 10, 1, 10], "sessions, and documents"
    assert [job.left for job in jobs] == [job.asked for job in jobs]
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
    assert names(find_jobs(EXPERIMENT, tmp_path, **asked)) == expected


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
        find_jobs(EXPERIMENT, tmp_path, **asked)
    assert (refused.value.message, refused.value.fix) == (message, fix)


def test_names_may_hold_commas_and_blanks(tmp_path: Path, bench: Any) -> None:
    name = "V, Marlin kernel"
    text = f'{LAYERS}[[variant]]\nname = "{name}"\nfamily = "F"\nrepo = "x/y"\n'
    (tmp_path / "models.toml").write_text(text)
    options = ("--models", tmp_path / "models.toml", "--results", tmp_path, "--json")
    ran = bench("plan", *options, "--variants", name, "--variants", "only-b")
    assert {row["variant"] for row in json.loads(ran.out)} == {"v-marlin-kernel", "only-b"}


def test_a_finished_record_makes_its_job_and_no_other_current(tmp_path: Path) -> None:
    job = find_jobs(EXPERIMENT, tmp_path)[0]
    store.write(tmp_path, measured(job))
    jobs = find_jobs(EXPERIMENT, tmp_path)
    assert [job.needed for job in jobs] == [False, *[True] * 5]
    assert (jobs[0].measured, jobs[0].left, jobs[0].reason) == (1, 0, "current")
    (forced,) = find_jobs(
        EXPERIMENT, tmp_path, variants=["v"], hardware=["a"], stages=["speed"], force=True
    )
    assert (forced.needed, forced.measured, forced.reason) == (True, 1, "forced")


@pytest.mark.parametrize("stage", [0, 1])
def test_a_failed_stage_is_planned_again(stage: int, tmp_path: Path) -> None:
    job = find_jobs(EXPERIMENT, tmp_path)[stage]
    store.write(tmp_path, measured(job, status="failed"))
    again = find_jobs(EXPERIMENT, tmp_path)[stage]
    assert (again.measured, again.reason) == (0, "failed before")


def without_limit(record: Record) -> Record:
    """The record, cut short before its second load."""
    assert record.speed
    speed = record.speed.model_copy(update={"loads": record.speed.loads[:1]})
    return record.model_copy(update={"speed": speed, "status": "partial"})


def test_a_partial_record_counts_for_the_loads_it_has(tmp_path: Path) -> None:
    job = find_jobs(EXPERIMENT, tmp_path)[0]
    store.write(tmp_path, without_limit(measured(job)))
    again = find_jobs(EXPERIMENT, tmp_path)[0]
    assert (again.measured, again.reason) == (0, "0 of 1 sessions at no limit")
    assert again.missing == {1: (Pace(),)}


def test_records_from_before_sessions_were_counted_are_sessions(tmp_path: Path) -> None:
    """Each is one, all with the prompts of the first, so what is missing has others."""
    experiment = changed(LAYERS, "sessions = 1", "sessions = 4")
    job = find_jobs(experiment, tmp_path)[0]
    for minutes in (0, 1):
        store.write(tmp_path, measured(job, minutes=minutes))
    again = find_jobs(experiment, tmp_path)[0]
    assert (again.measured, again.asked, again.reason) == (2, 4, "2 of 4 sessions")
    assert set(again.missing) == {2, 3}


def test_documents_add_up(tmp_path: Path) -> None:
    """Two of a split of two are all there is; of a larger one they are two."""
    job = find_jobs(EXPERIMENT, tmp_path)[3]
    record, sidecars = synthetic.quality_record(synthetic.BF16, documents=4)
    chosen = documents.choose(10_042, job.quality)
    batch = [row | {"doc": index} for index, row in zip(chosen[:4], rows(sidecars[0]), strict=True)]
    assert record.quality
    sidecar, data = store.pack_sidecar(batch)
    (task,) = record.quality.tasks
    tasks = (task.model_copy(update={"samples": sidecar}),)
    kept = {
        "key": job.key, "spec": job.spec, "variant": "v", "hardware": "b",
        "quality": record.quality.model_copy(update={"tasks": tasks}),
    }  # fmt: skip
    store.write(tmp_path / "one", record.model_copy(update=kept), [data])
    again = find_jobs(EXPERIMENT, tmp_path / "one")[3]
    assert (again.measured, again.asked, again.left) == (4, 10, 6)
    assert again.reason == "4 of 10 documents"
    assert again.answered == {"hellaswag": set(chosen[:4])}
    store.write(tmp_path / "two", measured(job))
    assert find_jobs(EXPERIMENT, tmp_path / "two")[3].reason == "current"
    both = find_jobs(EXPERIMENT, tmp_path / "none", elsewhere=tmp_path / "one")[3]
    assert both.reason == "4 of 10 documents"
    forced = find_jobs(EXPERIMENT, tmp_path / "two", force=True)[3]
    assert (forced.reason, forced.answered, forced.left) == ("forced", {}, 2)


def rows(sidecar: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress(sidecar))
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sessions = 1", "sessions = 2"),
        ("repeats = 5", "repeats = 1"),
        ("sessions = 1", "sessions = 1\nseed = 7"),
        ("documents = 10", "documents = 5"),
        ("documents = 10", "documents = 10\nconcurrency = 1"),
        ("documents = 10", "documents = 10\nseed = 7"),
    ],
)
def test_how_much_is_asked_makes_nothing_measured_another_question(
    old: str, new: str, tmp_path: Path
) -> None:
    for job in find_jobs(EXPERIMENT, tmp_path):
        store.write(tmp_path, measured(job))
    jobs = find_jobs(changed(LAYERS, old, new), tmp_path)
    assert {job.reason for job in jobs} == (
        {"1 of 2 sessions", "current"} if new == "sessions = 2" else {"current"}
    )


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
    before = find_jobs(EXPERIMENT, tmp_path, variants=["v"], hardware=["a"])
    after = find_jobs(changed(LAYERS, old, new), tmp_path, variants=["v"], hardware=["a"])
    assert {one.stage for one, two in zip(before, after, strict=True) if one.key != two.key} == (
        stages
    )


def test_the_spec_is_all_that_is_asked_as_json(tmp_path: Path) -> None:
    job = find_jobs(EXPERIMENT, tmp_path)[0]
    assert job.spec == {
        "stage": "speed",
        "hardware": "a",
        "engine": {
            "name": "vllm",
            "build": "cpu",
            "version": "0.32.0",
            "openmp": installed.openmp_version(),
        },
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


def test_what_computes_in_parallel_is_asked_of_speed_alone(tmp_path: Path) -> None:
    """With another one a CPU answers alike, sooner or later."""
    for job in find_jobs(EXPERIMENT, tmp_path):
        is_named = "openmp" in job.spec["engine"]
        assert is_named == (job.stage == "speed" and job.hardware.engine == "cpu")


def test_the_command_tells_the_plan_in_both_ways(tmp_path: Path, bench: Any) -> None:
    models = tmp_path / "models.toml"
    models.write_text(LAYERS)
    where = ("--models", models, "--results", tmp_path / "results")
    (tmp_path / "results").mkdir()
    ran = bench("plan", *where, "--json")
    assert ran.code == 0
    rows = json.loads(ran.out)
    assert [(row["variant"], row["hardware"], row["stage"]) for row in rows] == ALL
    assert [row["key"] for row in rows] == [
        job.key for job in find_jobs(EXPERIMENT, tmp_path / "results")
    ]
    some = ("--variants", "V", "--variants", "only-b", "--stages", "speed")
    ran = bench("plan", *where, *some)
    assert (ran.code, ran.err) == (0, "")
    assert "3 of 3 stages to measure" in ran.out
    ran = bench("plan", *where, "--variants", "nobody")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: unknown variant 'nobody'\n  fix: use one of: ")


def test_the_plan_says_what_has_no_baseline_on_its_hardware(tmp_path: Path, bench: Any) -> None:
    models = tmp_path / "models.toml"
    models.write_text(LAYERS)
    told = "to be compared with nothing, as the baseline is not measured there: only-b on b\n"
    assert told not in bench("plan", "--models", models, "--results", tmp_path).out
    apart = LAYERS.replace('"x/y"\n', '"x/y"\nhardware = ["a"]\n', 1)
    models.write_text(apart.replace('["b"]', '["a", "b"]'))
    assert bench("plan", "--models", models, "--results", tmp_path).out.endswith(told)


def test_what_loads_a_gguf_file_decides_the_key_of_these_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = problems.load_experiment(ROOT / "models.toml")

    def keys(gguf: bool) -> list[str]:
        jobs = find_jobs(experiment, tmp_path)
        assert all(("gguf" in job.spec["engine"]) == job.variant.is_gguf for job in jobs)
        return [job.key for job in jobs if job.variant.is_gguf == gguf]

    before = keys(gguf=True), keys(gguf=False)
    versions = {"vllm-gguf-plugin": "0.0.6", "quantbench-gguf": "1"}
    monkeypatch.setattr(installed, "gguf_versions", lambda _: versions)
    assert len(before[0]) == 2
    assert not set(before[0]) & set(keys(gguf=True))
    assert before[1] == keys(gguf=False)
