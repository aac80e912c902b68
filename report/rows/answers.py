"""One variant's answers to one task, document by document, from the sidecars of its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.records import store
from bench.records.record import TaskResult
from report.stats.probabilities import right_probability

Floats = npt.NDArray[np.float64]
_OTHERS = {"doc", "target", "seed"}  # numbers of a document that are no score


@dataclass(frozen=True)
class Answers:
    """What was answered to each document, in the order of their index.

    `documents` names them by hash, and by which of its occurrences where one stands twice. `scores`
    has the metrics that every document has a number in. Where the answer is one of some choices,
    `loglikelihoods` and `sizes` (bytes) have those of each document's choices and `targets` the
    right one; all three are empty elsewhere.
    """

    documents: tuple[tuple[str, int], ...]
    scores: Mapping[str, Floats]
    loglikelihoods: tuple[tuple[float, ...], ...] = ()
    sizes: tuple[tuple[int, ...], ...] = ()
    targets: tuple[int, ...] = ()

    @property
    def chosen(self) -> list[int]:
        """The choice of each document with the highest log-likelihood."""
        return [each.index(max(each)) for each in self.loglikelihoods]

    @property
    def right_probabilities(self) -> list[float] | None:
        """The probability given to the right choice of each document, as among its choices."""
        if not self.targets:
            return None
        scored = zip(self.loglikelihoods, self.targets, strict=True)
        return [right_probability(each, target) for each, target in scored]

    def only(self, documents: Sequence[tuple[str, int]]) -> Answers:
        """The answers to some of the documents, in their order."""
        place = {document: i for i, document in enumerate(self.documents)}
        chosen = [place[document] for document in documents]

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in chosen) if values else ()

        return Answers(
            tuple(documents),
            {metric: values[chosen] for metric, values in self.scores.items()},
            some(self.loglikelihoods),
            some(self.sizes),
            some(self.targets),
        )


def read(batches: Iterable[tuple[Path, TaskResult]]) -> Answers:
    """The answers to a task in records of one variant, the oldest first.

    A document that was asked twice counts as it was answered last.
    """
    kept: dict[int, dict[str, Any]] = {}
    for record, task in batches:
        kept |= {int(row["doc"]): row for row in store.read_sidecar(record, task.samples)}
    rows = [kept[index] for index in sorted(kept)]
    shared = set.intersection(*(set(row) for row in rows)) if rows else set()
    numeric = [
        name for name in sorted(shared - _OTHERS) if all(_is_number(row[name]) for row in rows)
    ]
    seen: Counter[str] = Counter()
    documents = []
    for row in rows:
        documents.append((str(row.get("hash", row["doc"])), seen[str(row.get("hash"))]))
        seen[str(row.get("hash"))] += 1
    scores = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in numeric}
    if not {"loglikelihoods", "bytes"} <= shared or any(min(row["bytes"]) <= 0 for row in rows):
        return Answers(tuple(documents), scores)
    targets = [row.get("target") for row in rows]
    known = all(
        isinstance(target, int) and 0 <= target < len(row["loglikelihoods"])
        for target, row in zip(targets, rows, strict=True)
    )
    return Answers(
        tuple(documents),
        scores,
        tuple(tuple(row["loglikelihoods"]) for row in rows),
        tuple(tuple(row["bytes"]) for row in rows),
        tuple(int(target) for target in targets if target is not None) if known else (),
    )


def paired(one: Answers, other: Answers) -> tuple[Answers, Answers]:
    """Both restricted to the documents that both answered, in one order."""
    there = set(other.documents)
    common = [document for document in one.documents if document in there]
    if len(common) == len(one.documents) == len(other.documents):
        return one, other.only(common)
    return one.only(common), other.only(common)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
