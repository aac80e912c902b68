"""What a checkpoint says of itself without its weights: headers and configuration, a few kB.

bench/checkpoints.json keeps these facts for the variants of models.toml, so that `bench plan` can
tell what fits on a clean clone without the network. Each entry says where it comes from.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.config import Variant
from bench.errors import ConfigError, WeightsError

KNOWN = Path(__file__).with_name("checkpoints.json")
_HEADER_BYTES = 1 << 20  # a GGUF's architecture stands before its vocabulary, in the first kB
_FLOATS = {"F64", "F32", "F16", "BF16"}
# Architectures whose KV cache is not layers × heads × dimensions: latent, recurrent, hybrid.
_OTHER_CACHES = ("kv_lora", "ssm", "mamba", "linear_", "hybrid", "attn_layer", "rwkv")
_GGUF_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"}
_GGUF_NUMBERS |= {10: "Q", 11: "q", 12: "d"}


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


def known(path: Path = KNOWN) -> dict[str, Sizes]:
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


def keep(found: Mapping[str, Sizes], path: Path = KNOWN) -> None:
    """Adds facts to the file, replacing those of the same checkpoint."""
    entries = known(path) | dict(found)
    value = {name: asdict(sizes) for name, sizes in sorted(entries.items())}
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_local(path: Path) -> Sizes:
    """The facts of a checkpoint on this machine: a folder of safetensors, or a GGUF file.

    Raises:
        WeightsError: a header cannot be read.
    """
    from huggingface_hub import errors, get_local_safetensors_metadata

    from bench import hub

    if path.is_file():
        with path.open("rb") as file:
            return from_gguf(file.read(_HEADER_BYTES), path.stat().st_size, "its GGUF header")
    try:
        headers = get_local_safetensors_metadata(path)
    except (OSError, errors.SafetensorsParsingError, errors.NotASafetensorsRepoError) as error:
        raise hub.explain(error, path.name) from error
    tensors = {
        name: t for part in headers.files_metadata.values() for name, t in part.tensors.items()
    }
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return from_tensors(
        tensors, hub.load_json(path / "config.json"), size, "its safetensors headers"
    )


def read_hub(variant: Variant, cache: Path) -> Sizes:
    """The facts of a variant's checkpoint on the Hub, by requests for the headers alone.

    Raises:
        WeightsError: as `bench.weights.resolve`, whose choice of files this shares.
    """
    from bench import hub, weights

    repo = str(variant.repo)
    found = hub.describe(repo, variant.revision)
    wanted = weights.choose_from(found, variant.file, cache)
    size, at = sum(file.size_bytes for file in wanted), f"at {found.commit[:8]}"
    if variant.file:
        head = hub.read_head(repo, found.commit, wanted[0].name, _HEADER_BYTES)
        return from_gguf(head, size, f"its GGUF header {at}")
    tensors: dict[str, Any] = {}
    for file in wanted:
        if file.name.endswith(".safetensors"):
            tensors |= hub.read_tensors(repo, found.commit, file.name)
    config = hub.load_json(hub.fetch(repo, found.commit, "config.json", cache))
    return from_tensors(tensors, config, size, f"its safetensors headers {at}")


def from_tensors(
    tensors: Mapping[str, Any], config: dict[str, Any], download_bytes: int, basis: str
) -> Sizes:
    """The facts that safetensors headers and config.json state.

    Args:
        tensors: by name, each with `dtype`, `shape`, `data_offsets`, `parameter_count`.
    """
    total = floats = linear = 0
    for name, tensor in tensors.items():
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue  # vLLM uses the input embeddings for both
        if tensor.dtype not in _FLOATS or "scale" in name:
            total += tensor.data_offsets[1] - tensor.data_offsets[0]
            continue
        size = 2 * tensor.parameter_count
        total += size
        floats += size
        if len(tensor.shape) > 1 and not any(part in name for part in ("embed", "lm_head", "wte")):
            linear += size
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    return Sizes(total, floats, linear, download_bytes, method, shape_of(config), basis)


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The dimensions in a config.json, or None where they do not give the KV cache's size."""
    text = config.get("text_config", config)
    odd = set(text.get("layer_types") or ()) - {"full_attention", "sliding_attention"}
    if odd or any(name.startswith(_OTHER_CACHES) for name in text):
        return None
    heads = text.get("num_attention_heads")
    hidden = text.get("hidden_size")
    return _shape(
        layers=text.get("num_hidden_layers"),
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or (hidden // heads if hidden and heads else None),
        hidden=hidden,
        intermediate=text.get("intermediate_size"),
        vocabulary=text.get("vocab_size"),
        max_context=text.get("max_position_embeddings"),
    )


def from_gguf(head: bytes, file_bytes: int, basis: str) -> Sizes:
    """The facts in a GGUF file's header; its tensors stay in GPU memory as the file has them.

    Args:
        head: the file's first bytes; what is cut off counts as not stated.

    Raises:
        WeightsError: it is not GGUF version 2 or later.
    """
    if len(head) < 24 or head[:4] != b"GGUF" or struct.unpack_from("<I", head, 4)[0] not in (2, 3):
        raise WeightsError("the file is not GGUF (version 2 or 3)", "choose another file")
    stated = dict(_gguf_values(head))
    architecture = stated.get("general.architecture")
    of = {
        name.removeprefix(f"{architecture}."): value
        for name, value in stated.items()
        if name.startswith(f"{architecture}.")
    }
    shape = None
    if not any(part.startswith(_OTHER_CACHES) for name in of for part in name.split(".")):
        heads, hidden = of.get("attention.head_count"), of.get("embedding_length")
        each = hidden // heads if type(hidden) is int and type(heads) is int and heads else None
        shape = _shape(
            layers=of.get("block_count"),
            kv_heads=of.get("attention.head_count_kv", heads),
            head_dim=of.get("attention.key_length") or each,
            hidden=hidden,
            intermediate=of.get("feed_forward_length"),
            vocabulary=of.get("vocab_size") or stated.get("tokenizer.ggml.tokens"),
            max_context=of.get("context_length"),
        )
    return Sizes(file_bytes, 0, 0, file_bytes, "gguf", shape, basis)


def _shape(max_context: Any, **dimensions: Any) -> Shape | None:
    if not all(type(value) is int and value > 0 for value in dimensions.values()):
        return None
    return Shape(**dimensions, max_context=max_context if type(max_context) is int else None)


def _gguf_values(head: bytes) -> Iterator[tuple[str, Any]]:
    """Names and values as far as `head` reaches; of an array of strings, only its length.

    The layout is that of the GGUF specification (ggml), little-endian: after magic, version and
    two counts, each entry is a string (u64 length, bytes), a u32 type and the value.
    """
    stream = io.BytesIO(head)
    count = struct.unpack("<4sIQQ", stream.read(24))[3]
    try:
        for _ in range(count):
            name, (kind,) = _gguf_string(stream), _unpack(stream, "I")
            if kind == 8:
                yield name, _gguf_string(stream)
            elif kind == 9:
                inner, length = _unpack(stream, "IQ")
                if inner == 8:
                    yield name, length
                    for _ in range(length):
                        _gguf_string(stream)
                else:
                    yield name, _unpack(stream, f"{length}{_GGUF_NUMBERS[inner]}")
            else:
                yield name, _unpack(stream, _GGUF_NUMBERS[kind])[0]
    except (EOFError, KeyError):
        return  # the rest was cut off, or is of a type that came later


def _gguf_string(stream: io.BytesIO) -> str:
    return _read(stream, _unpack(stream, "Q")[0]).decode("utf-8", "replace")


def _unpack(stream: io.BytesIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{layout}", _read(stream, struct.calcsize(f"<{layout}")))


def _read(stream: io.BytesIO, size: int) -> bytes:
    if size > stream.getbuffer().nbytes - stream.tell():
        raise EOFError
    return stream.read(size)
