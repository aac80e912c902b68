"""One variant's answers to one task, document by document, from the sidecars of its records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.records import store
from bench.records.record import TaskResult
from report.stats.probabilities import right_probabilities

Floats = npt.NDArray[np.float64]
_Row = dict[str, Any]  # what a sidecar says of one document
# What a document has that is no score.
_OTHERS = {
    *("doc", "hash", "target", "targets", "loglikelihoods", "bytes", "seed", "by_seed", "text"),
}
_RATIOS = ("weighted perplexity", "bits per byte")  # of a log-likelihood to what it is of


@dataclass(frozen=True, slots=True)
class Text:
    """What a variant expects of a document's text: its sum of log-probabilities, in nats.

    `top` has those of the likeliest tokens at some of its places, by label. Texts of one `sha256`
    have the same tokens, the same places and the same labels.
    """

    sha256: str
    tokens: int
    logprob: float
    top: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Answers:
    """What was answered to each document, in the order of their index.

    `documents` names them by hash, and by which of its occurrences where one stands twice. `scores`
    has the metrics that every document has a number in, or several: of instructions their mean, of
    a text its log-likelihood. `weights` has what each document counts in a metric where that is not
    alike: its instructions, the words of its text. Where the answer is one of some choices,
    `loglikelihoods` and `sizes` (bytes) have those of each document's choices and `targets` the
    right one; all three are empty elsewhere. `texts` are those that were read of these documents.
    """

    documents: tuple[tuple[str, int], ...]
    scores: Mapping[str, Floats]
    loglikelihoods: tuple[tuple[float, ...], ...] = ()
    sizes: tuple[tuple[int, ...], ...] = ()
    targets: tuple[int, ...] = ()
    weights: Mapping[str, Floats] = field(default_factory=dict)
    texts: tuple[Text | None, ...] = ()

    @property
    def chosen(self) -> list[int]:
        """The choice of each document with the highest log-likelihood."""
        return [each.index(max(each)) for each in self.loglikelihoods]

    @property
    def right_probabilities(self) -> list[float] | None:
        """The probability given to the right choice of each document, as among its choices."""
        if not self.targets:
            return None
        return right_probabilities(self.loglikelihoods, self.targets)

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
            {metric: values[chosen] for metric, values in self.weights.items()},
            some(self.texts),
        )


def read(batches: Sequence[tuple[Path, TaskResult]], *, each: bool = False) -> Answers:
    """The answers to a task in records of one variant, the oldest first.

    A document that was asked twice counts as it was answered last; so the sidecar of a record all
    of whose documents were asked again is not read.

    Args:
        each: whether the answers of each record must make sense alone too; then all are read.
    """
    kept: dict[int, _Row] = {}
    newest = {task.documents_sha256: record for record, task in batches}
    for record, task in batches:
        if not each and record != newest[task.documents_sha256]:
            continue
        own = {int(row["doc"]): row for row in store.read_sidecar(record, task.samples)}
        if each and len(batches) > 1:
            _tell(own, [task])
        kept |= own
    return _tell(kept, [task for _, task in batches])


def _tell(kept: Mapping[int, _Row], tasks: Sequence[TaskResult]) -> Answers:
    """What rows of sidecars say, by the index of their document."""
    rows = [kept[index] for index in sorted(kept)]
    shared = set.intersection(*map(set, {tuple(row) for row in rows})) if rows else set()
    how = {metric.name: metric.aggregation for task in tasks for metric in task.metrics}
    scores: dict[str, Floats] = {}
    weights: dict[str, Floats] = {}
    for name in sorted(shared - _OTHERS):
        found = _scores([row[name] for row in rows], how.get(name))
        if found is not None:
            scores[name] = found[0]
            weights |= {} if found[1] is None else {name: found[1]}
    seen: Counter[str] = Counter()
    documents = []
    for row in rows:
        named = str(row.get("hash"))
        documents.append((named if "hash" in row else str(row["doc"]), seen[named]))
        seen[named] += 1
    texts = tuple(Text(**row["text"]) if row.get("text") else None for row in rows)
    if not {"loglikelihoods", "bytes"} <= shared or min(min(row["bytes"]) for row in rows) <= 0:
        return Answers(tuple(documents), scores, weights=weights, texts=texts)
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
        weights,
        texts,
    )


def _scores(values: Sequence[Any], aggregation: str | None) -> tuple[Floats, Floats | None] | None:
    """Each document's value of a metric, and what it counts; None for what is neither."""
    if _are_numbers(values):
        return np.array(values, dtype=np.float64), None
    if not all(isinstance(each, list) and each and _are_numbers(each) for each in values):
        return None
    if aggregation in _RATIOS:
        if any(len(each) < 2 for each in values):
            return None
        return np.array([each[0] for each in values]), np.array([each[1] for each in values])
    if aggregation != "mean":
        return None
    counts = np.array([len(each) for each in values], dtype=np.float64)
    return np.array([np.mean(each) for each in values]), counts


def of_group(parts: Mapping[str, Answers], alike: Collection[str]) -> Answers:
    """The answers to all tasks of a group as to one.

    Args:
        parts: by the task's name.
        alike: metrics in which each task counts alike, whatever its documents.
    """
    own = list(parts.values())
    shared = set.intersection(*(set(each.scores) for each in own)) if own else set()
    scores = {name: np.concatenate([each.scores[name] for each in own]) for name in shared}
    weights = {}
    for name in shared:
        counts = [each.weights.get(name, np.ones(len(each.documents))) for each in own]
        if name in alike:
            counts = [each / each.sum() for each in counts]
        if name in alike or any(name in each.weights for each in own):
            weights[name] = np.concatenate(counts)
    chosen = all(each.loglikelihoods for each in own)
    return Answers(
        tuple(
            (f"{task}/{document}", seen)
            for task, each in parts.items()
            for document, seen in each.documents
        ),
        scores,
        tuple(row for each in own for row in each.loglikelihoods) if chosen else (),
        tuple(row for each in own for row in each.sizes) if chosen else (),
        tuple(target for each in own for target in each.targets)
        if chosen and all(each.targets for each in own)
        else (),
        weights,
        tuple(text for each in own for text in each.texts),
    )


def score(of: Answers, metric: str, aggregation: str | None) -> float:
    """A metric's value over all documents: see `bench.records.record.Metric`."""
    values, weights = of.scores[metric], of.weights.get(metric)
    if aggregation in _RATIOS and weights is not None:
        nats = -float(values.sum() / weights.sum())
        return math.exp(nats) if aggregation == "weighted perplexity" else nats / math.log(2)
    average = float(np.average(values, weights=weights))
    return math.exp(-average) if aggregation == "perplexity" else average


def paired(one: Answers, other: Answers) -> tuple[Answers, Answers]:
    """Both restricted to the documents that both answered, in one order."""
    if one.documents == other.documents:
        return one, other
    there = set(other.documents)
    common = [document for document in one.documents if document in there]
    if len(common) == len(one.documents) == len(other.documents):
        return one, other.only(common)
    return one.only(common), other.only(common)


def _are_numbers(values: Sequence[object]) -> bool:
    """Whether all are, as JSON has numbers."""
    return {*map(type, values)} <= {int, float}
