"""What finished records tell of time: how long their stages, their starts and their loads took."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median_high
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from bench import config
from bench.config import Stage
from bench.records import store
from bench.records.pace import Pace, of_load
from bench.records.record import Record, canonical_json
from bench.records.table import Hashes, Table, pack, unpack

_SAME = ("tasks", "task", "num_fewshot", "apply_chat_template")


@dataclass(frozen=True, slots=True)
class Past:
    """One finished record.

    Attributes:
        start_s: of the server, the weights' loading (`load_s`) in it; 0 where none is told.
        weights_bytes: of the checkpoint's files that are weights, or None.
        repeats_s: of speed, how long each repeat of a load took.
        documents: of quality, how many were asked, of all tasks together.
        questions, wanted: of quality, what its spec asks, and how many documents of each task.
    """

    hardware: str
    variant: str
    stage: Stage
    finished_at: datetime
    took_s: float
    start_s: float
    load_s: float | None
    weights_bytes: int | None
    repeats_s: tuple[tuple[Pace, tuple[float, ...]], ...]
    documents: int | None
    questions: str | None
    wanted: float | None


@dataclass(frozen=True)
class Experience:
    """What several of them tell, together.

    Attributes:
        bytes_per_s: at what speed weights came from the disk, in the middle; None if unknown.
        start_s: what a start took without them, in the middle; None if unknown.
        quickest_start_s: with them, at the least.
        asked: by the questions of quality, for how many documents of each task, in how many
            seconds.
    """

    bytes_per_s: float | None = None
    start_s: float | None = None
    quickest_start_s: float = 0.0
    asked: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def read(results: Path, kept: Path | None = None, hashes: Hashes | None = None) -> list[Past]:
    """Every finished record, the newest last.

    Args:
        kept: the file in which they are kept from one time to the next (see `records.table`).
        hashes: of the folders of `results`, where they are asked for elsewhere too.

    Raises:
        ConfigError: a record cannot be read.
    """
    folders = store.by_folder(results)
    table = Table(kept, results, _code(), hashes)
    every = table.complete(folders, {"past"}, lambda some: [_pack(folders[name]) for name in some])
    rows = [row for parts in every for row in _ROWS.validate_json(unpack(parts["past"]))]
    return sorted(rows, key=lambda row: row.finished_at)


def of(record: Record) -> Past:
    """What a record tells of time."""
    engine, source, asked = record.engine, record.provenance, record.spec.get("quality", {})
    files = record.model.files if record.model else ()
    weights = [file.size_bytes for file in files if file.name.endswith((".safetensors", ".gguf"))]
    loads = record.speed.loads if record.speed else ()
    return Past(
        hardware=record.hardware,
        variant=record.variant,
        stage=record.stage,
        finished_at=source.finished_at,
        took_s=(source.finished_at - source.started_at).total_seconds(),
        start_s=engine.startup_s if engine else 0.0,
        load_s=engine.load_s if engine else None,
        weights_bytes=sum(weights) or None,
        repeats_s=tuple(
            (of_load(load), tuple(repeat.duration_s for repeat in load.repeats)) for load in loads
        ),
        documents=sum(task.documents_effective for task in record.quality.tasks)
        if record.quality
        else None,
        questions=questions(asked) if record.stage == "quality" else None,
        wanted=wanted(asked) if record.stage == "quality" else None,
    )


def questions(asked: dict[str, Any]) -> str:
    """What decides how long a document of quality takes: equal where it is asked alike."""
    return canonical_json({key: asked.get(key) for key in _SAME})


def wanted(asked: dict[str, Any]) -> float:
    """How many documents of each task are asked for; infinite where all are."""
    documents = asked["documents"]
    return math.inf if documents == "all" else float(documents)


def experience(records: Iterable[Past]) -> Experience:
    """What these records tell together."""
    records = list(records)
    speeds = [r.weights_bytes / r.load_s for r in records if r.weights_bytes and r.load_s]
    starts = [r.start_s - (r.load_s or 0.0) for r in records if r.start_s > (r.load_s or 0.0)]
    asked: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        if record.questions is not None and record.wanted is not None:
            asked.setdefault(record.questions, []).append((record.wanted, record.took_s))
    return Experience(
        median_high(speeds) if speeds else None,
        median_high(starts) if starts else None,
        min((record.start_s for record in records), default=0.0),
        asked,
    )


_ROWS = TypeAdapter(list[Past], config=ConfigDict(ser_json_inf_nan="constants"))


def _pack(paths: Iterable[Path]) -> dict[str, bytes]:
    found = [of(record) for path in paths if (record := store.read(path)).status == "ok"]
    return {"past": pack(_ROWS.dump_json(found))}


def _code() -> Iterator[Path]:
    """The Python files that decide what is told."""
    yield from Path(store.__file__).parent.glob("*.py")
    yield from (Path(config.__file__), Path(__file__))
