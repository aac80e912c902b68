"""Which GGUF files may be measured, and what such a file says of itself.

A GGUF file does not say how its tensors have to be read: that is a convention between llama.cpp's
converter and whoever loads the file, one for each architecture. vllm-gguf-plugin keeps it for some
and breaks it for others without a word: a model that was loaded wrongly answers fluently, only
worse, and would stand in the report as what quantization cost. So what was not checked is refused.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import WeightsError
from bench.weights import formats, headers
from bench.weights.checkpoint import Checkpoint

PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")  # its number, and how many there are
_ASIDE = "measure its safetensors, or check the architecture and add it to bench/weights/gguf.py"


@dataclass(frozen=True)
class Architecture:
    """One kind of model, as the file names it in general.architecture.

    Attributes:
        models: the `model_type` of the configurations that it was checked with.
        put_back: whether llama.cpp stores the rows of attn_q and attn_k in another order; the
            plugin in bench/engine/plugin has the same list.
        checked: how; see docs/gguf.md.
    """

    models: tuple[str, ...]
    put_back: bool
    checked: str


_SMALL = "a small random model by llama.cpp's converter in Q8_0, as transformers loads it"
ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(
        ("llama",), True, "SmolLM2-135M-Instruct in Q4_1, as transformers loads it; " + _SMALL
    ),
    "qwen2": Architecture(("qwen2",), False, _SMALL),
    "qwen3": Architecture(("qwen3",), False, _SMALL),
    "phi3": Architecture(("phi3",), False, _SMALL),
    "gemma3": Architecture(
        ("gemma3_text",),
        False,
        "gemma-3-270m in Q4_K_M, as transformers loads it; a small random model with a window of "
        "64 tokens in Q8_0, as the model that it was made from",
    ),
}
# Those that were tried and are not served at all, by vllm-gguf-plugin 0.0.5 with transformers 5.19.
REFUSED = {
    "gemma2": "vllm-gguf-plugin knows no place for its lm_head.weight",
    "qwen2moe": "vllm-gguf-plugin knows no place for its experts' gate_up_proj",
    "qwen3moe": "vllm-gguf-plugin knows no place for its experts' gate_up_proj",
}
# The types of tensors that vllm-gguf-plugin 0.0.5 unpacks (its quantization/utils.py).
TYPES = frozenset(
    (
        *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1"),
        *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_M", "IQ1_S", "IQ2_XXS", "IQ2_XS"),
        *("IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "IQ4_NL"),
    )
)


def checked(found: Checkpoint) -> Checkpoint:
    """The checkpoint of a GGUF file, with what its header says in its facts.

    Raises:
        WeightsError: as `check`.
    """
    check(found.path, found.tokenizer)
    parameters, how = describe(found.path)
    stated = {"parameters": parameters, "quantization_config": how}
    return replace(found, facts=found.facts.model_copy(update=stated))


def check(path: Path, tokenizer: Path) -> None:
    """Raises WeightsError unless the engine is known to load such a file rightly.

    Args:
        tokenizer: the folder with the configuration and the tokenizer that go with it.
    """
    header = _read(path)
    for part in parts(path):
        check_header(_read(part), part.name, header)
    _check_configuration(header, path.name, tokenizer)


def check_header(header: headers.Gguf, name: str, first: headers.Gguf | None = None) -> None:
    """Raises WeightsError unless files of this architecture and type are loaded rightly.

    Args:
        name: the file's, for the message.
        first: of a split file, the header of its first part, which alone has the architecture.
    """
    _check_architecture(first or header, name)
    if unknown := sorted(header.types.keys() - TYPES):
        raise WeightsError(
            f"{name} has tensors in {', '.join(unknown)}, which the engine does not load",
            "choose another file: Q8_0, the K types (Q4_K_M) and the IQ types are loaded",
        )


def _check_architecture(header: headers.Gguf, name: str) -> None:
    architecture = _architecture(header)
    if architecture in ARCHITECTURES:
        return
    if architecture == "clip":
        raise WeightsError(
            f"{name} is a projector (mmproj), which reads pictures for a model, and no model",
            "name the model's own file",
        )
    if why := REFUSED.get(architecture):
        raise WeightsError(
            f"{name}: the engine does not load GGUF files of the architecture {architecture!r}: "
            f"{why}",
            "measure its safetensors",
        )
    raise WeightsError(
        f"{name}: whether the engine loads GGUF files of the architecture {architecture!r} rightly "
        f"was not checked; {', '.join(sorted(ARCHITECTURES))} were",
        _ASIDE,
    )


def _check_configuration(header: headers.Gguf, name: str, folder: Path) -> None:
    """Raises WeightsError where the tokenizer's folder configures another model than the file.

    The engine takes the model's configuration from there: layers, heads, rotation.
    """
    stated, architecture = header.values, _architecture(header)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") not in ARCHITECTURES[architecture].models:
        raise WeightsError(
            f"the tokenizer's repository has the configuration of a {config.get('model_type')}, "
            f"{name} is a {architecture}",
            "name the repository of the model that the file was made from",
        )
    rotation = config.get("rope_parameters") or {}
    base = config.get("rope_theta") or rotation.get("rope_theta")
    for ours, theirs, what in (
        (config.get("num_hidden_layers"), "block_count", "layers"),
        (config.get("hidden_size"), "embedding_length", "hidden size"),
        (config.get("num_attention_heads"), "attention.head_count", "attention heads"),
        (config.get("num_key_value_heads"), "attention.head_count_kv", "key and value heads"),
        (base, "rope.freq_base", "rope's base"),
    ):
        found = stated.get(f"{architecture}.{theirs}")
        if ours is not None and found is not None and ours != found:
            raise WeightsError(
                f"{name} has {found:g} as {what}, its tokenizer's configuration {ours:g}",
                "name the repository of the model that the file was made from",
            )


def describe(path: Path) -> tuple[int | None, dict[str, Any]]:
    """How many parameters a file holds, all its parts together, and how they are quantized."""
    found = [_read(part) for part in parts(path)]
    counts = [header.parameters for header in found]
    known = [count for count in counts if count is not None]
    types: Counter[str] = Counter()
    for header in found:
        types.update(header.types)
    how = {
        "quant_method": "gguf",
        "architecture": _architecture(found[0]),
        "file_type": formats.of_gguf(found[0]).name.removeprefix("GGUF").strip() or None,
        "tensors": dict(sorted(types.items())),
    }
    return sum(known) if len(known) == len(counts) else None, how


def parts(path: Path) -> list[Path]:
    """The file itself, or all files of one that is split."""
    return [path.with_name(name) for name in part_names(path.name)]


def part_names(name: str) -> list[str]:
    """The file's own name, or those of all files of one that is split."""
    split = PART.search(name)
    if not split:
        return [name]
    stem, last = name[: split.start()], split[2]
    return [f"{stem}-{n:05d}-of-{last}.gguf" for n in range(1, int(last) + 1)]


def _read(path: Path) -> headers.Gguf:
    with path.open("rb") as file:
        return headers.gguf(file.read(headers.GGUF_BYTES), path.stat().st_size)


def _architecture(header: headers.Gguf) -> str:
    return str(header.values.get("general.architecture"))
