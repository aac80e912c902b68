"""What a stranger's sidecar must hold, row by row, for the report to read it as its record says.

The rows are described with the record's own classes (`bench.record`); what this tool writes is so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from bench.records.record import (
    Count,
    Fidelity,
    Finite,
    Record,
    Sha256,
    Sidecar,
    SpeedResult,
    TaskResult,
)

# FailFast: an error for each of millions of wrong values would take more memory than they do.
_Number = Annotated[float, Field(ge=-1e15, le=1e15)]
_Numbers = Annotated[list[_Number], FailFast(), Field(min_length=1)]
_Sizes = Annotated[list[Count], FailFast(), Field(min_length=1)]


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _Repeat(_Row):
    request_rate_rps: Finite | Literal["inf"]
    seed: Count
    ttft_ms: _Numbers
    tpot_ms: _Numbers
    e2e_ms: _Numbers


class _Document(_Row):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Number]  # the task's metrics

    doc: Count
    hash: Sha256
    target: Count | None = None
    loglikelihoods: _Numbers = []
    bytes: _Sizes = []


class _Position(_Row):
    paragraph: Count
    token: Count
    logprob: _Number
    top: Annotated[dict[str, _Number], Field(min_length=1)]


_REPEATS = TypeAdapter(Annotated[list[_Repeat], FailFast()])
_DOCUMENTS = TypeAdapter(Annotated[list[_Document], FailFast()])
_POSITIONS = TypeAdapter(Annotated[list[_Position], FailFast()])


def find_fault(record: Record, sidecar: Sidecar, text: bytes) -> str | None:
    """Why a sidecar is not what `record` says of it, or None.

    Args:
        text: what the sidecar unpacks to.
    """
    try:
        rows: Any = json.loads(text)
        if not isinstance(rows, list) or len(rows) != sidecar.rows:
            return "does not have the rows its record names"
        return _fault(record, sidecar, rows)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"its rows: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        return f"not gzipped JSON ({error})"


def _fault(record: Record, sidecar: Sidecar, rows: list[Any]) -> str | None:
    quality = record.quality
    if record.speed and record.speed.requests == sidecar:
        return _repeats_fault(record.speed, _REPEATS.validate_python(rows))
    if quality and quality.fidelity and quality.fidelity.logprobs == sidecar:
        return _positions_fault(quality.fidelity, _POSITIONS.validate_python(rows))
    documents = _DOCUMENTS.validate_python(rows)
    asked = [task for task in quality.tasks if task.samples == sidecar] if quality else []
    return next(filter(None, (_documents_fault(task, documents) for task in asked)), None)


def _repeats_fault(speed: SpeedResult, rows: Sequence[_Repeat]) -> str | None:
    measured = [
        (load.request_rate_rps, repeat.seed, *[repeat.completed] * 3)
        for load in speed.loads
        for repeat in load.repeats
    ]
    held = [
        (row.request_rate_rps, row.seed, len(row.ttft_ms), len(row.tpot_ms), len(row.e2e_ms))
        for row in rows
    ]
    return None if held == measured else "does not hold its record's repeats and requests"


def _documents_fault(task: TaskResult, rows: Sequence[_Document]) -> str | None:
    if not 0 < len(rows) == len({row.doc for row in rows}) == task.documents_effective:
        return "does not hold each of its record's documents once"
    if any(len(row.loglikelihoods) != len(row.bytes) for row in rows):
        return "does not hold a size for each log-likelihood"
    for metric in task.metrics:
        values = [(row.model_extra or {}).get(metric.name) for row in rows]
        right = values.count(1)
        if right + values.count(0) == len(rows) and abs(right / len(rows) - metric.value) > 1e-9:
            return f"does not come to its record's {metric.name}"
    return None


def _positions_fault(fidelity: Fidelity, rows: Sequence[_Position]) -> str | None:
    return None if len(rows) == fidelity.positions else "does not hold its record's positions"
