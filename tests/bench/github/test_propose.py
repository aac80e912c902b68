"""A newer engine as a pull request: what is taken of the patch, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import copies
import github_server
import pytest
from github_server import State

from bench.errors import BenchError, RefusedError
from bench.github import propose
from bench.github.api import Api

VERSION = "0.33.0"
BRANCH = "engine/vllm-0.33.0"


class Desk:
    """A clone of main that may push, another tree where patches are made, and the API."""

    def __init__(self, folder: Path, state: State) -> None:
        self.origin, self.clone = folder / "origin.git", folder / "clone"
        self.work, self.proposal = folder / "work", folder / "proposal"
        self.state = state
        self.api = Api(state.url, github_server.REPOSITORY, github_server.TOKEN)
        state.origin = self.origin
        self.proposal.mkdir()
        copies.git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
        for name in sorted(propose.FILES):
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("old\n")
        copies.git(self.work, "init", "--quiet", "--initial-branch", "main")
        copies.commit(self.work, "start")
        copies.git(self.work, "push", "--quiet", str(self.origin), "main")
        copies.git(folder, "clone", "--quiet", str(self.origin), "clone")
        (self.proposal / propose.SUMMARY).write_text("## vLLM 0.32.0 → 0.33.0\n")

    def patch(self, name: str, text: str = "new\n") -> None:
        """A patch that writes a file."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.take()

    def take(self) -> None:
        """What differs in the tree, as the workflow's `git diff`, new files included."""
        copies.git(self.work, "add", "--all")
        diff = copies.git(self.work, "diff", "--cached", "--binary", "--no-renames")
        (self.proposal / propose.PATCH).write_text(diff + "\n")

    def propose(self, version: str = VERSION) -> str:
        return propose.propose(self.proposal, self.clone, version, self.api)

    def branches(self) -> list[str]:
        names = copies.git(self.origin, "for-each-ref", "--format=%(refname:short)")
        return names.splitlines()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.invalid")
    with github_server.serving(State()) as state:
        yield Desk(tmp_path, state)


def test_the_patch_is_a_branch_with_one_commit_and_a_pull_request(desk: Desk) -> None:
    desk.patch(f"{propose.LOCKS}/cpu.txt")
    assert desk.propose() == f"https://github.invalid/{github_server.REPOSITORY}/pull/1"
    assert desk.branches() == [BRANCH, "main"]
    log = copies.git(desk.origin, "log", "--format=%s by %an", f"main..{BRANCH}")
    assert log == f"Engine: vLLM {VERSION} by github-actions[bot]"
    assert copies.git(desk.origin, "show", f"{BRANCH}:{propose.LOCKS}/cpu.txt") == "new"
    pull = desk.state.pulls[1]
    assert (pull["head"], pull["base"]) == (BRANCH, "main")
    assert "## vLLM 0.32.0 → 0.33.0" in pull["body"]
    assert "A label does not measure it" in pull["body"]


def test_where_a_workflow_may_open_none_the_link_is_said(desk: Desk) -> None:
    desk.state.may_open_pulls = False
    desk.patch(f"{propose.LOCKS}/cuda.txt")
    said = desk.propose()
    assert said.endswith(f"/{github_server.REPOSITORY}/compare/main...{BRANCH}?expand=1")
    assert BRANCH in desk.branches()


@pytest.mark.parametrize(
    "name",
    [
        ".github/workflows/engine.yml",
        "bench/cli.py",
        "models.toml",
        f"{propose.LOCKS}/dump_arguments.py",
        f"{propose.LOCKS}/new.txt",
    ],
)
def test_a_patch_of_anything_else_is_refused_whole(name: str, desk: Desk) -> None:
    desk.patch(f"{propose.LOCKS}/cpu.txt")
    desk.patch(name)
    with pytest.raises(RefusedError, match="changes"):
        desk.propose()
    assert desk.branches() == ["main"]
    assert desk.state.pulls == {}


@pytest.mark.parametrize("change", ["link", "program", "gone", "nothing"])
def test_a_lock_stays_a_plain_file(change: str, desk: Desk) -> None:
    path = desk.work / propose.LOCKS / "cpu.txt"
    if change == "program":
        path.chmod(0o755)
    elif change != "nothing":
        path.unlink()
    if change == "link":
        path.symlink_to("/etc/passwd")
    desk.take()
    with pytest.raises(BenchError):
        desk.propose()
    assert desk.branches() == ["main"]


def test_a_patch_that_is_none_or_too_large_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.proposal / propose.PATCH).write_text("not a patch\n")
    with pytest.raises(BenchError, match="git apply failed"):
        desk.propose()
    monkeypatch.setattr(propose, "MAX_BYTES", 4)
    with pytest.raises(RefusedError, match="larger than"):
        desk.propose()


@pytest.mark.parametrize("version", ["", "0.33.0; id", "../main", "main", "0.33.0\nx", "1" * 100])
def test_a_version_is_a_version(version: str, desk: Desk) -> None:
    with pytest.raises(RefusedError, match="is not a version"):
        desk.propose(version)


def test_the_summary_does_nothing(desk: Desk) -> None:
    hostile = "@octo <img src=x onerror=alert(1)> " + "x" * 100_000
    (desk.proposal / propose.SUMMARY).write_text(hostile)
    desk.patch(f"{propose.LOCKS}/cpu.txt")
    desk.propose()
    body = desk.state.pulls[1]["body"]
    assert not set("@<>") & set(body)
    assert len(body) <= propose.MAX_BODY + 1
    assert "starts no checks" in body  # the note is not cut off


def test_what_is_proposed_is_not_proposed_again(desk: Desk) -> None:
    assert not propose.is_proposed(VERSION, desk.api)
    desk.patch(f"{propose.LOCKS}/cpu.txt")
    desk.propose()
    assert propose.is_proposed(VERSION, desk.api)
    assert not propose.is_proposed("0.34.0", desk.api)
