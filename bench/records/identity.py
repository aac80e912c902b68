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

from bench.config import QualityOptions, ServeOptions, SpeedOptions
from bench.records.record import canonical_json

# How much is asked, of which prompts or documents, how many at a time.
EVIDENCE: dict[str, frozenset[str]] = {
    "speed": frozenset({"sessions", "repeats", "seed"}),
    "quality": frozenset({"documents", "selection", "seed", "concurrency"}),
}
# Lists of loads and of tasks: each has an identity of its own, whatever stands beside it.
_LISTED = {"speed": "request_rates", "quality": "tasks"}


def load_identity(spec: dict[str, Any], rate: float | str) -> str:
    """The identity of one load of a speed record.

    Args:
        spec: the record's.
        rate: requests per second; inf, or "inf" as records have it, for no limit.
    """
    number = float(rate)
    return _identity(spec, "speed", SpeedOptions(), "inf" if number == float("inf") else number)


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
    one: float | str,
) -> str:
    """SHA-256 of all that is asked; `hardware` is not in it: that is where."""
    options = {**defaults.model_dump(mode="json"), **spec.get(stage, {})}
    serve = {**ServeOptions().model_dump(mode="json"), **spec.get("serve", {})}
    apart = EVIDENCE[stage] | {_LISTED[stage]}
    asked = {
        **{key: value for key, value in spec.items() if key != "hardware"},
        "serve": {key: value for key, value in serve.items() if value is not None},
        stage: {key: value for key, value in options.items() if key not in apart},
        "of": one,
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()
