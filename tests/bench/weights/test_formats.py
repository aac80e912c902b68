"""How a checkpoint is stored, from the shapes that its makers publish and from any other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkpoint_headers import gguf
from checkpoint_shapes import LLAMA, SHAPES, Shape, numbers, quantized, tensors
from hypothesis import given
from hypothesis import strategies as st

from bench.engine import arguments
from bench.weights import formats, headers

FP8 = numbers(8, "float", "channel")
DYNAMIC = numbers(8, "float", "token", dynamic=True)
STATIC = numbers(8, "float", "tensor")


def stored(dtype: str, name: str = "model.layers.0.mlp.up_proj.weight") -> Any:
    """The header of a checkpoint with one linear layer, and an embedding in BF16."""
    return {
        name: headers.Tensor(dtype=dtype, shape=(64, 32), data_offsets=(0, 2048)),
        "model.embed_tokens.weight": headers.Tensor(
            dtype="BF16", shape=(64, 32), data_offsets=(2048, 6144)
        ),
    }


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_maker_s_format_has_its_name(shape: Shape) -> None:
    found = formats.read(shape.config, shape.sidecars, stored(shape.stored))
    assert (found.name, found.method) == (shape.name, shape.method)
    assert found.kv_cache == shape.kv_cache
    assert found.doubt is None


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_engine_s_table_says_what_becomes_of_each(shape: Shape) -> None:
    table = arguments.table("cuda", "0.32.0")
    assert table
    method = table.methods.get(shape.method or "")
    assert (method.method if method else None) == shape.engine


def test_formats_that_differ_have_names_that_differ() -> None:
    nvfp4 = numbers(4, "float", "tensor_group", group_size=16)
    mxfp4 = numbers(4, "float", "group", group_size=32)
    configs = [
        tensors({"weights": FP8, "input_activations": DYNAMIC}, form="float-quantized"),
        tensors({"weights": FP8, "input_activations": STATIC}, form="float-quantized"),
        tensors({"weights": FP8, "input_activations": None}, form="naive-quantized"),
        tensors({"weights": nvfp4, "input_activations": nvfp4}, form="nvfp4-pack-quantized"),
        tensors({"weights": nvfp4, "input_activations": None}, form="nvfp4-pack-quantized"),
        tensors({"weights": mxfp4, "input_activations": None}, form="mxfp4-pack-quantized"),
        tensors(
            {"weights": FP8, "input_activations": DYNAMIC},
            {"weights": nvfp4, "input_activations": nvfp4},
            form="mixed-precision",
        ),
    ]
    assert [formats.read(config, {}).name for config in configs] == [
        "FP8 dynamic",
        "FP8 static",
        "FP8 weight-only",
        "NVFP4",
        "NVFP4 weight-only",
        "MXFP4 weight-only",
        "mixed: FP8 dynamic + NVFP4",
    ]


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("FP8_DYNAMIC", "FP8 dynamic"),
        ("FP8", "FP8 static"),
        ("FP8_BLOCK", "FP8 dynamic, blocks of 128 x 128"),
        ("W4A16", "INT4 weight-only, groups of 128"),
        ("W8A8", "INT8 dynamic"),
        ("NVFP4A16", "NVFP4 weight-only"),
        ("their own", "theirown weight-only"),
    ],
)
def test_a_group_may_name_a_scheme(preset: str, name: str) -> None:
    config = quantized(quant_method="compressed-tensors", config_groups={preset: ["Linear"]})
    assert formats.read(config, {}).name == name


@pytest.mark.parametrize(
    ("config", "sidecars", "place"),
    [
        (quantized(quant_method="fp8"), {"hf_quant_config.json": {"a": 1}}, "quantization_config"),
        ({"text_config": quantized(quant_method="fp8")}, {}, "text_config.quantization_config"),
        ({"compression_config": {"quant_method": "x"}}, {}, "compression_config"),
        ({}, {"hf_quant_config.json": {"quantization": {"quant_algo": "FP8"}}}, "hf_quant_config"),
        ({}, {"quantize_config.json": {"bits": 4}}, "quantize_config.json"),
        ({"quantization_config": None, "text_config": [1]}, {}, "config.json"),
    ],
)
def test_it_is_looked_for_where_vllm_looks(
    config: dict[str, Any], sidecars: dict[str, Any], place: str
) -> None:
    assert place in formats.find(config, sidecars)[1]


@pytest.mark.parametrize("dtype", ["U8", "I32", "I8", "F8_E4M3", "F8_E5M2", "U32", "F4"])
def test_packed_weights_that_nothing_speaks_of_are_no_baseline(dtype: str) -> None:
    found = formats.read(LLAMA, {}, stored(dtype))
    assert found.method is None
    assert found.name == "unknown"
    assert found.doubt == (
        "it says nothing of quantization, and holds quantized weights " + f"(1 in {dtype})"
    )


@pytest.mark.parametrize(
    "name", ["h.0.attn.bias", "h.0.attn.masked_bias", "embeddings.position_ids", "a.mask"]
)
def test_masks_and_positions_are_no_quantized_weights(name: str) -> None:
    assert formats.read(LLAMA, {}, stored("U8", name)).name == "BF16"


@pytest.mark.parametrize(
    ("config", "tensor", "name"),
    [
        ({}, {}, "16 bits"),
        ({"torch_dtype": "float16"}, {}, "F16"),
        ({"text_config": {"dtype": "bfloat16"}}, {}, "BF16"),
        ({"torch_dtype": "float16"}, stored("BF16"), "BF16"),
    ],
)
def test_plain_floats(config: dict[str, Any], tensor: Any, name: str) -> None:
    assert formats.read(config, {}, tensor).name == name


def test_what_a_person_reads() -> None:
    found = formats.read(SHAPES["neuralmagic FP8-KV"].config, {})
    assert found.describe() == (
        "FP8 static; KV cache FP8 (compressed-tensors, by config.json: quantization_config)"
    )
    assert formats.read(LLAMA, {}).describe() == "BF16"


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        (SHAPES["RedHatAI w4a16"].config, {4}),
        (SHAPES["Intel AutoRound"].config, {4, 8}),
        (SHAPES["RedHatAI w8a8"].config, {8}),
        (SHAPES["RedHatAI NVFP4"].config, {4}),
    ],
)
def test_the_bits_of_the_weights(config: dict[str, Any], bits: set[int]) -> None:
    assert formats.read(config, {}).weight_bits == bits


# -- what a record keeps -------------------------------------------------------------------------


def test_a_short_configuration_is_kept_as_it_is() -> None:
    stated = SHAPES["Intel AutoRound"].config["quantization_config"]
    assert formats.kept(stated) == stated
    assert formats.kept(None) is None


def test_of_a_configuration_that_names_every_expert_the_sense_is_kept() -> None:
    layers = {
        f"model.layers.{layer}.mlp.experts.{expert}.{kind}_proj": {
            "bits": 8, "data_type": "int", "group_size": 128, "sym": True
        }
        for layer in range(58)
        for expert in range(256)
        for kind in ("gate", "up", "down")
    }  # fmt: skip
    stated = {"quant_method": "auto-round", "bits": 4, "extra_config": layers}
    kept = formats.kept(stated)
    assert kept
    assert len(json.dumps(kept)) < 4096
    assert (kept["quant_method"], kept["bits"]) == ("auto-round", 4)
    left_out = kept["left_out"]
    assert left_out["keys"] == ["extra_config"]
    assert left_out["schemes"] == ["INT8 weight-only, groups of 128", "INT4 weight-only"]
    assert left_out["size_bytes"] == len(json.dumps(stated))
    assert len(left_out["sha256"]) == 64
    assert formats.read({"quantization_config": kept}, {}).weight_bits == {4}


def test_what_is_kept_is_short_whatever_is_stated() -> None:
    stated = {f"k{n}" * 9: "x" * 4000 for n in range(3000)}
    assert len(json.dumps(formats.kept(stated))) < 2**19


# -- GGUF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"general.file_type": 15}, "GGUF Q4_K_M"),
        ({"general.file_type": 36}, "GGUF TQ1_0"),
        ({"general.file_type": 38}, "GGUF MXFP4_MOE"),
        ({"general.file_type": 1024 + 30}, "GGUF IQ4_XS"),  # guessed
        ({"general.file_type": 15, "quantize.imatrix.file": "x.dat"}, "GGUF Q4_K_M (imatrix)"),
        ({"general.file_type": 999}, "GGUF"),
        ({}, "GGUF"),
    ],
)
def test_a_gguf_file_is_called_what_its_header_says(values: dict[str, Any], name: str) -> None:
    data = gguf({"general.architecture": "llama"} | values)
    assert formats.of_gguf(headers.gguf(data, len(data))).name == name


def test_a_gguf_file_that_states_no_type_is_called_by_its_tensors() -> None:
    header = headers.Gguf({}, None, None, {"F32": 80, "Q4_K": 30, "Q6_K": 9})
    found = formats.of_gguf(header)
    assert found.name == "GGUF Q4_K"
    assert [scheme.weights for scheme in found.schemes] == ["Q4_K", "Q6_K", "F32"]


# -- whatever comes ------------------------------------------------------------------------------

KEYS = (
    *("quant_method", "quant_algo", "quantization", "producer", "name", "config_groups", "weights"),
    *("input_activations", "num_bits", "type", "strategy", "group_size", "dynamic", "bits"),
    *("extra_config", "data_type", "act_bits", "quant_type", "global_quant_config", "weight"),
    *("kv_cache_scheme", "weight_block_size", "quantized_layers", "text_config", "dtype"),
    *("quantization_config", "compression_config", "quant_config", "weight_quant_params", "nbits"),
)
WORDS = (
    *("compressed-tensors", "modelopt", "fp8", "gptq", "auto-round", "torchao", "quark", "hqq"),
    *("bitsandbytes", "mxfp4", "float", "int", "MIXED_PRECISION", "NVFP4", "W4A8", "fp4"),
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(WORDS)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(WORDS),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
    st.dictionaries(st.sampled_from(formats.SIDECARS), st.dictionaries(st.text(), VALUES)),
)
def test_no_configuration_does_harm(
    method: str, keys: dict[str, Any], sidecars: dict[str, Any]
) -> None:
    for config in (keys, {"quantization_config": {"quant_method": method} | keys}):
        found = formats.read(config, sidecars)
        assert found.describe().isprintable()
        assert len(found.describe()) < 600
        assert all(bits >= 0 for bits in found.weight_bits)
