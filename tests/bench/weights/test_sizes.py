"""What a checkpoint says of itself: shapes, bytes, and the facts that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoint_headers import (
    GGUF,
    GGUF_BYTES,
    LLAMA_GGUF,
    TENSOR,
    gguf,
    judge,
    published,
    read_of,
    safetensors,
    variant,
)
from hub_server import Content, Hub, Repo, serve_client
from hypothesis import example, given, settings
from hypothesis import strategies as st
from published_checkpoints import LLAMA_70B, QWEN3_8B, gguf_rows

from bench.errors import ConfigError, WeightsError
from bench.weights import contents, headers, sizes

__all__ = ["published"]  # a fixture


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_client({}, monkeypatch, tmp_path) as server:
        yield server


def kept_facts(published: dict[str, sizes.Sizes]) -> dict[str, sizes.Sizes]:
    derived = "derived from the published architecture"
    facts = {repo: replace(found, basis=derived) for repo, found in published.items()}
    llama = facts["hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"]
    basis = (
        "file size from the repository's card, padding from llama.cpp's choice of types, "
        f"shape {derived}"
    )
    for kind, size in GGUF_BYTES.items():
        padded = size + sizes.padding_bytes(gguf_rows(kind))
        facts[GGUF.format(kind)] = sizes.Sizes(
            padded, 0, 0, size, "gguf", llama.shape, basis, f"GGUF {kind}"
        )
    return facts


def test_the_facts_in_the_repository_are_those_of_the_published_shapes(
    published: dict[str, sizes.Sizes], tmp_path: Path
) -> None:
    """Until somebody with the Hub at hand writes what the files themselves say."""
    kept, facts = sizes.known(), kept_facts(published)
    assert kept.keys() >= facts.keys()
    derived = {name: found for name, found in kept.items() if "derived" in found.basis}
    assert derived.items() <= facts.items()
    sizes.keep(kept, tmp_path / "checkpoints.json")
    assert sizes.KNOWN.read_text() == (tmp_path / "checkpoints.json").read_text()


@pytest.mark.parametrize(
    "odd",
    [
        {"kv_lora_rank": 512},
        {"layer_types": ["linear_attention", "full_attention"]},
        {"mamba_d_state": 128},
        {"num_hidden_layers": None},
        {"num_hidden_layers": "36"},
        {"num_attention_heads": "32", "head_dim": None},
        {"hidden_size": [4096], "head_dim": None},
        {"vocab_size": 2**40},
        {"text_config": None},
        {"text_config": [36]},
        {"layer_types": 3},
        {"layer_types": [["full_attention"]]},
    ],
)
def test_an_unusual_kv_cache_is_unknown(odd: dict[str, Any]) -> None:
    assert sizes.shape_of(QWEN3_8B.config(None) | odd) is None


def test_a_model_within_a_multimodal_one_and_heads_not_stated() -> None:
    text = QWEN3_8B.config(None)
    del text["head_dim"], text["num_key_value_heads"]
    shape = sizes.shape_of({"model_type": "x", "text_config": text})
    assert shape is not None
    assert (shape.kv_heads, shape.head_dim) == (32, 128)


def test_a_gguf_header_gives_the_same_shape_as_the_configuration() -> None:
    facts = sizes.from_gguf(gguf(LLAMA_GGUF), 42_520_000_000, "test")
    config = sizes.shape_of(LLAMA_70B.config(None))
    assert config is not None
    assert facts.shape == replace(config, vocabulary=500)
    assert (facts.weights_bytes, facts.quantization) == (42_520_000_000, "gguf")


def test_the_gguf_header_is_read_by_a_range(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    with path.open("wb") as file:
        file.write(gguf(LLAMA_GGUF))
        file.truncate(42_520_000_000)
    hub.repos["acme/gguf"] = Repo({"big.gguf": Content(path=path, stated_sha256="0" * 64)})
    facts = contents.read_hub(variant("acme/gguf", "big.gguf"), tmp_path / "cache").sizes
    assert facts
    assert facts == replace(
        sizes.from_gguf(gguf(LLAMA_GGUF), 42_520_000_000, ""), basis=facts.basis
    )
    assert [r[2] for r in hub.asked("/cdn/")] == ["bytes=0-16777215"]


@pytest.mark.parametrize(("kind", "gib"), [("Q4_K_M", 1.08), ("IQ2_S", 1.54)])
def test_the_rows_of_merged_tensors_are_padded_to_the_longest(kind: str, gib: float) -> None:
    rows = gguf_rows(kind)
    size = sum(count * width for count, width in rows.values())
    assert size == pytest.approx(GGUF_BYTES[kind], rel=0.0005)  # so these are the file's types
    head = gguf(LLAMA_GGUF, rows)
    facts = sizes.from_gguf(head, len(head) + size, "test")
    assert facts.weights_bytes - facts.download_bytes == sizes.padding_bytes(rows)
    assert sizes.padding_bytes(rows) / 2**30 == pytest.approx(gib, abs=0.01)
    assert facts.basis == "test"


def test_only_tensors_of_one_layer_that_the_plugin_merges_are_padded() -> None:
    rows = {"blk.0.attn_q.weight": (8, 10), "blk.0.attn_v.weight": (2, 13)}
    assert sizes.padding_bytes(rows) == 8 * 3
    rows |= {"blk.0.attn_v.bias": (1, 99), "blk.1.attn_k.weight": (8, 99)}
    rows |= {"blk.0.ffn_down.weight": (8, 99), "token_embd.weight": (8, 99)}
    assert sizes.padding_bytes(rows) == 8 * 3
    rows |= {"blk.0.ffn_gate.weight": (4, 7), "blk.0.ffn_up.weight": (4, 8)}
    assert sizes.padding_bytes(rows) == 8 * 3 + 4


@pytest.mark.parametrize(
    "odd",
    [
        {"llama.attention.head_count_kv": [8, 0, 8]},
        {"llama.ssm.state_size": 16},
        {"llama.attention.kv_lora_rank": 512},
    ],
)
def test_an_unusual_gguf_is_unknown(odd: dict[str, Any]) -> None:
    assert sizes.from_gguf(gguf(LLAMA_GGUF | odd), 1000, "test").shape is None


def test_a_tied_head_is_counted_once() -> None:
    tensors = {
        name: headers.Tensor(dtype="BF16", shape=(10, 4), data_offsets=(0, 80))
        for name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    config = QWEN3_8B.config(None)
    assert sizes.from_tensors(tensors, config, 0, "test").weights_bytes == 160
    tied = config | {"tie_word_embeddings": True}
    assert sizes.from_tensors(tensors, tied, 0, "test").weights_bytes == 80


ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(("full_attention", "awq", "BF16")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from((*QWEN3_8B.config({}), "layer_types", "text_config", "quant_method")),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


CONFIG_KEYS = (*QWEN3_8B.config({"quant_method": "awq"}), "layer_types", "text_config")


@given(
    config=st.dictionaries(st.sampled_from(CONFIG_KEYS), ODD, max_size=4),
    tensor=st.dictionaries(st.sampled_from(("dtype", "shape", "data_offsets")), ODD, max_size=3),
)
@settings(max_examples=300)
@example(config={"quantization_config": {"quant_method": ["awq"]}}, tensor={})
def test_any_configuration_and_header_are_read_or_refused(
    config: dict[str, Any], tensor: dict[str, Any]
) -> None:
    try:
        tensors = headers.safetensors("x", read_of(safetensors({"a": TENSOR | tensor})))
    except WeightsError:
        tensors = {}
    judge(sizes.from_tensors(tensors, QWEN3_8B.config(None) | config, 0, "test"))


def test_a_damaged_list_of_facts_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.json"
    path.write_text('{"a/b": {"weights_bytes": "many"}}')
    with pytest.raises(ConfigError, match=r"checkpoints\.json"):
        sizes.read(path)
