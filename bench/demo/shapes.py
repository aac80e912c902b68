"""Shapes: a published model's configuration without its weights, to measure speed with random ones.

How fast a model is served depends on its shape, the number format and the kernel, hardly on the
weights' values; so a shape with `load_format = "dummy"` shows what a format and a kernel do to
the speed of a model whose weights cannot be had here. It says nothing of quality.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from bench import places
from bench.demo import inputs
from bench.engine.installed import Engine
from bench.progress import step
from bench.records.record import ModelFacts
from bench.weights.checkpoint import Checkpoint

TOKENIZER = f"{inputs.PREFIX}bf16"
# The published configuration of Qwen/Qwen3-8B.
QWEN3_8B: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000,
    "rope_scaling": None,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
AWQ = {
    "quant_method": "awq",
    "version": "gemm",
    "bits": 4,
    "group_size": 128,
    "zero_point": True,
    "modules_to_not_convert": None,
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-8b-shape": QWEN3_8B,
    "qwen3-8b-shape-awq": QWEN3_8B | {"torch_dtype": "float16", "quantization_config": AWQ},
}


def checkpoint(engine: Engine, name: str) -> Checkpoint:
    """A folder with the configuration of a shape and a tokenizer, made where not yet there.

    Args:
        engine: its environment makes the bundled model whose tokenizer is borrowed.
        name: one of `SHAPES`.

    Raises:
        WeightsError: the tokenizer cannot be had.
    """
    config = json.dumps(SHAPES[name], indent=2) + "\n"
    tokenizer = inputs.checkpoints(engine, [TOKENIZER])[TOKENIZER].path
    digest = hashlib.sha256(f"{config}{tokenizer}".encode()).hexdigest()
    folder = places.cache("checkpoints", "shapes") / f"{name}-{digest[:12]}"
    if not folder.exists():
        with step(f"making the configuration {name}"):
            make(folder, config, tokenizer)
    facts = ModelFacts(
        source="random",
        bundled=name,
        derivation="the configuration of Qwen/Qwen3-8B with random weights made by the server"
        " (load_format dummy); prompts are made by the tokenizer of SmolLM2-135M-Instruct, whose"
        " ids, all below 49,152, are also ids of this vocabulary of 151,936",
        files=inputs.model_files(folder),
        quantization_config=SHAPES[name].get("quantization_config"),
        license=inputs.MODEL.license,
    )
    return Checkpoint(folder, folder, facts)


def make(folder: Path, config: str, tokenizer: Path) -> None:
    """Makes a folder with a configuration and the tokenizer of another checkpoint."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    for path in tokenizer.glob("*token*"):
        shutil.copyfile(path, partial / path.name)
    if (template := tokenizer / "chat_template.jinja").exists():
        shutil.copyfile(template, partial / template.name)
    (partial / "config.json").write_text(config, encoding="utf-8")
    partial.rename(folder)
