"""The quality stage: lm-eval against the same server, the same documents for every variant."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from bench.config import QualityOptions, TaskOptions
from bench.errors import MeasurementError
from bench.measure import texts
from bench.measure.client import Client, Target
from bench.measure.prompts import AbsurdError
from bench.measure.tasks import TaskData
from bench.measure.telemetry import Watch
from bench.measure.texts import Text
from bench.plan import documents
from bench.progress import say
from bench.records import store
from bench.records.record import (
    GroupMetric,
    GroupResult,
    Metric,
    QualityResult,
    SpecialTokens,
    TaskResult,
    canonical_json,
)

_SEED = 1234  # lm-eval's own, of sampling; several count up from it
_TIMEOUT_S = 3600  # a long thought on a slow machine


def measure(
    client: Client,
    target: Target,
    options: QualityOptions,
    tasks: dict[str, TaskData],
    *,
    answered: Mapping[str, frozenset[int]],
    max_model_len: int,
    watch: Callable[[], AbstractContextManager[Watch]],
    note: Callable[[str], None],
) -> tuple[QualityResult, list[bytes]]:
    """Runs the whole stage: lm-eval, then what is expected of some of the documents' own text.

    Args:
        client: a worker that holds these tasks.
        answered: by task, the documents that need not be asked.
        max_model_len: the server's; a document that does not fit fails the stage.
        note: is told what runs once lm-eval is done.

    Returns:
        The result and the bytes of each task's sidecar with every document's outcome.

    Raises:
        AbsurdError: the model computes no numbers.
        MeasurementError: lm-eval failed, a document would be truncated or is missing.
        ServerError: the server died.
    """
    settings = {table.name: table for table in options.asked()}
    asked = {name: settings[task.asked] for name, task in tasks.items()}
    how = {name: documents.of_task(options, table) for name, table in asked.items()}
    wanted = {name: documents.choose(task.size, how[name]) for name, task in tasks.items()}
    missing = {
        name: [index for index in indices if index not in answered.get(name, ())]
        for name, indices in wanted.items()
    }
    chosen = {name: indices for name, indices in missing.items() if indices}
    sizes = {name: task.size for name, task in tasks.items()}
    read = documents.first_of_all(sizes, how, texts.DOCUMENTS)
    with_text = {name: sorted(read[name].intersection(own)) for name, own in chosen.items()}
    asking = request(target, options, asked, chosen, max_model_len)
    began = time.monotonic()
    with watch() as watching:
        client.send("quality", **asking, texts=with_text)
        answer = client.receive(meanwhile=target.server.check)
    duration_s = time.monotonic() - began
    if answer["truncated"]:
        raise MeasurementError(
            f"{answer['truncated']} prompts do not fit in {max_model_len} tokens and would be cut",
            "raise max_model_len in models.toml: a truncated document is another document",
        )
    note("log-probabilities of the documents' own text")
    expected = _read_texts(target, answer["texts"], with_text, max_model_len)
    results, sidecars, requests = [], [], 0
    for name, indices in chosen.items():
        answers = [told["tasks"][name] for told in answer["rounds"] if name in told["tasks"]]
        result, sidecar = _task_result(
            name, answers, indices, options, asked[name], tasks[name], expected.get(name)
        )
        results.append(result)
        sidecars.append(sidecar)
        requests += sum(
            len(row.get("loglikelihoods", "1")) for told in answers for row in told["documents"]
        )
    stage = QualityResult(
        apply_chat_template=any(table.apply_chat_template for table in asked.values()),
        requests=requests,
        duration_s=duration_s,
        requests_per_s=requests / duration_s,
        tasks=tuple(results),
        groups=tuple(_groups([told["groups"] for told in answer["rounds"]])),
        special_tokens=SpecialTokens.model_validate_json(json.dumps(answer["special_tokens"])),
        telemetry=watching.result(0),
    )
    return stage, sidecars


def request(
    target: Target,
    options: QualityOptions,
    asked: dict[str, TaskOptions],
    chosen: dict[str, list[int]],
    max_model_len: int,
) -> dict[str, Any]:
    """What the worker asks lm-eval: tasks that are asked alike, together; once for each seed.

    Args:
        asked: how, by lm-eval's name of each single task.
        chosen: the documents' indices, likewise.
    """
    model_args = {
        "model": target.served_name,
        "base_url": f"{target.server.url}/v1/completions",
        "num_concurrent": options.concurrency,
        "max_retries": 1,
        "timeout": _TIMEOUT_S,
        "tokenizer": str(target.checkpoint.tokenizer),
        "tokenizer_backend": "huggingface",
        "tokenized_requests": True,
        "add_bos_token": None,  # as the tokenizer has it
        "max_length": max_model_len,
    }
    rounds: dict[str, dict[str, Any]] = {}
    for name, indices in chosen.items():
        table = asked[name]
        for seed in sampling_seeds(table) or (_SEED,):
            said = {
                "seed": seed,
                "apply_chat_template": table.apply_chat_template,
                "fewshot_as_multiturn": table.fewshot_as_multiturn,
                "system_instruction": table.system_instruction,
                "chat_template_arguments": table.chat_template_arguments,
                "think_end_token": table.think_end_token,
            }
            found = rounds.setdefault(canonical_json(said), {**said, "samples": {}})
            found["samples"][name] = indices
    return {"model_args": model_args, "rounds": list(rounds.values())}


def _read_texts(
    target: Target,
    worded: Mapping[str, Mapping[str, Any]],
    indices: Mapping[str, list[int]],
    max_model_len: int,
) -> dict[str, dict[int, Text]]:
    """What the server expects of documents' own text, by task and index.

    What lm-eval measured stands without it: a task whose text cannot be put together has none, and
    none has any where the server gives no log-probabilities. If it died, the next to ask will see.

    Args:
        worded: the worker's token ids of them.

    Raises:
        AbsurdError: they are not numbers.
    """
    places, asked = [], []
    for name, told in worded.items():
        if "lacking" in told:
            say(f"{target.served_name}: {name} is recorded without its texts: {told['lacking']}")
            continue
        places += [(name, index) for index in indices[name]]
        asked += told["tokens"]
    try:
        found = texts.measure(target.server.url, target.served_name, asked, max_model_len)
    except AbsurdError:
        raise
    except MeasurementError as error:
        say(f"{target.served_name}: recorded without the documents' own text: {error}")
        return {}
    kept: dict[str, dict[int, Text]] = {
        name: {} for name, told in worded.items() if "lacking" not in told
    }
    for (name, index), text in zip(places, found, strict=True):
        if text is not None:
            kept[name][index] = text
    return kept


def sampling_seeds(table: TaskOptions) -> tuple[int, ...]:
    """The seeds of a task whose documents are asked several times; none for one asked once."""
    return tuple(range(_SEED, _SEED + table.seeds)) if table.seeds > 1 else ()


def _task_result(
    name: str,
    answers: list[dict[str, Any]],
    indices: list[int],
    options: QualityOptions,
    table: TaskOptions,
    data: TaskData,
    texts: Mapping[int, Text] | None = None,
) -> tuple[TaskResult, bytes]:
    """One task's result and sidecar from the worker's answers, one for each seed."""
    first, seeds = answers[0], sampling_seeds(table)
    for answer in answers:
        found = [row["doc"] for row in answer["documents"]]
        if found != indices:
            raise MeasurementError(
                f"{name}: asked {len(indices)} documents, lm-eval answered {len(found)} others",
                "check the task's version",
            )
    rows = [
        _row(name, list(same))
        for same in zip(*(answer["documents"] for answer in answers), strict=True)
    ]
    for row in rows:
        if texts and row["doc"] in texts:
            row["text"] = texts[row["doc"]].row()
    sidecar, packed = store.pack_sidecar(rows)
    count = first["n-samples"]
    everything = len(indices) == count["original"]
    selection = table.selection or options.selection
    hashes = "\n".join(f"{row['doc']} {row['hash']}" for row in rows)
    lengths = {len(row.get("loglikelihoods", ())) for row in rows}
    generates = first["output_type"] == "generate_until"
    task = TaskResult(
        name=name,
        version=str(first["version"]),
        config_sha256=_sha256(canonical_json(_portable(first["config"]))),
        dataset=data.dataset,
        dataset_revision=data.revision,
        dataset_sha256=data.sha256,
        num_fewshot=first["config"]["num_fewshot"],  # a task can insist on none
        documents_original=count["original"],
        documents_effective=len(indices),
        selection="all" if everything else selection,
        selection_seed=options.seed if not everything and selection == "random" else None,
        documents_sha256=_sha256(hashes),
        choices=(lengths.pop() or None) if len(lengths) == 1 else None,
        asked=data.asked,
        output_type=first["output_type"],
        apply_chat_template=table.apply_chat_template,
        generation=first["config"]["generation_kwargs"] if generates else None,
        sampling_seeds=seeds,
        texts=None if texts is None else len(texts),
        metrics=tuple(
            Metric(**_metric(metric, [answer["metrics"][metric] for answer in answers], rows))
            for metric in sorted(first["metrics"])
        ),
        samples=sidecar,
    )
    return task, packed


def _row(task: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """A document's row of the sidecar; of several seeds' answers the mean, and each."""
    first, by_seed = answers[0], [answer["metrics"] for answer in answers]
    for answer in answers:
        values = (*answer.get("loglikelihoods", ()), *_flat(answer["metrics"].values()))
        if not all(map(math.isfinite, values)):
            raise MeasurementError(
                f"{task}: document {first['doc']} has a value that is not finite",
                "the model's numbers overflow; choose another dtype or quantization",
            )
    row = {key: value for key, value in first.items() if key != "metrics"}
    if len(answers) == 1:
        return {**row, **first["metrics"]}
    gathered = {name: [metrics[name] for metrics in by_seed] for name in first["metrics"]}
    return {**row, **{k: _mean(v) for k, v in gathered.items()}, "by_seed": gathered}


def _flat(values: Iterable[float | list[float]]) -> Iterator[float]:
    for value in values:
        yield from value if isinstance(value, list) else [value]


def _mean(values: list[Any]) -> float | list[float]:
    """The mean over seeds; of lists, place by place."""
    if isinstance(values[0], list):
        return [statistics.fmean(place) for place in zip(*values, strict=True)]
    return statistics.fmean(values)


def _metric(name: str, told: list[dict[str, Any]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A metric over all seeds; the standard error of several is that between the documents."""
    for each in told:
        if not math.isfinite(each["value"]):
            raise MeasurementError(
                f"lm-eval gave {each['value']!r} for {name}",
                "choose a task whose metrics are numbers",
            )
    stderr = told[0]["stderr"]
    if len(told) > 1:
        scores = [row[name] for row in rows if isinstance(row.get(name), float)]
        between = len(scores) == len(rows) > 1
        stderr = statistics.stdev(scores) / math.sqrt(len(scores)) if between else None
    elif stderr is not None and not math.isfinite(stderr):
        stderr = None
    values = [each["value"] for each in told]
    by_seed = tuple(values) if len(values) > 1 else ()
    value = statistics.fmean(values)
    return {**told[0], "name": name, "value": value, "stderr": stderr, "by_seed": by_seed}


def _groups(rounds: list[dict[str, Any]]) -> Iterator[GroupResult]:
    """Every group that was asked; the mean over the seeds."""
    for name in dict.fromkeys(name for told in rounds for name in told):
        found = [told[name] for told in rounds if name in told]
        yield GroupResult(
            name=name,
            version=found[0]["version"],
            tasks=tuple(found[0]["tasks"]),
            metrics=tuple(
                GroupMetric(**_metric(metric, [each["metrics"][metric] for each in found], []))
                for metric in sorted(found[0]["metrics"])
            ),
        )


def _portable(configuration: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration without what differs between machines: paths and metadata."""
    left_out = ("dataset_kwargs", "metadata")
    return {key: value for key, value in configuration.items() if key not in left_out}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
