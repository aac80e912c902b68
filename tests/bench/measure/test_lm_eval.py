"""lm-eval's own tasks of every kind, to the record, against a server whose answers are known."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import completions
import pytest
import small_tokenizers
from completions import EACH
from targets import target
from task_documents import (
    ARC,
    CHOICES,
    GSM8K,
    IFEVAL,
    LAMBADA,
    PAGES,
    TRIVIAQA,
    TRUTHFULQA,
    WIKITEXT,
)

from bench.config import Generation, QualityOptions, TaskOptions
from bench.engine import installed
from bench.errors import MeasurementError
from bench.measure import quality
from bench.measure.client import Client, TaskRefusedError
from bench.measure.tasks import TaskData
from bench.records.record import QualityResult, TaskResult
from bench.records.sidecars import find_fault

pytestmark = pytest.mark.engine

SPLITS = ("train", "validation", "test", "dev")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A worker that reaches no Hub."""
    folder = tmp_path_factory.mktemp("worker")
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    environment["NO_PROXY"] = "127.0.0.1,localhost"
    with Client(installed.ensure("cpu"), environment, folder / "client.log") as client:
        yield client


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that begins texts with BOS."""
    return small_tokenizers.make(tmp_path_factory.mktemp("tokenizer") / "bos", before=True)


def load(
    client: Client, folder: Path, table: TaskOptions, documents: list[dict[str, Any]]
) -> dict[str, TaskData]:
    """The worker's task, with these documents in every split."""
    file = folder / f"{table.name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in documents))
    loading = {
        "files": {table.name: dict.fromkeys(SPLITS, str(file))},
        "num_fewshot": table.num_fewshot,
        "generation": table.generation.model_dump(mode="json", exclude_none=True),
    }
    client.send("prepare_quality", tasks={table.name: loading})
    return {
        name: TaskData(found["documents"], found["dataset"], found["asked"])
        for name, found in client.receive().items()
    }


@contextlib.contextmanager
def _watch() -> Iterator[Any]:
    yield SimpleNamespace(result=lambda _: None)


def ask(
    client: Client, url: str, tokenizer: Path, options: QualityOptions, tasks: dict[str, TaskData]
) -> tuple[QualityResult, list[list[dict[str, Any]]]]:
    """The stage's result and its sidecars' rows, each as ingest would take it."""
    asked = target(url, "model", tokenizer)
    asked.server.__dict__["check"] = lambda: None
    result, sidecars = quality.measure(
        client, asked, options, tasks, answered={}, max_model_len=8192, watch=_watch, note=print
    )
    rows = []
    for task, data in zip(result.tasks, sidecars, strict=True):
        text = gzip.decompress(data)
        found: Any = SimpleNamespace(speed=None, quality=result)
        assert find_fault(found, task.samples, text) is None
        rows.append(json.loads(text))
    return result, rows


def measured(
    client: Client,
    folder: Path,
    tokenizer: Path,
    table: TaskOptions,
    documents: list[dict[str, Any]],
    text: Callable[[dict[str, Any]], str] = lambda _: " #### 3",
) -> tuple[TaskResult, list[dict[str, Any]], completions.Asked]:
    """One task's result, its rows, and what the server was asked."""
    tasks = load(client, folder, table, documents)
    options = QualityOptions(tasks=(), task=(table,), documents="all")
    with completions.serving(text) as (url, asked):
        result, [rows] = ask(client, url, tokenizer, options, tasks)
    assert result.special_tokens is not None
    assert result.special_tokens.before == (small_tokenizers.BOS,)
    return result.tasks[0], rows, asked


def of(task: TaskResult) -> dict[str, tuple[float, str | None, bool | None]]:
    """Each metric's value, unit and direction."""
    return {
        metric.name: (round(metric.value, 9), metric.unit, metric.higher_is_better)
        for metric in task.metrics
    }


def test_both_filters_of_gsm8k(client: Client, tmp_path: Path, tokenizer: Path) -> None:
    table = TaskOptions(name="gsm8k", num_fewshot=1)
    task, rows, asked = measured(
        client, tmp_path, tokenizer, table, GSM8K, lambda _: " That makes 3."
    )
    assert of(task) == {
        "exact_match,flexible-extract": (0.5, "share", True),
        "exact_match,strict-match": (0.0, "share", True),
    }
    assert [row["exact_match,flexible-extract"] for row in rows] == [1, 0]
    assert (task.num_fewshot, task.output_type, task.choices) == (1, "generate_until", None)
    assert task.generation is not None
    assert task.generation["temperature"] == 0.0
    assert [prompt.count(small_tokenizers.BOS) for prompt in asked.prompts] == [1, 1]
    assert all(prompt[0] == small_tokenizers.BOS for prompt in asked.prompts)
    assert bytes(asked.prompts[0][1:]).count(b"Question:") == 2


def test_the_tasks_own_examples_unless_given(
    client: Client, tmp_path: Path, tokenizer: Path
) -> None:
    table = TaskOptions(name="gsm8k")
    task, _, _ = measured(client, tmp_path, tokenizer, table, GSM8K * 4)
    assert task.num_fewshot == 5


def test_instructions_of_ifeval(client: Client, tmp_path: Path, tokenizer: Path) -> None:
    table = TaskOptions(name="ifeval")
    task, rows, _ = measured(client, tmp_path, tokenizer, table, IFEVAL, lambda _: "no end")
    assert of(task) == {
        "inst_level_loose_acc": (0.666666667, "share", True),
        "inst_level_strict_acc": (0.666666667, "share", True),
        "prompt_level_loose_acc": (0.5, "share", True),
        "prompt_level_strict_acc": (0.5, "share", True),
    }
    assert [row["inst_level_strict_acc"] for row in rows] == [[1], [1, 0]]
    assert {metric.aggregation for metric in task.metrics} == {"mean"}


def test_perplexities_of_wikitext(client: Client, tmp_path: Path, tokenizer: Path) -> None:
    table = TaskOptions(name="wikitext")
    task, rows, _ = measured(client, tmp_path, tokenizer, table, WIKITEXT)
    # A token for each byte, and BOS, which stands before the text as lm-eval's prefix does.
    nats = -EACH * sum(len(page) + 1 for page in PAGES)
    words = sum(len(page.split()) for page in PAGES)
    n_bytes = sum(map(len, PAGES))
    assert of(task) == {
        "bits_per_byte": (round(nats / n_bytes / math.log(2), 9), "bits per byte", False),
        "byte_perplexity": (round(math.exp(nats / n_bytes), 9), "perplexity", False),
        "word_perplexity": (round(math.exp(nats / words), 9), "perplexity", False),
    }
    assert [row["word_perplexity"][1] for row in rows] == [6, 2]
    assert task.output_type == "loglikelihood_rolling"


def test_lambada(client: Client, tmp_path: Path, tokenizer: Path) -> None:
    table = TaskOptions(name="lambada_openai")
    task, rows, _ = measured(client, tmp_path, tokenizer, table, LAMBADA)
    assert of(task) == {
        "acc": (1.0, "share", True),
        "perplexity": (round(math.exp(-EACH * (6 + 5) / 2), 9), "perplexity", False),
    }
    assert [row["loglikelihoods"] for row in rows] == [[6 * EACH], [5 * EACH]]
    assert "target" not in rows[0]


def test_several_right_answers_of_triviaqa(client: Client, tmp_path: Path, tokenizer: Path) -> None:
    table = TaskOptions(name="triviaqa", num_fewshot=0)
    task, rows, _ = measured(client, tmp_path, tokenizer, table, TRIVIAQA, lambda _: " roma")
    assert of(task) == {"exact_match,remove_whitespace": (0.5, "share", True)}
    assert [row["exact_match,remove_whitespace"] for row in rows] == [0, 1]


def test_choices_that_differ_have_no_number(
    client: Client, tmp_path: Path, tokenizer: Path
) -> None:
    table = TaskOptions(name="arc_challenge", num_fewshot=0)
    task, rows, _ = measured(client, tmp_path, tokenizer, table, ARC)
    assert of(task)["acc"] == (0.5, "share", True)
    assert task.choices is None
    assert [(row["target"], len(row["loglikelihoods"])) for row in rows] == [(2, 4), (0, 3)]


def test_several_true_choices_of_truthfulqa(
    client: Client, tmp_path: Path, tokenizer: Path
) -> None:
    task, rows, _ = measured(
        client, tmp_path, tokenizer, TaskOptions(name="truthfulqa_mc2"), TRUTHFULQA
    )
    masses = [math.exp(EACH * (len(choice) + 1)) for choice in CHOICES]
    assert of(task)["acc"] == (round(sum(masses[:2]) / sum(masses), 9), "share", True)
    assert "target" not in rows[0], "its share of the right is not that of one choice"
    assert task.choices == 3


SCHEMA = {"sentence": "He saw it so _ left.", "option1": "Ann", "option2": "Bob", "answer": "2"}


@pytest.mark.parametrize(
    ("name", "document", "text"),
    [
        ("arc_challenge", ARC[0], "Question: What?\nAnswer: c"),
        ("gsm8k", GSM8K[0], "Question: 3 and 0?\nAnswer: Count. #### 3"),
        ("lambada_openai", LAMBADA[0], "She mixes the dough"),
        ("triviaqa", TRIVIAQA[0], "Question: Where?\nAnswer: Paris"),
        ("wikitext", WIKITEXT[1], "Nobody waits."),
        ("winogrande", SCHEMA, "He saw it so Bob left."),
    ],
)
def test_a_documents_own_text_is_its_question_with_the_right_answer(
    name: str,
    document: dict[str, Any],
    text: str,
    client: Client,
    tmp_path: Path,
    tokenizer: Path,
) -> None:
    """Without the examples and the template that the task is asked with."""
    # Where examples come from the same split, lm-eval leaves out what equals the document.
    examples = 1 if name in ("arc_challenge", "gsm8k") else 0
    table = TaskOptions(name=name, num_fewshot=examples)
    task, rows, asked = measured(client, tmp_path, tokenizer, table, [document] * 3)
    assert task.texts == 3
    assert [tokens[0] for tokens in asked.texts] == [small_tokenizers.BOS] * 3
    assert [bytes(tokens[1:]).decode() for tokens in asked.texts] == [text] * 3
    for row in rows:
        assert row["text"]["tokens"] == len(text.encode())
        assert row["text"]["logprob"] == pytest.approx(EACH * len(text.encode()))


def test_a_chat_template_brings_the_only_bos(
    client: Client, tmp_path: Path, tokenizer: Path
) -> None:
    table = TaskOptions(
        name="gsm8k",
        num_fewshot=1,
        apply_chat_template=True,
        system_instruction="Be brief.",
        chat_template_arguments={"thinking": True},
        think_end_token="</think>",
        generation=Generation(temperature=0.6, top_p=0.9, max_gen_toks=64),
    )
    thought = " Perhaps\n\nQuestion: #### 4 </think> #### 3"
    task, _, asked = measured(client, tmp_path, tokenizer, table, GSM8K, lambda _: thought)
    assert of(task)["exact_match,strict-match"] == (0.5, "share", True)
    assert [prompt.count(small_tokenizers.BOS) for prompt in asked.prompts] == [1, 1]
    text = bytes(asked.prompts[0][1:]).decode()
    assert text.startswith("<system>Be brief.<user>Question:")
    assert text.endswith("<think>")
    assert "<assistant>" in text
    body = asked.bodies[0]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.6, 0.9, 64)
    assert body["stop"] == [], "what ends an answer may be in a thought"
    assert task.apply_chat_template


def test_each_document_is_asked_with_every_seed(
    client: Client, tmp_path: Path, tokenizer: Path
) -> None:
    table = TaskOptions(
        name="gsm8k", num_fewshot=0, seeds=3, generation=Generation(temperature=1.0)
    )
    task, rows, asked = measured(
        client, tmp_path, tokenizer, table, GSM8K, lambda body: f" #### {body['seed'] - 1231}"
    )  # 3, 4, 5
    assert task.sampling_seeds == (1234, 1235, 1236)
    assert sorted({body["seed"] for body in asked.bodies}) == [1234, 1235, 1236]
    name = "exact_match,strict-match"
    assert [row["by_seed"][name] for row in rows] == [[1, 0, 0], [0, 1, 0]]
    assert [row[name] for row in rows] == [pytest.approx(1 / 3)] * 2
    [metric] = [metric for metric in task.metrics if metric.name == name]
    assert metric.value == pytest.approx(1 / 3)
    assert metric.stderr == pytest.approx(0, abs=1e-12)
    assert (metric.unit, metric.aggregation) == ("share", "mean")


@pytest.mark.parametrize(
    ("before", "after"), [(True, False), (False, False), (True, True), (False, True)]
)
def test_special_tokens_are_the_tokenizers_own(
    client: Client, tmp_path: Path, before: bool, after: bool
) -> None:
    folder = small_tokenizers.make(tmp_path / "tokenizer", before=before, after=after)
    table = TaskOptions(name="gsm8k", num_fewshot=0)
    tasks = load(client, tmp_path, table, GSM8K)
    options = QualityOptions(tasks=(), task=(table,), documents="all")
    with completions.serving() as (url, asked):
        result, _ = ask(client, url, folder, options, tasks)
    assert result.special_tokens is not None
    assert result.special_tokens.before == (small_tokenizers.BOS,) * before
    assert result.special_tokens.after == (small_tokenizers.EOS,) * after
    for prompt in asked.prompts:
        assert prompt.count(small_tokenizers.BOS) == before
        assert prompt.count(small_tokenizers.EOS) == after
        assert (prompt[0] == small_tokenizers.BOS) == before
        assert (prompt[-1] == small_tokenizers.EOS) == after


@pytest.mark.parametrize(
    ("name", "document", "reason"),
    [
        (
            "humaneval",
            {"task_id": "a/0", "prompt": "x", "canonical_solution": "y", "test": "z",
             "entry_point": "f"},
            "humaneval runs code that the model wrote",
        ),
        (
            "wmt14-en-fr",
            {"translation": {"en": "one", "fr": "un"}},
            "its metric bleu is no number or list of numbers",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_when_it_is_loaded(
    client: Client, tmp_path: Path, name: str, document: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TaskRefusedError, match=reason):
        load(client, tmp_path, TaskOptions(name=name), [document])


def test_a_task_that_fails_at_its_first_document_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="answer"):
        load(client, tmp_path, TaskOptions(name="gsm8k"), [{"question": "Why?"}])
