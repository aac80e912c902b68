"""Which documents are asked, and what is kept of lm-eval's answer."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench_runs import Place
from engines import engine, engine_python

from bench.config import Generation, QualityOptions, TaskOptions
from bench.demo import datasets
from bench.engine.installed import Engine
from bench.errors import ConfigError, MeasurementError
from bench.measure import quality, worker
from bench.measure.client import Client
from bench.measure.tasks import TaskData, Tasks, requests
from bench.records import store
from bench.records.record import Record, canonical_json

__all__ = ["engine", "engine_python"]  # fixtures
DATA = TaskData(10_042, "Rowan/hellaswag", "hellaswag", revision="a" * 40)
TABLE = TaskOptions(name="hellaswag")


def document(index: int, *, acc: float, target: int | None = 0) -> dict[str, Any]:
    row = {
        "doc": index,
        "hash": hashlib.sha256(str(index).encode()).hexdigest(),
        "metrics": {"acc": acc, "acc_norm": acc},
        "loglikelihoods": [-1.5, -2.0, -3.25, -4.0],
        "bytes": [10, 11, 12, 13],
    }
    return row if target is None else {**row, "target": target}


def metric(value: float = 0.5, stderr: float | None = 0.5) -> dict[str, Any]:
    """What the worker says of a share."""
    return {
        "value": value,
        "stderr": stderr,
        "higher_is_better": True,
        "unit": "share",
        "aggregation": "mean",
    }


def answer(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """What the worker answers for one task."""
    return {
        "output_type": "multiple_choice",
        "version": 1.0,
        "config": {
            "task": "hellaswag",
            "num_fewshot": 0,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"validation": "/home/me/x.jsonl"}},
            "metadata": {"version": 1.0, "base_url": "http://127.0.0.1:1"},
            "process_docs": ["utils", "process_docs", "def process_docs(): ..."],
        },
        "n-samples": {"original": 10_042, "effective": len(documents)},
        "metrics": {"acc": metric(), "acc_norm": metric(stderr=None)},
        "documents": documents,
    }


def kept(
    documents: list[dict[str, Any]], options: QualityOptions, **changes: Any
) -> tuple[Any, bytes]:
    given_answer = {**answer(documents), **changes}
    indices = [row["doc"] for row in documents]
    [table] = options.asked()
    return quality._task_result("hellaswag", [given_answer], indices, options, table, DATA)


def test_a_task_is_kept_with_every_documents_outcome(tmp_path: Path) -> None:
    documents = [document(3, acc=1.0), document(17, acc=0.0)]
    options = QualityOptions(documents=2)
    task, data = kept(documents, options)
    assert (task.name, task.version, task.num_fewshot) == ("hellaswag", "1.0", 0)
    assert (task.dataset, task.dataset_revision) == ("Rowan/hellaswag", "a" * 40)
    assert (task.documents_original, task.documents_effective) == (10_042, 2)
    assert (task.selection, task.selection_seed, task.choices) == ("random", 1234, 4)
    assert [each.model_dump() for each in task.metrics] == [
        {"name": "acc", **metric(), "by_seed": ()},
        {"name": "acc_norm", **metric(stderr=None), "by_seed": ()},
    ]
    assert (task.asked, task.output_type, task.sampling_seeds) == (
        "hellaswag",
        "multiple_choice",
        (),
    )
    path = tmp_path / "record.json"
    path.with_name(task.samples.file).write_bytes(data)
    assert store.read_sidecar(path, task.samples) == [
        {
            "doc": row["doc"],
            "hash": row["hash"],
            "target": 0,
            "loglikelihoods": row["loglikelihoods"],
            "bytes": row["bytes"],
            **row["metrics"],
        }
        for row in documents
    ]


@pytest.mark.parametrize(
    ("options", "original", "selection", "seed"),
    [
        (QualityOptions(documents=2, selection="first"), 10_042, "first", None),
        (QualityOptions(documents=2), 2, "all", None),
        (QualityOptions(documents="all"), 2, "all", None),
        (QualityOptions(documents=2, seed=7), 3, "random", 7),
    ],
)
def test_how_documents_were_chosen_is_said_as_it_was(
    options: QualityOptions, original: int, selection: str, seed: int | None
) -> None:
    documents = [document(0, acc=1.0), document(1, acc=0.0)]
    counts = {"original": original, "effective": 2}
    task, _ = kept(documents, options, **{"n-samples": counts})
    assert (task.selection, task.selection_seed) == (selection, seed)


def test_the_examples_shown_are_those_that_lm_eval_showed() -> None:
    """TruthfulQA, for one, has its examples in its prompt and takes no others."""
    task, _ = kept([document(0, acc=1.0)], QualityOptions(documents=1, num_fewshot=5))
    assert task.num_fewshot == 0


def test_the_hashes_are_of_what_is_the_same_on_every_machine() -> None:
    documents = [document(0, acc=1.0), document(1, acc=0.0)]
    task, _ = kept(documents, QualityOptions(documents=2))
    elsewhere = answer(documents)["config"]
    elsewhere["dataset_kwargs"] = {"data_files": {"validation": "C:/x.jsonl"}}
    elsewhere["metadata"] = {}
    other, _ = kept(documents, QualityOptions(documents=2), config=elsewhere)
    assert other.config_sha256 == task.config_sha256
    elsewhere["doc_to_text"] = "other"
    other, _ = kept(documents, QualityOptions(documents=2), config=elsewhere)
    assert other.config_sha256 != task.config_sha256
    changed = [document(0, acc=1.0), {**document(1, acc=0.0), "hash": "0" * 64}]
    other, _ = kept(changed, QualityOptions(documents=2))
    assert other.documents_sha256 != task.documents_sha256
    wrong = [document(0, acc=0.0), document(1, acc=0.0)]
    other, _ = kept(wrong, QualityOptions(documents=2))
    assert other.documents_sha256 == task.documents_sha256, "the same questions, other answers"


@pytest.mark.parametrize("answered", [[0], [1, 0], [0, 2], [0, 1, 2]])
def test_other_documents_than_asked_fail_the_stage(answered: list[int]) -> None:
    documents = [document(index, acc=1.0) for index in answered]
    told = f"asked 2 documents, lm-eval answered {len(answered)}"
    with pytest.raises(MeasurementError, match=told):
        quality._task_result(
            "hellaswag", [answer(documents)], [0, 1], QualityOptions(documents=2), TABLE, DATA
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_fails_the_stage(bad: float) -> None:
    options = QualityOptions(documents=1)
    for row in (
        {**document(5, acc=1.0), "loglikelihoods": [-1.0, bad]},
        document(5, acc=bad),
    ):
        with pytest.raises(MeasurementError, match="hellaswag: document 5 has a value that is not"):
            kept([row], options)
    with pytest.raises(MeasurementError, match=r"lm-eval gave .* for acc"):
        kept([document(5, acc=1.0)], options, metrics={"acc": metric(bad)})


def test_tasks_with_other_numbers_of_choices_have_no_number() -> None:
    documents = [document(0, acc=1.0), {**document(1, acc=0.0), "loglikelihoods": [-1.0, -2.0]}]
    assert kept(documents, QualityOptions(documents=2))[0].choices is None


# -- the stage with the stand-in engine ---------------------------------------------------------


def run(folder: Path, python: Path, mode: str) -> tuple[int, str, Record]:
    """`bench run` of one quality stage: the exit status, what was said, the record."""
    place = Place(folder, python)
    asked = ("--variants", "A", "--stages", "quality")
    status, said = place.run(*asked, VLLM_STANDIN_MODE=mode)
    place.check_nothing_left()
    [(_, record)] = store.records(place.results)
    return status, said, record


def test_a_prompt_that_does_not_fit_fails_the_stage(engine_python: Path, tmp_path: Path) -> None:
    status, said, record = run(tmp_path, engine_python, "long")
    assert status == 6
    assert "error: 4 prompts do not fit in 1024 tokens and would be cut" in said
    assert "fix: raise max_model_len in models.toml" in said
    assert record.quality is None
    assert record.error is not None
    assert record.error.kind == "MeasurementError"


def test_a_server_without_logprobs_of_prompts_costs_the_fidelity_only(
    engine_python: Path, tmp_path: Path
) -> None:
    status, said, record = run(tmp_path, engine_python, "no-logprobs")
    assert status == 0, said
    assert "A: recorded without fidelity: the server gave no log-probabilities" in said
    assert (record.status, record.error) == ("ok", None)
    assert record.quality is not None
    assert record.quality.fidelity is None
    assert record.quality.tasks[0].documents_effective == 4


def test_a_server_that_dies_at_the_fixed_text_failed(engine_python: Path, tmp_path: Path) -> None:
    status, said, record = run(tmp_path, engine_python, "dies-at-logprobs")
    assert status == 5
    assert "the vLLM server ended by signal 9" in said
    assert record.error is not None
    assert record.error.kind == "ServerError"


# -- tasks -------------------------------------------------------------------------------------


def test_the_hubs_tasks_are_asked_for_as_they_are() -> None:
    options = QualityOptions(
        tasks=("hellaswag", "piqa"),
        task=(TaskOptions(name="gsm8k", generation=Generation(temperature=0.5)),),
    )
    assert requests(options) == {
        "hellaswag": {"num_fewshot": 0},
        "piqa": {"num_fewshot": 0},
        "gsm8k": {"num_fewshot": None, "generation": {"temperature": 0.5}},
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (QualityOptions(data="bundled", tasks=("gsm8k",)), "has no documents of gsm8k"),
        (QualityOptions(data="bundled", tasks=("mmlu", "mmlu_pro")), "documents of mmlu_pro_biol"),
        (QualityOptions(data="bundled", num_fewshot=5), "to take examples for hellaswag from"),
    ],
)
def test_the_bundled_data_is_refused_for_what_it_cannot_serve(
    options: QualityOptions, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        requests(options)
    assert 'data = "hub"' in refused.value.fix


def test_the_bundled_data_serves_groups_and_has_examples_for_mmlu() -> None:
    datasets.check(QualityOptions(data="bundled", tasks=("hellaswag", "ai2_arc", "triviaqa")))
    datasets.check(QualityOptions(data="bundled", tasks=("mmlu",), num_fewshot=5))


@pytest.mark.parametrize("name", ["empty", "unknown"])
def test_a_name_that_loads_no_task_is_refused(name: str, engine: Engine, tmp_path: Path) -> None:
    with Client(engine, {}, tmp_path / "client.log") as client:
        loading = Tasks(client)
        loading.load(QualityOptions(tasks=(name,)))
        with pytest.raises(MeasurementError, match=f"Error: .*{name}") as refused:
            loading.wait()
    assert "names that `lm_eval ls tasks` shows" in refused.value.fix


CONFIGURATION = """
import json, runpy, sys, standin_engine
worker = runpy.run_path(sys.argv[1], run_name="worker")
print(json.dumps(worker["configuration"](standin_engine.Task())))
"""


def test_a_configuration_is_the_same_in_every_process_and_folder(
    engine_python: Path, tmp_path: Path
) -> None:
    """Whatever addresses its functions have, how sets are ordered, and where the data lies."""
    told = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        padding = f"x = [bytearray(1) for _ in range({number * 10_000})]\n"
        done = subprocess.run(
            [engine_python, "-c", padding + CONFIGURATION, worker.__file__],
            env={"PYTHONHASHSEED": str(number)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(json.loads(done.stdout))
    assert len({canonical_json(quality._portable(one)) for one in told}) == 1
    assert len({canonical_json(one) for one in told}) == 3, "the folders differ"
    assert " at 0x" not in json.dumps(told)
    for within in (told[0], told[0]["fewshot_config"]):
        module, name, source = within["process_docs"]
        assert (module, name) == ("standin_engine", "_process")
        assert "for document in documents" in source
        assert within["doc_to_text"]["by name"] == {"subject": "law"}
