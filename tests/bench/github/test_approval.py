"""Numbers before the merge: who may start it, what is read, what is found again at the merge."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import github_server
import pytest
from github_server import State

from bench import ingest
from bench.errors import RefusedError
from bench.github import approval
from bench.github.api import Api

LIMIT = 1000
MODELS = "# models\n"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    answer = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, text=True, capture_output=True
    )
    return answer.stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with one commit for each thing a pull request may make of models.toml."""
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "other.toml").write_text("# elsewhere\n")
    _tag(folder, "missing")
    (folder / "models.toml").write_text(MODELS)
    _tag(folder, "sound")
    (folder / "models.toml").write_text("x" * LIMIT)
    _tag(folder, "full")
    (folder / "models.toml").write_text("x" * (LIMIT + 1))
    _tag(folder, "large")
    (folder / "models.toml").unlink()
    (folder / "models.toml").symlink_to("other.toml")
    _tag(folder, "link")
    (folder / "models.toml").unlink()
    (folder / "models.toml").mkdir()
    (folder / "models.toml" / "x").write_text("")
    _tag(folder, "folder")
    git(folder, "rm", "--quiet", "-r", "models.toml")
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},models.toml")
    git(folder, "commit", "--quiet", "--message", "submodule")
    git(folder, "tag", "submodule")
    return folder


def _tag(folder: Path, name: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", name)
    git(folder, "tag", name)


@pytest.fixture
def state(origin: Path) -> Iterator[State]:
    with github_server.serving(State(origin)) as state:
        state.protect(approval.ENVIRONMENT)
        state.pulls[7] = {"number": 7, "state": "open", "head": {"sha": commit(state, "sound")}}
        state.labels[7] = [approval.LABEL]
        yield state
    assert not state.leaked


def api(state: State) -> Api:
    return Api(state.url, github_server.REPOSITORY, github_server.TOKEN)


def commit(state: State, tag: str) -> str:
    return state.git("rev-parse", f"{tag}^{{commit}}").decode().strip()


def labelled(state: State, tag: str = "sound", **changes: Any) -> dict[str, Any]:
    event = {
        "action": "labeled",
        "number": 7,
        "label": {"name": approval.LABEL},
        "sender": {"login": "maintainer"},
        "pull_request": {"head": {"sha": commit(state, tag)}},
    }
    return {**event, **changes}


def test_a_maintainers_label_lets_one_blob_be_read(state: State) -> None:
    approved = approval.approve(labelled(state), api(state), LIMIT)
    assert (approved.number, approved.head_sha) == (7, commit(state, "sound"))
    assert approved.models.decode() == MODELS
    asked = [line.split("/repos/octo/bench/")[1].split("/")[0] for line in state.requests]
    assert asked == ["collaborators", "environments", "pulls", "git", "git"]


def test_a_label_that_a_program_set_counts_nothing_and_says_so(state: State) -> None:
    by = labelled(state, sender={"login": "renovate[bot]"})
    with pytest.raises(RefusedError, match=r"renovate\[bot\] set the label, and a program"):
        approval.approve(by, api(state), LIMIT)


@pytest.mark.parametrize("permission", ["read", "triage", "none"])
def test_a_label_of_someone_without_write_permission_counts_nothing(
    permission: str, state: State
) -> None:
    state.permissions["maintainer"] = permission
    with pytest.raises(RefusedError, match="may not start"):
        approval.approve(labelled(state), api(state), LIMIT)


@pytest.mark.parametrize("login", ["../../environments/x", "a/b", "stranger?x=", "x%2Fy"])
def test_a_login_is_one_segment_of_a_path(login: str, state: State) -> None:
    with pytest.raises(RefusedError):
        approval.approve(labelled(state, sender={"login": login}), api(state), LIMIT)
    assert state.requests[0].count("/") == 6


@pytest.mark.parametrize("label", ["documentation", "Benchmark", "benchmark "])
def test_other_labels_count_nothing(label: str, state: State) -> None:
    with pytest.raises(RefusedError, match="not the benchmark label"):
        approval.approve(labelled(state, label={"name": label}), api(state), LIMIT)
    assert not state.requests


@pytest.mark.parametrize("action", ["assigned", "unlabeled", "synchronize"])
def test_another_event_than_a_label_being_set_counts_nothing(action: str, state: State) -> None:
    with pytest.raises(RefusedError, match="not the benchmark label"):
        approval.approve(labelled(state, action=action), api(state), LIMIT)
    assert not state.requests


@pytest.mark.parametrize("environment", [None, {}, {"protection_rules": []},
                                         {"protection_rules": [{"type": "wait_timer"}]},
                                         {"protection_rules": [{"type": "required_reviewers",
                                                                "reviewers": []}]}])  # fmt: skip
def test_an_environment_without_reviewers_approves_nothing(environment: Any, state: State) -> None:
    state.environments = {approval.ENVIRONMENT: environment}
    with pytest.raises(RefusedError, match="no required reviewers"):
        approval.approve(labelled(state), api(state), LIMIT)


@pytest.mark.parametrize("change", [{"state": "closed"}, {"head": {"sha": "b" * 40}}])
def test_a_pull_request_that_changed_needs_a_new_approval(
    change: dict[str, Any], state: State
) -> None:
    state.pulls[7].update(change)
    with pytest.raises(RefusedError, match="has changed"):
        approval.approve(labelled(state), api(state), LIMIT)


@pytest.mark.parametrize(("tag", "words"), [
    ("missing", "is missing"),
    ("link", "not a plain file"),
    ("folder", "not a plain file"),
    ("submodule", "not a plain file"),
    ("large", "keep it under"),
])  # fmt: skip
def test_models_toml_must_be_a_plain_small_file(tag: str, words: str, state: State) -> None:
    state.pulls[7]["head"]["sha"] = commit(state, tag)
    with pytest.raises(RefusedError) as refused:
        approval.approve(labelled(state, tag), api(state), LIMIT)
    assert words in str(refused.value)


def test_models_toml_may_have_as_many_bytes_as_the_limit(state: State) -> None:
    state.pulls[7]["head"]["sha"] = commit(state, "full")
    assert len(approval.approve(labelled(state, "full"), api(state), LIMIT).models) == LIMIT


def test_other_bytes_than_the_blobs_are_refused(state: State) -> None:
    """Whoever answers in GitHub's place, or between us and it: the name is the bytes' hash."""
    state.added_to_blobs = b"\n"
    with pytest.raises(RefusedError, match="is not the blob"):
        approval.approve(labelled(state), api(state), LIMIT)


def test_an_answer_that_was_cut_short_is_refused(state: State) -> None:
    state.cut_from_blobs = 2
    with pytest.raises(RefusedError, match="could not be read"):
        approval.approve(labelled(state), api(state), LIMIT)


def test_a_branch_for_a_commit_is_refused(state: State) -> None:
    event = labelled(state, pull_request={"head": {"sha": "main"}})
    with pytest.raises(RefusedError, match="names no commit"):
        approval.approve(event, api(state), LIMIT)


# -- at the merge ----------------------------------------------------------------------------------

MERGE = "c" * 40


def merged(state: State, event: str, path: str, **pull: Any) -> None:
    head = commit(state, "sound")
    state.pulls[7].update({"merged_at": "2026-11-23T00:00:00Z", "merge_commit_sha": MERGE, **pull})
    state.runs[5] = {"id": 5, "event": event, "path": path}
    state.add_artifact(5, approval.artifact_name(head), b"zip")


def test_the_merge_finds_what_was_measured(state: State) -> None:
    merged(state, "pull_request_target", f"{approval.WORKFLOW}@main")
    assert approval.find_measured(MERGE, api(state)) == b"zip"


@pytest.mark.parametrize(("event", "path", "pull"), [
    ("pull_request", approval.WORKFLOW, {}),  # a fork's own run, of its own workflow file
    ("pull_request_target", ".github/workflows/other.yml", {}),
    ("push", approval.WORKFLOW, {}),
    ("pull_request_target", approval.WORKFLOW, {"merged_at": None}),
])  # fmt: skip
def test_an_artifacts_name_proves_nothing(
    event: str, path: str, pull: dict[str, Any], state: State
) -> None:
    merged(state, event, path, **pull)
    assert approval.find_measured(MERGE, api(state)) is None


def test_a_commit_of_a_merged_branch_is_not_the_merge(state: State) -> None:
    merged(state, "pull_request_target", approval.WORKFLOW)
    assert approval.find_measured(commit(state, "sound"), api(state)) is None


def test_another_pull_request_of_the_commit_hides_none(state: State) -> None:
    """It is listed first, and was not merged."""
    merged(state, "pull_request_target", approval.WORKFLOW)
    other = {"number": 6, "merged_at": None, "merge_commit_sha": MERGE, "head": {"sha": "e" * 40}}
    state.pulls = {6: other, **state.pulls}
    assert approval.find_measured(MERGE, api(state)) == b"zip"


def test_as_much_is_fetched_at_the_merge_as_is_taken_of_any_run() -> None:
    assert approval.MAX_ARTIFACT_BYTES == ingest.MAX_TOTAL_BYTES


def test_of_several_attempts_the_newest_in_time_is_taken(state: State) -> None:
    """Ids are in no order of time, and listings in none at all."""
    merged(state, "pull_request_target", approval.WORKFLOW)
    name = approval.artifact_name(commit(state, "sound"))
    for number, data in ((900, b"older"), (17, b"newest")):
        state.add_artifact(5, name, data, number)
    assert approval.find_measured(MERGE, api(state)) == b"newest"


def test_an_expired_artifact_is_measured_again(state: State) -> None:
    merged(state, "pull_request_target", approval.WORKFLOW)
    state.artifacts[1]["expired"] = True
    assert approval.find_measured(MERGE, api(state)) is None


def test_a_push_withdraws_the_label_once(state: State) -> None:
    assert approval.withdraw({"number": 7}, api(state)) == "the label is off"
    assert approval.withdraw({"number": 7}, api(state)) == "the label was not set"
    assert state.labels == {7: []}
