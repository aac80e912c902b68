"""Headers of checkpoint files: read whole, cut, altered, or refused."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest
from checkpoint_headers import (
    LLAMA_GGUF,
    TENSOR,
    UNPADDED,
    gguf,
    gguf_string,
    judge,
    read_of,
    safetensors,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import WeightsError
from bench.weights import headers, sizes

HEAD = gguf(LLAMA_GGUF, {"blk.0.attn_q.weight": (8, 64), "blk.0.attn_v.weight": (2, 96)})
HEAD_AND_DATA = len(HEAD) + 8 * 64 + 2 * 96


def test_of_a_split_gguf_the_padding_is_unknown() -> None:
    head = gguf(LLAMA_GGUF | {"split.tensors.count": 723}, {"output.weight": (8, 64)})
    facts = sizes.from_gguf(head, 9000, "test")
    assert (facts.basis, facts.weights_bytes) == (UNPADDED, 9000)


def test_of_a_tensor_with_more_dimensions_than_the_format_has_nothing_is_known() -> None:
    for dimensions, basis in ((4, "test"), (5, UNPADDED)):
        head = bytearray(gguf(LLAMA_GGUF))
        struct.pack_into("<Q", head, 8, 1)
        shape = struct.pack(f"<I{dimensions}Q", dimensions, 8, *[1] * (dimensions - 1))
        head += gguf_string("a") + shape + struct.pack("<IQ", 12, 0)
        assert sizes.from_gguf(bytes(head), 2000 + len(head), "test").basis == basis


@given(end=st.integers(24, len(HEAD)))
def test_a_gguf_header_cut_anywhere_states_less_and_nothing_else(end: int) -> None:
    whole = sizes.from_gguf(HEAD, HEAD_AND_DATA, "test")
    assert whole.weights_bytes == HEAD_AND_DATA + 8 * 32
    unpadded = replace(whole, basis=UNPADDED, weights_bytes=HEAD_AND_DATA)
    part = sizes.from_gguf(HEAD[:end], HEAD_AND_DATA, "test")
    part = replace(part, format=whole.format)
    assert part in (whole, unpadded, replace(unpadded, shape=None))


@given(tail=st.binary(max_size=200))
def test_nonsense_behind_the_magic_is_no_shape(tail: bytes) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40) + tail
    assert sizes.from_gguf(head, 1000, "test").shape is None


@pytest.mark.parametrize("kind", [4, 8, 9, 12, 99])
@pytest.mark.parametrize("length", [2**20, 2**62, 2**64 - 1])
def test_a_length_that_is_not_there_ends_the_header(kind: int, length: int) -> None:
    entry = gguf_string("a") + struct.pack("<IIQ", 9, kind, length)
    head = gguf(LLAMA_GGUF)
    entries = struct.pack("<Q", len(LLAMA_GGUF) + 1)
    facts = sizes.from_gguf(head[:16] + entries + head[24:] + entry, 1000, "test")
    assert facts == replace(sizes.from_gguf(head, 1000, "test"), basis=UNPADDED)


@given(
    at=st.lists(st.tuples(st.integers(8, len(HEAD) - 1), st.integers(0, 255)), max_size=6),
    number=st.tuples(st.integers(8, len(HEAD) - 8), st.integers(0, 2**64 - 1)),
    size=st.integers(0, 2**50),
)
@settings(max_examples=500)
def test_a_mutated_gguf_header_is_read_or_refused(
    at: list[tuple[int, int]], number: tuple[int, int], size: int
) -> None:
    head = bytearray(HEAD)
    struct.pack_into("<Q", head, *number)
    for place, byte in at:
        head[place] = byte
    judge(sizes.from_gguf(bytes(head), size, "test"))


@pytest.mark.parametrize("head", [b"", b"PK\x03\x04" + b"\0" * 40, b"GGUF" + b"\1" + b"\0" * 40])
def test_what_is_not_gguf_is_refused(head: bytes) -> None:
    with pytest.raises(WeightsError, match="not GGUF"):
        sizes.from_gguf(head, 1000, "test")


def test_a_header_is_read_whole_however_long() -> None:
    asked = []

    def read(size: int) -> bytes:
        asked.append(size)
        return data[:size]

    data = safetensors({"__metadata__": {"format": "pt"}, "a": TENSOR}) + b"\0" * 16
    assert headers.safetensors("x", read) == {
        "a": headers.Tensor.model_validate_json(json.dumps(TENSOR))
    }
    assert len(asked) == 1
    data = safetensors({f"layer.{n}": TENSOR for n in range(2000)})
    assert len(headers.safetensors("x", read)) == 2000
    assert asked[1:] == [asked[0], len(data)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"\xff" * 100,
        safetensors({"a": TENSOR})[:-1],
        safetensors([]),
        safetensors({"a": None}),
        safetensors({"a": TENSOR | {"shape": "12"}}),
        safetensors({"a": TENSOR | {"shape": [10**12, "a"]}}),
        safetensors({"a": TENSOR | {"shape": [2**62]}}),
        safetensors({"a": TENSOR | {"data_offsets": [1]}}),
        safetensors({"a": TENSOR | {"dtype": []}}),
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
    ],
)
def test_what_is_no_safetensors_header_is_refused(data: bytes) -> None:
    with pytest.raises(WeightsError, match=r"m\.safetensors has no readable safetensors header"):
        headers.safetensors("m.safetensors", read_of(data))
