"""models.toml's models: closed and frozen; what applies where; names as slugs."""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from typing import Any

import jsonschema
import pytest
from folders import ROOT
from hypothesis import given
from hypothesis import strategies as st
from models_texts import LAYERS, VALID
from pydantic import ValidationError

from bench import config
from bench.config import (
    Generation,
    QualityOptions,
    ServeOptions,
    SpeedOptions,
    TaskOptions,
    parse,
    slug,
)
from bench.modelsfile import problems

NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9 .,_+()-]{0,79}\Z")


@given(NAMES)
def test_a_slug_of_a_slug_is_itself_and_safe_anywhere(name: str) -> None:
    made = slug(name)
    assert slug(made) == made
    assert made.isascii()
    assert made.replace("-", "a").isalnum()
    assert made == made.lower().strip("-")
    assert "--" not in made
    assert len(made) <= 80


@given(st.lists(NAMES, min_size=2, max_size=4))
def test_two_names_never_share_a_file(names: list[str]) -> None:
    """The slug is not injective, so a models.toml where two names meet is refused."""
    families = "".join(f'[[family]]\nname = "{name}"\nbaseline = "x"\n' for name in names)
    found = problems.find_problems(f"{VALID}{families}")
    refused = [problem for problem in found if "is the same as" in problem.message]
    assert len(refused) == len(names) - len({slug(name) for name in names})


def test_later_layers_win_key_by_key() -> None:
    experiment = config.parse(config.Experiment, tomllib.loads(LAYERS))
    variant, only_b = experiment.variant
    a, b = experiment.hardware
    assert experiment.serve_options(variant, a) == ServeOptions(
        dtype="bfloat16", max_model_len=2048, block_size=16, max_num_seqs=2
    )
    assert experiment.serve_options(variant, b) == ServeOptions(
        dtype="auto", max_model_len=1024, block_size=16, max_num_seqs=2
    )
    assert experiment.speed_options(variant, a) == SpeedOptions(prompts=60, sessions=1, repeats=5)
    assert experiment.speed_options(variant, b) == SpeedOptions(prompts=60, sessions=1, repeats=4)
    assert experiment.quality_options(variant, a) == QualityOptions(
        documents="all", concurrency=4, data="hub"
    )
    assert experiment.quality_options(only_b, b) == QualityOptions(
        documents=10, concurrency=4, data="bundled"
    )
    assert list(experiment.pairs()) == [(variant, a), (variant, b), (only_b, b)]


def test_setting_a_default_explicitly_overrides_too() -> None:
    asked = SpeedOptions(prompts=50).merged(SpeedOptions(prompts=200))
    assert asked.prompts == 200
    assert SpeedOptions(prompts=50).merged(None, SpeedOptions(repeats=4)).prompts == 50


def test_models_are_frozen_and_closed() -> None:
    options = ServeOptions(dtype="half")
    with pytest.raises(ValidationError):
        options.dtype = "auto"
    with pytest.raises(ValidationError):
        ServeOptions(host="0.0.0.0")  # type: ignore[call-arg]  # noqa: S104


def test_no_server_option_runs_code_opens_a_port_or_names_a_place() -> None:
    """The allow-list is the schema: each new field is to be judged, and this list with it."""
    assert set(ServeOptions.model_fields) == {
        "dtype", "quantization", "linear_backend", "attention_backend", "moe_backend",
        "load_format", "kv_cache_dtype", "max_model_len", "max_num_seqs",
        "max_num_batched_tokens", "block_size", "gpu_memory_utilization", "cpu_offload_gb",
        "api_server_count", "enforce_eager", "tensor_parallel_size", "pipeline_parallel_size",
        "enable_expert_parallel", "distributed_executor_backend",
    }  # fmt: skip


def test_nothing_that_is_said_of_a_task_runs_code_or_names_a_place() -> None:
    assert set(TaskOptions.model_fields) == {
        "name", "num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "system_instruction",
        "chat_template_arguments", "think_end_token", "generation", "seeds", "documents",
        "selection",
    }  # fmt: skip
    assert set(Generation.model_fields) == {
        "temperature", "top_p", "top_k", "min_p", "max_gen_toks", "until", "repetition_penalty",
        "presence_penalty", "frequency_penalty",
    }  # fmt: skip


def test_tables_of_tasks_replace_the_default_and_stand_beside_what_is_named() -> None:
    table = {"name": "gsm8k", "documents": "all", "generation": {"temperature": 0.6}}
    alone = parse(QualityOptions, {"task": [table]})
    assert [asked.name for asked in alone.asked()] == ["gsm8k"]
    both = parse(QualityOptions, {"tasks": ["piqa"], "task": [table], "documents": 7})
    assert [(each.name, each.num_fewshot, each.documents) for each in both.asked()] == [
        ("piqa", 0, 7),
        ("gsm8k", None, "all"),
    ]
    assert [each.name for each in QualityOptions().asked()] == ["hellaswag"]
    assert "task" not in QualityOptions().model_dump(), "records' keys stay as they were"


@pytest.mark.parametrize(
    "table",
    [
        {"tasks": []},
        {"tasks": ["gsm8k"], "task": [{"name": "gsm8k"}]},
        {"task": [{"name": "gsm8k"}, {"name": "gsm8k"}]},
        {"task": [{"name": "gsm8k", "chat_template_arguments": {"a": [1]}}]},
        {"task": [{"name": "gsm8k", "generation": {"temperature": -1}}]},
        {"task": [{"name": "gsm8k", "generation": {"extra_body": "x"}}]},
    ],
    ids=str,
)
def test_what_is_no_question_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse(QualityOptions, table)


@pytest.mark.parametrize(
    "path",
    ["models.toml", "bench/demo/models.toml", "bench/demo/gpu.toml", "bench/demo/two-gpus.toml"],
    ids=str,
)
def test_the_committed_files_are_valid_for_the_program_and_for_editors(path: str) -> None:
    text = (ROOT / path).read_text()
    assert problems.find_problems(text) == []
    schema = config.schema()
    raw = json.loads(json.dumps(tomllib.loads(text)).replace("Infinity", "1e9"))
    jsonschema.validate(raw, schema)


def test_a_thousand_variants_on_a_machine_each_are_a_thousand_pairs() -> None:
    """In the file's order, and without asking each of a million whether it is one."""
    count = 1000
    machine = {"name": "H", "engine": "cpu", "runner": ["x"]}
    table = {
        "hardware": [{"id": f"h{i}", **machine} for i in range(count)],
        "family": [{"name": "F", "baseline": "V0"}],
        "variant": [
            {"name": f"V{i}", "family": "F", "repo": "a/b", "hardware": [f"h{count - 1 - i}"]}
            for i in range(count)
        ],
    }
    experiment = config.parse(config.Experiment, table)
    looked = Counter[str]()
    found = []
    sys.setprofile(lambda _, event, __: looked.update([event]))
    try:
        found = list(experiment.pairs())
    finally:
        sys.setprofile(None)
    assert [hardware.id for _, hardware in found] == [f"h{i}" for i in range(count)]
    assert [variant.name for variant, _ in found] == [f"V{count - 1 - i}" for i in range(count)]
    assert looked.total() < 20 * count
