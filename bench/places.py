"""Where the tool keeps what it can make again: engines, downloads, checkpoints."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.errors import MachineError

ROOT = Path(__file__).resolve().parent.parent


def cache(*parts: str) -> Path:
    """A folder under the cache: $BENCH_CACHE, or the user's cache folder."""
    base = os.environ.get("BENCH_CACHE")
    if base:
        root = Path(base).absolute()  # programs are run in other folders
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quantbench"
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_run_folder() -> Path:
    """A name for a fresh folder for the logs of one run; the ten before it are kept."""
    runs = cache("runs")
    for old in sorted(runs.iterdir())[:-10]:
        shutil.rmtree(old, ignore_errors=True)
    return runs / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


@contextmanager
def only_one(purpose: str) -> Iterator[None]:
    """Holds a lock of this machine's user; two measurements at once would spoil both.

    Raises:
        MachineError: another process holds it.
    """
    path = cache("locks") / f"{purpose}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MachineError(
                f"another `bench` on this machine is {purpose}",
                "wait for it to end, or stop it; the lock goes with the process",
            ) from error
        yield
