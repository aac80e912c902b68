"""A sidecar is refused unless the report can read from it what its record says."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import synthetic

from bench.records import store
from bench.records.record import Fidelity, Record, Sidecar
from bench.sidecars import find_fault

Rows = list[dict[str, Any]]


def fault(kind: str, change: Callable[[Rows], object]) -> str | None:
    """What is found in a sidecar whose rows are changed, its record naming it truly."""
    make = synthetic.speed_record if kind == "repeats" else synthetic.quality_record
    record, (data,) = make(synthetic.BF16)
    rows: Rows = json.loads(gzip.decompress(data))
    if kind == "positions":
        rows = [{"paragraph": 0, "token": 9, "logprob": -1.5, "top": {"7": -0.5}}] * 3
        rows = json.loads(json.dumps(rows))
    change(rows)
    sidecar, data = store.pack_sidecar(rows)
    return find_fault(naming(record, kind, sidecar), sidecar, gzip.decompress(data))


def naming(record: Record, kind: str, sidecar: Sidecar) -> Record:
    if record.speed:
        speed = record.speed.model_copy(update={"requests": sidecar})
        return record.model_copy(update={"speed": speed})
    assert record.quality
    (task,) = record.quality.tasks
    fidelity = Fidelity(
        text_sha256="a" * 64, positions=3, top=1, mean_logprob=-1.5, logprobs=sidecar
    )
    change = (
        {"fidelity": fidelity}
        if kind == "positions"
        else {"tasks": (task.model_copy(update={"samples": sidecar}),)}
    )
    quality = record.quality.model_copy(update=change)
    return record.model_copy(update={"quality": quality})


@pytest.mark.parametrize("kind", ["repeats", "documents", "positions"])
def test_what_this_tool_writes_is_without_fault(kind: str) -> None:
    assert fault(kind, len) is None


CASES: list[tuple[str, Callable[[Rows], object], str]] = [
    ("repeats", lambda rows: rows.reverse(), "repeats and requests"),
    ("repeats", lambda rows: rows.pop(), "repeats and requests"),
    ("repeats", lambda rows: rows[0]["ttft_ms"].pop(), "repeats and requests"),
    ("repeats", lambda rows: rows[0].update(ttft_ms=[]), "0.ttft_ms: List should have"),
    ("repeats", lambda rows: rows[0].update(e2e_ms=["x"] * 9), "0.e2e_ms.0: Input should be"),
    ("repeats", lambda rows: rows[0].update(seed=True), "0.seed: Input should be"),
    ("repeats", lambda rows: rows[0].update(tpot_ms=[1e300]), "0.tpot_ms.0: Input should be"),
    ("repeats", lambda rows: rows[0].update(evil="x"), "0.evil: Extra inputs"),
    ("repeats", lambda rows: rows.insert(0, 1), "0: Input should be"),  # type: ignore[arg-type]
    ("documents", lambda rows: rows.pop(), "documents once"),
    ("documents", lambda rows: rows[0].update(rows[1]), "documents once"),
    ("documents", lambda rows: rows[0]["bytes"].pop(), "a size for each"),
    ("documents", lambda rows: rows[0].update(acc="right"), "0.acc: Input should be"),
    ("documents", lambda rows: rows[0].update(text="leaked"), "0.text: Input should be"),
    ("documents", lambda rows: rows[0].update(doc=-1), "0.doc: Input should be"),
    ("documents", lambda rows: rows[0].update(acc=1 - rows[0]["acc"]), "its record's acc"),
    ("positions", lambda rows: rows.pop(), "record's positions"),
    ("positions", lambda rows: rows[0].update(top={}), "0.top: Dictionary should have"),
    ("positions", lambda rows: rows[0].update(top={"7": None}), "0.top.7: Input should be"),
]


@pytest.mark.parametrize(("kind", "change", "words"), CASES)
def test_what_the_report_could_not_read_is_named(
    kind: str, change: Callable[[Rows], object], words: str
) -> None:
    assert words in (fault(kind, change) or "")


def test_a_task_of_no_documents_is_named() -> None:
    record, _ = synthetic.quality_record(synthetic.BF16)
    sidecar, data = store.pack_sidecar([])
    record = naming(record, "documents", sidecar)
    assert record.quality
    none = record.quality.tasks[0].model_copy(update={"documents_effective": 0})
    quality = record.quality.model_copy(update={"tasks": (none,)})
    record = record.model_copy(update={"quality": quality})
    assert find_fault(record, sidecar, gzip.decompress(data))
