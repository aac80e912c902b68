"""Every field of models.toml: what is asked, how much of it, what a record says, or none of them.

A field that is added is a question until it is named here as something else, so that no option can
change what is measured and leave the old numbers standing for it.
"""

from __future__ import annotations

import copy
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from bench import config
from bench.config import (
    Decision,
    Experiment,
    Family,
    Generation,
    Hardware,
    Model,
    Overrides,
    QualityOptions,
    ServeOptions,
    ServiceLevel,
    SpeedOptions,
    TaskOptions,
    Variant,
)
from bench.plan.jobs import Job, find_jobs
from bench.records.identity import EVIDENCE, load_identity, task_identity
from bench.records.pace import paces

TEXT = """
serve = {}
service_level = {}
decision = {}
[speed]
request_rates = [2.0]
concurrency = [8]
[quality]
tasks = ["hellaswag"]
[[quality.task]]
name = "gsm8k"
generation = {}
[[hardware]]
id = "a"
name = "A"
engine = "cuda"
runner = ["x"]
[[family]]
name = "F"
baseline = "V"
[[variant]]
name = "V"
family = "F"
repo = "x/y"
[variant.on.a]
serve = {}
"""
ASKED: dict[str, Any] = tomllib.loads(TEXT)


@dataclass(frozen=True)
class Place:
    """A table of the file, and what changes in it are other than another question, by field."""

    model: type[Model]
    path: tuple[str | int, ...]
    others: dict[str, str]


# A table's own fields that hold tables or names of them are looked at in their own place.
LAYERS = dict.fromkeys(("serve", "speed", "quality"), "layer")
EVERY = dict.fromkeys
PLACES = [
    Place(ServeOptions, ("serve",), {}),
    Place(
        SpeedOptions,
        ("speed",),
        EVERY(EVIDENCE["speed"], "evidence") | EVERY(("request_rates", "concurrency"), "parts"),
    ),
    Place(
        QualityOptions,
        ("quality",),
        EVERY(EVIDENCE["quality"], "evidence") | EVERY(("tasks", "task"), "parts"),
    ),
    Place(
        TaskOptions,
        ("quality", "task", 0),
        EVERY(("documents", "selection"), "evidence") | {"name": "parts", "generation": "layer"},
    ),
    Place(Generation, ("quality", "task", 0, "generation"), {}),
    Place(
        Variant,
        ("variant", 0),
        LAYERS
        | {"on": "layer", "note": "nothing", "reproduces": "description"}
        | EVERY(("name", "hardware", "stages"), "jobs")
        | {"family": "description"},
    ),
    Place(Overrides, ("variant", 0, "on", "a"), LAYERS),
    Place(
        Hardware,
        ("hardware", 0),
        {"serve": "layer", "id": "jobs"}
        | EVERY(("name", "price_per_hour_usd"), "description")
        # Whose machine it is; how many GPUs a server takes is told by [serve].
        | EVERY(("runner", "gpus", "nodes", "gpu_memory_gib", "timeout_minutes"), "nothing"),
    ),
    Place(Family, ("family", 0), EVERY(Family.model_fields, "description") | {"quality": "layer"}),
    Place(ServiceLevel, ("service_level",), EVERY(ServiceLevel.model_fields, "description")),
    Place(Decision, ("decision",), EVERY(Decision.model_fields, "description")),
    Place(
        Experiment,
        (),
        LAYERS | EVERY(("service_level", "decision", "hardware", "family", "variant"), "layer"),
    ),
]
# Another value, where one cannot be made from the field's type and default.
VALUES: dict[str, Any] = {
    "load_format": "dummy",
    "distributed_executor_backend": "ray",
    "selection": "first",
    "data": "bundled",
    "bundled": "smollm2-135m-bf16",
    "file": "y.gguf",
    "repo": "x/z",
    "tokenizer": "x/z",
    "engine": "cpu",
    "stages": ["speed"],
    "hardware": ["b"],
    "request_rates": [3.0],
    "tasks": ["arc_easy"],
    "runner": ["y"],
    "until": ["."],
    "chat_template_arguments": {"enable_thinking": True},
    "min_p": 0.5,
    "top_p": 0.5,
    "gpu_memory_utilization": 0.5,
    "recovery": 0.5,
    "points": 2.0,
    "speed_difference": 0.5,
    "fewshot_as_multiturn": False,
}
FIELDS = [
    (place, name)
    for place in PLACES
    for name in place.model.model_fields
    if place.others.get(name) != "layer" and (place.model, name) != (QualityOptions, "task")
]


def other(place: Place, name: str) -> Any:
    """Another value of a field than it has in the file or by default."""
    if place.model is SpeedOptions and name == "concurrency":
        return [9]
    if name in VALUES:
        return VALUES[name]
    field = place.model.model_fields[name]
    now = None if field.is_required() else field.get_default(call_default_factory=True)
    kinds = {field.annotation, *get_args(field.annotation)}
    for part in list(kinds):
        kinds |= set(get_args(part))
    if bool in kinds:
        return not now
    if {int, float} & kinds:
        return (now if isinstance(now, int | float) else 0) + 1
    return "b"


def changed(place: Place, name: str) -> dict[str, Any]:
    """The file with another value of one field; a renamed thing keeps those who name it."""
    asked = copy.deepcopy(ASKED)
    table: Any = asked
    for step in place.path:
        table = table[step]
    table[name] = other(place, name)
    if (place.model, name) == (Family, "name"):
        asked["variant"][0]["family"] = table[name]
    if (place.model, name) == (Variant, "family"):
        asked["family"].append({"name": table[name], "baseline": "V"})
    return asked


def jobs(asked: dict[str, Any]) -> dict[tuple[str, str, str], Job]:
    found = find_jobs(config.parse(Experiment, asked), Path("/nowhere"))
    return {(job.variant.id, job.hardware.id, job.stage): job for job in found}


def parts(job: Job) -> dict[Any, str]:
    """What a job asks, load by load or task by task."""
    if job.stage == "speed":
        return {pace: load_identity(job.spec, pace) for pace in paces(job.speed)}
    return {table.name: task_identity(job.spec, table.name) for table in job.quality.asked()}


def effect(before: dict[Any, Job], after: dict[Any, Job]) -> str:
    """What a change of the file does to its jobs."""
    if before.keys() != after.keys():
        return "jobs"
    pairs = [(before[name], after[name]) for name in before]
    asked = [(parts(old), parts(new)) for old, new in pairs]
    is_same_key = all(old.key == new.key for old, new in pairs)
    if any(old.keys() != new.keys() for old, new in asked):
        return "parts" if not is_same_key else "other parts under one key"
    if asked and any(old[name] != new[name] for old, new in asked for name in old):
        return "question" if not is_same_key else "another question under one key"
    if not is_same_key:
        return "evidence"
    told = any(old.description != new.description for old, new in pairs)
    return "description" if told else "nothing"


@pytest.mark.parametrize(
    ("place", "name"), FIELDS, ids=[f"{place.model.__name__}.{name}" for place, name in FIELDS]
)
def test_every_field_is_a_question_unless_it_is_named_as_something_else(
    place: Place, name: str
) -> None:
    said = place.others.get(name, "question")
    # How many sessions is not in the spec: more of them are the same question asked on.
    said = "nothing" if (place.model, name) == (SpeedOptions, "sessions") else said
    assert effect(jobs(ASKED), jobs(changed(place, name))) == said


@pytest.mark.parametrize("stage", ["speed", "quality"])
@pytest.mark.parametrize("name", ServeOptions.model_fields)
def test_every_option_of_the_server_is_asked_in_both_stages(name: str, stage: str) -> None:
    before, after = jobs(ASKED), jobs(changed(PLACES[0], name))
    old, new = parts(before["v", "a", stage]), parts(after["v", "a", stage])
    assert not set(old.values()) & set(new.values())


def test_every_table_is_looked_at() -> None:
    assert {place.model for place in PLACES} == {
        model
        for model in vars(config).values()
        if isinstance(model, type) and issubclass(model, Model) and model is not Model
    }
    for place in PLACES:
        assert place.others.keys() <= place.model.model_fields.keys()
