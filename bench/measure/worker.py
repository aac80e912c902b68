"""Runs inside the engine's environment: `vllm bench serve` and lm-eval, kept warm between uses.

Importing vLLM or lm-eval costs seconds to half a minute, and a stage needs them several times.
This process imports once and then takes one JSON request a line on standard input and answers
with one JSON line; what the libraries print goes to standard error. It is the libraries' own
entry points that run: the parser and `main` of `vllm bench serve`, and `lm_eval.simple_evaluate`.

Nothing of this project is importable here, so this file stands alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_tasks: dict[str, Any] = {}


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
    """Imports lm-eval, loads the tasks and their documents.

    Args:
        request: {"tasks": {name of a task, group or tag: keys of its lm-eval configuration to
            replace}}; one with none reads the Hub's data sets at their newest revisions.

    Returns:
        {task: {"documents": in the split evaluated, "dataset": path, "revision": commit or None}}
        for every single task.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    _tasks.clear()
    answer = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, replaced in request["tasks"].items():
            revisions: dict[str, str] = {}
            if replaced:
                loaded = manager.load([_replacing(manager, name, replaced, Path(folder))])["tasks"]
            else:
                with _pinned(revisions):
                    loaded = manager.load([name])["tasks"]
            if not loaded:
                raise LookupError(f"{name} loads no task")
            _tasks.update(loaded)
            for task_name, task in loaded.items():
                answer[task_name] = {
                    "documents": len(task.eval_docs),
                    "dataset": task.config.dataset_path,
                    "revision": revisions.get(task_name),
                }
    return answer


def _replacing(manager: Any, name: str, replaced: dict[str, Any], folder: Path) -> str:
    """A file that says: lm-eval's own task, with some keys of its configuration replaced."""
    file = folder / f"{name}.yaml"  # JSON is YAML
    own = str(manager.task_index[name].yaml_path)
    file.write_text(json.dumps({"include": own, "task": name, **replaced}))
    return str(file)


@contextlib.contextmanager
def _pinned(revisions: dict[str, str]) -> Iterator[None]:
    """Tasks loaded meanwhile read their data set at one commit, which is noted by the task's name.

    lm-eval pins hardly any, and a group or a tag stands for many tasks, each with a data set of
    its own: where a task fetches its data is the one place that all of them pass.
    """
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download
    newest = functools.cache(_commit)

    def pinned(task: Any, dataset_kwargs: dict[str, Any] | None = None, **more: Any) -> None:
        options = dict(dataset_kwargs or {})
        known = task.DATASET_PATH and not callable(task.config.custom_dataset)
        if known and (revision := newest(task.DATASET_PATH, options.get("revision"))):
            options["revision"] = revisions[task.config.task] = revision
        download(task, options, **more)

    ConfigurableTask.download = pinned
    try:
        yield
    finally:
        ConfigurableTask.download = download


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
    """One lm-eval run of prepared tasks, those that "samples" names, against a server.

    Args:
        request: {"model": lm-eval model name, "model_args": its arguments, "num_fewshot": int,
            "samples": {task: document indices}, "apply_chat_template": bool}.

    Returns:
        {"truncated": prompts that would be cut to fit the model}, which nobody was asked then; if
        that is 0 also "results", "versions", "n-samples" as lm-eval makes them, "configs" (see
        `configuration`), and "documents" with one row per document.
    """
    import lm_eval

    model = request["model"]
    if model == "local-completions":
        model = _uncut_completions()(**request["model_args"])
    try:
        out = lm_eval.simple_evaluate(
            model=model,
            model_args=request["model_args"],
            tasks=[_tasks[name] for name in request["samples"]],
            num_fewshot=request["num_fewshot"],
            samples=request["samples"],
            apply_chat_template=request["apply_chat_template"],
            log_samples=True,
        )
    except _TruncationError as refused:
        return {"truncated": refused.args[0]}
    assert out is not None  # only ranks other than 0 get None, and there is one rank
    return {
        "results": out["results"],
        "versions": out["versions"],
        "configs": {name: configuration(_tasks[name]) for name in out["configs"]},
        "n-samples": out["n-samples"],
        "documents": {name: _rows(rows) for name, rows in out["samples"].items()},
        "truncated": 0,
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


class _TruncationError(Exception):
    """So many prompts do not fit."""


def _uncut_completions() -> type:
    """lm-eval's model `local-completions`, refusing prompts that it would cut to fit.

    lm-eval cuts from the left and goes on: for log-likelihoods with a warning, for generation
    without one, as it looks at the length after the cut.
    """
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    class Uncut(LocalCompletionsAPI):  # type: ignore[misc]  # known in the engine only
        def _loglikelihood_tokens(self, requests: Any, **more: Any) -> Any:
            _refuse([len(context + rest) - self.max_length for _, context, rest in requests])
            return super()._loglikelihood_tokens(requests, **more)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            prompts, options = zip(*(request.args for request in requests), strict=True)
            encoded = self.tok_encode(prompts, add_special_tokens=self.add_bos_token)
            new = [option.get("max_gen_toks", self._max_gen_toks) for option in options]
            lengths = [len(tokens) + more for tokens, more in zip(encoded, new, strict=True)]
            _refuse([length - self.max_length for length in lengths])
            return super().generate_until(requests, disable_tqdm)

    return Uncut


def _refuse(excess: list[int]) -> None:
    if cut := sum(tokens > 0 for tokens in excess):
        raise _TruncationError(cut)


def _rows(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is kept of each document: hashes and numbers, none of its text."""
    rows = []
    for sample in sorted(samples, key=lambda sample: int(sample["doc_id"])):
        text = json.dumps(sample["doc"], sort_keys=True, default=str)
        row = {
            "doc": sample["doc_id"],
            "hash": hashlib.sha256(text.encode()).hexdigest(),
            "metrics": {name: float(sample[name]) for name in sample["metrics"]},
        }
        if isinstance(sample["target"], int | str) and str(sample["target"]).isdigit():
            row["target"] = int(sample["target"])
        if all(len(response) == 2 for response in sample["filtered_resps"]):
            row["loglikelihoods"] = [float(value) for value, _ in sample["filtered_resps"]]
            row["bytes"] = [len(argument[1].encode()) for argument in sample["arguments"]]
        rows.append(row)
    return rows


_COMMANDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "prepare_speed": prepare_speed,
    "speed": speed,
    "prepare_quality": prepare_quality,
    "quality": quality,
}


def main() -> None:
    """Answers requests until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print; only replies may reach the caller
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = json.dumps({"ok": _COMMANDS[request.pop("do")](request)})
        except SystemExit as stop:  # argparse refuses an argument
            reply = json.dumps({"error": f"exit {stop.code}"})
        except Exception as error:  # the caller decides what a failure means  # noqa: BLE001
            traceback.print_exc()
            reply = json.dumps({"error": f"{type(error).__name__}: {error}"})
        replies.write(reply + "\n")


if __name__ == "__main__":
    main()
