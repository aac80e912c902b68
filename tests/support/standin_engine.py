"""An engine environment without vLLM: the same programs, the same protocol, in a blink.

`make` builds a virtual environment whose `importlib.metadata` knows vllm and lm_eval and whose
modules of those names are this file. So the tool runs its real way through real processes:
`python -m vllm.entrypoints.cli.main serve …` is a server that speaks /health, /metrics, /v1/models
and /v1/completions, has an engine process of its own and shared memory, and the tool's own worker
finds `vllm.benchmarks.serve.main` and `lm_eval.simple_evaluate`. Latencies are measured, answers
are those that SmolLM2-135M gave in BF16 (100 documents of HellaSwag, seed 1234).

What it does is told by the environment, by names that a server's environment keeps:
    VLLM_STANDIN       a folder; every moment is appended to its file `moments` as "NAME PID". Where
                       a file `hold-NAME` is in it, the moment lasts until that file is gone; with
                       `hold-NAME-N` only the Nth such moment of a process does.
    VLLM_STANDIN_MODE  words out of: dies, never-healthy, deaf (ignores SIGTERM), detached (the
                       engine process leads a session of its own), long (a prompt has more tokens
                       than fit), no-logprobs (of prompts), dies-at-logprobs, nan-later (once it
                       has worked).

Standard library only: this file runs as it is inside that environment.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import math
import mmap
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
import venv
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

VLLM, LM_EVAL = "0.32.0+cpu", "0.4.13"
SEGMENT = "psm_standin_"  # what the names of its shared memory begin with
HERE = Path(__file__).parent
RECORDED = ("vllm-0.32.0-cpu-bf16.log", "vllm-0.32.0-cpu-died.log", "vllm-0.32.0-cpu.metrics")
ANSWERS = "hellaswag-bf16.json.gz"
_moments: Counter[str] = Counter()
_MODULES = {
    "vllm/entrypoints/cli/main.py": "from standin_engine import serve\nserve()",
    "vllm/benchmarks/serve.py": "from standin_engine import add_cli_args, bench as main",
    "vllm/utils/argparse_utils.py": "from argparse import ArgumentParser as FlexibleArgumentParser",
    "lm_eval/__init__.py": "from standin_engine import simple_evaluate",
    "lm_eval/tasks.py": "from standin_engine import TaskManager",
    "lm_eval/api/task.py": "from standin_engine import Task as ConfigurableTask",
    "lm_eval/api/registry.py": "AGGREGATION_REGISTRY = {}",
    "lm_eval/models/utils.py": "postprocess_generated_text = None\n"
    "def has_bos_prefix(*_): return False",
    "lm_eval/models/openai_completions.py": "from standin_engine import LocalCompletionsAPI",
    "huggingface_hub/__init__.py": "from standin_engine import HfApi",
    "huggingface_hub/errors.py": "from standin_engine import OfflineModeIsEnabled\n"
    "from standin_engine import RepositoryNotFoundError",
}


def make(folder: Path) -> Path:
    """Makes the environment and returns its Python, for BENCH_ENGINE_PYTHON."""
    venv.EnvBuilder(symlinks=True).create(folder)
    site = next(folder.glob("lib/python*/site-packages"))
    shutil.copy(__file__, site / "standin_engine.py")
    for name in (*RECORDED, ANSWERS):
        shutil.copy(HERE.parent / "recorded" / name, site / name)
    for name, text in _MODULES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text + "\n")
    for name, version in (("vllm", VLLM), ("lm_eval", LM_EVAL)):
        (site / f"{name}-{version}.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (site / f"{name}-{version}.dist-info" / "METADATA").write_text(metadata)
    return folder / "bin" / "python"


def make_server(folder: Path, python: Path) -> Path:
    """Makes a Python like another's environment, whose vLLM alone is this file's.

    So it is the real lm-eval that asks. `VLLM_STANDIN` has a file `answers.json` then: for each
    model's name the log-probability of every token, and what is written after which words.
    """
    site = folder / "site"
    for name in [name for name in _MODULES if name.startswith("vllm/")]:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(_MODULES[name] + "\n")
        for package in (site / name).relative_to(site).parents[:-1]:
            (site / package / "__init__.py").touch()
    shutil.copy(__file__, site / "standin_engine.py")
    for name in RECORDED:
        shutil.copy(HERE.parent / "recorded" / name, site / name)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {python} "$@"\n')
    program.chmod(0o755)
    return program


def moment(name: str) -> None:
    """Says that this moment has come, and stays in it for as long as the test wants."""
    _moments[name] += 1
    if folder := os.environ.get("VLLM_STANDIN"):
        with Path(folder, "moments").open("a") as file:
            file.write(f"{name} {os.getpid()}\n")
        holds = [Path(folder, f"hold-{name}"), Path(folder, f"hold-{name}-{_moments[name]}")]
        while any(hold.exists() for hold in holds):
            time.sleep(0.02)


def mode(word: str) -> bool:
    """Whether VLLM_STANDIN_MODE has this word."""
    return word in os.environ.get("VLLM_STANDIN_MODE", "").split()


# -- vllm serve ----------------------------------------------------------------------------------


def serve() -> None:
    """`vllm serve MODEL …`: logs as vLLM did, starts an engine process, answers until SIGTERM."""
    parser = argparse.ArgumentParser()
    for name in ("--served-model-name", "--host"):
        parser.add_argument(name)
    parser.add_argument("--port", type=int)
    parser.add_argument("--max-model-len", type=int, default=1024)
    options, _ = parser.parse_known_args(sys.argv[2:])
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode("deaf") else lambda *_: sys.exit(0))
    segment = Path("/dev/shm", f"{SEGMENT}{os.getpid()}")
    _map(segment)
    core = subprocess.Popen(
        [sys.executable, "-c", f"import standin_engine as s; s.core({str(segment)!r})"],
        start_new_session=mode("detached"),
    )
    try:
        print((HERE / RECORDED[0]).read_text(), file=sys.stderr, flush=True)
        moment("start")
        if mode("dies"):
            sys.exit((HERE / RECORDED[1]).read_text())
        while mode("never-healthy"):
            time.sleep(1)
        server = ThreadingHTTPServer((options.host, options.port), Handler)
        server.daemon_threads = True
        server.name = options.served_model_name  # type: ignore[attr-defined]
        server.max_model_len = options.max_model_len  # type: ignore[attr-defined]
        server.serve_forever(0.05)
    finally:  # as vLLM does, unless it is killed
        core.kill()
        core.wait()
        segment.unlink()


def core(segment: str) -> None:
    """The engine process: like vLLM's it does not notice when its parent is killed."""
    mapped = _map(Path(segment))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode("deaf") else signal.SIG_DFL)
    moment("core")
    while mapped:
        time.sleep(1)


def _map(segment: Path) -> mmap.mmap:
    with segment.open("a+b") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)


class Handler(BaseHTTPRequestHandler):
    """The part of vLLM's HTTP interface that the tool and its clients use."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    prompt_tokens = generation_tokens = 0

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002
        """Access logs are off."""

    def do_GET(self) -> None:
        """/health, /metrics, /v1/models."""
        if self.path == "/metrics":
            self.reply(self.metrics())
        elif self.path == "/v1/models":
            name = self.server.name  # type: ignore[attr-defined]
            length = self.server.max_model_len  # type: ignore[attr-defined]
            self.reply(json.dumps({"data": [{"id": name, "max_model_len": length}]}))
        else:
            self.reply("", 200 if self.path == "/health" else 404)

    def metrics(self) -> str:
        """Recorded metrics with today's counts."""
        text = (HERE / RECORDED[2]).read_text()
        counts = {
            "prompt_tokens": self.prompt_tokens,
            "generation_tokens": self.generation_tokens,
            "prefix_cache_queries": self.prompt_tokens,
            "prefix_cache_hits": 0,
        }
        for name, count in counts.items():
            text = re.sub(rf"(?m)^(vllm:{name}_total{{.*}}) .*$", rf"\g<1> {count}.0", text)
        return text

    def do_POST(self) -> None:
        """/v1/completions of a prompt as text or as token ids."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "prompt_logprobs" in asked and mode("dies-at-logprobs"):
            os.kill(os.getpid(), signal.SIGKILL)
        if "logprobs" in asked and mode("nan-later") and self.generation_tokens > 50:
            self.reply('{"error": {"message": "not JSON compliant: nan"}}', 400)
            return
        prompt = asked["prompt"]
        if isinstance(prompt, list) and isinstance(prompt[0], list):
            self.reply(
                json.dumps({"choices": [self.choice(asked, *one) for one in enumerate(prompt)]})
            )
            return
        tokens = prompt if isinstance(prompt, list) else [len(word) for word in prompt.split()]
        with self.lock:
            Handler.prompt_tokens += len(tokens)
            Handler.generation_tokens += asked["max_tokens"]
        logprobs = [None] + [
            {str(token): {"logprob": -0.5 * token, "rank": 1}} for token in tokens[1:]
        ]
        given = None if mode("no-logprobs") else logprobs
        choice = {"text": "", "prompt_token_ids": tokens, "prompt_logprobs": given}
        self.reply(json.dumps({"choices": [choice]}))

    def choice(self, asked: dict[str, Any], index: int, tokens: list[int]) -> dict[str, Any]:
        """The answer to one of lm-eval's prompts, whose tokens are the bytes of a text."""
        told = json.loads(Path(os.environ["VLLM_STANDIN"], "answers.json").read_text())
        own = told[asked["model"]]
        text = bytes(token for token in tokens if token < 256).decode()
        last = max(own["writes"], key=text.rfind)  # the question stands after its examples
        given = [own["each"]] * (len(tokens) + 1)
        logprobs = {"token_logprobs": given, "top_logprobs": [{"x": each} for each in given]}
        return {"index": index, "text": own["writes"][last], "logprobs": logprobs}

    def reply(self, text: str, status: int = 200) -> None:
        """Sends an answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def _ask(url: str, tokens: int, max_tokens: int) -> float:
    """Seconds that one completion took."""
    body = {"prompt": list(range(1, tokens + 1)), "max_tokens": max_tokens}
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}/v1/completions", json.dumps(body).encode()) as answer:  # noqa: S310
        answer.read()
    return time.perf_counter() - began


# -- vllm bench serve ----------------------------------------------------------------------------


def add_cli_args(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vllm bench serve` that the tool gives."""
    for name in ("random-input-len", "random-output-len", "num-prompts", "seed"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("backend", "endpoint", "model", "tokenizer", "dataset-name", "temperature"):
        parser.add_argument(f"--{name}")
    for name in ("base-url", "request-rate", "percentile-metrics", "metric-percentiles"):
        parser.add_argument(f"--{name}")
    for name in ("ready-check-timeout-sec", "num-warmups"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("ignore-eos", "save-detailed", "disable-tqdm"):
        parser.add_argument(f"--{name}", action="store_true")


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """What `vllm bench serve` gives: requests that fail are counted, not raised."""
    moment("speed")
    took: list[float] = []
    began = time.perf_counter()
    for _ in range(args.num_prompts):
        try:
            took.append(_ask(args.base_url, args.random_input_len, args.random_output_len))
        except OSError as error:
            print(f"request failed: {error}", file=sys.stderr)
    duration = time.perf_counter() - began
    each = args.random_output_len
    ttfts = [seconds / each for seconds in took]
    itls = [[seconds / each] * (each - 1) for seconds in took]
    result: dict[str, Any] = {
        "duration": duration,
        "completed": len(took),
        "failed": args.num_prompts - len(took),
        "total_input_tokens": len(took) * args.random_input_len,
        "total_output_tokens": len(took) * each,
        "request_throughput": len(took) / duration,
        "output_throughput": len(took) * each / duration,
        "total_token_throughput": len(took) * (each + args.random_input_len) / duration,
        "ttfts": ttfts,
        "itls": itls,
        "output_lens": [each] * len(took),
        "generated_texts": [""] * len(took),
    }
    per_token = ttfts or [0.0]
    for name, values in (("ttft", per_token), ("tpot", per_token), ("itl", per_token)):
        result |= _summary(name, values)
    return result | _summary("e2el", took or [0.0])


def _summary(name: str, seconds: list[float]) -> dict[str, float]:
    ordered = [1000 * value for value in sorted(seconds)]

    def percentile(percent: float) -> float:
        return ordered[math.ceil(percent / 100 * len(ordered)) - 1]

    return {
        f"mean_{name}_ms": statistics.mean(ordered),
        f"median_{name}_ms": statistics.median(ordered),
        f"std_{name}_ms": statistics.pstdev(ordered),
        **{f"p{percent}_{name}_ms": percentile(percent) for percent in (50, 90, 99)},
    }


# -- lm-eval and the Hub -------------------------------------------------------------------------


class OfflineModeIsEnabled(Exception):  # noqa: N818
    """The Hub may not be asked."""


class RepositoryNotFoundError(Exception):
    """The Hub does not have it."""


def _process(documents: Any, subject: str = "") -> Any:
    return [document for document in documents if subject in document]


class Task:
    """HellaSwag as lm-eval holds it once it is loaded."""

    class config:  # noqa: N801
        task = "hellaswag"
        dataset_path = "Rowan/hellaswag"
        custom_dataset = None
        process_results = None
        target_delimiter = " "

        @staticmethod
        def to_dict(*, keep_callable: bool) -> dict[str, Any]:
            """With functions as lm-eval has them: by themselves, prepared, and within others."""
            assert keep_callable
            prepared = functools.partial(_process, subject="law")
            return {
                "task": "hellaswag",
                "num_fewshot": 0,
                "dataset_kwargs": {"data_files": str(Path.cwd())},
                "process_docs": _process,
                "doc_to_text": prepared,
                "fewshot_config": {"process_docs": _process, "doc_to_text": prepared},
                "metric_list": [{"metric": "acc", "aggregation": max, "words": {"a", "b", "c"}}],
            }

    DATASET_PATH = config.dataset_path
    OUTPUT_TYPE = "multiple_choice"
    eval_docs = range(10_042)
    multiple_input = 0
    task_name = config.task

    def get_config(self, _: str) -> None:
        """It says nothing of examples."""

    def set_config(self, key: str, value: Any) -> None:
        """Takes the examples that are asked for."""

    def set_fewshot_seed(self, *, seed: int) -> None:
        """It has no examples to draw."""

    def build_all_requests(self, **_: Any) -> None:
        """Four endings of one document."""
        self.instances = [
            argparse.Namespace(request_type="loglikelihood", doc={}) for _ in range(4)
        ]

    def apply_filters(self) -> None:
        """Takes the first response."""
        for instance in self.instances:
            instance.filtered_resps = {"none": instance.resps[0]}

    def process_results(self, _: Any, answers: list[Any]) -> dict[str, float]:
        """Right where the first ending is the likeliest."""
        right = float(max(answers) == answers[0])
        return {"acc": right, "acc_norm": right}

    def doc_to_text(self, document: dict[str, int]) -> str:
        """A question of some words."""
        return " ".join("x" * (1 + document["ind"] % length) for length in range(1, 9))

    def doc_to_choice(self, _: Any) -> list[str]:
        """Four endings."""
        return ["one", "two words", "three of them", "four"]

    def doc_to_target(self, document: dict[str, int]) -> int:
        """The right ending."""
        return document["ind"] % 4

    def aggregation(self) -> dict[str, Any]:
        """As lm-eval's."""
        return {"acc": statistics.mean, "acc_norm": statistics.mean}

    def higher_is_better(self) -> dict[str, bool]:
        """As lm-eval's."""
        return {"acc": True, "acc_norm": True}

    def __init__(self) -> None:
        self.download(None)

    def download(self, dataset_kwargs: dict[str, Any] | None) -> None:
        """There is nothing to fetch."""


class TaskManager:
    """Knows one task, and a group without any."""

    task_index = MappingProxyType[str, Any](
        {"hellaswag": argparse.Namespace(yaml_path="hellaswag.yaml", cfg=None)}
    )

    def load(self, names: list[Any]) -> dict[str, Any]:
        """The tasks asked for; the name may be a file that includes lm-eval's own."""
        moment("prepare")
        if names == ["empty"]:
            return {"tasks": {}}
        if "hellaswag" not in str(names[0]):
            raise KeyError(names[0])
        return {"tasks": {"hellaswag": Task()}}


class HfApi:
    """The Hub's commit of the data set."""

    def dataset_info(self, _: str, **__: Any) -> Any:
        """With a revision."""
        return argparse.Namespace(sha="5" * 40)


class LocalCompletionsAPI:
    """The model that asks a server."""

    def __init__(self, *, base_url: str, max_length: int, **_: Any) -> None:
        self.url = base_url.removesuffix("/v1/completions")
        self.tokenizer = lambda text, **__: argparse.Namespace(
            input_ids=[len(word) for word in text.split()]
        )
        self.prefix_token_id = None
        self.max_length = max_length - 1

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]]) -> None:
        for _, context, rest in requests:
            _ask(self.url, len(context + rest), 1)


def simple_evaluate(*, model: Any, samples: dict[str, list[int]], **_: Any) -> dict[str, Any]:
    """Recorded answers; four requests a document go to the server."""
    moment("quality")
    rows = {row["doc"]: row for row in json.loads(gzip.decompress((HERE / ANSWERS).read_bytes()))}
    logged = []
    for doc in samples["hellaswag"]:
        row = rows[doc]
        context = [1] * model.max_length if mode("long") else []
        model._loglikelihood_tokens([(None, context, [1] * choice) for choice in row["bytes"]])
        logged.append(
            {
                "doc_id": doc,
                "doc": {"ind": doc},
                "target": row["target"],
                "filter": "none",
                "arguments": [("", "x" * count) for count in row["bytes"]],
                "filtered_resps": [(value, False) for value in row["loglikelihoods"]],
                "metrics": ["acc", "acc_norm"],
                "acc": row["acc"],
                "acc_norm": row["acc_norm"],
            }
        )
    results: dict[str, Any] = {"alias": "hellaswag"}
    for metric in ("acc", "acc_norm"):
        mean = statistics.mean(row[metric] for row in logged)
        results[f"{metric},none"] = mean
        results[f"{metric}_stderr,none"] = math.sqrt(mean * (1 - mean) / (len(logged) - 1))
    return {
        "results": {"hellaswag": results},
        "versions": {"hellaswag": 1.0},
        "configs": {"hellaswag": {"task": "hellaswag", "num_fewshot": 0}},
        "n-samples": {"hellaswag": {"original": 10_042, "effective": len(logged)}},
        "samples": {"hellaswag": logged},
    }
