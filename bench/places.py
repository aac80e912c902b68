"""Where things are: a person's files, this program's, and the cache, which can be made again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from bench.errors import MachineError

CODE = Path(__file__).resolve().parents[1]  # holds the packages: a checkout, or site-packages
REFERENCES = CODE / "report" / "reference"  # published elsewhere; `reproduces` names their rows
MODELS = "models.toml"


class PathType(click.Path):
    """The type of every path that a person gives: absolute, so that nothing inside asks from where.

    A link keeps its name: messages say what was named, and a shell's <(…) is such a link too.
    """

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """The path made absolute."""
        path = os.fsdecode(super().convert(value, param, ctx))
        # Those of pathlib raise where a folder may not be read; who uses the path says it better.
        is_link = os.path.islink(path)  # noqa: PTH114
        return Path(path).absolute() if is_link else Path(os.path.realpath(path))


def project(*parts: str) -> Path:
    """A place in the nearest folder upwards with a models.toml, or else in the working folder."""
    here = Path.cwd()
    root = next((at for at in (here, *here.parents) if (at / MODELS).is_file()), here)
    return root.joinpath(*parts)


def cached(*parts: str) -> Path:
    """A place under the cache, $BENCH_CACHE or the user's cache folder; it may not exist yet."""
    base = os.environ.get("BENCH_CACHE")
    if base:
        root = Path(base)
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quantbench"
    return root.absolute().joinpath(*parts)  # programs are run in other folders


def cache(*parts: str) -> Path:
    """A folder under the cache, made if it is missing."""
    folder = cached(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def job_folder() -> Path | None:
    """A folder of this job's own, where this is a job of GitHub Actions; else None.

    A runner empties it before each job, while the cache is what jobs of one machine share: in a
    job, nothing that lies in the cache vouches for anything else there.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return None
    return Path(os.environ.get("RUNNER_TEMP") or tempfile.gettempdir())


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
    lock = FileLock(cache("locks") / f"{purpose}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise MachineError(
            f"another `bench` on this machine is {purpose}",
            "wait for it to end, or stop it; the lock goes with the process",
        ) from error
    try:
        yield
    finally:
        lock.release()
