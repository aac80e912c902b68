"""What a checkpoint says of itself without its weights: headers and configuration, a few MB.

checkpoints.json keeps these facts for the variants of models.toml, so that `bench plan` can tell
what fits on a clean clone without the network. Each entry says where it comes from. A project
elsewhere keeps a file of its own at the same path, bench/weights/checkpoints.json.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench import places
from bench.config import Variant
from bench.errors import ConfigError
from bench.weights import headers

KNOWN = Path(__file__).with_name("checkpoints.json")
_FLOATS = {"F64", "F32", "F16", "BF16"}
# Architectures whose KV cache is not layers × heads × dimensions: latent, recurrent, hybrid.
_OTHER_CACHES = ("kv_lora", "ssm", "mamba", "linear_", "hybrid", "attn_layer", "rwkv")
# The tensors of a layer that vllm-gguf-plugin 0.0.5 merges into one.
_MERGED = (("attn_q", "attn_k", "attn_v"), ("ffn_gate", "ffn_up"))
_MOST = 2**31  # of any one dimension


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
    architecture is not the usual one, or the dimensions are not stated.
    """

    weights_bytes: int
    float_bytes: int
    linear_bytes: int
    download_bytes: int
    quantization: str | None
    shape: Shape | None
    basis: str


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


def read_hub(variant: Variant, cache: Path) -> Sizes:
    """The facts of a variant's checkpoint on the Hub, by requests for the headers alone.

    Raises:
        WeightsError: as `snapshot.resolve`, whose choice of files this shares; or a header
            cannot be read.
    """
    from bench.weights import hub, snapshot

    repo = str(variant.repo)
    found = hub.describe(repo, variant.revision)
    wanted = snapshot.choose_from(found, variant.file, cache)
    size, at = sum(file.size_bytes for file in wanted), f"at {found.commit[:8]}"
    if variant.file:
        head = hub.read_head(repo, found.commit, wanted[0].name, headers.GGUF_BYTES)
        return from_gguf(head, size, f"its GGUF header {at}")
    tensors: dict[str, headers.Tensor] = {}
    for file in wanted:
        if file.name.endswith(".safetensors"):
            read = partial(hub.read_head, repo, found.commit, file.name)
            tensors |= headers.safetensors(f"{repo}: {file.name}", read)
    config = hub.load_json(hub.fetch(repo, found.commit, "config.json", cache))
    return from_tensors(tensors, config, size, f"its safetensors headers {at}")


def keep_from_hub(variants: Iterable[Variant], cache: Path) -> None:
    """Keeps in the project what the Hub says of these variants' checkpoints; see `read_hub`.

    Bundled ones are not on the Hub, and random weights need no checkpoint that could be asked.
    """
    asked = (v for v in variants if v.repo and v.serve.load_format != "dummy")
    keep({key(variant): read_hub(variant, cache) for variant in asked}, kept())


def from_tensors(
    tensors: Mapping[str, headers.Tensor], config: dict[str, Any], download_bytes: int, basis: str
) -> Sizes:
    """The facts that safetensors headers and config.json state."""
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
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    named = method if isinstance(method, str) else None
    return Sizes(total, floats, linear, download_bytes, named, shape_of(config), basis)


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
        max_context=text.get("max_position_embeddings"),
    )


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
    return Sizes(file_bytes + padding, 0, 0, file_bytes, "gguf", shape, basis)


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
    if not all(_is_size(value) for value in dimensions.values()):
        return None
    return Shape(**dimensions, max_context=max_context if _is_size(max_context) else None)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < _MOST
