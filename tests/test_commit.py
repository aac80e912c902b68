"""Committing results: jobs that race, each with a shallow clone of its own, all arrive."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.github.commit import BOT, BOT_EMAIL, commit_and_push, git


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


def add(folder: Path, name: str, text: str = "{}") -> list[Path]:
    path = folder / "bench" / "results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [path]


def test_a_commit_is_the_bots_and_arrives(origin: Path) -> None:
    folder = clone(origin, "a")
    sha = commit_and_push(folder, add(folder, "a.json"), "Add 1 result", "main")
    assert git(origin, "rev-parse", "main").strip() == sha
    assert git(origin, "log", "-1", "--format=%an <%ae> %s").strip() == (
        f"{BOT} <{BOT_EMAIL}> Add 1 result"
    )


def test_nothing_new_is_no_commit(origin: Path) -> None:
    folder = clone(origin, "a")
    assert commit_and_push(folder, [], "m", "main") is None
    assert commit_and_push(folder, [folder / "README.md"], "m", "main") is None
    assert git(origin, "rev-list", "--count", "main").strip() == "1"


def test_racing_commits_all_arrive_in_a_line(origin: Path) -> None:
    folders = [clone(origin, f"job-{i}") for i in range(6)]
    start = threading.Barrier(len(folders))
    shas: list[str | None] = []
    failures: list[BaseException] = []

    def job(number: int) -> None:
        try:
            paths = add(folders[number], f"hw/v{number}/speed.json", str(number))
            start.wait()
            shas.append(
                commit_and_push(folders[number], paths, f"job {number}", "main", delay_s=0.1)
            )
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


def test_a_record_edited_by_someone_else_is_said(origin: Path) -> None:
    first, second = clone(origin, "a"), clone(origin, "b")
    commit_and_push(first, add(first, "x.json", "1"), "first", "main")
    with pytest.raises(BenchError, match="conflict"):
        commit_and_push(second, add(second, "x.json", "2"), "second", "main", delay_s=0)
    assert git(origin, "log", "-1", "--format=%s", "main").strip() == "first"


def test_a_forbidden_push_is_said_with_gits_words(origin: Path) -> None:
    folder = clone(origin, "a")
    (origin / "hooks" / "pre-receive").write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    (origin / "hooks" / "pre-receive").chmod(0o755)
    with pytest.raises(BenchError, match="protected branch"):
        commit_and_push(folder, add(folder, "a.json"), "m", "main", attempts=2, delay_s=0)
