"""Which GGUF files are let through, and what is said of the others."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from bench.errors import WeightsError
from bench.weights import gguf, headers

LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.rope.freq_base": 10000.0,
}
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}
Q4_K, F32 = 12, 0


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def content(values: dict[str, Any], tensors: list[tuple[str, tuple[int, ...], int]]) -> bytes:
    data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for name, value in values.items():
        data += text(name)
        if isinstance(value, str):
            data += struct.pack("<I", 8) + text(value)
        else:
            kind, layout = (6, "f") if isinstance(value, float) else (4, "I")
            data += struct.pack(f"<I{layout}", kind, value)
    for start, (name, shape, kind) in enumerate(tensors):
        data += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        data += struct.pack("<IQ", kind, 64 * start)
    return data + bytes(64 * len(tensors))


def write(folder: Path, name: str = "x.gguf", **changes: Any) -> Path:
    path = folder / name
    tensors = [("token_embd.weight", (64, 100), Q4_K), ("output_norm.weight", (64,), F32)]
    path.write_bytes(content(LLAMA | changes, tensors))
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_checked_architecture_with_its_own_configuration_passes(tokenizer: Path) -> None:
    gguf.check(write(tokenizer), tokenizer)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("qwen9", "'qwen9' rightly was not checked; gemma3, llama, "),
        ("gemma2", "does not load GGUF files of the architecture 'gemma2': vllm-gguf-plugin knows"),
    ],
)
def test_any_other_is_refused_with_the_reason(
    tokenizer: Path, architecture: str, said: str
) -> None:
    with pytest.raises(WeightsError, match=said):
        gguf.check(write(tokenizer, **{"general.architecture": architecture}), tokenizer)


def test_a_file_that_states_no_architecture_is_refused(tokenizer: Path) -> None:
    (tokenizer / "x.gguf").write_bytes(content({}, []))
    with pytest.raises(WeightsError, match="was not checked"):
        gguf.check(tokenizer / "x.gguf", tokenizer)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mistral"}, "the configuration of a mistral, x.gguf is a llama"),
        ({"num_hidden_layers": 3}, "2 as layers, its tokenizer's configuration 3"),
        ({"hidden_size": 128}, "64 as hidden size"),
        ({"num_key_value_heads": 4}, "2 as key and value heads"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "10000 as rope's base"),
        ({"rope_theta": 5e5}, "its tokenizer's configuration 500000"),
    ],
)
def test_the_configuration_of_another_model_is_refused(
    tokenizer: Path, changes: dict[str, Any], said: str
) -> None:
    (tokenizer / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(WeightsError, match=said):
        gguf.check(write(tokenizer), tokenizer)


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    parameters, how = gguf.describe(write(tmp_path))
    assert parameters == 64 * 100 + 64
    assert how == {
        "quant_method": "gguf",
        "architecture": "llama",
        "file_type": "Q4_K",
        "tensors": {"F32": 1, "Q4_K": 1},
    }


def test_the_parts_of_a_split_file_are_added(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, f"x-0000{number}-of-00002.gguf")
    parameters, how = gguf.describe(tmp_path / "x-00001-of-00002.gguf")
    assert (parameters, how["tensors"]) == (2 * 6464, {"F32": 2, "Q4_K": 2})


def test_a_header_cut_off_gives_no_number(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    assert gguf.describe(path)[0] is None


def test_a_type_that_came_later_keeps_its_number() -> None:
    header = headers.gguf(content(LLAMA, [("a", (64, 2), 99)]), 1000)
    assert header.types == {"type 99": 1}


@pytest.mark.parametrize(("number", "name"), [(34, "TQ1_0"), (35, "TQ2_0"), (39, "MXFP4")])
def test_a_type_of_tensor_that_the_engine_cannot_unpack_is_refused(
    tokenizer: Path, number: int, name: str
) -> None:
    path = tokenizer / "x.gguf"
    path.write_bytes(content(LLAMA, [("blk.0.ffn_up.weight", (64, 128), number)]))
    with pytest.raises(WeightsError, match=f"tensors in {name}, which the engine does not load"):
        gguf.check(path, tokenizer)


def test_a_type_is_looked_for_in_every_part_of_a_split_file(tokenizer: Path) -> None:
    first, second = (tokenizer / f"x-0000{n}-of-00002.gguf" for n in (1, 2))
    first.write_bytes(content(LLAMA, [("blk.0.ffn_up.weight", (64, 128), Q4_K)]))
    second.write_bytes(content({}, [("blk.1.ffn_up.weight", (64, 128), Q4_K)]))
    gguf.check(first, tokenizer)
    second.write_bytes(content({}, [("blk.1.ffn_up.weight", (64, 128), 34)]))
    with pytest.raises(WeightsError, match=r"x-00002-of-00002\.gguf has tensors in TQ1_0"):
        gguf.check(first, tokenizer)
