"""The standard streams: lines for a person, and what is done where nobody can read them."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO

import click


def say_plainly(message: str) -> None:
    """A line on standard error for who waits for the end: an error, or how it was interrupted."""
    try:
        click.echo(message, err=True)
    except OSError:
        silence(sys.stderr)


def silence(stream: IO[str] | None) -> None:
    """Sends what is said from here on nowhere, as its reader is gone or its disk full.

    Also what the stream still holds, which the interpreter would fail to write at its end.
    """
    if stream is None:  # closed from the start
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):  # no file of the system's
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_standard_streams() -> None:
    """Opens what the caller closed of the first three files, nowhere.

    The next files to be opened would get their numbers, and be taken for them by what is started.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
