"""The worker with the real lm-eval: which data its tasks read, and prompts that do not fit."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import hub_server
import local_server
import pytest
from folders import ROOT
from targets import target

from bench.config import QualityOptions
from bench.engine import installed
from bench.errors import MeasurementError
from bench.measure import quality, run, tasks, worker
from bench.measure.client import Client
from bench.modelsfile import problems

pytestmark = pytest.mark.engine

SPLITS = ("train", "validation", "test", "dev")


def ask(client: Client, command: str, **request: Any) -> dict[str, Any]:
    """A request and its answer."""
    client.send(command, **request)
    return client.receive()


# -- which data ----------------------------------------------------------------------------------


def data_set(configurations: list[str], row: dict[str, Any]) -> hub_server.Repo:
    """A data set of three such rows in every split of every configuration."""
    card = ["---", "configs:"]
    files = {}
    for name in configurations:
        card += [f"- config_name: {name}", "  data_files:"]
        for split in SPLITS:
            card += [f"  - split: {split}", f"    path: {name}-{split}.jsonl"]
            files[f"{name}-{split}.jsonl"] = (json.dumps(row) + "\n") * 3
    return hub_server.Repo.of({"README.md": "\n".join([*card, "---"]), **files})


def own_tasks(pattern: str) -> list[Path]:
    """Files of lm-eval's own tasks."""
    site = installed.ensure("cpu").python.parent.parent
    return sorted(site.glob(f"lib/*/site-packages/lm_eval/tasks/{pattern}"))


@pytest.fixture(scope="module")
def hub() -> Iterator[hub_server.Hub]:
    """Data sets of a tag, a group, and a task with data set options of its own."""
    subjects = [path.stem.removeprefix("mmlu_") for path in own_tasks("mmlu/default/mmlu_*.yaml")]
    row: dict[str, Any] = {"question": "What?", "choices": ["a", "b", "c", "d"], "answer": 1}
    choices = {"text": ["a", "b"], "label": ["A", "B"]}
    arc = {"id": "1", "question": "What?", "choices": choices, "answerKey": "A"}
    csv = "question,choice1,choice2,choice3,choice4,answer\n" + "What?,one,two,three,four,B\n" * 5
    names = [
        f"answer_only_{split}/answer_only_{subject}_{split}.csv"
        for split in ("dev", "test")
        for subject in ("anatomy", "astronomy")
    ]
    repos = {
        "cais/mmlu": data_set(subjects, row),
        "allenai/ai2_arc": data_set(["ARC-Easy", "ARC-Challenge"], arc),
        "NiniCat/MMLU-SR": hub_server.Repo.of(dict.fromkeys(names, csv)),
    }
    with hub_server.serve({f"datasets/{name}": repo for name, repo in repos.items()}) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub: hub_server.Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A worker whose Hub is that one."""
    folder = tmp_path_factory.mktemp("worker")
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "0"}
    environment["NO_PROXY"] = "127.0.0.1,localhost"
    with Client(installed.ensure("cpu"), environment, folder / "client.log") as client:
        yield client


def test_every_task_of_a_group_and_of_a_tag_is_pinned(client: Client, hub: hub_server.Hub) -> None:
    loaded = ask(client, "prepare_quality", tasks={"mmlu": {}, "ai2_arc": {}})
    names = {path.stem for path in own_tasks("mmlu/default/mmlu_*.yaml")}
    assert len(names) == 57
    assert loaded == {
        name: {
            "documents": 3,
            "dataset": dataset,
            "revision": hub.repos[f"datasets/{dataset}"].commit,
            "asked": asked,
        }
        for asked, dataset, tasks in (
            ("mmlu", "cais/mmlu", names),
            ("ai2_arc", "allenai/ai2_arc", {"arc_easy", "arc_challenge"}),
        )
        for name in tasks
    }
    for dataset in ("cais/mmlu", "allenai/ai2_arc"):
        commit = hub.repos[f"datasets/{dataset}"].commit
        newest = [path for _, path, _, _ in hub.requests if path == f"/api/datasets/{dataset}"]
        pinned = hub.asked(f"/api/datasets/{dataset}/revision/{commit}")
        assert len(newest) == 1, "lm-eval was left to look for the newest commit itself"
        assert pinned


def test_a_tasks_own_data_set_options_are_kept(client: Client, hub: hub_server.Hub) -> None:
    """This one's say which files are its own, out of many subjects'."""
    task = "mmlusr_answer_only_anatomy"
    commit = hub.repos["datasets/NiniCat/MMLU-SR"].commit
    loaded = ask(client, "prepare_quality", tasks={task: {}})
    found = {"documents": 5, "dataset": "NiniCat/MMLU-SR", "revision": commit, "asked": task}
    assert loaded == {task: found}


def test_what_lm_eval_does_not_know_is_refused(client: Client) -> None:
    with pytest.raises(MeasurementError, match="'nothing' is not a registered task/group/tag name"):
        ask(client, "prepare_quality", tasks={"nothing": {}})


# -- prompts that do not fit ---------------------------------------------------------------------

WORDS = "one two three four five six seven eight nine ten " * 20  # 200 tokens


@contextmanager
def completions() -> Iterator[tuple[str, list[list[int]]]]:
    """An endpoint that speaks /v1/completions, and the prompts that it is sent."""
    prompts: list[list[int]] = []

    class Handler(local_server.Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            [prompt] = asked["prompt"]
            prompts.append(prompt)
            logprobs = [-1.0] * (len(prompt) + 1)
            top = [{"x": -1.0}] * len(logprobs)
            given = {"token_logprobs": logprobs, "top_logprobs": top}
            answer = {"choices": [{"index": 0, "text": "#### 3", "logprobs": given}]}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with local_server.serving(Handler) as url:
        yield url, prompts


HELLASWAG = {"activity_label": "Baking", "ctx_b": "", "endings": ["a", "b", "c", "d"], "label": "0"}
LONG_AND_SHORT: dict[str, list[dict[str, Any]]] = {
    "hellaswag": [{**HELLASWAG, "ctx_a": text} for text in (WORDS, "She mixes.")],
    "gsm8k": [{"question": text, "answer": "#### 3"} for text in (WORDS, "1 + 2?")],
}


@pytest.mark.parametrize(
    ("task", "fitting", "short", "cut", "prompts"),
    [
        ("hellaswag", 512, 128, 4, 8),  # a prompt for each of four endings
        ("gsm8k", 512, 448, 1, 2),  # lm-eval leaves room for 256 new tokens
    ],
)
def test_prompts_that_do_not_fit_are_counted_and_not_sent(
    client: Client, tmp_path: Path, task: str, fitting: int, short: int, cut: int, prompts: int
) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in LONG_AND_SHORT[task]))
    files = {task: dict.fromkeys(SPLITS, str(file))}
    loaded = ask(client, "prepare_quality", tasks={task: {"files": files, "num_fewshot": 0}})
    assert loaded == {task: {"documents": 2, "dataset": "json", "revision": None, "asked": task}}
    variant = problems.load_experiment(ROOT / "bench/demo/models.toml").variant[0]
    ready = run.prepare_checkpoint(variant, installed.ensure("cpu"), [str(variant.bundled)], print)
    with completions() as (url, sent):
        options = QualityOptions(tasks=(task,), documents="all")
        for max_model_len, expected in ((short, cut), (fitting, 0)):
            asked = quality.request(
                target(url, "model", ready.tokenizer),
                options,
                {task: options.asked()[0]},
                {task: [0, 1]},
                max_model_len,
            )
            answer = ask(client, "quality", **asked)
            assert answer["truncated"] == expected
            assert len(sent) == (0 if expected else prompts)
    assert max(map(len, sent)) > 200
    [told] = answer["rounds"]
    assert told["tasks"][task]["config"]["num_fewshot"] == 0


# -- what a task's configuration is --------------------------------------------------------------

TOLD = """
import json, runpy, sys
worker = runpy.run_path(sys.argv[1], run_name="worker")
worker["prepare_quality"]({"tasks": json.loads(sys.argv[2])})
print(json.dumps(worker["configuration"](worker["_tasks"]["hellaswag"])))
"""


def test_a_configuration_is_the_same_in_every_process_and_folder(tmp_path: Path) -> None:
    options = problems.load_experiment(ROOT / "tests" / "real" / "models.toml").quality
    told = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = subprocess.run(
            [
                *(installed.ensure("cpu").python, "-c", TOLD, worker.__file__),
                json.dumps(tasks.requests(options)),
            ],
            env={**os.environ, "PYTHONHASHSEED": str(number), "HF_HUB_OFFLINE": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(quality._portable(json.loads(done.stdout.splitlines()[-1])))
    assert told[0] == told[1]
    assert "def process_docs" in told[0]["fewshot_config"]["process_docs"][2]
