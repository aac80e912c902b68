"""What a checkpoint says of itself without its weights: headers and configuration, a few MB.

checkpoints.json keeps these facts for the variants of models.toml, so that `bench plan` can tell
what fits on a clean clone without the network. Each entry says where it comes from. A project
elsewhere keeps a file of its own at the same path, bench/weights/checkpoints.json.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench import places
from bench.config import Variant
from bench.errors import ConfigError
from bench.weights import formats, headers
from bench.weights.formats import Format

KNOWN = Path(__file__).with_name("checkpoints.json")
_FLOATS = {"F64", "F32", "F16", "BF16"}
# Architectures whose KV cache is not layers × heads × dimensions: latent, recurrent, hybrid.
_OTHER_CACHES = ("kv_lora", "ssm", "mamba", "linear_", "hybrid", "attn_layer", "rwkv")
# The tensors of a layer that vllm-gguf-plugin 0.0.5 merges into one.
_MERGED = (("attn_q", "attn_k", "attn_v"), ("ffn_gate", "ffn_up"))
_MOST = 2**31  # of any one dimension
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Kinds of rotation whose factor is in the length already, as vLLM has it
# (`_get_and_verify_max_len`).
_SCALED_ALREADY = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "mrope")


@dataclass(frozen=True)
class Shape:
    """The dimensions that memory depends on; `max_context` in tokens, None if not stated."""

    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocabulary: int
    max_context: int | None


@dataclass(frozen=True)
class Sizes:
    """A checkpoint as vLLM loads it: unquantized tensors in 16 bits whatever the file holds.

    `float_bytes` is the part in 16-bit floats, `linear_bytes` the part of that in linear layers,
    which quantizing while loading would shrink. `shape` is None where the KV cache of this
    architecture is not the usual one, or the dimensions are not stated. `quantization` and
    `format` are the method and the name in `formats.Format`; `kv_cache` is the type of the KV
    cache that the checkpoint asks for, None for the model's own.
    """

    weights_bytes: int
    float_bytes: int
    linear_bytes: int
    download_bytes: int
    quantization: str | None
    shape: Shape | None
    basis: str
    format: str | None = None
    kv_cache: str | None = None


_Known = TypeAdapter(dict[str, Sizes])


def key(variant: Variant) -> str:
    """What identifies a variant's checkpoint: `owner/name`, or `owner/name:file.gguf`."""
    return f"{variant.repo}:{variant.file}" if variant.file else f"{variant.repo}"


def kept() -> Path:
    """The project's own file of facts; in a checkout of this program, `KNOWN` itself."""
    return places.project("bench", "weights", KNOWN.name)


def known() -> dict[str, Sizes]:
    """All facts at hand by `key`: those that come with this program, and over them the project's.

    Raises:
        ConfigError: a file is not what `keep` writes.
    """
    return read(KNOWN) | read(kept())


def read(path: Path) -> dict[str, Sizes]:
    """The facts kept in a file, by `key`; empty if there is no file.

    Raises:
        ConfigError: the file is not what `keep` writes.
    """
    if not path.exists():
        return {}
    try:
        return _Known.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigError(f"{path} is not a list of checkpoints", "run `bench pin`") from error


def keep(found: Mapping[str, Sizes], path: Path) -> None:
    """Adds facts to a file, made if it is missing; replaces those of the same checkpoint."""
    entries = read(path) | dict(found)
    value = {name: asdict(sizes) for name, sizes in sorted(entries.items())}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def from_tensors(
    tensors: Mapping[str, headers.Tensor],
    config: Mapping[str, Any],
    download_bytes: int,
    basis: str,
    form: Format | None = None,
) -> Sizes:
    """The facts that safetensors headers and config.json state.

    Args:
        form: how the checkpoint is stored; by default as config.json alone says.
    """
    form = form or formats.read(config, {})
    total = floats = linear = 0
    for name, tensor in tensors.items():
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue  # vLLM uses the input embeddings for both
        if tensor.dtype not in _FLOATS or "scale" in name:
            total += tensor.size_bytes
            continue
        size = 2 * prod(tensor.shape)
        total += size
        floats += size
        if len(tensor.shape) > 1 and not any(part in name for part in ("embed", "lm_head", "wte")):
            linear += size
    return Sizes(
        total,
        floats,
        linear,
        download_bytes,
        form.method,
        shape_of(config),
        basis,
        form.name,
        form.kv_cache,
    )


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The dimensions in a config.json, or None where they do not give the KV cache's size."""
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        return None
    kinds = text.get("layer_types") or []
    if not isinstance(kinds, list) or any(
        kind not in ("full_attention", "sliding_attention") for kind in kinds
    ):
        return None
    if any(name.startswith(_OTHER_CACHES) for name in text):
        return None
    heads = text.get("num_attention_heads")
    hidden = text.get("hidden_size")
    return _shape(
        layers=text.get("num_hidden_layers"),
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or _share(hidden, heads),
        hidden=hidden,
        intermediate=text.get("intermediate_size"),
        vocabulary=text.get("vocab_size"),
        max_context=context_of(config),
    )


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that is of the language model: all of it, if it has no parts."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def context_of(config: Mapping[str, Any]) -> int | None:
    """The longest sequence that vLLM takes a config.json to allow, in tokens."""
    text = text_of(config)
    lengths = [text[key] for key in _CONTEXT_KEYS if is_size(text.get(key))]
    if not lengths:
        return None
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    factor = 1.0
    if isinstance(scaling, dict) and "gemma3" not in str(config.get("model_type")):
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        stated = scaling.get("factor")
        if kind not in _SCALED_ALREADY and isinstance(stated, int | float) and stated >= 1:
            factor = min(float(stated), 1e6)
    return int(min(lengths) * factor)


def from_gguf(head: bytes, file_bytes: int, basis: str) -> Sizes:
    """The facts in a GGUF file's header.

    Its tensors stay in GPU memory as the file has them, but for those the plugin merges: there
    every row gets the length of the longest (`_create_padded_weight_param` in the plugin's
    quantization/linear.py). For a 70B model in Q4_K_M that is another 1.1 GiB.

    Args:
        head: the file's first bytes; what is cut off counts as not stated.

    Raises:
        WeightsError: it is not GGUF version 2 or later.
    """
    header = headers.gguf(head, file_bytes)
    stated = header.values
    architecture = stated.get("general.architecture")
    of = {
        name.removeprefix(f"{architecture}."): value
        for name, value in stated.items()
        if name.startswith(f"{architecture}.")
    }
    shape = None
    if not any(part.startswith(_OTHER_CACHES) for name in of for part in name.split(".")):
        heads, hidden = of.get("attention.head_count"), of.get("embedding_length")
        shape = _shape(
            layers=of.get("block_count"),
            kv_heads=of.get("attention.head_count_kv", heads),
            head_dim=of.get("attention.key_length") or _share(hidden, heads),
            hidden=hidden,
            intermediate=of.get("feed_forward_length"),
            vocabulary=of.get("vocab_size") or stated.get("tokenizer.ggml.tokens"),
            max_context=of.get("context_length"),
        )
    padding = 0
    if header.rows is None:
        basis += ", without the padding of merged tensors"
    else:
        padding = padding_bytes(header.rows)
    name = formats.of_gguf(header).name
    return Sizes(file_bytes + padding, 0, 0, file_bytes, "gguf", shape, basis, name)


def padding_bytes(rows: Mapping[str, tuple[int, int]]) -> int:
    """What merging adds to the tensors of a GGUF file, given each one's rows and bytes a row."""
    merged = defaultdict(list)
    for name, found in rows.items():
        layer, _, part = name.removesuffix(".weight").rpartition(".")
        for group in _MERGED:
            if part in group:
                merged[layer, group].append(found)
    return sum(
        count * (max(width for _, width in parts) - own)
        for parts in merged.values()
        for count, own in parts
    )


def _share(hidden: Any, heads: Any) -> int | None:
    return hidden // heads if type(hidden) is int and type(heads) is int and heads else None


def _shape(max_context: Any, **dimensions: Any) -> Shape | None:
    if not all(is_size(value) for value in dimensions.values()):
        return None
    return Shape(**dimensions, max_context=max_context if is_size(max_context) else None)


def is_size(value: Any) -> bool:
    """Whether a value that a checkpoint states is a dimension that one could have."""
    return type(value) is int and 0 < value < _MOST
