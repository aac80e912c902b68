"""The unmodified workflows, run by act: who runs, what reaches main, the comment and the site."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import github_server
import pytest
import real_models
from act_runner import MODELS, Run, Workshop
from folders import ROOT

from bench.demo import datasets, inputs
from bench.engine import installed
from bench.github import approval

pytestmark = pytest.mark.actions

AWQ = (
    '[[variant]]\nname = "Qwen3-8B AWQ"\nfamily = "Qwen3-8B"\nrepo = "Qwen/Qwen3-8B-AWQ"\n'
    f'revision = "{"a" * 40}"\n'
)
BF16, FP8 = "qwen3-8b-bf16", "qwen3-8b-fp8"
EVERYTHING = sorted(f"{h}/{v}/{s}" for h in ("gpu", "hosted") for v in (BF16, FP8)
                    for s in ("quality", "speed"))  # fmt: skip
PUBLISHED = {"Publish/Build": "success", "Publish/Deploy": "success"}
STRANGER = {"id": 99, "owner": {"login": "stranger"}, "full_name": "stranger/bench"}
OURS = {"id": 1, "owner": {"login": "octo"}, "full_name": "octo/bench"}


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with github_server.serving(github_server.State()) as state:
        yield Workshop(tmp_path, state)
    assert not state.leaked


def dispatch(workshop: Workshop, run_id: int = 1, attempt: int = 1, **inputs: str) -> Run:
    event = {
        "ref": "refs/heads/main",
        "inputs": {"models": "models.toml", "force": "false", **inputs},
    }
    return workshop.run("benchmark", "workflow_dispatch", event, run_id=run_id, attempt=attempt)


def push(workshop: Workshop, sha: str, run_id: int = 1) -> Run:
    event = {"ref": "refs/heads/main", "after": sha, "commits": [{"id": sha}]}
    return workshop.run("benchmark", "push", event, run_id=run_id)


def open_pull(workshop: Workshop, head_repository: dict[str, Any], models: str) -> dict[str, Any]:
    """A pull request that changes models.toml; its commits can be fetched from the base."""
    workshop.git("checkout", "--quiet", "-b", "patch-1")
    sha = workshop.commit("Add a variant", "pull/7/head", models=models)
    owner = head_repository["owner"]["login"]
    head = {"sha": sha, "ref": "patch-1", "user": {"login": owner}, "repo": head_repository}
    pull = {"number": 7, "state": "open", "head": head, "base": {"ref": "main", "sha": ""}}
    workshop.state.pulls[7] = pull
    return pull


def comment_on(workshop: Workshop, pull: dict[str, Any], event: str, run_id: int) -> Run:
    """What GitHub does when a run ends: `workflow_run`, with the run's artifacts in the API."""
    workshop.sync()
    for name, archive in workshop.artifacts(run_id).items():
        workshop.state.add_artifact(run_id, name, archive.read_bytes())
    run = {
        "id": run_id, "run_attempt": 1, "event": event, "pull_requests": [],
        # For pull_request_target GitHub names main's commit here.
        "head_sha": pull["head"]["sha"] if event == "pull_request" else "f" * 40,
        "head_branch": "patch-1", "head_repository": pull["head"]["repo"],
    }  # fmt: skip
    path = ".github/workflows/" + ("review.yml" if event == "pull_request" else "benchmark.yml")
    workshop.state.runs[run_id] = {"id": run_id, "event": event, "path": path}
    return workshop.run("comment", "workflow_run", {"workflow_run": run}, run_id=run_id + 1000)


def only_comment(workshop: Workshop) -> str:
    (comment,) = workshop.state.comments[7]
    return str(comment["body"])


def linear(workshop: Workshop) -> list[str]:
    """The subjects on main, oldest first; there is no merge among them."""
    assert not workshop.git("rev-list", "--merges", "main", at=workshop.origin)
    return workshop.git("log", "--reverse", "--format=%s", "main", at=workshop.origin).splitlines()


# -- measuring on main -----------------------------------------------------------------------------


def test_a_dispatch_of_one_variant_ends_on_the_page(workshop: Workshop) -> None:
    run = dispatch(workshop, variants=BF16, hardware="gpu")
    jobs = {"Plan": "success", f"{BF16} on gpu, session 1": "success", "Commit": "success"}
    assert (run.status, run.jobs) == (0, {**jobs, **PUBLISHED})
    assert workshop.results() == [f"gpu/{BF16}/quality", f"gpu/{BF16}/speed"]
    assert linear(workshop) == ["start", "Add 2 results"]
    author = workshop.git("log", "-1", "--format=%an", "main", at=workshop.origin)
    assert author == "github-actions[bot]"
    changed = workshop.git("diff", "--name-only", "main~1", "main", at=workshop.origin)
    assert all(name.startswith("bench/results/gpu/") for name in changed.splitlines())
    assert set(workshop.artifacts()) == {
        "plan", f"results-gpu_{BF16}_1_1", f"logs-gpu_{BF16}_1_1", "github-pages",
    }  # fmt: skip
    assert "2 of 2 stages would be measured" in run.log
    (deployment,) = workshop.state.deployments
    assert deployment["asked"][-2:] == ["--site-url", "https://octo.example/bench"]
    assert len(deployment["files"]) == 4
    assert "checksums.txt" in deployment["files"]
    (attestation,) = workshop.state.attestations
    assert len(attestation["subjects"]) == 4


def test_a_push_measures_what_is_missing_in_four_jobs_and_a_second_one_nothing(
    workshop: Workshop,
) -> None:
    run = push(workshop, workshop.git("rev-parse", "HEAD"))
    assert run.status == 0
    measured = {f"{v} on {h}, session 1": "success" for v in (BF16, FP8) for h in ("gpu", "hosted")}
    assert run.jobs == {"Plan": "success", **measured, "Commit": "success", **PUBLISHED}
    assert workshop.results() == EVERYTHING
    workshop.sync()
    again = push(workshop, workshop.git("rev-parse", "HEAD"), run_id=2)
    assert (again.status, again.jobs) == (0, {"Plan": "success"})
    assert "Nothing would be measured" in again.log
    assert workshop.results() == EVERYTHING


def test_a_rerun_after_a_failed_job_continues_where_it_stopped(workshop: Workshop) -> None:
    workshop.set(f"fail-{FP8}")
    first = dispatch(workshop, hardware="gpu")
    assert first.status != 0
    assert first.jobs[f"{FP8} on gpu, session 1"] == "failure"
    assert first.jobs[f"{BF16} on gpu, session 1"] == first.jobs["Commit"] == "success"
    finished = [f"gpu/{BF16}/quality", f"gpu/{BF16}/speed", f"gpu/{FP8}/speed"]
    assert workshop.results() == finished
    assert f"logs-gpu_{FP8}_1_1" in workshop.artifacts()
    # The same commit again, as "Re-run jobs" does: what was finished comes from the artifacts.
    second = dispatch(workshop, attempt=2, hardware="gpu")
    assert (second.status, second.jobs.get("Commit")) == (0, "success"), second.log
    assert workshop.results() == sorted([*finished, f"gpu/{FP8}/quality"])
    assert sorted(workshop.measured()) == workshop.results()
    assert linear(workshop) == ["start", "Add 3 results", "Add 1 results"]
    kept = {name for name in workshop.artifacts() if name.startswith("results-")}
    assert kept == {f"results-gpu_{BF16}_1_1", *(f"results-gpu_{FP8}_1_{n}" for n in (1, 2))} | {
        f"results-gpu_{BF16}_1_2"
    }


def test_a_rerun_makes_up_for_an_attempt_that_pushed_and_got_no_further(
    workshop: Workshop,
) -> None:
    workshop.set("fail-attest")
    first = dispatch(workshop, variants=BF16, hardware="gpu")
    assert first.jobs["Commit"] == "failure"
    assert linear(workshop) == ["start", "Add 2 results"]
    workshop.state.deployments.clear()
    second = dispatch(workshop, attempt=2, variants=BF16, hardware="gpu")
    assert second.status == 0
    assert linear(workshop) == ["start", "Add 2 results"]
    (attestation,) = workshop.state.attestations
    assert len(attestation["subjects"]) == 4
    assert len(workshop.state.deployments) == 1


def at_once(workshop: Workshop, *hardware: str, variants: str = "") -> list[Run]:
    """Dispatches for each hardware that run side by side, with run ids from 1 on."""
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(dispatch, workshop, run_id, variants=variants, hardware=entry)
            for run_id, entry in enumerate(hardware, start=1)
        ]
        return [future.result() for future in started]


def test_two_dispatches_at_once_lose_and_double_nothing(workshop: Workshop) -> None:
    runs = at_once(workshop, "gpu", "hosted")
    assert [run.status for run in runs] == [0, 0]
    assert workshop.results() == EVERYTHING
    assert linear(workshop) == ["start", "Add 4 results", "Add 4 results"]


def test_the_same_dispatch_twice_at_once_is_stored_once(workshop: Workshop) -> None:
    runs = at_once(workshop, "gpu", "gpu", variants=BF16)
    assert [run.status for run in runs] == [0, 0]
    assert workshop.results() == [f"gpu/{BF16}/quality", f"gpu/{BF16}/speed"]
    assert linear(workshop) == ["start", "Add 2 results"]


def test_what_was_measured_while_a_job_queued_is_not_measured_again_unless_forced(
    workshop: Workshop,
) -> None:
    dispatch(workshop, variants=BF16, hardware="gpu")
    # The next ones are planned from the same commit, which has no records yet.
    second = dispatch(workshop, 2, variants=BF16, hardware="gpu")
    assert second.jobs == dict.fromkeys(("Plan", f"{BF16} on gpu, session 1", "Commit"), "success")
    assert "nothing, main has it by now" in second.log
    assert workshop.measured() == [f"gpu/{BF16}/speed", f"gpu/{BF16}/quality"]
    workshop.set(f"fail-{BF16}")
    forced = dispatch(workshop, 3, variants=BF16, hardware="gpu", force="true")
    assert forced.jobs[f"{BF16} on gpu, session 1"] == "failure"
    # A rerun of it goes on from there, and does not begin again because it was forced.
    rerun = dispatch(workshop, 3, attempt=2, variants=BF16, hardware="gpu", force="true")
    assert rerun.status == 0
    assert workshop.measured() == [f"gpu/{BF16}/speed", f"gpu/{BF16}/quality"] * 2
    assert workshop.results() == sorted(workshop.measured())


def test_a_plan_that_a_runner_replaced_is_not_believed(workshop: Workshop) -> None:
    workshop.set("swap-plan")
    run = dispatch(workshop, variants=BF16, hardware="gpu")
    assert run.jobs[f"{BF16} on gpu, session 1"] == "success"
    assert run.jobs["Commit"] == "failure"
    assert "None of the provided artifact IDs were found" in run.log
    assert linear(workshop) == ["start"]


def test_the_push_that_makes_a_repository_starts_nothing(workshop: Workshop) -> None:
    event = {"ref": "refs/heads/main", "created": True, "commits": []}
    for workflow in ("benchmark", "publish"):
        assert workshop.run(workflow, "push", event).jobs == {}


def test_another_repository_calls_this_one(workshop: Workshop) -> None:
    text = (ROOT / "docs" / "other-repositories.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    workshop.move_tool("tools/quantbench", example.replace("OWNER/REPOSITORY", "tools/quantbench"))
    event = {"ref": "refs/heads/main", "commits": []}
    run = workshop.run("call", "push", event)
    assert run.status == 0, run.log
    assert workshop.results() == EVERYTHING
    assert linear(workshop) == ["start", "call the tool", "Add 8 results"]
    assert len(workshop.state.deployments) == 1


def test_a_bad_artifact_is_refused_and_the_others_arrive(workshop: Workshop) -> None:
    workshop.set(f"evil-{FP8}")
    run = dispatch(workshop, hardware="gpu")
    assert run.status != 0
    assert run.jobs["Commit"] == "failure"
    assert "'workflows.yml': not the path of a record" in run.log
    assert workshop.results() == [f"gpu/{BF16}/quality", f"gpu/{BF16}/speed"]
    assert len(workshop.state.attestations) == 1


def test_more_sessions_are_jobs_of_their_own_and_a_rerun_adds_what_is_missing(
    workshop: Workshop,
) -> None:
    """Quality is measured in the first; the one that fails is measured by the rerun alone."""
    asked = {"variants": BF16, "hardware": "gpu", "sessions": "2"}
    workshop.set(f"fail-{BF16}")
    first = dispatch(workshop, 1, 1, **asked)
    assert sorted(first.jobs[f"{BF16} on gpu, session {n}"] for n in (1, 2)) == [
        "failure", "success",
    ]  # fmt: skip
    dispatch(workshop, 1, 2, **asked)
    assert sorted(workshop.measured()) == [f"gpu/{BF16}/{stage}" for stage in (
        "quality", "speed", "speed",
    )]  # fmt: skip
    assert len(workshop.results()) == 3
    names = workshop.git("ls-tree", "-r", "--name-only", "main", at=workshop.origin).split()
    speed = [name for name in names if "/speed-" in name]
    assert sorted(name.endswith("-s2.json") for name in speed) == [False, True]


@pytest.mark.parametrize("inputs", [
    {"variants": '"; touch /tmp/pwned #'},
    {"variants": "$(touch /tmp/pwned)"},
    {"hardware": "--results=/etc"},
    {"sessions": "3\nforce = true"},
    {"models": "../../../etc/passwd"},
])  # fmt: skip
def test_hostile_inputs_stop_at_the_plan(inputs: dict[str, str], workshop: Workshop) -> None:
    run = dispatch(workshop, 1, 1, **inputs)
    assert run.status != 0
    assert run.jobs == {"Plan": "failure"}
    assert not Path("/tmp/pwned").exists()


def test_another_branch_measures_nothing(workshop: Workshop) -> None:
    event = {"ref": "refs/heads/feature", "inputs": {"models": "models.toml", "force": "false"}}
    workshop.git("checkout", "--quiet", "-b", "feature")
    run = workshop.run("benchmark", "workflow_dispatch", event)
    assert run.jobs == {"Say why nothing is measured": "failure"}
    assert "a run by hand measures the default branch only" in run.log
    assert workshop.measured() == []


@pytest.mark.engine
def test_the_real_engine_measures_once(workshop: Workshop) -> None:
    installed.ensure("cpu")
    inputs.fetch(inputs.MODEL)
    datasets.files("hellaswag")
    models = real_models.text()
    # The way is what counts here; the numbers are looked at where no workflow stands around them.
    for long, short in (
        ('["ubuntu-latest"]', '["ubuntu-24.04"]'),
        ("documents = 6", "documents = 2"),
        ("repeats = 3", "repeats = 1"),
    ):
        assert long in models
        models = models.replace(long, short)
    workshop.commit("tiny", models=models)
    workshop.set("real-engine")
    run = dispatch(workshop, variants="smollm2-135m-bf16")
    assert run.status == 0, run.failures[-8000:]
    assert workshop.results() == ["cpu/smollm2-135m-bf16/quality", "cpu/smollm2-135m-bf16/speed"]
    assert "results-cpu_smollm2-135m-bf16_1_1" in workshop.artifacts()


# -- publishing ------------------------------------------------------------------------------------


def test_a_failed_build_deploys_nothing(workshop: Workshop) -> None:
    workshop.set("broken-report")
    run = workshop.run("publish", "workflow_dispatch", {"ref": "refs/heads/main"})
    assert run.jobs == {"Build": "failure"}
    assert not workshop.state.deployments


def test_another_quarto_than_the_pinned_one_is_not_run(workshop: Workshop) -> None:
    (workshop.standin / "quarto.tar.gz").write_bytes(b"another")
    run = workshop.run("publish", "workflow_dispatch", {"ref": "refs/heads/main"})
    assert run.jobs == {"Build": "failure"}
    assert "quarto-1.0.0-linux-amd64.tar.gz: FAILED" in run.log
    assert not workshop.state.deployments


# -- a newer engine --------------------------------------------------------------------------------


def test_a_newer_engine_becomes_a_pull_request(workshop: Workshop) -> None:
    run = workshop.run("engine", "workflow_dispatch", {"ref": "refs/heads/main", "inputs": {}})
    assert (run.status, run.jobs) == (0, {"Renew": "success", "Propose": "success"}), run.log
    (pull,) = workshop.state.pulls.values()
    assert (pull["head"], pull["base"]) == ("engine/vllm-9.9.9", "main")
    assert "## vLLM 0.32.0 → 9.9.9" in pull["body"]
    assert "| SmolLM2-135M BF16 | output tokens/s, unthrottled |" in pull["body"]
    changed = workshop.git("diff", "--name-only", "main", pull["head"], at=workshop.origin)
    assert changed.splitlines() == ["bench/engine/locks/cpu.in"]
    assert linear(workshop) == ["start"]
    assert not workshop.results()


# -- pull requests ---------------------------------------------------------------------------------


@pytest.mark.xdist_group("lint")  # it runs mypy, too
@pytest.mark.parametrize("head", [OURS, STRANGER], ids=["same repository", "fork"])
def test_a_pull_request_is_checked_and_answered(head: dict[str, Any], workshop: Workshop) -> None:
    pull = open_pull(workshop, head, MODELS + AWQ)
    event = {"number": 7, "pull_request": pull}
    run = workshop.run("review", "pull_request", event)
    assert run.jobs == {"Review": "success"}
    assert set(workshop.artifacts()) == {"comment"}
    assert "12 of 12 stages would be measured" in run.log
    answered = comment_on(workshop, pull, "pull_request", 1)
    assert answered.jobs == {"Comment": "success"}
    assert "qwen3-8b-awq" in only_comment(workshop)
    validated = workshop.run("validate", "pull_request", event, run_id=2)
    assert validated.jobs == dict.fromkeys(
        ("Tests and linters", "Report preview", "End to end", "Validate"), "success"
    )
    assert set(workshop.artifacts(2)) == {"report-preview"}
    assert linear(workshop) == ["start"]


def test_a_wrong_models_toml_is_annotated_and_commented(workshop: Workshop) -> None:
    pull = open_pull(workshop, STRANGER, MODELS + AWQ.replace("repo =", "rep0 ="))
    run = workshop.run("review", "pull_request", {"number": 7, "pull_request": pull})
    assert run.jobs == {"Review": "failure"}
    line = (MODELS + AWQ).splitlines().index('repo = "Qwen/Qwen3-8B-AWQ"') + 1
    assert f"::error file=models.toml,line={line},title=variant[2].rep0" in run.log
    comment_on(workshop, pull, "pull_request", 1)
    assert "did you mean" in only_comment(workshop)


def labelled(pull: dict[str, Any], action: str = "labeled") -> dict[str, Any]:
    return {
        "action": action, "number": 7, "pull_request": pull,
        "label": {"name": approval.LABEL}, "sender": {"login": "maintainer"},
    }  # fmt: skip


def test_numbers_before_the_merge_are_committed_by_it(workshop: Workshop) -> None:
    push(workshop, workshop.git("rev-parse", "HEAD"), run_id=1)
    workshop.sync()
    pull = open_pull(workshop, STRANGER, MODELS + AWQ)
    workshop.state.protect(approval.ENVIRONMENT)
    before = workshop.measured()
    workshop.sync()  # pull_request_target runs main's workflow and code
    run = workshop.run("benchmark", "pull_request_target", labelled(pull), run_id=2)
    awq = [f"qwen3-8b-awq on {hardware}, session 1" for hardware in ("hosted", "gpu")]
    assert run.jobs == dict.fromkeys(["Plan", *awq, "Keep for the merge"], "success")
    assert len(linear(workshop)) == 2  # nothing was committed
    assert f"measured-{pull['head']['sha']}" in workshop.artifacts(2)
    comment_on(workshop, pull, "pull_request_target", 2)
    body = only_comment(workshop)
    assert "## Measured" in body
    assert "gpu/qwen3-8b-awq against gpu/qwen3-8b-bf16" in body
    assert "95 % interval" in body

    workshop.git("checkout", "--quiet", "main")
    merge = workshop.commit("Add a variant (#7)", models=MODELS + AWQ)
    pull.update({"state": "closed", "merged_at": "2026-11-23T00:00:00Z", "merge_commit_sha": merge})
    measured = workshop.measured()
    assert len(measured) == len(before) + 4
    merged = push(workshop, merge, run_id=3)
    assert merged.jobs == {"Plan": "success", "Commit": "success", **PUBLISHED}
    assert workshop.measured() == measured  # not again
    assert len(workshop.results()) == len(EVERYTHING) + 4


@pytest.mark.parametrize(("refusal", "words"), [
    ("reader", "may not start a measurement"),
    ("environment", "no required reviewers"),
    ("moved", "has changed since it was labelled"),
    ("link", "is not a plain file"),
    ("hostile", "unknown key"),
    ("elsewhere", "main has no [[hardware]] mine"),
])  # fmt: skip
def test_a_pull_request_that_may_not_be_measured_reaches_no_runner(
    refusal: str, words: str, workshop: Workshop
) -> None:
    if refusal == "link":
        workshop.git("checkout", "--quiet", "-b", "link")
        (workshop.work / "models.toml").unlink()
        (workshop.work / "models.toml").symlink_to("bench/demo/models.toml")
        pull = open_pull(workshop, STRANGER, (ROOT / "bench/demo/models.toml").read_text())
    else:
        models = {
            "hostile": MODELS + AWQ + "serve = { trust_remote_code = true }\n",
            "elsewhere": MODELS.replace('id = "gpu"', 'id = "mine"') + AWQ,
        }
        pull = open_pull(workshop, STRANGER, models.get(refusal, MODELS + AWQ))
    if refusal != "environment":
        workshop.state.protect(approval.ENVIRONMENT)
    event = labelled({**pull, "head": {**pull["head"]}})
    if refusal == "reader":
        event["sender"] = {"login": "stranger"}
    if refusal == "moved":
        pull["head"]["sha"] = "b" * 40
    workshop.sync()
    run = workshop.run("benchmark", "pull_request_target", event)
    assert run.jobs == {"Plan": "failure"}
    assert words in run.log
    assert workshop.measured() == []
    assert "results-" not in "".join(workshop.artifacts())


def test_a_new_push_withdraws_the_approval_and_other_labels_do_nothing(workshop: Workshop) -> None:
    pull = open_pull(workshop, STRANGER, MODELS + AWQ)
    workshop.state.labels[7] = [approval.LABEL, "documentation"]
    workshop.sync()
    other = {**labelled(pull), "label": {"name": "documentation"}}
    assert workshop.run("benchmark", "pull_request_target", other).jobs == {}
    run = workshop.run("withdraw", "pull_request_target", labelled(pull, "synchronize"))
    assert run.jobs == {"Withdraw the approval": "success"}
    assert workshop.state.labels[7] == ["documentation"]
    assert workshop.measured() == []
