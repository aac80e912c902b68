"""What a record asks, apart from how much of it: records that ask the same add up.

The identity of a load or a task is what decides the number that is looked for: the model, the
engine, the server's options, and the load's or the task's own. How much evidence a record brings,
and in what order it was gathered, is in EVIDENCE and changes no identity. It is computed from a
record's spec alone, laid over today's defaults: an option that is added later, with a default that
means what was done before, leaves every record the identity it had.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from bench.config import QualityOptions, ServeOptions, SpeedOptions, TaskOptions
from bench.records.pace import Pace
from bench.records.record import canonical_json

# How much is asked, of which prompts or documents, how many at a time.
EVIDENCE: dict[str, frozenset[str]] = {
    "speed": frozenset({"sessions", "repeats", "seed"}),
    "quality": frozenset({"documents", "selection", "seed", "concurrency"}),
}


def load_identity(spec: dict[str, Any], pace: Pace) -> str:
    """The identity of one load of a speed record, by its spec and what the load offers.

    How many requests are sent is told by one option for rates, by another for closed loops.
    """
    options = {**SpeedOptions().model_dump(mode="json"), **spec.get("speed", {})}
    apart = EVIDENCE["speed"] | {"request_rates", "concurrency"}
    if pace.is_closed:
        loop = {"concurrency": int(pace.concurrency)}
        return _identity(spec, "speed", _without(options, apart | {"prompts"}), loop)
    rate = "inf" if pace.is_unthrottled else float(pace.rate_rps)
    return _identity(spec, "speed", _without(options, apart | {"prompts_each"}), rate)


def task_identity(spec: dict[str, Any], task: str, asked: str | None = None) -> str:
    """The identity of one task of a quality record, by lm-eval's name of it.

    Args:
        asked: the name in models.toml that brought it: a group's or a tag's, if not its own.
    """
    options = {**QualityOptions().model_dump(mode="json"), **spec.get("quality", {})}
    tables = {table["name"]: table for table in options.pop("task", ())}
    alike = _without(options, EVIDENCE["quality"] | {"tasks"})
    if table := tables.get(asked or task):
        alike = {"data": options["data"], **_said(table)}
    return _identity(spec, "quality", alike, task)


def task_settings(spec: dict[str, Any], task: str, asked: str | None = None) -> str:
    """What is asked of any model in one task: equal where two models' answers can be paired."""
    return task_identity({k: v for k, v in spec.items() if k == "quality"}, task, asked)


def _said(table: dict[str, Any]) -> dict[str, Any]:
    """What a task's own table asks; so much of it as the tasks without one are asked, or more."""
    silent = TaskOptions(name=table["name"]).model_dump(mode="json")
    kept = _without({**silent, **table}, EVIDENCE["quality"] | {"name"})
    always = ("num_fewshot", "apply_chat_template")
    return {key: value for key, value in kept.items() if key in always or value != silent[key]}


def _without(options: dict[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in left_out}


def _identity(
    spec: dict[str, Any],
    stage: Literal["speed", "quality"],
    options: dict[str, Any],
    one: float | str | dict[str, int],
) -> str:
    """SHA-256 of all that is asked; `hardware` is not in it: that is where."""
    serve = {**ServeOptions().model_dump(mode="json"), **spec.get("serve", {})}
    asked = {
        **{key: value for key, value in spec.items() if key != "hardware"},
        "serve": {key: value for key, value in serve.items() if value is not None},
        stage: options,
        "of": one,
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()
