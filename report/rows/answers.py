"""One variant's answers to one task, from the sidecar of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.records import store
from bench.records.record import TaskResult
from report.rows.rows import is_share


@dataclass(frozen=True)
class Answers:
    """Answers per document and per scored choice of each, documents in the order of their index.

    `asked` says which documents and how: equal where two can be paired. `right` has the metrics
    that are 0 or 1 for every document. Tasks that generate text have no choices: `chosen` and the
    arrays per choice are then empty.
    """

    asked: tuple[str, str]
    right: Mapping[str, npt.NDArray[np.bool_]]
    chosen: list[int]
    loglikelihoods: npt.NDArray[np.float64]
    n_bytes: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]


def read(record: Path, task: TaskResult) -> Answers:
    """The answers to a task of the record at this path."""
    rows: list[dict[str, Any]] = store.read_sidecar(record, task.samples)
    rows.sort(key=lambda each: int(each["doc"]))
    shared = set.intersection(*(set(row) for row in rows)) if rows else set()
    binary = [m for m in sorted(shared) if is_share(m) and all(row[m] in (0, 1) for row in rows)]
    scored = {"loglikelihoods", "bytes"} <= shared and all(min(row["bytes"]) > 0 for row in rows)
    scores = [row["loglikelihoods"] for row in rows] if scored else []
    sizes = [size for row in rows for size in row["bytes"]] if scored else []
    return Answers(
        asked=(task.documents_sha256, task.config_sha256),
        right={m: np.array([row[m] == 1 for row in rows], dtype=np.bool_) for m in binary},
        chosen=[each.index(max(each)) for each in scores],
        loglikelihoods=np.array([score for each in scores for score in each], dtype=np.float64),
        n_bytes=np.array(sizes, dtype=np.int64),
        documents=np.repeat(np.arange(len(scores)), [len(each) for each in scores]),
    )
