"""Committing results: jobs that race, each with a shallow clone of its own, all arrive."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.github.commit import BOT, BOT_EMAIL, commit_and_push, git

Add = Callable[[], tuple[list[Path], str]]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A bare repository with one commit on main."""
    seed, bare = tmp_path / "seed", tmp_path / "origin.git"
    seed.mkdir()
    git(seed, "init", "--quiet", "--initial-branch", "main")
    (seed / "README.md").write_text("x")
    git(seed, "add", "--all")
    git(seed, "commit", "--quiet", "--message", "start")
    subprocess.run(["git", "clone", "--quiet", "--bare", seed, bare], check=True)
    return bare


def clone(origin: Path, name: str) -> Path:
    folder = origin.parent / name
    subprocess.run(
        ["git", "clone", "--quiet", "--depth", "1", f"file://{origin}", folder], check=True
    )
    return folder


def adding(folder: Path, name: str, message: str = "m") -> Add:
    """Adds a file, unless it is there."""

    def add() -> tuple[list[Path], str]:
        path = folder / "bench" / "results" / name
        if path.exists():
            return [], message
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        return [path], message

    return add


def test_a_commit_is_the_bots_and_arrives(origin: Path) -> None:
    folder = clone(origin, "a")
    sha = commit_and_push(folder, "main", adding(folder, "a.json", "Add 1 result"))
    assert git(origin, "rev-parse", "main").strip() == sha
    assert git(origin, "log", "-1", "--format=%an <%ae> %s").strip() == (
        f"{BOT} <{BOT_EMAIL}> Add 1 result"
    )


def test_nothing_new_is_no_commit(origin: Path) -> None:
    first, second = clone(origin, "a"), clone(origin, "b")
    sha = commit_and_push(first, "main", adding(first, "a.json"))
    # The second clone is older: what it lacks is decided on the newest main.
    assert commit_and_push(second, "main", adding(second, "a.json")) == sha
    assert git(origin, "rev-list", "--count", "main").strip() == "2"


def test_racing_commits_all_arrive_in_a_line(origin: Path) -> None:
    folders = [clone(origin, f"job-{i}") for i in range(6)]
    start = threading.Barrier(len(folders))
    shas: list[str] = []
    failures: list[BaseException] = []

    def job(number: int) -> None:
        try:
            add = adding(folders[number], f"hw/v{number}/speed.json", f"job {number}")
            start.wait()
            shas.append(commit_and_push(folders[number], "main", add, delay_s=0.1))
        except BaseException as error:  # noqa: BLE001  (shown by the assertion below)
            failures.append(error)

    threads = [threading.Thread(target=job, args=(i,)) for i in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    messages = git(origin, "log", "--format=%s", "main").splitlines()
    assert sorted(messages) == sorted(["start", *(f"job {i}" for i in range(len(folders)))])
    assert not git(origin, "rev-list", "--merges", "main")
    stored = git(origin, "ls-tree", "-r", "--name-only", "main").splitlines()
    assert len(stored) == len(folders) + 1
    assert len(set(shas)) == len(folders)
    assert set(shas) <= set(git(origin, "rev-list", "main").split())


def test_what_to_add_is_decided_again_when_main_has_moved(origin: Path) -> None:
    first, second = clone(origin, "a"), clone(origin, "b")
    overtaken = False

    def add() -> tuple[list[Path], str]:
        nonlocal overtaken
        paths, message = adding(second, "x.json", "second")()
        if not overtaken:
            overtaken = True
            commit_and_push(first, "main", adding(first, "x.json", "first"))
        return paths, message

    sha = commit_and_push(second, "main", add, delay_s=0)
    assert git(origin, "rev-parse", "main").strip() == sha
    assert git(origin, "log", "--format=%s", "main").split() == ["first", "start"]
    assert not git(second, "status", "--porcelain")


def test_a_forbidden_push_is_said_with_gits_words(origin: Path) -> None:
    folder = clone(origin, "a")
    (origin / "hooks" / "pre-receive").write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    (origin / "hooks" / "pre-receive").chmod(0o755)
    with pytest.raises(BenchError, match="protected branch"):
        commit_and_push(folder, "main", adding(folder, "a.json"), attempts=2, delay_s=0)
