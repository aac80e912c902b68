"""Tasks of every kind from models.toml to the page: lm-eval asks a server of known answers.

The Hub has their data sets in a few hand-written documents; nothing else is made up.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import hub_server
import pytest
import small_tokenizers
import standin_engine
import task_documents
from bench_runs import Place

from bench.engine import installed
from bench.records import store
from bench.records.record import Record
from report.site import build

pytestmark = pytest.mark.engine

MODELS = """
[serve]
max_model_len = 8192
[quality]
tasks = ["arc_challenge", "mmlu", "triviaqa"]
documents = "all"
[[quality.task]]
name = "gsm8k"
num_fewshot = 1
[[quality.task]]
name = "ifeval"
[[quality.task]]
name = "lambada_openai"
[[quality.task]]
name = "truthfulqa_mc2"
[[quality.task]]
name = "wikitext"
[[quality.task]]
name = "gsm8k_cot_llama"
apply_chat_template = true
[[hardware]]
id = "cpu"
name = "Here"
engine = "cpu"
runner = ["x"]
gpus = 0
[[family]]
name = "Small"
baseline = "A"
[[variant]]
name = "A"
family = "Small"
repo = "small/a"
stages = ["quality"]
[[variant]]
name = "B"
family = "Small"
repo = "small/b"
stages = ["quality"]
"""
_PATIENCE_S = 900  # lm-eval is imported, and MMLU is 57 data sets; half a minute if idle
# Of every token, and what is written after which words.
EACH = {"a": -0.5, "b": -0.6}
WRITES = {
    "a": {
        "3 and 0?": "Count. #### 3. The final answer is 3",
        "4 and 0?": "That makes 4",
        "Where": " roma",
        "No commas.": "no end",
        "end well.": "all is well",
    },
    "b": {
        "3 and 0?": "Count. #### 3",
        "4 and 0?": "That makes 5",
        "Where": " oslo",
        "No commas.": "no, none",
        "end well.": "all is well",
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """What one `bench run` of both variants and `bench report` leave."""
    folder = tmp_path_factory.mktemp("tasks")
    python = standin_engine.make_server(folder / "engine", installed.ensure("cpu").python)
    found = Place(folder, python)
    (folder / "models.toml").write_text(MODELS)
    answers = {name: {"each": EACH[name], "writes": WRITES[name]} for name in EACH}
    (folder / "standin" / "answers.json").write_text(json.dumps(answers))
    repos = {}
    for name, files in task_documents.repositories().items():
        repos[f"datasets/{name}"] = hub_server.Repo.of(files)
    for name in EACH:
        model = small_tokenizers.make(folder / "models" / name, before=True)
        (model / "model.safetensors").write_bytes(f"weights of {name}".encode())
        repos[f"small/{name}"] = hub_server.Repo.of_folder(model)
    with hub_server.serve(repos) as hub:
        del found.environment["HF_HUB_OFFLINE"]
        process = found.start(HF_ENDPOINT=hub.url, NO_PROXY="127.0.0.1,localhost")
        said = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, said
    found.check_nothing_left()
    build.build(found.results, folder / "site", renderer="pandoc", reference=None)
    yield found


@pytest.fixture(scope="module")
def page(place: Place) -> str:
    """The quality page."""
    return (place.folder / "site" / "quality.html").read_text()


def expected(name: str) -> dict[tuple[str, str], tuple[float, str, str]]:
    """By task and metric: the value, a share in per cent, with its unit and which way is better."""
    is_a, each = name == "a", EACH[name]
    pages = task_documents.PAGES
    nats = -each * sum(len(page) + 1 for page in pages)  # a token a byte, and BOS
    n_words, n_bytes = (sum(map(len, parts)) for parts in ([p.split() for p in pages], pages))
    masses = [math.exp(each * (len(choice) + 1)) for choice in task_documents.CHOICES]
    mc2 = sum(masses[:2]) / sum(masses)
    subjects = len(task_documents.SUBJECTS)
    lambada = math.exp(-each * (6 + 5) / 2)
    higher = {
        ("gsm8k", "exact_match,strict-match"): 0.5,
        ("gsm8k", "exact_match,flexible-extract"): 1.0 if is_a else 0.5,
        ("gsm8k_cot_llama", "exact_match,strict-match"): 0.5 if is_a else 0.0,
        ("gsm8k_cot_llama", "exact_match,flexible-extract"): 1.0 if is_a else 0.5,
        ("ifeval", "inst_level_loose_acc"): 1.0 if is_a else 2 / 3,
        ("ifeval", "inst_level_strict_acc"): 1.0 if is_a else 2 / 3,
        ("ifeval", "prompt_level_loose_acc"): 1.0 if is_a else 0.5,
        ("ifeval", "prompt_level_strict_acc"): 1.0 if is_a else 0.5,
        ("lambada_openai", "acc"): 1.0,
        ("triviaqa", "exact_match,remove_whitespace"): 0.5 if is_a else 0.0,
        ("arc_challenge", "acc"): 0.5,
        ("arc_challenge", "acc_norm"): 0.5,
        ("mmlu", "acc"): math.ceil(subjects / 4) / subjects,  # the first of equals is taken
        ("truthfulqa_mc2", "acc"): mc2,
    }
    lower = {
        ("lambada_openai", "perplexity"): (lambada, "perplexity"),
        ("wikitext", "word_perplexity"): (math.exp(nats / n_words), "perplexity"),
        ("wikitext", "byte_perplexity"): (math.exp(nats / n_bytes), "perplexity"),
        ("wikitext", "bits_per_byte"): (nats / n_bytes / math.log(2), "bits per byte"),
    }
    return {
        **{key: (100 * value, "%", "higher") for key, value in higher.items()},
        **{key: (value, unit, "lower") for key, (value, unit) in lower.items()},
    }


def shown(page: str, variant: str) -> dict[tuple[str, str], tuple[float, str, str]]:
    """The same as the page has it."""
    found = {}
    for table in re.findall(r"<table id=\"quality-cpu_.*?</table>", page, re.DOTALL):
        caption = re.search(r"<caption>(\S+), (\S+), on Here</caption>", table)
        head = re.search(r'<th [^>]*data-key="value"[^>]*>.*?</th>', table)
        row = re.search(rf'<tr [^>]*data-variant="{variant}".*?</tr>', table, re.DOTALL)
        assert caption and head and row, table
        better = re.search(r'data-better="(\w+)"', head[0])
        unit = re.search(r'class="unit">(.*?)<', head[0])
        value = re.search(r'data-label="Score[^>]*>([\d.,]+)<', row[0])
        assert better and unit and value, table
        found[caption[1], caption[2]] = (float(value[1].replace(",", "")), unit[1], better[1])
    return found


@pytest.mark.parametrize("name", EACH)
def test_every_score_stands_on_the_page_with_its_unit_and_direction(page: str, name: str) -> None:
    found, told = shown(page, name), expected(name)
    assert found.keys() == told.keys()
    for key, (value, *words) in told.items():
        assert found[key][0] == pytest.approx(value, rel=1e-3, abs=0.005), key
        assert [*found[key][1:]] == words, key


def test_what_was_asked_is_recorded_and_told(place: Place, page: str) -> None:
    records: list[Record] = [record for _, record in store.records(place.results)]
    for record in records:
        assert record.quality is not None
        tasks = {task.name: task for task in record.quality.tasks}
        assert len(tasks) == 8 + len(task_documents.SUBJECTS)
        assert all(
            re.fullmatch("[0-9a-f]{40}", task.dataset_revision or "") for task in tasks.values()
        )
        assert "mmlu" in [group.name for group in record.quality.groups if group.metrics]
        chat = tasks["gsm8k_cot_llama"]
        assert (chat.apply_chat_template, chat.num_fewshot) == (True, 8)
    assert "8-shot, in the model's chat template" in page
    assert page.count("mmlu_anatomy") == 1, "a group's tasks are described in one table"
    assert "<summary>The 57 tasks of mmlu</summary>" in page
    kept = re.search(r'<table id="kept-cpu_small".*?</table>', page, re.DOTALL)
    assert kept
    theirs, own = (expected(name)["wikitext", "word_perplexity"][0] for name in EACH)
    share = theirs / own
    assert re.search(rf'data-label="wikitext, %">{100 * share:.1f}<', kept[0])
