"""What a record asks, and what only says how much of it."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from folders import ROOT

from bench import config
from bench.config import Experiment, Model, QualityOptions, ServeOptions, SpeedOptions
from bench.plan.jobs import Job, find_jobs
from bench.records import store
from bench.records.identity import EVIDENCE, load_identity, task_identity
from bench.records.pace import Pace, of_load, paces

DEMO = config.parse(
    Experiment, tomllib.loads((ROOT / "bench" / "demo" / "models.toml").read_text())
)
SPEED, QUALITY = find_jobs(DEMO, Path("/nowhere"), variants=["smollm2-135m-bf16"])[:2]
# What each is changed to: anything that is not its default, nor the demo's.
OTHER: dict[str, Any] = {
    "request_rates": [2.0, 3.0],
    "concurrency": [8],
    "tasks": ["hellaswag", "arc_easy"],
    "task": [{"name": "arc_easy"}],
    "selection": "first",
    "data": "hub",
    "documents": 7,
    "load_format": "dummy",
    "distributed_executor_backend": "ray",
}


def other(model: Model, name: str) -> Any:
    """Another value of an option than it has here."""
    if name in OTHER:
        return OTHER[name]
    now, annotation = getattr(model, name), type(model).model_fields[name].annotation
    kinds = {*get_args(annotation), annotation}
    if bool in kinds:
        return not now
    return (now or 1) + 1 if isinstance(now, int | float) or {int, float} & kinds else "other"


def identities(job: Job, spec: dict[str, Any]) -> dict[Any, str]:
    """Of the loads or tasks that the job asks for: their identity in a spec."""
    if job.stage == "speed":
        return {pace: load_identity(spec, pace) for pace in paces(job.speed)}
    return {task: task_identity(spec, task) for task in job.quality.tasks}


FIELDS = [
    (job, table, name)
    for job, stage, model in (
        (SPEED, "speed", SpeedOptions),
        (QUALITY, "quality", QualityOptions),
    )
    for table, fields in (
        ("serve", ServeOptions.model_fields),
        (stage, model.model_fields),
    )
    for name in fields
]


@pytest.mark.parametrize(("job", "table", "name"), FIELDS)
def test_every_option_is_part_of_the_question_or_said_to_be_evidence(
    job: Job, table: str, name: str
) -> None:
    model = getattr(job, table)
    now, changed = getattr(model, name), other(model, name)
    assert now != changed
    spec = {**job.spec, table: {**job.spec[table], name: changed}}
    listed = ("request_rates", "concurrency", "tasks", "task")
    same = name in EVIDENCE.get(table, ()) or name in listed
    same = same or name == "prompts_each"  # of closed loops, of which the demo has none
    before, after = identities(job, job.spec), identities(job, spec)
    for one, identity in before.items():
        assert (identity == after[one]) == same


@pytest.mark.parametrize("job", [SPEED, QUALITY])
@pytest.mark.parametrize(
    ("part", "value", "same"),
    [
        ("engine", {"name": "vllm", "build": "cpu", "version": "0.33.0"}, False),
        ("engine", {"name": "vllm", "build": "cuda", "version": "0.32.0"}, False),
        ("model", {"bundled": "smollm2-135m-int8-w8a8"}, False),
        ("something later", {"x": 1}, False),
        ("hardware", "github-hosted", True),  # it says where, and rows are of one place
    ],
)
def test_the_engine_and_the_model_are_part_of_the_question(
    job: Job, part: str, value: Any, same: bool
) -> None:
    changed = identities(job, {**job.spec, part: value})
    assert (changed == identities(job, job.spec)) == same


def test_loads_and_tasks_have_identities_of_their_own() -> None:
    offered = (Pace(2.0), Pace(3.0), Pace(), Pace(concurrency=2), Pace(concurrency=3))
    assert len({load_identity(SPEED.spec, pace) for pace in offered}) == len(offered)
    assert load_identity(SPEED.spec, Pace(2)) == load_identity(SPEED.spec, Pace(2.0))
    assert task_identity(QUALITY.spec, "hellaswag") != task_identity(QUALITY.spec, "arc_easy")


def test_each_kind_of_load_has_its_own_number_of_prompts() -> None:
    """So more requests in closed loops leave the rates measured, and the other way round."""
    rate, loop = Pace(2.0), Pace(concurrency=8)
    for name, same in (("prompts", loop), ("prompts_each", rate)):
        spec = {**SPEED.spec, "speed": {**SPEED.spec["speed"], name: 777}}
        for pace in (rate, loop):
            equal = load_identity(spec, pace) == load_identity(SPEED.spec, pace)
            assert equal == (pace is same)


def test_closed_loops_beside_them_change_no_rates_identity() -> None:
    beside = {**SPEED.spec, "speed": {**SPEED.spec["speed"], "concurrency": [1, 8]}}
    assert identities(SPEED, beside) == identities(SPEED, SPEED.spec)


@pytest.mark.parametrize("job", [SPEED, QUALITY])
def test_an_option_that_records_do_not_have_yet_has_its_default(job: Job) -> None:
    """So it changes no record's identity when it is added."""
    model = type(getattr(job, job.stage))
    for name, field in model.model_fields.items():
        spec = copy.deepcopy(job.spec)
        if spec[job.stage].get(name, "absent") == model().model_dump(mode="json").get(name):
            del spec[job.stage][name]
            assert identities(job, spec) == identities(job, job.spec), (name, field)


def asked(**table: Any) -> dict[str, Any]:
    """A spec that asks HellaSwag in a table of its own."""
    return {**QUALITY.spec, "quality": {"task": [{"name": "hellaswag", **table}], "tasks": []}}


def test_a_tasks_own_table_asks_what_the_short_form_asks() -> None:
    short = {**QUALITY.spec, "quality": {}}
    same = asked(num_fewshot=0, apply_chat_template=False, seeds=1, documents="all")
    assert task_identity(same, "hellaswag") == task_identity(short, "hellaswag")


@pytest.mark.parametrize(
    ("table", "same"),
    [
        ({"documents": 7}, True),
        ({"selection": "first"}, True),
        ({"seeds": 1}, True),
        ({"seeds": 3}, False),
        ({"num_fewshot": 5}, False),
        ({"apply_chat_template": True}, False),
        ({"generation": {"temperature": 0.6}}, False),
        ({"system_instruction": "Be brief."}, False),
        ({"chat_template_arguments": {"enable_thinking": True}}, False),
        ({"think_end_token": "</think>"}, False),
    ],
    ids=str,
)
def test_what_a_table_says_is_the_question_but_for_its_documents(
    table: dict[str, Any], same: bool
) -> None:
    changed = task_identity(asked(**table), "hellaswag")
    assert (changed == task_identity(asked(), "hellaswag")) == same


def test_a_groups_tasks_are_asked_as_its_table_says() -> None:
    group = {**QUALITY.spec, "quality": {"task": [{"name": "mmlu", "num_fewshot": 5}], "tasks": []}}
    assert task_identity(group, "mmlu_anatomy", "mmlu") != task_identity(group, "mmlu_anatomy")


RESULTS = ROOT / "bench" / "results"
COMMITTED = store.paths(RESULTS)
ASKED = {
    (job.hardware.id, job.variant.id, job.stage): job
    for name in ("models.toml", "gpu.toml", "two-gpus.toml")
    for job in find_jobs(
        config.parse(Experiment, tomllib.loads((ROOT / "bench" / "demo" / name).read_text())),
        Path("/nowhere"),
    )
}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_committed_record_counts_on(path: Path) -> None:
    """As far as what it asked is still asked, by an engine like the one that it had.

    The H100's engine was another than the lock's, and the CPU's was without Intel's OpenMP.
    """
    record = store.read(path)
    job = ASKED[record.hardware, record.variant, record.stage]
    spec = {**record.spec, "engine": job.spec["engine"]}
    assert (spec == record.spec) == ((record.hardware, record.stage) == ("cpu", "quality"))
    if record.speed is None:
        assert identities(job, spec) == identities(job, job.spec)
    for pace in map(of_load, record.speed.loads if record.speed else ()):
        assert pace in paces(job.speed)
        assert load_identity(spec, pace) == load_identity(job.spec, pace)
