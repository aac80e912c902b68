"""The experiment's checkpoints, rebuilt from their published shapes: headers without weights.

The Hub is not reachable where this was written, so the headers are not copies of the real files'.
Tensor names are those of the real checkpoints, shapes follow from the architectures published with
the experiment, and the quantized layouts are those of their formats: FP8 with one scale per 128×128
block; AWQ with 4 bits, groups of 128 and zero points, eight values to an int32. The files are
sparse: a real safetensors header, then a hole of the right size.

The GGUF rows are what llama.cpp's `llama_tensor_get_type` makes of a 70B Llama: with these types
the file has, to the last digit published, the size on the repository's card.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "I32": 4}
_SHARD_BYTES = 5_000_000_000
Tensor = tuple[str, tuple[int, ...]]  # dtype, shape


@dataclass(frozen=True)
class Architecture:
    """A decoder with grouped-query attention and a gated MLP."""

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    max_context: int
    qk_norm: bool

    def config(self, quantization: dict[str, Any] | None) -> dict[str, Any]:
        """Its config.json."""
        values: dict[str, Any] = {
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.max_context,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }
        return values | ({"quantization_config": quantization} if quantization else {})


QWEN3_8B = Architecture("qwen3", 4096, 36, 32, 8, 128, 12288, 151_936, 40_960, qk_norm=True)
LLAMA_70B = Architecture("llama", 8192, 80, 64, 8, 128, 28672, 128_256, 131_072, qk_norm=False)
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
CHECKPOINTS: dict[str, tuple[Architecture, dict[str, Any] | None]] = {
    "Qwen/Qwen3-8B": (QWEN3_8B, None),
    "Qwen/Qwen3-8B-FP8": (QWEN3_8B, FP8),
    "Qwen/Qwen3-8B-AWQ": (QWEN3_8B, AWQ),
    "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4": (LLAMA_70B, AWQ),
}


def write(folder: Path, repo: str) -> None:
    """config.json, an index and sparse shards of a checkpoint."""
    architecture, quantization = CHECKPOINTS[repo]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(architecture.config(quantization)))
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors(architecture, quantization).items():
        if filled + _size(tensor) > _SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += _size(tensor)
    weight_map: dict[str, str] = {}
    for n, shard in enumerate(shards, 1):
        file = f"model-{n:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(folder / file, shard)
        weight_map |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def tensors(of: Architecture, quantization: dict[str, Any] | None) -> dict[str, Tensor]:
    """Every tensor of the checkpoint."""
    plain = "F16" if quantization is AWQ else "BF16"
    found: dict[str, Tensor] = {"model.embed_tokens.weight": (plain, (of.vocabulary, of.hidden))}
    kv, q = of.kv_heads * of.head_dim, of.heads * of.head_dim
    for n in range(of.layers):
        layer = f"model.layers.{n}"
        for name, rows, columns in (
            ("self_attn.q_proj", q, of.hidden),
            ("self_attn.k_proj", kv, of.hidden),
            ("self_attn.v_proj", kv, of.hidden),
            ("self_attn.o_proj", of.hidden, q),
            ("mlp.gate_proj", of.intermediate, of.hidden),
            ("mlp.up_proj", of.intermediate, of.hidden),
            ("mlp.down_proj", of.hidden, of.intermediate),
        ):
            found |= _linear(f"{layer}.{name}", rows, columns, quantization)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}.{norm}.weight"] = (plain, (of.hidden,))
        if of.qk_norm:
            for norm in ("q_norm", "k_norm"):
                found[f"{layer}.self_attn.{norm}.weight"] = (plain, (of.head_dim,))
    found["model.norm.weight"] = (plain, (of.hidden,))
    found["lm_head.weight"] = (plain, (of.vocabulary, of.hidden))
    return found


def _linear(
    name: str, rows: int, columns: int, quantization: dict[str, Any] | None
) -> dict[str, Tensor]:
    if quantization is AWQ:
        groups = columns // 128
        return {
            f"{name}.qweight": ("I32", (columns, rows // 8)),
            f"{name}.qzeros": ("I32", (groups, rows // 8)),
            f"{name}.scales": ("F16", (groups, rows)),
        }
    if quantization is FP8:
        return {
            f"{name}.weight": ("F8_E4M3", (rows, columns)),
            f"{name}.weight_scale_inv": ("F32", (ceil(rows / 128), ceil(columns / 128))),
        }
    return {f"{name}.weight": ("BF16", (rows, columns))}


def _size(tensor: Tensor) -> int:
    return _BYTES[tensor[0]] * prod(tensor[1])


def _write_shard(path: Path, shard: dict[str, Tensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in shard.items():
        end = at + _size(tensor)
        header[name] = {"dtype": tensor[0], "shape": tensor[1], "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)


# Bytes of 256 values.
_BLOCKS = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210, "IQ2_XS": 74, "IQ3_S": 110, "F32": 1024}


def gguf_rows(kind: str) -> dict[str, tuple[int, int]]:
    """Rows and bytes a row of every tensor of Llama-3.1-70B as GGUF Q4_K_M or IQ2_S."""
    of, found = LLAMA_70B, {}
    for name, (type_, rows, columns) in _gguf_tensors(kind, of).items():
        found[name] = (rows, columns * _BLOCKS[type_] // 256)
    return found


def _gguf_tensors(kind: str, of: Architecture) -> dict[str, tuple[str, int, int]]:
    q4, eighth = kind == "Q4_K_M", of.layers // 8
    plain = "Q4_K" if q4 else "IQ2_XS"
    found = {
        "token_embd.weight": (plain if q4 else "IQ3_S", of.vocabulary, of.hidden),
        "output.weight": ("Q6_K" if q4 else "Q5_K", of.vocabulary, of.hidden),
        "output_norm.weight": ("F32", 1, of.hidden),
    }
    for n in range(of.layers):
        first = n < eighth
        more = q4 and (first or n >= 7 * eighth or (n - eighth) % 3 == 2)
        value = ("Q6_K" if more else "Q5_K") if q4 else "Q4_K"
        down = "Q6_K" if more else "IQ3_S" if first and not q4 else plain
        found |= {
            f"blk.{n}.attn_q.weight": (plain, of.heads * of.head_dim, of.hidden),
            f"blk.{n}.attn_k.weight": (plain, of.kv_heads * of.head_dim, of.hidden),
            f"blk.{n}.attn_v.weight": (value, of.kv_heads * of.head_dim, of.hidden),
            f"blk.{n}.attn_output.weight": (plain if q4 else "IQ3_S", of.hidden, of.hidden),
            f"blk.{n}.ffn_gate.weight": (plain, of.intermediate, of.hidden),
            f"blk.{n}.ffn_up.weight": (plain, of.intermediate, of.hidden),
            f"blk.{n}.ffn_down.weight": (down, of.hidden, of.intermediate),
            f"blk.{n}.attn_norm.weight": ("F32", 1, of.hidden),
            f"blk.{n}.ffn_norm.weight": ("F32", 1, of.hidden),
        }
    return found
