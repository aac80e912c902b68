"""The headers of checkpoint files: what they state, read so that no header can do harm.

A header comes from whoever made the checkpoint. What does not follow its format is refused in one
sentence or counts as not stated, and no length in it is believed before that many bytes are here.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
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
    """

    values: dict[str, Any]
    rows: dict[str, tuple[int, int]] | None


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
        if values.get("split.tensors.count", tensors) != tensors:
            return Gguf(values, None)  # the others are in further files
        return Gguf(values, _read_rows(stream, tensors, file_bytes))
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


def _read_rows(
    stream: io.BytesIO, count: int, file_bytes: int
) -> dict[str, tuple[int, int]] | None:
    """Rows from the tensors' places, whatever their types: one ends where the next begins."""
    places = []
    for _ in range(count):
        name, (dimensions,) = _text(stream), _numbers(stream, "I", 1)
        if dimensions > _MOST_DIMENSIONS:
            return None
        shape = _numbers(stream, "Q", dimensions)
        (_,), (start,) = _numbers(stream, "I", 1), _numbers(stream, "Q", 1)
        places.append((start, name, prod(shape[1:])))
    places.sort()
    ends = [start for start, *_ in places[1:]] + [file_bytes - stream.tell()]
    rows = {
        name: (own, (end - start) // own)  # what aligns the next is less than a byte a row
        for (start, name, own), end in zip(places, ends, strict=False)
        if own
    }
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
