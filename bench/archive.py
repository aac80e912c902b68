"""A stranger's .zip file, read member by member under caps and never unpacked to disk.

Standard library only, as `bench.github.comment` reads archives beside a write token.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from bench.errors import RefusedError

# What zipfile and zlib raise on bytes that are no sound archive, or encrypted (RuntimeError).
_UNSOUND = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
# What GitHub packs artifacts with; bzip2 and LZMA have failures, and appetites, of their own.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def members(
    archive: Path | IO[bytes], most: int, cap: Callable[[str], int]
) -> Iterator[tuple[str, bytes]]:
    """Every file in the archive: the name as it is written there, and its bytes.

    Args:
        most: how many entries it may have.
        cap: the bytes a file of this name may have; holds for what is read, whatever is claimed.

    Raises:
        RefusedError: not a sound archive, a link, encrypted, packed otherwise, or over a cap.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            if len(entries) > most:
                raise refused("the archive", f"holds more than {most:,} files")
            for entry in entries:
                name = entry.orig_filename
                if name.endswith("/"):
                    continue  # a folder's own entry: nothing is made of it
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise refused(name, "not a plain file")
                if entry.compress_type not in _METHODS:
                    raise refused(name, "is packed otherwise than in GitHub's .zip files")
                with zipped.open(entry) as file:
                    yield name, read_capped(file, name, cap(name))
    except _UNSOUND as error:
        raise refused("the archive", f"not a sound .zip file ({error})") from error


def read_capped(file: IO[bytes], name: str, cap: int) -> bytes:
    """The file's bytes.

    Raises:
        RefusedError: there are more than `cap`.
    """
    data = file.read(cap + 1)
    if len(data) > cap:
        raise refused(name, f"is larger than {cap:,} bytes")
    return data


def refused(name: str, reason: str) -> RefusedError:
    """The refusal of one file of a stranger's, by its name."""
    # Both may hold what a stranger wrote: control characters, line breaks.
    shown = "".join(c if c.isprintable() else "�" for c in reason[:500])
    return RefusedError(
        f"{name[:200]!r}: {shown}", "nothing of it was taken; look at the run's log"
    )
