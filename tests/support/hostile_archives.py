"""Archives of one file that zipfile, or what it calls, fails on, each in its own way."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

# Where a field lies in the local header and in the central directory's entry.
_FLAGS, _METHOD, _CHECKSUM, _OFFSET = (6, 8), (8, 10), (14, 16), (None, 42)


def zipped(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A sound archive of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def _patched(archive: bytes, places: tuple[int | None, int], value: bytes) -> bytes:
    """The archive of one file with a field of both its headers replaced."""
    changed = bytearray(archive)
    local, central = places
    at = archive.index(b"PK\x01\x02") + central
    changed[at : at + len(value)] = value
    if local is not None:
        changed[local : local + len(value)] = value
    return bytes(changed)


def _corrupt(archive: bytes, name: str) -> bytes:
    """0xff begins a deflate block of a kind that does not exist."""
    start = 30 + len(name)
    return archive[:start] + b"\xff" * 8 + archive[start + 8 :]


def _far_away(name: str, data: bytes) -> bytes:
    """The entry says, in 64 bits, that its file begins beyond any offset a seek can take."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
        archive.writestr(entry, data)
    return _patched(buffer.getvalue(), _OFFSET, b"\xff" * 4)


_Make = Callable[[str, bytes], bytes]
ARCHIVES: dict[str, _Make] = {
    "corrupt deflate": lambda name, data: _corrupt(zipped(name, data), name),
    "wrong checksum": lambda name, data: _patched(zipped(name, data), _CHECKSUM, b"\0\0\0\1"),
    "encrypted": lambda name, data: _patched(zipped(name, data), _FLAGS, b"\1\0"),
    "strongly encrypted": lambda name, data: _patched(zipped(name, data), _FLAGS, b"\x40\0"),
    "patched data": lambda name, data: _patched(zipped(name, data), _FLAGS, b"\x20\0"),
    "unknown method": lambda name, data: _patched(zipped(name, data), _METHOD, b"\x63\0"),
    "bzip2": lambda name, data: zipped(name, data, zipfile.ZIP_BZIP2),
    "LZMA": lambda name, data: zipped(name, data, zipfile.ZIP_LZMA),
    "corrupt LZMA": lambda name, data: _corrupt(zipped(name, data, zipfile.ZIP_LZMA), name),
    "a file beyond the end": lambda name, data: _patched(
        zipped(name, data), _OFFSET, b"\xff\xff\xff\x7f"
    ),
    "a file beyond any end": _far_away,
    "cut short": lambda name, data: zipped(name, data)[:-1],
    "no end": lambda name, data: zipped(name, data)[:-22],
    "an end and nothing else": lambda name, data: zipped(name, data)[-22:],
    "another name inside": lambda name, data: zipped(name, data).replace(
        name.encode(), b"x" * len(name), 1
    ),
    "a name that is no UTF-8": lambda name, data: _patched(
        zipped(name, data), _FLAGS, b"\0\x08"
    ).replace(name.encode(), b"\xff" * len(name)),
}
