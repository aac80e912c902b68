"""Which documents of a task are asked, and which of them are answered already.

Which ones is a matter of the committed seed and the size of the split alone, so two variants always
answer the same ones and their difference is paired; and more of them include fewer, so what was
answered counts on when more are wanted.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import QualityOptions, TaskOptions
from bench.records import store
from bench.records.identity import task_identity
from bench.records.record import Record, TaskResult
from bench.records.store import Found


def choose(size: int, options: QualityOptions) -> list[int]:
    """The indices of the documents to ask, ascending.

    Args:
        size: documents in the split.
        options: how many, and whether by the seed over the whole split or simply the first.
    """
    wanted = size if options.documents == "all" else min(options.documents, size)
    if options.selection == "first" or wanted == size:
        return list(range(wanted))
    return sorted(_drawn(size, wanted, options.seed))


def first_of_all(
    sizes: Mapping[str, int], options: Mapping[str, QualityOptions], count: int
) -> dict[str, frozenset[int]]:
    """Some of the documents to ask, of all tasks together: the first that are chosen of each.

    In turn, one of each task, so that more documents of a task leave the first ones what they are.

    Args:
        sizes: documents in the split, by task.
        options: by task, as `choose` takes them.
        count: how many, at most.
    """
    turns = [
        (turn, place, name, index)
        for place, name in enumerate(sizes)
        for turn, index in enumerate(_first(sizes[name], options[name], count))
    ]
    found: dict[str, set[int]] = {name: set() for name in sizes}
    for _, _, name, index in sorted(turns)[:count]:
        found[name].add(index)
    return {name: frozenset(indices) for name, indices in found.items()}


def _first(size: int, options: QualityOptions, count: int) -> Iterable[int]:
    """The first of the documents to ask, in the order in which they are chosen."""
    wanted = size if options.documents == "all" else min(options.documents, size)
    most = min(count, wanted)
    return range(most) if options.selection == "first" else _drawn(size, most, options.seed)


def of_task(options: QualityOptions, table: TaskOptions) -> QualityOptions:
    """The options with one task's own choice of documents."""
    update = {"documents": table.documents, "selection": table.selection}
    return options.model_copy(update=update)


def _drawn(size: int, count: int, seed: int) -> Iterable[int]:
    """The first of a seeded order of all documents: each is drawn until it is a new one.

    So does `random.sample` where few of many are drawn, which chose the documents of older records;
    where it draws many of few, fewer are not among more.
    """
    generator = random.Random(seed)  # noqa: S311
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[generator.randrange(size)] = None
    return drawn


@dataclass(frozen=True)
class Split:
    """A task's documents: how many it has, how many are wanted, and which were answered already.

    `answered` may hold others than those wanted: of another seed, or asked for once.
    """

    size: int
    wanted: frozenset[int]
    answered: frozenset[int]

    @property
    def missing(self) -> frozenset[int]:
        """Those still to be asked."""
        return self.wanted - self.answered


def splits(
    options: QualityOptions, spec: dict[str, Any], found: Sequence[Found]
) -> dict[str, dict[str, Split]]:
    """What is known of each task that is asked, a group's or a tag's by the tasks in it.

    Opens the sidecars of answers to the same question alone, and none once all that is wanted is
    found.

    Args:
        spec: what is asked today.
        found: the quality records of the variant on this hardware, the newest first.

    Returns:
        By the name that is asked, by lm-eval's name of the single task; nothing in it where no
        record asks the same, as only lm-eval knows how many documents there are.

    Raises:
        ConfigError: a sidecar cannot be read.
    """
    made: dict[str, dict[str, Split]] = {}
    for table in options.asked():
        of_asked = made.setdefault(table.name, {})
        for name, size in _sizes(table.name, spec, found).items():
            wanted = frozenset(choose(size, of_task(options, table)))
            known = answered(name, wanted, spec, found, table.name)
            of_asked[name] = Split(size, wanted, known)
    return made


def _sizes(asked: str, spec: dict[str, Any], found: Sequence[Found]) -> Mapping[str, int]:
    """The size of a task's split, or of each of a group's, as the newest record has them."""
    if not found:
        return {}
    identity = task_identity(spec, asked)
    for _, record in found:
        if record.quality is None or task_identity(record.spec, asked) != identity:
            continue
        names = asked_names(record)
        sizes = {
            task.name: task.documents_original
            for task in record.quality.tasks
            if _brought_by(task, names, asked)
        }
        if sizes:
            return sizes
    return {}


def asked_names(record: Record) -> tuple[str, ...]:
    """The names of tasks, groups and tags that a record's spec asks for."""
    quality = record.spec.get("quality", {})
    return (*quality.get("tasks", ()), *(table["name"] for table in quality.get("task", ())))


def _brought_by(task: TaskResult, names: Sequence[str], asked: str) -> bool:
    """Whether a task is what is asked for, or of it; older records do not say what it is of."""
    if task.asked is not None or task.name in names:
        return asked in (task.name, task.asked)
    return asked in names


def answered(
    name: str,
    wanted: frozenset[int],
    spec: dict[str, Any],
    found: Sequence[Found],
    asked: str | None = None,
) -> frozenset[int]:
    """The documents of a task that records have answers to; no more once it has all wanted.

    Args:
        asked: the name that brought the task, if not its own.

    Raises:
        ConfigError: a sidecar cannot be read.
    """
    identity, known = task_identity(spec, name, asked), frozenset[int]()
    same = [
        (path, task)
        for path, record in found
        for task in (record.quality.tasks if record.quality else ())
        if task.name == name and task_identity(record.spec, name, task.asked) == identity
    ]
    for path, task in sorted(same, key=lambda entry: -entry[1].documents_effective):
        if wanted <= known:
            break
        known |= indices(path, task)
    return known


def indices(path: Path, task: TaskResult) -> frozenset[int]:
    """The documents that a record has of a task; its sidecar is opened unless it has all.

    Args:
        path: the record's.
    """
    if task.documents_effective == task.documents_original:
        return frozenset(range(task.documents_original))
    return frozenset(row["doc"] for row in store.read_sidecar(path, task.samples))
