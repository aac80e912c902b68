"""`bench doctor --github` against a server that speaks the API, for every state of every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import github_server
import pytest
from folders import ROOT
from github_server import TOKEN, State
from models_texts import VALID
from nvml_fakes import Gpus

from bench.config import Hardware
from bench.doctor import Check, line
from bench.errors import MachineError
from bench.github.api import Api
from bench.github.approval import ENVIRONMENT, LABEL
from bench.modelsfile import problems
from bench.setup import hardware, repository
from bench.setup.remote import Repository
from bench.setup.settings import MAIN_ENVIRONMENT, SETTINGS

OURS = Repository("https://github.com", github_server.REPOSITORY)
L40 = hardware.this_machine(Gpus(("NVIDIA L40", 44.99)))
ROWS = {setting.id: setting for setting in SETTINGS}


def runner(status: str = "online", *labels: str) -> dict[str, Any]:
    names = labels or ("self-hosted", "Linux", "X64", "gpu-l40")
    return {"status": status, "labels": [{"name": name} for name in names]}


def complete() -> State:
    """A repository that has all the guide asks for."""
    state = State(
        pages={"build_type": "workflow", "html_url": "https://octo.github.io/bench/"},
        repository_labels={LABEL},
        rules=[{"type": "deletion"}, {"type": "non_fast_forward"}],
        runners=[runner()],
        permissions_of_actions={
            "": {"enabled": True, "allowed_actions": "selected", "sha_pinning_required": True},
            "/selected-actions": {"github_owned_allowed": True, "verified_allowed": False,
                                  "patterns_allowed": []},
            "/workflow": {"default_workflow_permissions": "read",
                          "can_approve_pull_request_reviews": False},
            "/fork-pr-contributor-approval": {"approval_policy": "all_external_contributors"},
        },
    )  # fmt: skip
    state.protect(ENVIRONMENT)
    rule = state.environments[ENVIRONMENT]["protection_rules"][0]
    rule["reviewers"] = [{"type": "User", "reviewer": {"login": "octo"}}]
    for name in (MAIN_ENVIRONMENT, ENVIRONMENT):
        state.limit_branches(name, "main")
    state.secrets[ENVIRONMENT] = ["HF_TOKEN"]
    return state


@pytest.fixture
def state() -> Iterator[State]:
    with github_server.serving(complete()) as serving:
        yield serving


def models(folder: Path, *entries: Hardware) -> Path:
    tables = "".join(hardware.table(entry) for entry in entries or (L40,))
    path = folder / "models.toml"
    path.write_text(tables + "".join(VALID.partition("[[family]]")[1:]))
    return path


def looked_at(
    state: State, folder: Path, *entries: Hardware, token: str = TOKEN
) -> dict[str, Check]:
    experiment = problems.load_experiment(models(folder, *entries))
    api = Api(state.url, OURS.name, token)
    return {c.name: c for c in repository.examine(api, OURS, experiment, ROOT)}


def lacking(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.ok is False and check.required}


def test_every_row_of_the_table_is_looked_at_in_its_order(state: State, tmp_path: Path) -> None:
    checks = looked_at(state, tmp_path)
    assert list(checks)[: len(SETTINGS)] == list(ROWS)
    assert all(checks[name].ok for name in ROWS)
    assert lacking(checks) == set()


def test_every_row_that_is_missing_has_its_page_and_its_fix(tmp_path: Path) -> None:
    with github_server.serving(State()) as state:
        for name in ("", "/workflow", "/fork-pr-contributor-approval"):
            state.permissions_of_actions[name] = {
                "allowed_actions": "all", "default_workflow_permissions": "write",
                "can_approve_pull_request_reviews": True,
                "approval_policy": "first_time_contributors",
            }  # fmt: skip
        checks = looked_at(state, tmp_path)
    assert lacking(checks) == {s.id for s in SETTINGS if not s.optional}
    for name in lacking(checks):
        shown = line(checks[name])
        assert OURS.page(ROWS[name].page) in shown
        assert "fix: " in shown


# Each: what is changed, which row then is not right, and a word of what is said.
FAULTS: dict[str, tuple[Callable[[State], object], str, str]] = {
    "Pages from a branch": (lambda s: s.pages.update(build_type="legacy"), "pages", "a branch"),  # type: ignore[union-attr]
    "another label": (lambda s: s.repository_labels.symmetric_difference_update(
        {LABEL, "Benchmark 2"}), "label", "no label"),
    "any branch": (lambda s: s.environments[ENVIRONMENT].update(deployment_branch_policy=None),
                   "reviewers", "all, not main alone"),
    "another branch": (lambda s: s.branch_policies.update({MAIN_ENVIRONMENT: ["main", "dev"]}),
                       "environment", "main, dev"),
    "protected branches": (lambda s: s.environments[MAIN_ENVIRONMENT].update(
        deployment_branch_policy={"protected_branches": True}), "environment", "protected"),
    "nobody reviews": (lambda s: s.environments[ENVIRONMENT].update(protection_rules=[]),
                       "reviewers", "no required reviewers"),
    "a list of nobody": (lambda s: s.environments[ENVIRONMENT]["protection_rules"][0].update(
        reviewers=[]), "reviewers", "no required reviewers"),
    "deletable": (lambda s: s.rules.pop(0), "rules", "open to deletion"),
    "forceable": (lambda s: s.rules.pop(1), "rules", "open to force pushes"),
    "a rule in the bot's way": (lambda s: s.rules.append({"type": "pull_request"}),
                                "rules", "may refuse the bot's push"),
    "a required check": (lambda s: s.rules.append({"type": "required_status_checks"}),
                         "rules", "may refuse the bot's push"),
    "other actions": (lambda s: s.permissions_of_actions["/selected-actions"].update(
        patterns_allowed=["evil/*"]), "allowed actions", "others than GitHub's"),
    "unpinned": (lambda s: s.permissions_of_actions[""].update(sha_pinning_required=False),
                 "allowed actions", "pinning is not required"),
    "writing": (lambda s: s.permissions_of_actions["/workflow"].update(
        default_workflow_permissions="write"), "workflow token", "may write"),
    "approving": (lambda s: s.permissions_of_actions["/workflow"].update(
        can_approve_pull_request_reviews=True), "workflow token", "approve"),
    "no runner": (lambda s: s.runners.clear(), "runner", "l40: none"),
    "an offline runner": (lambda s: s.runners[0].update(status="offline"), "runner", "offline"),
    "another's labels": (lambda s: s.runners.__setitem__(0, runner("online", "self-hosted", "x")),
                         "runner", "l40: none"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_one_row_and_is_required(fault: str, state: State, tmp_path: Path) -> None:
    break_it, row, words = FAULTS[fault]
    break_it(state)
    checks = looked_at(state, tmp_path)
    assert lacking(checks) == {row}
    assert words in checks[row].found


def test_the_second_machine_needs_a_runner_too(state: State, tmp_path: Path) -> None:
    h100 = hardware.this_machine(Gpus(("NVIDIA H100", 79.6)))
    checks = looked_at(state, tmp_path, L40, h100, hardware.HOSTED)
    assert checks["runner"].found == "h100: none (self-hosted, linux, x64, gpu-h100)"
    state.runners.append(runner("online", "self-hosted", "linux", "x64", "gpu-h100", "more"))
    assert looked_at(state, tmp_path, L40, h100)["runner"].ok


def test_for_a_page_without_a_runner_pages_is_enough(tmp_path: Path) -> None:
    with github_server.serving(State(pages={"build_type": "workflow"})) as state:
        checks = looked_at(state, tmp_path, hardware.HOSTED)
        assert lacking(checks) == set()
        assert "not needed" in checks["reviewers"].found
        state.pages = None
        assert lacking(looked_at(state, tmp_path, hardware.HOSTED)) == {"pages"}


def test_a_secret_is_told_by_its_name_and_may_be_missing(state: State, tmp_path: Path) -> None:
    assert looked_at(state, tmp_path)["secret"].found == f"in {ENVIRONMENT}"
    state.secrets.clear()
    assert looked_at(state, tmp_path)["secret"].ok is None


def test_without_a_token_what_is_public_is_told_and_the_rest_is_unknown(
    state: State, tmp_path: Path
) -> None:
    checks = looked_at(state, tmp_path, token="")
    assert lacking(checks) == set()
    for name, setting in ROWS.items():
        if setting.token:
            assert checks[name].ok is None
            assert checks[name].found.startswith(f"unknown: needs a token with {setting.token}")
        else:
            assert checks[name].ok is True


def test_a_token_that_may_not_is_told_which_may(state: State, tmp_path: Path) -> None:
    state.is_administrator = False
    checks = looked_at(state, tmp_path)
    unknown = {name for name, check in checks.items() if check.found.startswith("unknown")}
    assert unknown == {name for name, setting in ROWS.items() if setting.token}


def test_a_used_up_limit_is_said_to_be_that(state: State, tmp_path: Path) -> None:
    experiment = problems.load_experiment(models(tmp_path))
    checks = repository.examine(Api(state.url, OURS.name, ""), OURS, experiment, ROOT)
    assert next(checks).ok
    state.is_limited = True
    assert "limit of requests is used up" in next(checks).found


@pytest.mark.parametrize(("private", "token", "words"), [
    (True, "", "to those without a token"),
    (False, "wrong", "does not take this token"),
])  # fmt: skip
def test_a_repository_that_is_not_shown(
    private: bool, token: str, words: str, state: State, tmp_path: Path
) -> None:
    state.is_public = not private
    with pytest.raises(MachineError, match=words):
        looked_at(state, tmp_path, token=token)


def test_another_default_branch_is_the_one_that_is_meant(state: State, tmp_path: Path) -> None:
    state.default_branch = "trunk"
    assert {"environment", "reviewers", "default branch"} <= lacking(looked_at(state, tmp_path))
    for name in (MAIN_ENVIRONMENT, ENVIRONMENT):
        state.limit_branches(name, "trunk")
    # It is the branch that every setting is held to, and a push to it starts nothing.
    assert lacking(looked_at(state, tmp_path)) == {"default branch"}


def test_the_command_ends_with_3_and_never_shows_the_token(
    state: State, tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", state.url)
    monkeypatch.setenv("GH_TOKEN", TOKEN)
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    arguments = ("doctor", "--github", "--repository", OURS.name, "--models", models(tmp_path))
    ran = bench(*arguments)
    assert ran.code == 0
    assert "ok     pages" in ran.out
    state.repository_labels.clear()
    again = bench(*arguments)
    assert again.code == 3
    assert f"https://github.com/{OURS.name}/labels" in again.out
    assert TOKEN not in ran.out + ran.err + again.out + again.err


# -- the supply chain ------------------------------------------------------------------------------

WORKFLOW = """\
permissions: {}
jobs:
  one:
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
      - uses: ./.github/actions/own
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    github = tmp_path / ".github"
    (github / "workflows").mkdir(parents=True)
    (github / "workflows" / "one.yml").write_text(WORKFLOW)
    (github / "dependabot.yml").write_text("version: 2\n")
    (github / "CODEOWNERS").write_text("# who looks\n/.github/ @octo\n/bench/ @octo @hub\n")
    (tmp_path / "bench" / "engine").mkdir(parents=True)
    return tmp_path


def chained(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in repository.supply_chain(folder, OURS)}


def test_a_sound_supply_chain(chain: Path) -> None:
    assert all(check.ok for check in chained(chain).values())


@pytest.mark.parametrize(
    ("row", "file", "text"),
    [
        ("pinned actions", "workflows/two.yaml", "permissions: {}\n  - uses: evil/action@v1\n"),
        ("pinned actions", "actions/own/action.yml", "    - uses: 'evil/action@main'\n"),
        ("permissions", "workflows/two.yml", "on: push\njobs:\n  permissions: {}\n"),
        ("updates", "dependabot.yml", None),
        ("code owners", "CODEOWNERS", None),
        ("code owners", "CODEOWNERS", "/.github/ @octo\n*.py @octo\n/bench/engine/\n"),
    ],
)
def test_what_a_supply_chain_lacks(row: str, file: str, text: str | None, chain: Path) -> None:
    path = chain / ".github" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink() if text is None else path.write_text(text)
    checks = chained(chain)
    assert [name for name, check in checks.items() if check.ok is False] == [row]
    assert checks[row].fix
    assert not checks[row].required  # worth knowing; nothing waits for it


@pytest.mark.parametrize("text", ["* @octo", "/.github @octo\nbench/* @octo"])
def test_owners_of_more_than_is_needed(text: str, chain: Path) -> None:
    (chain / ".github" / "CODEOWNERS").write_text(text)
    assert chained(chain)["code owners"].ok


def test_whose_code_is_free_is_told(chain: Path) -> None:
    (chain / "requirements").mkdir()
    (chain / ".github" / "CODEOWNERS").write_text("/.github/ @octo\n")
    check = chained(chain)["code owners"]
    assert check.found == ".github/CODEOWNERS, without /bench/engine/, /requirements/"
    assert check.fix.endswith(": /bench/engine/ @octo; /requirements/ @octo")


def test_this_repositorys_own_chain() -> None:
    checks = chained(ROOT)
    assert [checks[name].ok for name in ("pinned actions", "permissions", "updates")] == [True] * 3


# -- who reads the error -----------------------------------------------------------------------


@pytest.mark.parametrize("in_a_job", [False, True])
def test_the_fix_is_for_a_job_or_for_a_person(
    in_a_job: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_a_job:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(MachineError) as unreachable:
        Api("http://127.0.0.1:1", OURS.name, "").get("")
    with github_server.serving(State()) as state, pytest.raises(MachineError) as refused:
        Api(state.url, OURS.name, "not the token").get("")
    said = [error.value.fix for error in (unreachable, refused)]
    assert [("job" in fix) for fix in said] == [in_a_job] * 2
    if not in_a_job:
        assert "network" in said[0]
        assert "GITHUB_TOKEN" in said[1]
