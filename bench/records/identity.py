"""What a record asks, apart from how much of it: records that ask the same add up.

The identity of a load or a task is what decides the number that is looked for: the model, the
engine, the server's options, and the load's or the task's own. How much evidence a record brings,
and in what order it was gathered, is in EVIDENCE and changes no identity. It is computed from a
record's spec alone, laid over today's defaults: an option that is added later, with a default that
means what was done before, leaves every record the identity it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set
from typing import Any, Literal

from bench.config import QualityOptions, ServeOptions, SpeedOptions
from bench.records.pace import Pace
from bench.records.record import canonical_json

# How much is asked, of which prompts or documents, how many at a time.
EVIDENCE: dict[str, frozenset[str]] = {
    "speed": frozenset({"sessions", "repeats", "seed"}),
    "quality": frozenset({"documents", "selection", "seed", "concurrency"}),
}
# Lists of loads and of tasks: each has an identity of its own, whatever stands beside it.
LISTED = {"speed": frozenset({"request_rates", "concurrency"}), "quality": frozenset({"tasks"})}


def load_identity(spec: dict[str, Any], pace: Pace) -> str:
    """The identity of one load of a speed record, by its spec and what the load offers.

    How many requests are sent is told by one option for rates, by another for closed loops.
    """
    if pace.is_closed:
        loop = {"concurrency": int(pace.concurrency)}
        return _identity(spec, "speed", SpeedOptions(), loop, apart={"prompts"})
    rate = "inf" if pace.is_unthrottled else float(pace.rate_rps)
    return _identity(spec, "speed", SpeedOptions(), rate, apart={"prompts_each"})


def task_identity(spec: dict[str, Any], task: str) -> str:
    """The identity of one task of a quality record, by lm-eval's name of it."""
    return _identity(spec, "quality", QualityOptions(), task)


def task_settings(spec: dict[str, Any], task: str) -> str:
    """What is asked of any model in one task: equal where two models' answers can be paired."""
    asked = {key: value for key, value in spec.items() if key == "quality"}
    return task_identity(asked, task)


def _identity(
    spec: dict[str, Any],
    stage: Literal["speed", "quality"],
    defaults: SpeedOptions | QualityOptions,
    one: float | str | dict[str, int],
    apart: Set[str] = frozenset(),
) -> str:
    """SHA-256 of all that is asked; `hardware` is not in it: that is where.

    Args:
        one: the load or task.
        apart: the options of the stage that do not concern it.
    """
    options = {**defaults.model_dump(mode="json"), **spec.get(stage, {})}
    serve = {**ServeOptions().model_dump(mode="json"), **spec.get("serve", {})}
    apart = apart | EVIDENCE[stage] | LISTED[stage]
    asked = {
        **{key: value for key, value in spec.items() if key != "hardware"},
        "serve": {key: value for key, value in serve.items() if value is not None},
        stage: {key: value for key, value in options.items() if key not in apart},
        "of": one,
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()
