"""The quality stage: lm-eval against the same server, the same documents for every variant."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from bench.config import QualityOptions
from bench.errors import MeasurementError
from bench.measure.client import Client, Target
from bench.measure.tasks import TaskData
from bench.measure.telemetry import Watch
from bench.plan import documents
from bench.records import store
from bench.records.record import Metric, QualityResult, TaskResult, canonical_json


def measure(
    client: Client,
    target: Target,
    options: QualityOptions,
    tasks: dict[str, TaskData],
    *,
    answered: Mapping[str, frozenset[int]],
    max_model_len: int,
    watch: Callable[[], AbstractContextManager[Watch]],
) -> tuple[QualityResult, list[bytes]]:
    """Runs the whole stage.

    Args:
        client: a worker that holds these tasks.
        answered: by task, the documents that need not be asked.
        max_model_len: the server's; a document that does not fit fails the stage.

    Returns:
        The result and the bytes of each task's sidecar with every document's outcome.

    Raises:
        MeasurementError: lm-eval failed, a document would be truncated or is missing.
        ServerError: the server died.
    """
    wanted = {name: documents.choose(task.size, options) for name, task in tasks.items()}
    asked = {
        name: [index for index in indices if index not in answered.get(name, ())]
        for name, indices in wanted.items()
    }
    chosen = {name: indices for name, indices in asked.items() if indices}
    began = time.monotonic()
    with watch() as watching:
        client.send("quality", **request(target, options, chosen, max_model_len))
        answer = client.receive(meanwhile=target.server.check)
    duration_s = time.monotonic() - began
    if answer["truncated"]:
        raise MeasurementError(
            f"{answer['truncated']} prompts do not fit in {max_model_len} tokens and would be cut",
            "raise max_model_len in models.toml: a truncated document is another document",
        )
    results, sidecars, requests = [], [], 0
    for name, indices in chosen.items():
        result, sidecar = _task_result(name, answer, indices, options, tasks[name])
        results.append(result)
        sidecars.append(sidecar)
        requests += sum(len(row.get("loglikelihoods", "1")) for row in answer["documents"][name])
    stage = QualityResult(
        apply_chat_template=options.apply_chat_template,
        requests=requests,
        duration_s=duration_s,
        requests_per_s=requests / duration_s,
        tasks=tuple(results),
        telemetry=watching.result(0),
    )
    return stage, sidecars


def request(
    target: Target, options: QualityOptions, chosen: dict[str, list[int]], max_model_len: int
) -> dict[str, Any]:
    """What `lm_eval.simple_evaluate` is asked."""
    model_args = {
        "model": target.served_name,
        "base_url": f"{target.server.url}/v1/completions",
        "num_concurrent": options.concurrency,
        "max_retries": 1,
        "tokenizer": str(target.checkpoint.tokenizer),
        "tokenizer_backend": "huggingface",
        "tokenized_requests": True,
        "max_length": max_model_len,
    }
    return {
        "model": "local-completions",
        "model_args": model_args,
        "num_fewshot": options.num_fewshot,
        "samples": chosen,
        "apply_chat_template": options.apply_chat_template,
    }


def _task_result(
    name: str,
    answer: dict[str, Any],
    indices: list[int],
    options: QualityOptions,
    data: TaskData,
) -> tuple[TaskResult, bytes]:
    answers = answer["documents"][name]
    if [row["doc"] for row in answers] != indices:
        raise MeasurementError(
            f"{name}: asked {len(indices)} documents, lm-eval answered {len(answers)} others",
            "check the task's version",
        )
    rows = [_row(name, document) for document in answers]
    sidecar, packed = store.pack_sidecar(rows)
    count = answer["n-samples"][name]
    everything = len(indices) == count["original"]
    hashes = "\n".join(f"{row['doc']} {row['hash']}" for row in answers)
    lengths = {len(row["loglikelihoods"]) for row in answers if "loglikelihoods" in row}
    task = TaskResult(
        name=name,
        version=str(answer["versions"][name]),
        config_sha256=_sha256(canonical_json(_portable(answer["configs"][name]))),
        dataset=data.dataset,
        dataset_revision=data.revision,
        dataset_sha256=data.sha256,
        num_fewshot=answer["configs"][name]["num_fewshot"],  # a task can insist on none
        documents_original=count["original"],
        documents_effective=len(indices),
        selection="all" if everything else options.selection,
        selection_seed=options.seed if not everything and options.selection == "random" else None,
        documents_sha256=_sha256(hashes),
        choices=lengths.pop() if len(lengths) == 1 else None,
        metrics=tuple(_metrics(answer["results"][name])),
        samples=sidecar,
    )
    return task, packed


def _row(task: str, document: dict[str, Any]) -> dict[str, Any]:
    values = (*document.get("loglikelihoods", ()), *document["metrics"].values())
    if not all(map(math.isfinite, values)):
        raise MeasurementError(
            f"{task}: document {document['doc']} has a value that is not finite",
            "the model's numbers overflow; choose another dtype or quantization",
        )
    return {**{k: v for k, v in document.items() if k != "metrics"}, **document["metrics"]}


def _metrics(results: dict[str, Any]) -> list[Metric]:
    """lm-eval's `acc,none` and `acc_stderr,none` as one metric each; other filters keep theirs."""
    metrics = []
    for key, value in sorted(results.items()):
        name, comma, kind = key.partition(",")
        if not comma or name.endswith("_stderr"):
            continue
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise MeasurementError(
                f"lm-eval gave {value!r} for {key}", "choose a task whose metrics are numbers"
            )
        stderr = results.get(f"{name}_stderr,{kind}")
        metrics.append(
            Metric(
                name=name if kind == "none" else f"{name},{kind}",
                value=float(value),
                stderr=float(stderr) if isinstance(stderr, float | int) else None,
            )
        )
    return metrics


def _portable(configuration: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration without what differs between machines: paths and metadata."""
    left_out = ("dataset_kwargs", "metadata")
    return {key: value for key, value in configuration.items() if key not in left_out}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
