"""Checkpoints as their makers write them: the keys that say how each is quantized, as published.

Dimensions are those of no model. What each is called here stands beside it, and what the engine's
own table (bench/engine/locks/serve-arguments.json) makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@dataclass(frozen=True)
class Shape:
    """One kind of checkpoint.

    Attributes:
        stored: the dtype of its linear layers in safetensors.
        name: `formats.Format.name`.
        method: `formats.Format.method`.
        engine: what the CUDA build of vLLM 0.32 makes of that; None where it refuses.
        kv_cache: the type of the KV cache that it asks for.
    """

    config: dict[str, Any]
    stored: str
    name: str
    method: str | None
    engine: str | None
    kv_cache: str | None = None
    sidecars: dict[str, dict[str, Any]] = field(default_factory=dict)


def of(model_type: str, architecture: str, **more: Any) -> dict[str, Any]:
    return LLAMA | {"model_type": model_type, "architectures": [architecture]} | more


def quantized(**keys: Any) -> dict[str, Any]:
    return {"quantization_config": keys}


def tensors(*groups: dict[str, Any], form: str, **more: Any) -> dict[str, Any]:
    """compressed-tensors' configuration."""
    return quantized(
        config_groups={f"group_{i}": {"targets": ["Linear"], **g} for i, g in enumerate(groups)},
        format=form,
        ignore=["lm_head"],
        quant_method="compressed-tensors",
        quantization_status="compressed",
        **more,
    )


def numbers(bits: int, kind: str, strategy: str, **more: Any) -> dict[str, Any]:
    more = {"dynamic": False, "symmetric": True, "group_size": None} | more
    return {"num_bits": bits, "type": kind, "strategy": strategy, **more}


FP8_KV = numbers(8, "float", "tensor")
_NVFP4 = numbers(4, "float", "tensor_group", group_size=16)
_MODELOPT = {"producer": {"name": "modelopt", "version": "0.29.0"}}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}

SHAPES: dict[str, Shape] = {
    "gpt-oss, MXFP4": Shape(
        of(
            "gpt_oss",
            "GptOssForCausalLM",
            num_local_experts=4,
            **quantized(
                quant_method="mxfp4",
                modules_to_not_convert=["model.layers.*.self_attn", "lm_head"],
            ),
        ),
        "U8", "MXFP4 weight-only", "gpt_oss_mxfp4", "gpt_oss_mxfp4",
    ),
    "Qwen3-30B-A3B-FP8": Shape(
        of(
            "qwen3_moe",
            "Qwen3MoeForCausalLM",
            **_MOE,
            **quantized(
                activation_scheme="dynamic",
                fmt="e4m3",
                quant_method="fp8",
                weight_block_size=[128, 128],
                modules_to_not_convert=["lm_head"],
            ),
        ),
        "F8_E4M3", "FP8 dynamic, blocks of 128 x 128", "fp8", "fp8",
    ),
    "RedHatAI FP8-dynamic": Shape(
        LLAMA
        | tensors(
            {
                "weights": numbers(8, "float", "channel"),
                "input_activations": numbers(8, "float", "token", dynamic=True),
            },
            form="float-quantized",
        ),
        "F8_E4M3", "FP8 dynamic", "compressed-tensors", "compressed-tensors",
    ),
    "neuralmagic FP8-KV": Shape(
        LLAMA
        | tensors(
            {
                "weights": numbers(8, "float", "tensor"),
                "input_activations": numbers(8, "float", "tensor"),
            },
            form="float-quantized",
            kv_cache_scheme=FP8_KV,
        ),
        "F8_E4M3", "FP8 static", "compressed-tensors", "compressed-tensors", "fp8",
    ),
    "RedHatAI w4a16": Shape(
        LLAMA
        | tensors(
            {"weights": numbers(4, "int", "group", group_size=128), "input_activations": None},
            form="pack-quantized",
        ),
        "I32", "INT4 weight-only, groups of 128", "compressed-tensors", "compressed-tensors",
    ),
    "RedHatAI w8a8": Shape(
        LLAMA
        | tensors(
            {
                "weights": numbers(8, "int", "channel"),
                "input_activations": numbers(8, "int", "token", dynamic=True),
            },
            form="int-quantized",
        ),
        "I8", "INT8 dynamic", "compressed-tensors", "compressed-tensors",
    ),
    "RedHatAI NVFP4": Shape(
        LLAMA
        | tensors(
            {"weights": _NVFP4, "input_activations": _NVFP4 | {"dynamic": "local"}},
            form="nvfp4-pack-quantized",
        ),
        "U8", "NVFP4", "compressed-tensors", "compressed-tensors",
    ),
    "nvidia NVFP4, in a sidecar": Shape(
        dict(LLAMA),
        "U8", "NVFP4", "modelopt NVFP4", "modelopt_fp4", "fp8",
        {
            "hf_quant_config.json": _MODELOPT
            | {
                "quantization": {
                    "quant_algo": "NVFP4",
                    "kv_cache_quant_algo": "FP8",
                    "group_size": 16,
                    "exclude_modules": ["lm_head"],
                }
            }
        },
    ),
    "nvidia FP8, in config.json": Shape(
        LLAMA
        | quantized(
            config_groups={
                "group_0": {
                    "input_activations": {"dynamic": False, "num_bits": 8, "type": "float"},
                    "weights": {"dynamic": False, "num_bits": 8, "type": "float"},
                    "targets": ["Linear"],
                }
            },
            ignore=["lm_head"],
            kv_cache_scheme={"dynamic": False, "num_bits": 8, "type": "float"},
            quant_algo="FP8",
            quant_method="modelopt",
            **_MODELOPT,
        ),
        "F8_E4M3", "FP8 static", "modelopt FP8", "modelopt", "fp8",
    ),
    "nvidia mixed precision": Shape(
        LLAMA
        | quantized(
            quant_algo="MIXED_PRECISION",
            quant_method="modelopt",
            quantized_layers={
                "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
                "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
            },
            ignore=["lm_head"],
        ),
        "U8", "mixed: NVFP4 + FP8 static", "modelopt MIXED_PRECISION", "modelopt_mixed",
    ),
    "Gemma-3, in text_config": Shape(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "text_config": of("gemma3_text", "Gemma3ForCausalLM")
            | quantized(quant_method="gptq", bits=4, group_size=128, desc_act=False, sym=True),
            "vision_config": {"model_type": "siglip_vision_model"},
        },
        "I32", "INT4 weight-only, groups of 128", "gptq", "auto_gptq",
    ),
    "DeepSeek, MLA": Shape(
        of(
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            kv_lora_rank=64,
            qk_rope_head_dim=16,
            **quantized(
                activation_scheme="dynamic",
                fmt="e4m3",
                quant_method="fp8",
                weight_block_size=[128, 128],
            ),
        ),
        "F8_E4M3", "FP8 dynamic, blocks of 128 x 128", "fp8", "fp8",
    ),
    "Qwen3-Next, hybrid": Shape(
        of(
            "qwen3_next",
            "Qwen3NextForCausalLM",
            **_MOE,
            layer_types=["linear_attention", "full_attention"],
        ),
        "BF16", "BF16", None, None,
    ),
    "Nemotron-H, Mamba hybrid, FP8": Shape(
        of(
            "nemotron_h",
            "NemotronHForCausalLM",
            hybrid_override_pattern="M*",
            mamba_num_heads=8,
        ),
        "F8_E4M3", "FP8 static", "modelopt FP8", "modelopt", None,
        {"hf_quant_config.json": _MODELOPT | {"quantization": {"quant_algo": "FP8"}}},
    ),
    "Phi-4, quantized by torchao": Shape(
        of(
            "phi3",
            "Phi3ForCausalLM",
            pad_token_id=0,
            **quantized(
                quant_method="torchao",
                quant_type={
                    "default": {
                        "_type": "Float8DynamicActivationFloat8WeightConfig",
                        "_version": 2,
                        "_data": {"granularity": [{"_type": "PerRow", "_data": {}}]},
                    }
                },
            ),
        ),
        "F8_E4M3", "FP8 dynamic", "torchao", None,
    ),
    "Intel AutoRound": Shape(
        of(
            "qwen3",
            "Qwen3ForCausalLM",
            **quantized(
                autoround_version="0.6.0",
                bits=4,
                data_type="int",
                group_size=128,
                packing_format="auto_round:auto_gptq",
                quant_method="auto-round",
                sym=True,
                extra_config={"lm_head": {"bits": 16}, "model.layers.0.mlp.down_proj": {"bits": 8}},
            ),
        ),
        "I32",
        "mixed: INT4 weight-only, groups of 128 + INT8 weight-only, groups of 128",
        "auto-round", "inc",
    ),
    "AutoGPTQ, in a sidecar of old": Shape(
        dict(LLAMA),
        "I32", "INT4 weight-only, groups of 128", "gptq", "auto_gptq", None,
        {"quantize_config.json": {"bits": 4, "group_size": 128, "desc_act": False, "sym": True}},
    ),
    "Qwen AWQ": Shape(
        of(
            "qwen2",
            "Qwen2ForCausalLM",
            **quantized(
                quant_method="awq", bits=4, group_size=128, version="gemm", zero_point=True
            ),
        ),
        "I32", "INT4 weight-only, groups of 128", "awq", "auto_awq",
    ),
    "AMD Quark, MXFP4": Shape(
        LLAMA
        | quantized(
            quant_method="quark",
            global_quant_config={
                "weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32},
                "input_tensors": {
                    "dtype": "fp4", "qscheme": "per_group", "group_size": 32, "is_dynamic": True
                },
            },
            layer_quant_config={},
            layer_type_quant_config={},
            export={"kv_cache_group": [], "pack_method": "reorder"},
        ),
        "U8", "MXFP4", "quark", "quark",
    ),
    "a compression_config of old": Shape(
        LLAMA
        | {
            "compression_config": tensors(
                {"weights": numbers(4, "int", "channel"), "input_activations": None},
                form="pack-quantized",
            )["quantization_config"]
        },
        "I32", "INT4 weight-only", "compressed-tensors", "compressed-tensors",
    ),
    "unsloth, bitsandbytes": Shape(
        LLAMA
        | quantized(
            quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4"
        ),
        "U8", "NF4 weight-only", "bitsandbytes", None,
    ),
    "mlx-community": Shape(
        LLAMA | {"quantization": {"group_size": 64, "bits": 4}},
        "U32", "INT4 weight-only, groups of 64", "mlx", None,
    ),
    "turboderp EXL3": Shape(
        LLAMA | quantized(quant_method="exl3", version="0.0.1", bits=4.0, head_bits=6),
        "I16", "INT4 weight-only", "exl3", None,
    ),
}  # fmt: skip
