"""Which documents are asked, and which of them have answers already."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from bench.config import QualityOptions
from bench.plan import documents
from bench.records import store
from bench.records.store import Found

OPTIONS = st.builds(
    QualityOptions,
    documents=st.integers(1, 300) | st.just("all"),
    selection=st.sampled_from(("random", "first")),
    seed=st.integers(0, 2**31 - 1),
)
SIZES = st.integers(1, 250)


@given(SIZES, OPTIONS)
def test_the_chosen_documents_are_of_the_split_ascending_and_each_once(
    size: int, options: QualityOptions
) -> None:
    chosen = documents.choose(size, options)
    wanted = size if options.documents == "all" else min(size, options.documents)
    assert len(chosen) == wanted
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(size))
    if options.selection == "first" or wanted == size:
        assert chosen == list(range(wanted))


@given(SIZES, OPTIONS, OPTIONS)
def test_only_the_seed_and_the_number_decide(
    size: int, options: QualityOptions, other: QualityOptions
) -> None:
    """Two variants answer the same documents whatever else they are asked with."""
    same = other.model_copy(
        update={name: getattr(options, name) for name in ("documents", "selection", "seed")}
    )
    assert documents.choose(size, options) == documents.choose(size, same)


@given(SIZES, OPTIONS, st.integers(1, 300))
def test_more_documents_include_fewer(size: int, options: QualityOptions, fewer: int) -> None:
    less = options.model_copy(update={"documents": fewer})
    if options.documents != "all" and options.documents < fewer:
        options, less = less, options
    assert set(documents.choose(size, less)) <= set(documents.choose(size, options))


@pytest.mark.parametrize("count", [64, 100, 400, 1_000])
def test_they_are_those_of_records_from_before(count: int) -> None:
    """`random.sample` chose them, of HellaSwag's and as many as were ever asked."""
    sampled = random.Random(1234).sample(range(10_042), count)  # noqa: S311
    assert documents.choose(10_042, QualityOptions(documents=count)) == sorted(sampled)


def test_the_choice_is_the_committed_one_on_every_machine() -> None:
    """Were Python's generator or ours to change, results would silently be of other documents."""
    chosen = documents.choose(10_042, QualityOptions(documents=100))
    digest = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()
    assert chosen[:6] == [94, 122, 239, 259, 285, 316]
    assert digest == "ed2e2a91b7bdbc3fac93f7e80c280f7e058189366046420d284534452332d53e"
    assert chosen != documents.choose(10_042, QualityOptions(documents=100, seed=1))


# -- what is answered --------------------------------------------------------------------------


def spec(tasks: tuple[str, ...] = ("hellaswag",), **more: Any) -> dict[str, Any]:
    options = QualityOptions(tasks=tasks, **more).model_dump(mode="json")
    return {"stage": "quality", "model": {"repo": "x/y"}, "serve": {}, "quality": options}


def record(
    root: Path,
    asked: dict[str, Any],
    indices: dict[str, list[int]],
    *,
    split: int = 100,
    number: int = 0,
) -> Found:
    """A stored record of these documents of these tasks."""
    made, datas = synthetic.quality_record(synthetic.BF16, tasks=tuple(indices), documents=3)
    assert made.quality
    tasks, packed = [], []
    for task, data, chosen in zip(made.quality.tasks, datas, indices.values(), strict=True):
        row = json.loads(gzip.decompress(data))[0]
        sidecar, bytes_ = store.pack_sidecar([{**row, "doc": index} for index in chosen])
        change = {
            "samples": sidecar,
            "documents_effective": len(chosen),
            "documents_original": split,
        }
        tasks.append(task.model_copy(update=change))
        packed.append(bytes_)
    quality = made.quality.model_copy(update={"tasks": tuple(tasks)})
    made = made.model_copy(update={"spec": asked, "quality": quality, "key": f"{number:x}" * 64})
    return store.write(root, made, packed), made


def left(options: QualityOptions, asked: dict[str, Any], found: list[Found]) -> dict[str, set[int]]:
    splits = documents.splits(options, asked, found)
    return {
        name: set(split.missing) for of_asked in splits.values() for name, split in of_asked.items()
    }


def test_batches_add_up_and_only_the_rest_is_missing(tmp_path: Path) -> None:
    options = QualityOptions(documents=6, selection="first")
    asked = spec(documents=6, selection="first")
    found = [
        record(tmp_path, spec(documents=2), {"hellaswag": [0, 4]}, number=1),
        record(tmp_path, spec(seed=9, concurrency=1), {"hellaswag": [1, 99]}, number=2),
    ]
    assert left(options, asked, found) == {"hellaswag": {2, 3, 5}}
    (split,) = documents.splits(options, asked, found)["hellaswag"].values()
    assert (split.size, set(split.answered)) == (100, {0, 1, 4, 99})


def test_answers_to_another_question_count_for_nothing(tmp_path: Path) -> None:
    options = QualityOptions(documents=2, selection="first")
    found = [record(tmp_path, spec(num_fewshot=5), {"hellaswag": [0, 1]})]
    assert documents.splits(options, spec(), found) == {"hellaswag": {}}


def test_a_task_that_nobody_asked_before_is_not_known(tmp_path: Path) -> None:
    options = QualityOptions(tasks=("hellaswag", "arc_easy"), documents=1, selection="first")
    found = [record(tmp_path, spec(), {"hellaswag": [0]})]
    splits = documents.splits(options, spec(options.tasks), found)
    assert splits["arc_easy"] == {}
    assert not splits["hellaswag"]["hellaswag"].missing


def test_a_groups_tasks_are_those_that_its_record_has(tmp_path: Path) -> None:
    options = QualityOptions(tasks=("mmlu", "hellaswag"), documents=2, selection="first")
    asked = spec(("mmlu", "hellaswag"))
    found = [
        record(tmp_path, asked, {"mmlu_law": [0, 1], "mmlu_art": [1], "hellaswag": [0, 1]}),
    ]
    assert left(options, asked, found) == {"mmlu_law": set(), "mmlu_art": {0}, "hellaswag": set()}


def test_no_more_sidecars_are_opened_than_are_needed(tmp_path: Path) -> None:
    """Those of another question, or of a record that holds the whole split, never; and none once
    everything is answered."""
    options = QualityOptions(documents=2, selection="first")
    found = [
        record(tmp_path, spec(num_fewshot=5), {"hellaswag": [0, 1]}, number=1),
        record(tmp_path, spec(), {"hellaswag": [0, 1, 2]}, number=2),
        record(tmp_path, spec(), {"hellaswag": [0, 1]}, number=3),
    ]
    needed = found[1][1].quality
    assert needed
    for path in tmp_path.rglob("*.gz"):
        if path.name != needed.tasks[0].samples.file:
            path.unlink()
    assert left(options, spec(), found) == {"hellaswag": set()}
    whole = record(tmp_path / "whole", spec(), {"hellaswag": [0, 1]}, split=2)
    for path in (tmp_path / "whole").rglob("*.gz"):
        path.unlink()
    assert left(options, spec(), [whole]) == {"hellaswag": set()}


def test_every_committed_record_says_which_documents_it_has() -> None:
    root = Path(__file__).parents[3] / "bench" / "results"
    earlier: dict[tuple[Path, str], frozenset[int]] = defaultdict(frozenset)
    for path, one in store.records(root):  # of one variant, in the order of time
        for task in one.quality.tasks if one.quality else ():
            asked = documents.indices(path, task)
            assert len(asked) == task.documents_effective
            both = asked | earlier[path.parent, task.name]  # or it asked what was missing only
            chosen = [
                frozenset(
                    documents.choose(
                        task.documents_original,
                        QualityOptions(
                            documents=len(each),
                            selection="first" if task.selection == "first" else "random",
                            seed=one.spec["quality"]["seed"],
                        ),
                    )
                )
                for each in (asked, both)
            ]
            assert asked == chosen[0] or both == chosen[1], path
            earlier[path.parent, task.name] = both
    assert earlier


# -- whose text is read --------------------------------------------------------------------------


@given(st.lists(st.tuples(SIZES, OPTIONS), min_size=1, max_size=4), st.integers(1, 60))
def test_the_first_of_all_are_some_of_those_chosen_and_stay_so(
    tasks: list[tuple[int, QualityOptions]], count: int
) -> None:
    sizes = {f"task-{number}": size for number, (size, _) in enumerate(tasks)}
    options = {f"task-{number}": each for number, (_, each) in enumerate(tasks)}
    found = documents.first_of_all(sizes, options, count)
    chosen = {name: set(documents.choose(sizes[name], options[name])) for name in sizes}
    assert all(found[name] <= chosen[name] for name in sizes)
    assert sum(map(len, found.values())) == min(count, sum(map(len, chosen.values())))
    rich = max(map(len, found.values()))
    assert all(len(found[name]) >= rich - 1 or found[name] == chosen[name] for name in sizes), (
        "tasks take turns"
    )
    more = {name: each.model_copy(update={"documents": "all"}) for name, each in options.items()}
    if all(len(chosen[name]) >= count for name in sizes):
        assert documents.first_of_all(sizes, more, count) == found
