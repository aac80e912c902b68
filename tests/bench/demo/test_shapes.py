"""Shapes are what Hugging Face's own configuration class makes of them, and are marked random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from bench import config
from bench.demo import shapes
from bench.engine import installed
from bench.modelsfile import problems

GPU = Path(shapes.__file__).with_name("gpu.toml")
# Weights of Qwen/Qwen3-8B as its card counts them: 8.2 billion.
PARAMETERS = 8_190_735_360


def count(shape: dict[str, int]) -> int:
    """The parameters of a Qwen3 model of this shape."""
    hidden, head = shape["hidden_size"], shape["head_dim"]
    query, value = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    attention = hidden * (query + 2 * value) + query * hidden + 2 * head
    layer = attention + 3 * hidden * shape["intermediate_size"] + 2 * hidden
    return shape["num_hidden_layers"] * layer + 2 * shape["vocab_size"] * hidden + hidden


def test_the_shape_has_the_published_number_of_parameters() -> None:
    assert count(shapes.QWEN3_8B) == PARAMETERS


def test_every_shape_is_known_to_the_configuration() -> None:
    assert tuple(shapes.SHAPES) == config.SHAPES
    assert set(config.SHAPES) < set(get_args(config.Bundled))


def test_the_gpu_demo_is_valid_and_measures_no_quality_of_random_weights() -> None:
    experiment = problems.load_experiment(GPU)
    shaped = [variant for variant in experiment.variant if variant.bundled in config.SHAPES]
    assert shaped
    assert all(variant.stages == ("speed",) for variant in shaped)


def test_a_shape_folder_holds_the_configuration_and_the_tokenizer_only(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"):
        (base / name).write_text("{}")
    config_text = json.dumps(shapes.SHAPES["qwen3-8b-shape-awq"])
    shapes.make(tmp_path / "shape", config_text, base)
    made = {path.name: path.read_text() for path in (tmp_path / "shape").iterdir()}
    assert made == {
        "config.json": config_text,
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
    }


def test_an_environment_prepared_elsewhere_gives_its_own_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"vllm": "0.25.0+cu130", "lm_eval": "0.4.13"}\'\n')
    python.chmod(0o755)
    locked = installed.version("cuda")
    monkeypatch.setenv("BENCH_ENGINE_PYTHON", str(python))
    assert installed.version("cuda") == "0.25.0" != locked
    assert problems.load_experiment(GPU).variant  # no table of 0.25.0's options: its parser decides
