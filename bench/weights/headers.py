"""The headers of checkpoint files: what they state, read so that no header can do harm.

A header comes from whoever made the checkpoint. What does not follow its format is refused in one
sentence or counts as not stated, and no length in it is believed before that many bytes are here.
"""

from __future__ import annotations

import io
import json
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bench.errors import WeightsError

GGUF_BYTES = 16 << 20  # a vocabulary of 256,000 words takes half of it
_SAFETENSORS_BYTES = 100 << 20  # the format's own limit
_FIRST_BYTES = 100_000  # holds most safetensors headers whole

Size = Annotated[int, Field(ge=0, lt=2**48)]


class Tensor(BaseModel):
    """One tensor of a safetensors file."""

    model_config = ConfigDict(strict=True, frozen=True)

    dtype: Annotated[str, Field(max_length=16)]
    shape: Annotated[tuple[Size, ...], Field(max_length=8)]
    data_offsets: tuple[Size, Size]

    @property
    def size_bytes(self) -> int:
        """In the file."""
        return self.data_offsets[1] - self.data_offsets[0]


_Tensors = TypeAdapter(dict[str, Tensor])


@dataclass(frozen=True)
class Gguf:
    """A GGUF header as far as it was read.

    Attributes:
        values: what is stated, by name; of an array of texts, its length.
        rows: of each tensor, how many rows it has and the bytes of one; None if not all are known.
        parameters: how many numbers this file's tensors hold; None if it was cut off before.
        types: how many tensors there are of each type, such as {"Q4_K": 241, "F32": 162}.
    """

    values: dict[str, Any]
    rows: dict[str, tuple[int, int]] | None
    parameters: int | None = None
    types: dict[str, int] = field(default_factory=dict)


def safetensors(name: str, read: Callable[[int], bytes]) -> dict[str, Tensor]:
    """Every tensor of a safetensors file: eight bytes of length, then JSON.

    Args:
        name: the file's, for messages.
        read: gives so many of its first bytes, fewer where it ends.

    Raises:
        WeightsError: it has no such header.
    """
    # Not HfApi.parse_safetensors_file_metadata: it reads all that a server sends that ignores
    # ranges, 40 GB of it, and takes any shape for one.
    head = read(_FIRST_BYTES)
    length = int.from_bytes(head[:8], "little")
    if length <= _SAFETENSORS_BYTES and len(head) < 8 + length:
        head = read(8 + length)
    try:
        if not 0 < length <= len(head) - 8:
            raise ValueError("its length is not that of a header")
        stated = json.loads(head[8 : 8 + length])
        if isinstance(stated, dict):
            stated.pop("__metadata__", None)
        return _Tensors.validate_json(json.dumps(stated))
    except (ValueError, RecursionError, ValidationError) as error:
        raise WeightsError(
            f"{name} has no readable safetensors header", "choose another revision"
        ) from error


# -- GGUF --------------------------------------------------------------------------------------

_TEXT, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"}
_NUMBERS |= {10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 4
# The types of tensors by their number in the format (ggml_type).
_TYPES = dict(enumerate(("F32", "F16", "Q4_0", "Q4_1")))
_TYPES |= dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1"), 6))
_TYPES |= dict(enumerate(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 10))
_TYPES |= dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL"), 16))
_TYPES |= dict(enumerate(("IQ3_S", "IQ2_S", "IQ4_XS"), 21)) | {29: "IQ1_M", 30: "BF16"}
_TYPES |= {34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4"}


def gguf(head: bytes, file_bytes: int) -> Gguf:
    """The header of a GGUF file, little-endian as in the GGUF specification (ggml).

    Magic, version, two counts; then entries of a name, a u32 type and the value; then tensors of a
    name, their dimensions, a u32 type and their place. A text is a u64 length and bytes.

    Args:
        head: the file's first bytes; what is cut off counts as not stated.

    Raises:
        WeightsError: it is not GGUF version 2 or later.
    """
    if len(head) < 24 or head[:4] != b"GGUF" or struct.unpack_from("<I", head, 4)[0] not in (2, 3):
        raise WeightsError("the file is not GGUF (version 2 or 3)", "choose another file")
    stream = io.BytesIO(head)
    tensors, entries = struct.unpack("<QQ", stream.read(24)[8:])
    values: dict[str, Any] = {}
    try:
        for _ in range(entries):
            _read_entry(stream, values)
        places = _read_places(stream, tensors)
        parameters = sum(prod(place.shape) for place in places)
        types = Counter(_TYPES.get(place.type, f"type {place.type}") for place in places)
        whole = values.get("split.tensors.count", tensors) == tensors  # else in further files
        rows = _rows(places, file_bytes - stream.tell()) if whole else None
        return Gguf(values, rows, parameters, dict(sorted(types.items())))
    except EOFError:
        return Gguf(values, None)


def _read_entry(stream: io.BytesIO, values: dict[str, Any]) -> None:
    name, (kind,) = _text(stream), _numbers(stream, "I", 1)
    if kind == _TEXT:
        values[name] = _text(stream)
    elif kind == _ARRAY:
        (inner,), (length,) = _numbers(stream, "I", 1), _numbers(stream, "Q", 1)
        if inner == _TEXT:
            values[name] = length
            for _ in range(length):
                _skip_text(stream)
        else:
            values[name] = _numbers(stream, _layout(inner), length)
    else:
        values[name] = _numbers(stream, _layout(kind), 1)[0]


@dataclass(frozen=True, order=True)
class _Place:
    start: int
    name: str
    shape: tuple[int, ...]
    type: int


def _read_places(stream: io.BytesIO, count: int) -> list[_Place]:
    places = []
    for _ in range(count):
        name, (dimensions,) = _text(stream), _numbers(stream, "I", 1)
        if dimensions > _MOST_DIMENSIONS:
            raise EOFError  # what follows cannot be told
        shape = _numbers(stream, "Q", dimensions)
        (kind,), (start,) = _numbers(stream, "I", 1), _numbers(stream, "Q", 1)
        places.append(_Place(start, name, shape, kind))
    return places


def _rows(places: list[_Place], data_bytes: int) -> dict[str, tuple[int, int]] | None:
    """Rows from the tensors' places, whatever their types: one ends where the next begins."""
    ordered = sorted(places)
    ends = [place.start for place in ordered[1:]] + [data_bytes]
    rows = {}
    for place, end in zip(ordered, ends, strict=False):
        if own := prod(place.shape[1:]):  # what aligns the next is less than a byte a row
            rows[place.name] = (own, (end - place.start) // own)
    return rows if all(width > 0 for _, width in rows.values()) else None


def _layout(kind: int) -> str:
    if kind not in _NUMBERS:
        raise EOFError  # of a type that came later: where it ends is not known
    return _NUMBERS[kind]


def _text(stream: io.BytesIO) -> str:
    return _read(stream, _numbers(stream, "Q", 1)[0]).decode("utf-8", "replace")


def _skip_text(stream: io.BytesIO) -> None:
    _read(stream, _numbers(stream, "Q", 1)[0])


def _numbers(stream: io.BytesIO, layout: str, count: int) -> tuple[Any, ...]:
    data = _read(stream, count * struct.calcsize(f"<{layout}"))
    return struct.unpack(f"<{count}{layout}", data)


def _read(stream: io.BytesIO, size: int) -> bytes:
    if size > stream.getbuffer().nbytes - stream.tell():
        raise EOFError
    return stream.read(size)
