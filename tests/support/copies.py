"""Copies of this repository as `Use this template` makes them: one commit, another name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from folders import GOLDEN, PUBLISHED_MODELS, REFERENCE, ROOT

NAME = "someone/their-bench"
RECORD = GOLDEN / "record-speed.json"


def git(folder: Path, *arguments: str) -> str:
    """What git answers."""
    identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, text=True, capture_output=True
    )
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    """Commits all there is; the commit's hash."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def fresh(folder: Path, *, whole: bool = False) -> Path:
    """A copy of what `bench init` looks at, or of everything but the tests."""
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    small = ("models.toml", "bench/demo/", "bench/results/", "report/reference/")
    for name in listed:
        taken = not name.startswith("tests/") if whole else name.startswith(small)
        if taken and (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    # There are some, whatever became of this repository's own.
    for name, source in (
        ("models.toml", PUBLISHED_MODELS),
        *((f"report/reference/{path.name}", path) for path in REFERENCE.iterdir()),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / name)
    record = folder / "bench/results/theirs/their-variant/speed-20260101T000000Z-00000000.json"
    record.parent.mkdir(parents=True)
    shutil.copy(RECORD, record)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "remote", "add", "origin", f"git@github.com:{NAME}.git")
    commit(folder, "Initial commit")
    return folder


def bench(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The copy's own `bench`, with this environment's packages."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder, text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
    )  # fmt: skip
