"""Runs inside the engine's environment: `vllm bench serve` and lm-eval, kept warm between uses.

Importing vLLM or lm-eval costs seconds to half a minute, and a stage needs them several times.
This process imports once and then takes one JSON request a line on standard input and answers
with one JSON line; what the libraries print goes to standard error. It is the libraries' own
entry points that run: the parser and `main` of `vllm bench serve`, and `lm_eval.simple_evaluate`.

Nothing of this project is importable here, so this file stands alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import math
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator
from typing import Any

_tasks: dict[str, Any] = {}
_groups: dict[str, Any] = {}


def prepare_speed(_: dict[str, Any]) -> dict[str, Any]:
    """Imports what `speed` needs."""
    import vllm.benchmarks.serve  # noqa: F401

    return {}


def speed(request: dict[str, Any]) -> dict[str, Any]:
    """One run of `vllm bench serve`.

    Args:
        request: {"argv": arguments after `vllm bench serve`}.

    Returns:
        The result vLLM would save, with every request's latencies.
    """
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(prog="vllm bench serve")
    add_cli_args(parser)
    result: dict[str, Any] = main(parser.parse_args(request["argv"]))
    for text_field in ("generated_texts",):
        result.pop(text_field, None)
    return result


def prepare_quality(request: dict[str, Any]) -> dict[str, Any]:
    """Imports lm-eval, loads the tasks and their documents, and tries each on its first document.

    Args:
        request: {"tasks": {name of a task, group or tag: {"files": {single task: {split: JSON
            lines}}, "num_fewshot": int or None for the task's own, "generation": keys of its
            generation_kwargs to set}}}; each of the three may be left out. One without files reads
            the Hub's data sets at their newest revisions.

    Returns:
        {task: {"documents": in the split evaluated, "dataset": path, "revision": commit or None,
        "asked": the name that brought it}} for every single task.

    Raises:
        TaskRefusedError: a task whose answers cannot be taken, or whose packages are missing.
    """
    manager = _manager()
    _tasks.clear()
    _groups.clear()
    answer = {}
    for name, settings in request["tasks"].items():
        revisions: dict[str, str] = {}
        entry = manager.task_index.get(name)
        if entry and (entry.cfg or {}).get("unsafe_code"):  # loading it reaches for a runner
            raise _unsafe(name)
        try:
            with _reading(settings.get("files"), revisions):
                loaded = manager.load([name])
        except ImportError as error:
            raise _missing(name, error) from error
        if not loaded["tasks"]:
            raise LookupError(f"{name} loads no task")
        for task_name, task in loaded["tasks"].items():
            if task_name in _tasks:
                raise TaskRefusedError(f"{task_name} is asked for twice, the second time by {name}")
            _set_up(task, settings)
            _try_out(task_name, task)
            _tasks[task_name] = task
            answer[task_name] = {
                "documents": len(task.eval_docs),
                "dataset": task.config.dataset_path,
                "revision": revisions.get(task_name),
                "asked": name,
            }
        _groups.update(loaded.get("groups", {}))
    return answer


@functools.cache
def _manager() -> Any:
    """lm-eval's index of all its tasks, which takes seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


class TaskRefusedError(Exception):
    """A task that cannot be asked here, with what it lacks."""


def _unsafe(name: str) -> TaskRefusedError:
    return TaskRefusedError(f"{name} runs code that the model wrote")


def _missing(name: str, error: ImportError) -> TaskRefusedError:
    lacking = getattr(error, "name", None)
    return TaskRefusedError(
        f"{name} needs the Python package {lacking}" if lacking else f"{name}: {error}"
    )


def _set_up(task: Any, settings: dict[str, Any]) -> None:
    """How many examples a task shows and how it generates, where that is not its own.

    As `simple_evaluate` has it: a task that insists on no examples gets none.
    """
    shots = settings.get("num_fewshot")
    if shots is not None and task.get_config("num_fewshot") != 0:
        task.set_config("num_fewshot", shots)
    generation = settings.get("generation")
    if generation and task.OUTPUT_TYPE == "generate_until":
        if generation.get("temperature"):
            generation = {"do_sample": True, **generation}
        task.set_config("generation_kwargs", generation, update=True)


_NOTHING_SAID = {
    "loglikelihood": (-1.0, False),
    "loglikelihood_rolling": -1.0,
    "generate_until": "1",
}


def _try_out(name: str, task: Any) -> None:
    """Asks nobody a task's first document, to see that what its metrics say can be kept.

    Raises:
        TaskRefusedError: it runs what a model wrote, wants pictures or sound, lacks a package,
            fails, or has a metric that is neither a number nor a list of numbers.
    """
    if getattr(task, "UNSAFE_CODE", False):
        raise _unsafe(name)
    if getattr(task, "MULTIMODAL", False):
        raise TaskRefusedError(f"{name} wants pictures or sound")
    try:
        task.set_fewshot_seed(seed=1234)
        task.build_all_requests(samples=[0], rank=0, world_size=1)
        for instance in task.instances:
            instance.resps = [_NOTHING_SAID[instance.request_type]]
        task.apply_filters()
        for kept in task.instances[0].filtered_resps:
            given = [instance.filtered_resps[kept] for instance in task.instances]
            for metric, value in task.process_results(task.instances[0].doc, given).items():
                if metric == "bypass" or _numbers(value) is None:
                    said = f"{name}: its metric {metric} is no number or list of numbers"
                    raise TaskRefusedError(said)
    except TaskRefusedError:
        raise
    except ImportError as error:
        raise _missing(name, error) from error
    except Exception as error:
        raise TaskRefusedError(
            f"{name} fails at its first document: {type(error).__name__}: {error}"
        ) from error


def _numbers(value: Any) -> float | list[float] | None:
    """A document's value of a metric: a number, or several; None for anything else."""
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1:
        parts = [_numbers(part) for part in value]
        flat = [p for part in parts for p in (part if isinstance(part, list) else [part])]
        return None if not flat or None in flat else flat  # type: ignore[return-value]
    try:
        return None if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        return None


@contextlib.contextmanager
def _reading(files: dict[str, dict[str, str]] | None, revisions: dict[str, str]) -> Iterator[None]:
    """Tasks loaded meanwhile read these files, or their data set at one commit, which is noted.

    lm-eval pins hardly any, and a group or a tag stands for many tasks, each with a data set of
    its own: where a task fetches its data is the one place that all of them pass.

    Args:
        files: by the task's name and the split; None for the Hub.
        revisions: takes the commits by the task's name.
    """
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download
    newest = functools.cache(_commit)

    def read(task: Any, dataset_kwargs: dict[str, Any] | None = None, **more: Any) -> None:
        name, options = task.config.task, dict(dataset_kwargs or {})
        if files is not None:
            _keep_splits(task, files[name])
            download(task, {"data_files": files[name]}, **more)
            return
        known = task.DATASET_PATH and not callable(task.config.custom_dataset)
        if known and (revision := newest(task.DATASET_PATH, options.get("revision"))):
            options["revision"] = revisions[name] = revision
        download(task, options, **more)

    ConfigurableTask.download = read
    try:
        yield
    finally:
        ConfigurableTask.download = download


def _keep_splits(task: Any, splits: Collection[str]) -> None:
    """Points a task to files, and to none of the splits that these do not have."""
    config = task.config
    task.DATASET_PATH = config.dataset_path = "json"
    task.DATASET_NAME = config.dataset_name = None
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if getattr(config, key) not in splits:
            setattr(config, key, None)
    if task.fewshot_cfg.split not in splits:
        task.fewshot_cfg.split = None


def _commit(dataset: str, revision: str | None) -> str | None:
    """The commit that a data set's branch or tag is at on the Hub.

    None offline, where the cache decides what is read, and for what the Hub does not have: lm-eval
    names a file format such as json in a data set's place.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        return HfApi().dataset_info(dataset, revision=revision).sha
    except (OfflineModeIsEnabled, RepositoryNotFoundError):
        return None


def quality(request: dict[str, Any]) -> dict[str, Any]:
    """lm-eval runs of prepared tasks against a server.

    Args:
        request: {"model_args": of lm-eval's local-completions, "rounds": [{"samples": {task:
            document indices}, "seed": of sampling, "apply_chat_template": bool,
            "fewshot_as_multiturn": bool, "system_instruction": text or None,
            "chat_template_arguments": {…}, "think_end_token": text or None}], "texts": {task:
            indices of some of its documents}, or left out}. Each round is one run of its tasks.

    Returns:
        {"truncated": prompts that would be cut to fit the model}, of a round of which nobody was
        asked anything; if that is 0 also "special_tokens" (see `_special_tokens`), "rounds",
        each with {"tasks": {name: see `_task`}, "groups": {name: see `_group`}}, and "texts" {name:
        see `_texts`}.
    """
    import lm_eval

    model = _local_completions()(**request["model_args"])
    rounds, texts = [], {}
    for asked in request["rounds"]:
        model.ask_by(asked)
        try:
            out = lm_eval.simple_evaluate(
                model=model,
                model_args=request["model_args"],
                tasks=[_tasks[name] for name in asked["samples"]],
                samples=asked["samples"],
                task_manager=_manager(),
                apply_chat_template=asked["apply_chat_template"],
                fewshot_as_multiturn=asked["fewshot_as_multiturn"],
                system_instruction=asked["system_instruction"],
                log_samples=True,
            )
        except _TruncationError as refused:
            return {"truncated": refused.args[0]}
        assert out is not None  # only ranks other than 0 get None, and there is one rank
        rounds.append(
            {
                "tasks": {name: _task(name, out) for name in asked["samples"]},
                "groups": {
                    name: _group(group, out)
                    for name, group in _groups.items()
                    if any(task.task_name in asked["samples"] for task in group.get_all_tasks())
                },
            }
        )
        for name in asked["samples"]:
            if name not in texts:  # another seed's round has the same documents
                found = {sample["doc_id"]: sample["doc"] for sample in out["samples"][name]}
                documents = [found[index] for index in request.get("texts", {}).get(name, ())]
                texts[name] = _texts(_tasks[name], documents, model.tok_encode)
    special = _special_tokens(model.tokenizer)
    return {"truncated": 0, "special_tokens": special, "rounds": rounds, "texts": texts}


def _task(name: str, out: dict[str, Any]) -> dict[str, Any]:
    """What lm-eval said of a task.

    Returns:
        {"output_type", "version", "config", "n-samples" as lm-eval has them, "metrics": {name with
        its filter: see `_metric`}, "documents": one row for each}.
    """
    task, results = _tasks[name], out["results"][name]
    documents = _rows(task, out["samples"][name])
    return {
        "output_type": task.OUTPUT_TYPE,
        "version": out["versions"][name],
        "config": configuration(task),
        "n-samples": out["n-samples"][name],
        "metrics": {
            _with_filter(*key.split(",", 1)): _metric(task, key, results, documents)
            for key in _keys(results)
        },
        "documents": documents,
    }


def configuration(task: Any) -> dict[str, Any]:
    """A task's configuration as plain JSON, the same in every process on every machine.

    lm-eval's own has some functions by their address, which is another one each time.
    """
    found = task.config.to_dict(keep_callable=True)
    plain: dict[str, Any] = json.loads(json.dumps(found, default=_told))
    return plain


def _told(value: Any) -> Any:
    """A function by where it is defined and its source; for `json.dumps`."""
    if isinstance(value, functools.partial):
        return {"function": value.func, "arguments": value.args, "by name": value.keywords}
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        try:
            source = inspect.getsource(named)
        except (OSError, TypeError):  # it is compiled, or was typed
            source = ""
        # A task's file outside lm-eval is a module of its whole path.
        return [str(named.__module__).rpartition("/")[2], named.__qualname__, source]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def _group(group: Any, out: dict[str, Any]) -> dict[str, Any]:
    """A group's own figures, as lm-eval weighs its tasks: {"version", "tasks", "metrics"}."""
    names = [task.task_name for task in group.get_all_tasks()]
    results = group.aggregate(out["results"])
    by_size = {each.metric: each.weight_by_size for each in group.aggregate_metric_list or ()}
    metrics = {}
    for key in _keys(results):
        metric = key.split(",", 1)[0]
        directions = {_tasks[name].higher_is_better().get(metric) for name in names}
        metrics[_with_filter(*key.split(",", 1))] = {
            **_estimate(key, results),
            "higher_is_better": directions.pop() if len(directions) == 1 else None,
            "weight_by_size": by_size[metric],
        }
    return {"version": str(group.version), "tasks": names, "metrics": metrics}


def _keys(results: dict[str, Any]) -> list[str]:
    """The keys of lm-eval's results that are metrics: `acc,none`, not `acc_stderr,none`."""
    return [key for key in sorted(results) if "," in key and "_stderr," not in key]


def _with_filter(metric: str, kept: str) -> str:
    """A metric's name in records: filters other than the plain one are named."""
    return metric if kept == "none" else f"{metric},{kept}"


def _estimate(key: str, results: dict[str, Any]) -> dict[str, Any]:
    metric, _, kept = key.partition(",")
    stderr = results.get(f"{metric}_stderr,{kept}")
    return {
        "value": float(results[key]),
        "stderr": float(stderr) if isinstance(stderr, int | float) else None,
    }


# lm-eval's ways from the documents' values to one, by their names in its registry, and their units.
_AGGREGATIONS = {
    "mean": ("mean", None),
    "nanmean": ("mean", None),
    "perplexity": ("perplexity", "perplexity"),
    "weighted_perplexity": ("weighted perplexity", "perplexity"),
    "bits_per_byte": ("bits per byte", "bits per byte"),
}


def _metric(
    task: Any, key: str, results: dict[str, Any], documents: list[dict[str, Any]]
) -> dict[str, Any]:
    """A metric's value with its direction, its unit, and how it comes from the documents' values.

    A function of the task's own is called a mean where it gave the mean of all the numbers.
    """
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    metric, _, kept = key.partition(",")
    estimate = _estimate(key, results)
    function = task.aggregation().get(metric)
    known = [word for word, other in AGGREGATION_REGISTRY.items() if other is function]
    aggregation, unit = _AGGREGATIONS.get(known[0] if known else "", (None, None))
    name = _with_filter(metric, kept)
    held = [row["metrics"][name] for row in documents if name in row["metrics"]]
    values = [v for one in held for v in (one if isinstance(one, list) else [one])]
    average = sum(values) / len(values) if values else math.nan
    if not known and math.isclose(average, estimate["value"], rel_tol=1e-9, abs_tol=1e-12):
        aggregation = "mean"
    if unit is None:
        shares = aggregation == "mean" and all(0 <= value <= 1 for value in values)
        unit = "share" if shares else "score"
    return {
        **estimate,
        "higher_is_better": task.higher_is_better().get(metric),
        "unit": unit,
        "aggregation": aggregation,
    }


def _special_tokens(tokenizer: Any) -> dict[str, list[int]]:
    """The tokens that a tokenizer puts before and after a text by itself."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    whole = tokenizer("a").input_ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return {"before": whole[:start], "after": whole[start + len(plain) :]}
    raise ValueError(f"the tokenizer makes {whole} of what is {plain} without special tokens")


class _TruncationError(Exception):
    """So many prompts do not fit."""


def _local_completions() -> type:
    """lm-eval's model `local-completions`, made to ask as lm-eval's own vLLM backend asks.

    Prompts begin with the special tokens that the tokenizer adds by itself, and never with a second
    BOS where a chat template has brought one. Prompts that it would cut to fit are refused: it cuts
    from the left and goes on, for log-likelihoods with a warning, for generation without one, as it
    looks at the length after the cut.
    """
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.models.utils import has_bos_prefix, postprocess_generated_text

    class Completions(LocalCompletionsAPI):  # type: ignore[misc]  # known in the engine only
        def ask_by(self, asked: dict[str, Any]) -> None:
            """What is the same for a whole round."""
            self._seed = asked["seed"]
            self.template_arguments: dict[str, Any] = asked["chat_template_arguments"]
            self.think_end_token: str | None = asked["think_end_token"]

        def tok_encode(
            self, string: Any, *_: Any, add_special_tokens: bool | None = None, **__: Any
        ) -> Any:
            """As the tokenizer does by itself; a text that begins with BOS gets no other."""
            if not isinstance(string, str):
                return [
                    self.tok_encode(text, add_special_tokens=add_special_tokens) for text in string
                ]
            prefix = self.prefix_token_id
            if has_bos_prefix(string, None if prefix is None else self.tokenizer.decode(prefix)):
                add_special_tokens = False
            said = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            return self.tokenizer(string, **said).input_ids

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            text: str = self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                **self.template_arguments,
            )
            return text

        def _loglikelihood_tokens(self, requests: Any, **more: Any) -> Any:
            _refuse([len(context + rest) - self.max_length for _, context, rest in requests])
            return super()._loglikelihood_tokens(requests, **more)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            prompts, options = zip(*(request.args for request in requests), strict=True)
            new = [option.get("max_gen_toks", self._max_gen_toks) for option in options]
            encoded = self.tok_encode(prompts)
            lengths = [len(tokens) + more for tokens, more in zip(encoded, new, strict=True)]
            _refuse([length - self.max_length for length in lengths])
            if self.think_end_token is None:
                return super().generate_until(requests, disable_tqdm)
            # What ends an answer is in the middle of thoughts too: it is looked for after them.
            endless = [
                dataclasses.replace(request, arguments=(prompt, {**option, "until": []}))
                for request, prompt, option in zip(requests, prompts, options, strict=True)
            ]
            return [
                postprocess_generated_text(text, option.get("until"), self.think_end_token)
                for text, option in zip(
                    super().generate_until(endless, disable_tqdm), options, strict=True
                )
            ]

    return Completions


def _refuse(excess: list[int]) -> None:
    if cut := sum(tokens > 0 for tokens in excess):
        raise _TruncationError(cut)


def _rows(task: Any, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is kept of each document: hashes and numbers, none of its text; all filters in one row.

    `loglikelihoods` are of its choices and `bytes` of their texts, `target` is the right one's
    index, `targets` those of several.
    """
    rows: dict[int, dict[str, Any]] = {}
    for sample in sorted(samples, key=lambda sample: int(sample["doc_id"])):
        if sample["doc_id"] not in rows:
            text = json.dumps(sample["doc"], sort_keys=True, default=str)
            rows[sample["doc_id"]] = {
                "doc": sample["doc_id"],
                "hash": hashlib.sha256(text.encode()).hexdigest(),
                "metrics": {},
                **_choices(task, sample),
            }
        metrics = rows[sample["doc_id"]]["metrics"]
        for metric in sample["metrics"]:
            name = _with_filter(metric, sample["filter"])
            metrics[name] = _numbers(sample[metric])
            if metrics[name] is None:
                raise TypeError(f"{metric} is {type(sample[metric]).__name__} for a document")
    return list(rows.values())


def _choices(task: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """The log-likelihoods of a document's choices, and which of them are right."""
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        return {}
    answers = [float(value) for value, _ in sample["filtered_resps"]]
    sizes = [len(argument[1].encode()) for argument in sample["arguments"]]
    if "acc_mutual_info" in sample["metrics"]:  # the second half is without the question
        answers, sizes = answers[: len(answers) // 2], sizes[: len(sizes) // 2]
    kept: dict[str, Any] = {"loglikelihoods": answers, "bytes": sizes}
    if task.OUTPUT_TYPE == "loglikelihood" or callable(task.config.process_results):
        return kept  # one continuation, or choices that the task judges in its own way
    right = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    if isinstance(right, str) and not right.isdigit():
        choices = task.doc_to_choice(sample["doc"])
        right = choices.index(right) if right in choices else -1
    if isinstance(right, list):
        within = [index for index in right if isinstance(index, int) and 0 <= index < len(answers)]
        return {**kept, "targets": within} if within else kept
    return {**kept, "target": int(right)} if 0 <= int(right) < len(answers) else kept


def _texts(task: Any, documents: list[Any], encode: Callable[[str], list[int]]) -> dict[str, Any]:
    """The token ids of each document's text, {"tokens": …}; or {"lacking": why there are none}.

    A task's functions are its own, and need not fit together this way: of a task that fails for one
    document there are none.
    """
    try:
        return {"tokens": [encode(_text(task, document)) for document in documents]}
    except Exception as error:  # whatever a task's own code raises  # noqa: BLE001
        traceback.print_exc()
        return {"lacking": f"{type(error).__name__}: {error}"}


def _text(task: Any, document: Any) -> str:
    """A document's question with its right answer, as lm-eval joins them, without any examples.

    Of several right answers the first.
    """
    target = task.doc_to_target(document)
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return str(target)
    question, between = task.doc_to_text(document), task.config.target_delimiter
    if task.OUTPUT_TYPE == "loglikelihood":  # the target begins with what separates it
        return f"{question}{target}"
    if task.multiple_input:  # each choice is a question, and what follows is the same
        return f"{task.doc_to_choice(document)[int(question)]}{between}{target}"
    if isinstance(target, list):
        target = target[0]
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(document)
        target = target if target in choices else choices[int(target)]
    return f"{question}{between}{target}"


_COMMANDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "prepare_speed": prepare_speed,
    "speed": speed,
    "prepare_quality": prepare_quality,
    "quality": quality,
}


def main() -> None:
    """Answers requests until standard input ends."""
    os.chdir(tempfile.gettempdir())  # ours alone: the folder of the logs may be removed meanwhile
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print; only replies may reach the caller
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = json.dumps({"ok": _COMMANDS[request.pop("do")](request)})
        except TaskRefusedError as refused:
            reply = json.dumps({"refused": str(refused)})
        except SystemExit as stop:  # argparse refuses an argument
            reply = json.dumps({"error": f"exit {stop.code}"})
        except Exception as error:  # the caller decides what a failure means  # noqa: BLE001
            traceback.print_exc()
            reply = json.dumps({"error": f"{type(error).__name__}: {error}"})
        replies.write(reply + "\n")


if __name__ == "__main__":
    main()
