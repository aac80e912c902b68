"""What act ignores and GitHub does not, asserted on the YAML; and the linters."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench_runs import PATIENCE_S
from folders import GUIDES, ROOT

GITHUB = ROOT / ".github"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
# What a fork may decide in these events: the commit that is checked out, the code that runs.
FORK_EVENTS = {"pull_request", "merge_group"}
FORKS = {"review", "validate"}  # the workflows with such an event
HOSTED = "ubuntu-24.04"


def _load(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    raw = yaml.safe_load(path.read_text())
    return {("on" if key is True else key): value for key, value in raw.items()}


WORKFLOWS = {path.stem: _load(path) for path in sorted((GITHUB / "workflows").glob("*.yml"))}
JOBS = {
    f"{name}/{job}": body
    for name, workflow in WORKFLOWS.items()
    for job, body in workflow["jobs"].items()
}
STEPS = {
    f"{name}[{i}]": step
    for name, job in JOBS.items()
    for i, step in enumerate(job.get("steps", []))
}


def test_the_eight_workflows_exist() -> None:
    assert set(WORKFLOWS) == {
        "review", "validate", "comment", "benchmark", "withdraw", "publish", "engine", "advisories",
    }  # fmt: skip


# -- every workflow, job and step --


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_grants_nothing_and_says_what_may_run_at_once(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    assert WORKFLOWS[name]["concurrency"]["group"]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_a_limit_and_its_own_permissions(name: str) -> None:
    job = JOBS[name]
    assert isinstance(job["permissions"], dict)
    if "uses" not in job:
        assert job["timeout-minutes"]
        assert job["runs-on"] in (HOSTED, "${{ matrix.runner }}")


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_pinned_and_thin(name: str) -> None:
    step = STEPS[name]
    if "uses" in step:
        assert step["uses"].startswith("./") or PINNED.fullmatch(step["uses"])
    else:
        assert "${{" not in step["run"]
        assert len(step["run"].splitlines()) <= 5
    if step.get("uses", "").startswith("actions/checkout@"):
        pushes = name.startswith(("benchmark/commit[", "engine/propose["))
        pushes = pushes and step["with"].get("path") in (None, "data")
        assert step["with"]["persist-credentials"] is pushes


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_every_pin_names_its_version(path: Path) -> None:
    for line in path.read_text().splitlines():
        if re.search(r"uses: [^.$]", line):
            assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_one_version_of_each_action() -> None:
    used = {step["uses"] for step in STEPS.values() if "@" in step.get("uses", "")}
    assert len({entry.split("@")[0] for entry in used}) == len(used)


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_stop_at_the_first_error(path: Path) -> None:
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


# -- triggers --


def test_the_required_checks_are_never_filtered() -> None:
    for name in ("review", "validate"):
        on = WORKFLOWS[name]["on"]
        assert on == {"pull_request": None, "merge_group": None, "push": {"branches": ["main"]}}
        # A check is required by the name of its job.
        assert WORKFLOWS[name]["jobs"][name]["name"] == WORKFLOWS[name]["name"] == name.title()
    assert "if" not in JOBS["review/review"]
    last = JOBS["validate/validate"]
    assert last["if"] == "always()"
    # What takes half an hour is a check of its own, for a maintainer to look at or to require.
    assert set(last["needs"]) == set(WORKFLOWS["validate"]["jobs"]) - {"validate", "end-to-end"}
    for job in last["needs"]:
        assert f"needs.{job}.result != 'success'" in last["steps"][0]["if"]
        assert "if" not in JOBS[f"validate/{job}"]


def test_every_test_is_run_by_a_job() -> None:
    runs = [step.get("run", "") for name in ("checks", "end-to-end")
            for step in JOBS[f"validate/{name}"]["steps"]]  # fmt: skip
    quick, slow = (run.partition(" -m ")[2].strip('"') for run in runs if "pytest" in run)
    assert quick == f"not {slow.replace(' or ', ' and not ')}"


def test_the_quick_answer_waits_for_nothing_else() -> None:
    (job,) = WORKFLOWS["review"]["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert [command.split()[:4] for command in commands] == [
        ["./run", "bench", "actions", "review"]
    ]


def test_the_benchmark_runs_for_what_it_should() -> None:
    on = WORKFLOWS["benchmark"]["on"]
    assert set(on) == {"push", "workflow_dispatch", "workflow_call", "pull_request_target"}
    assert on["push"] == {"branches": ["main"], "paths": ["models.toml"]}
    assert on["pull_request_target"] == {"types": ["labeled"]}
    asked = set(on["workflow_dispatch"]["inputs"])
    assert asked == {"models", "variants", "stages", "hardware", "sessions", "force"}
    assert set(on["workflow_call"]["inputs"]) == asked | {"tool-repository", "tool-ref"}


def test_a_new_commit_cancels_what_was_approved() -> None:
    assert WORKFLOWS["withdraw"]["on"] == {"pull_request_target": {"types": ["synchronize"]}}
    group = "benchmark-pull-request-${{ github.event.number }}"
    assert WORKFLOWS["withdraw"]["concurrency"] == {"group": group, "cancel-in-progress": True}
    theirs = WORKFLOWS["benchmark"]["concurrency"]["group"]
    assert "format('benchmark-pull-request-{0}', github.event.number)" in theirs


def test_the_comment_follows_the_two_workflows_by_name() -> None:
    run = WORKFLOWS["comment"]["on"]["workflow_run"]
    assert set(WORKFLOWS["comment"]["on"]) == {"workflow_run"}
    assert run["workflows"] == [WORKFLOWS[name]["name"] for name in ("review", "benchmark")]
    assert run["types"] == ["completed"]


def test_the_site_is_published_for_what_changes_it() -> None:
    on = WORKFLOWS["publish"]["on"]
    assert set(on) == {"push", "workflow_dispatch", "workflow_call"}
    assert on["push"] == {"branches": ["main"], "paths": ["report/**", ".github/actions/quarto/**"]}


def test_the_push_that_makes_a_repository_waits_for_no_runner_and_no_pages() -> None:
    assert " && !github.event.created " in " ".join(JOBS["benchmark/plan"]["if"].split())
    assert JOBS["publish/build"]["if"] == "!github.event.created"


# -- no path from a fork's code to a self-hosted runner or a write token --


def _writes(job: dict[str, Any]) -> set[str]:
    return {scope for scope, level in job["permissions"].items() if level == "write"}


def test_who_may_write_what() -> None:
    assert {name: _writes(job) for name, job in JOBS.items() if _writes(job)} == {
        "withdraw/withdraw": {"pull-requests"},
        "benchmark/commit": {"contents", "id-token", "attestations"},
        "benchmark/publish": {"pages", "id-token", "attestations"},
        "comment/comment": {"pull-requests"},
        "engine/propose": {"contents", "pull-requests"},
        "publish/build": {"id-token", "attestations"},
        "publish/deploy": {"pages", "id-token"},
    }


def test_a_fork_decides_what_runs_in_two_workflows_only() -> None:
    # In every other event it is main's workflow file, and what it checks out is main's as well:
    # test_privileged_triggers_check_out_main_only.
    events = {name: set(workflow["on"]) & FORK_EVENTS for name, workflow in WORKFLOWS.items()}
    assert {name for name, found in events.items() if found} == FORKS
    assert {event for workflow in WORKFLOWS.values() for event in workflow["on"]} - FORK_EVENTS == {
        "push", "workflow_dispatch", "workflow_call", "workflow_run", "pull_request_target",
        "schedule",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(FORKS))
def test_where_a_forks_code_runs_there_is_nothing_to_take(name: str) -> None:
    for job in WORKFLOWS[name]["jobs"].values():
        assert job["runs-on"] == HOSTED
        assert job["permissions"] in ({}, {"contents": "read"})
        assert "environment" not in job
        assert "secrets." not in yaml.safe_dump(job)


def test_only_one_job_leaves_the_hosted_runners_and_it_can_only_read() -> None:
    elsewhere = [name for name, job in JOBS.items() if job.get("runs-on") not in (HOSTED, None)]
    assert elsewhere == ["benchmark/measure"]
    job = JOBS["benchmark/measure"]
    assert job["permissions"] == {"contents": "read", "actions": "read"}
    assert "'benchmark-pull-request'" in job["environment"]
    assert job["if"] == "needs.plan.outputs.count != '0'"


def test_privileged_triggers_check_out_main_only() -> None:
    allowed = {
        None,  # the event's own commit: main's, in pull_request_target and workflow_run
        "${{ github.event.repository.default_branch }}",
        "${{ inputs.tool-ref }}",
        "${{ inputs.tool-ref || github.event.repository.default_branch }}",
    }
    repositories = {None, "${{ inputs.tool-repository || github.repository }}"}
    for name, step in STEPS.items():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"].get("ref") in allowed, name
            assert step["with"].get("repository") in repositories, name
            assert "allow-unsafe-pr-checkout" not in step["with"], name


def test_nothing_a_stranger_writes_is_an_expression() -> None:
    """Titles, branches, bodies and labels appear in no expression."""
    texts = re.findall(r"\$\{\{(.*?)\}\}", "\n".join(
        path.read_text() for path in sorted(GITHUB.rglob("*.yml"))))  # fmt: skip
    for text in texts:
        assert not re.search(
            r"\.(title|body|message|head\.ref|head_ref|head_branch|email|login)\b", text
        ), text


def test_jobs_beside_a_write_token_install_nothing() -> None:
    for name in ("comment/comment", "withdraw/withdraw", "engine/propose"):
        *fetched, run = JOBS[name]["steps"]
        for step in fetched:
            assert step["uses"].startswith(("actions/checkout@", "actions/download-artifact@"))
        found = re.match(r"python3 -m (bench\.github\.(?:comment|approval|propose))\b", run["run"])
        assert found
        module = found[1]
        code = f"import sys, {module}; print(*sorted(sys.modules))"
        # -S: no site-packages; what this module imports must be Python's own or ours.
        subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True, env={})


def test_a_newer_engine_is_made_without_a_write_token_and_handed_over_as_a_patch() -> None:
    on, jobs = WORKFLOWS["engine"]["on"], WORKFLOWS["engine"]["jobs"]
    assert set(on) == {"schedule", "workflow_dispatch"}
    assert jobs["renew"]["permissions"] == {"contents": "read"}
    assert "github.ref == format(" in jobs["renew"]["if"]  # by hand, of the default branch only
    steps = jobs["renew"]["steps"]
    assert [step.get("id") for step in steps].index("newest") == 2
    # Nothing is installed, measured or handed over where there is nothing newer.
    assert {step["if"] for step in steps[3:]} == {"steps.newest.outputs.version != ''"}
    assert jobs["propose"]["needs"] == "renew"
    assert jobs["propose"]["if"] == "needs.renew.outputs.version != ''"
    assert "secrets." not in yaml.safe_dump(jobs)


def test_a_pull_requests_run_can_neither_commit_nor_publish() -> None:
    jobs = WORKFLOWS["benchmark"]["jobs"]
    assert jobs["commit"]["if"].startswith("github.event_name != 'pull_request_target'")
    assert jobs["publish"]["needs"] == "commit"
    assert "needs.commit.outputs.sha != ''" in jobs["publish"]["if"]
    assert jobs["keep"]["permissions"] == {"contents": "read", "actions": "read"}


def test_outside_a_pull_request_only_the_default_branch_measures() -> None:
    condition = " ".join(WORKFLOWS["benchmark"]["jobs"]["plan"]["if"].split())
    assert condition == (
        "github.event_name == 'pull_request_target'"
        " && github.event.label.name == 'benchmark' || github.event_name != 'pull_request_target'"
        " && !github.event.created"
        " && github.ref == format('refs/heads/{0}', github.event.repository.default_branch)"
    )


# -- nothing is lost --


def test_nothing_queued_is_dropped() -> None:
    """Actions keeps one waiting run of a group and cancels the others, unless told otherwise."""
    groups = {name: w["concurrency"] for name, w in WORKFLOWS.items()}
    groups |= {name: job["concurrency"] for name, job in JOBS.items() if "concurrency" in job}
    cancels = {n: c["cancel-in-progress"] for n, c in groups.items() if c["cancel-in-progress"]}
    assert cancels == {
        "review": "${{ github.event_name == 'pull_request' }}",
        "validate": "${{ github.event_name == 'pull_request' }}",
        "benchmark": "${{ github.event_name == 'pull_request_target' }}",
        "withdraw": True,
    }
    # A group shared by runs only where a later one is meant to replace an earlier one.
    shared = {name for name, c in groups.items() if "_run.id }}" not in c["group"]}
    shared -= {name for name, c in groups.items() if "github.run_id" in c["group"]}
    assert shared == {"review", "validate", "publish", "withdraw"}
    assert groups["benchmark"]["group"].endswith("format('benchmark-{0}', github.run_id) }}")
    for name in FORKS:
        assert "github.sha" in groups[name]["group"]
    # Whichever publication comes last shows everything: it does not build what started it.
    for step in JOBS["publish/build"]["steps"][:2]:
        assert "github.event.repository.default_branch" in step["with"]["ref"]


def test_what_was_measured_is_kept_and_committed_whatever_else_fails() -> None:
    job = JOBS["benchmark/measure"]
    assert job["strategy"]["fail-fast"] is False
    uploads = [s for s in job["steps"] if s.get("uses", "").startswith("actions/upload-artifact@")]
    assert [step["if"] for step in uploads] == ["always()", "always()"]
    assert all(step["with"]["overwrite"] is True for step in uploads)
    measure = next(step for step in job["steps"] if step.get("name") == "Measure")
    assert "\nexec tool/run bench run " in measure["run"]
    assert measure["timeout-minutes"] == "${{ matrix.timeout_minutes }}"
    assert job["timeout-minutes"] == "${{ matrix.job_timeout_minutes }}"
    assert "!cancelled()" in JOBS["benchmark/commit"]["if"]
    downloads = [
        step["with"]
        for name in ("keep", "commit")
        for step in JOBS[f"benchmark/{name}"]["steps"]
        if step.get("with", {}).get("pattern")
    ]
    # Untrusted archives are handed to `bench ingest` as they came.
    assert [entry["skip-decompress"] for entry in downloads] == [True, True]


def test_every_attempt_leaves_artifacts_of_its_own_and_every_attempts_are_read() -> None:
    """The next attempt may neither lose what one uploaded nor be kept from uploading its own."""
    steps = [step for name, step in STEPS.items() if name.startswith("benchmark/")]
    uploaded = [s["with"]["name"] for s in steps if "/upload-artifact@" in s.get("uses", "")]
    names = [name for name in uploaded if name.startswith(("results-", "logs-"))]
    assert len(names) == 2
    assert all(name.endswith("_${{ github.run_attempt }}") for name in names)
    for step in steps:
        if "/download-artifact@" in step.get("uses", ""):
            assert step["with"]["run-id"] == "${{ github.run_id }}"
            assert step["with"]["github-token"] == "${{ github.token }}"
    for name in ("measure", "keep", "commit"):
        assert JOBS[f"benchmark/{name}"]["permissions"]["actions"] == "read"


def test_a_runner_that_keeps_its_workspace_brings_nothing_from_an_earlier_run() -> None:
    """What outlives a job is checked out afresh, or in the folder the runner empties for each."""
    for step in JOBS["benchmark/measure"]["steps"]:
        if "-artifact@" in step.get("uses", ""):
            assert step["with"]["path"].startswith("${{ runner.temp }}/")
        for option, value in re.findall(r"--(models|results|logs) (\S+)", step.get("run", "")):
            checked_out = (option, value) == ("results", "data/bench/results")
            assert checked_out or value.startswith('"$RUNNER_TEMP/')


def test_a_plan_is_taken_by_the_number_that_no_runner_can_give_away() -> None:
    assert (
        JOBS["benchmark/plan"]["outputs"]["artifact"] == "${{ steps.upload.outputs.artifact-id }}"
    )
    for name in ("measure", "keep", "commit"):
        step = next(s for s in JOBS[f"benchmark/{name}"]["steps"] if s.get("name") == "The plan")
        assert step["with"]["artifact-ids"] == "${{ needs.plan.outputs.artifact }}"
    # By name nothing is taken; by a pattern only what `bench ingest` or `propose` checks.
    downloads = [s["with"] for s in STEPS.values()
                 if s.get("uses", "").startswith("actions/download-artifact@")]  # fmt: skip
    assert not any("name" in entry for entry in downloads)
    patterns = [entry["pattern"] for entry in downloads if "pattern" in entry]
    assert all(pattern.startswith("results-") or pattern == "proposal" for pattern in patterns)


def test_a_job_measures_only_what_the_newest_main_lacks() -> None:
    steps = JOBS["benchmark/measure"]["steps"]
    records = next(step for step in steps if step["name"] == "The newest records")
    assert records["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    measure = next(step for step in steps if step["name"] == "Measure")
    assert measure["if"] == "steps.missing.outputs.stages != ''"
    assert measure["env"]["STAGES"] == "${{ steps.missing.outputs.stages }}"
    # Forced or not, a rerun goes on from what its earlier attempt finished.
    assert "--force" not in measure["run"]


def test_a_cancelled_jobs_signal_reaches_bench_itself(tmp_path: Path) -> None:
    """The runner signals the step's shell only; so shell and ./run must have become bench."""
    programs = tmp_path / "tool" / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "bench").write_text("#!/bin/sh\necho $$ $*\n")
    (programs / "bench").chmod(0o755)
    for name in ("run", "requirements/tool.txt"):
        target = tmp_path / "tool" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
        target.chmod(0o755)
    (programs.parent / ".made-from-tool").write_bytes((ROOT / "requirements/tool.txt").read_bytes())
    step = next(s for s in JOBS["benchmark/measure"]["steps"] if s.get("name") == "Measure")
    (tmp_path / "step.sh").write_text(step["run"])
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "step.sh"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        env={**os.environ, "VARIANT": "a b", "HARDWARE": "h", "STAGES": "speed quality",
             "SESSION": "2", "BESIDE": "data of/main"},
    )  # fmt: skip
    output, _ = shell.communicate(timeout=PATIENCE_S)
    assert output.split()[:3] == [str(shell.pid), "run", "--models"]
    assert output.endswith(
        "--hardware h --stages=speed --stages=quality --session 2 --beside data of/main\n"
    )


def test_a_failed_build_leaves_the_old_site_up() -> None:
    deploy = WORKFLOWS["publish"]["jobs"]["deploy"]
    assert deploy["needs"] == "build"
    assert "if" not in deploy
    assert deploy["environment"]["name"] == "github-pages"


def test_what_is_published_is_attested_as_the_records_are() -> None:
    steps = JOBS["publish/build"]["steps"]
    names = [step.get("name") or step.get("uses", "").partition("@")[0] for step in steps]
    attested = names.index("Attest the list")
    assert names[attested - 1] == "List the site's files with their hashes"
    assert names[attested + 1] == "actions/upload-pages-artifact"
    assert steps[attested]["with"] == {"subject-path": "site/checksums.txt"}


@pytest.mark.parametrize(
    ("known", "asked", "status"),
    [("", "", 0), ("mypy==", "requirements/dev.txt", 1),
     ("nvidia-cublas==", "bench/engine/locks/cuda.txt", 1)],
)  # fmt: skip
def test_an_advisory_fails_the_run_and_names_its_lock(
    known: str, asked: str, status: int, tmp_path: Path
) -> None:
    """With a stand-in of pip-audit, which knows of one package."""
    (tmp_path / "pip-audit").write_text(
        "#!/bin/sh\nfor lock; do :; done\n"
        "case $* in *--strict*--disable-pip*) ;; *) exit 9;; esac\n"
        "grep -q '^torch==[0-9.]*+' $lock && exit 8\n"
        f"[ -z '{known}' ] || ! grep '^{known}' $lock\n"
    )
    (tmp_path / "pip-audit").chmod(0o755)
    (step,) = [s for s in JOBS["advisories/look"]["steps"] if "audit.sh" in s.get("run", "")]
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path),
             "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    said = f"Look at: {asked}. Renew a lock" if status else ""
    assert said in done.stdout
    assert (tmp_path / "summary").read_text() == done.stdout
    for lock in ("requirements/audit.txt", "bench/engine/locks/cpu.txt"):
        assert f"## {lock}\n" in done.stdout


def test_an_advisory_that_was_accepted_is_not_told_again(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "requirements", copy / "requirements")
    shutil.copytree(ROOT / "bench/engine/locks", copy / "bench/engine/locks")
    accepted = copy / "requirements/accepted-advisories.txt"
    accepted.write_text(f"{accepted.read_text()}GHSA-1a-2b  of a server\nPYSEC-2026-1 too\n")
    (tmp_path / "pip-audit").write_text("#!/bin/sh\necho $*\n")
    (tmp_path / "pip-audit").chmod(0o755)
    said = subprocess.run(
        [copy / "requirements/audit.sh"], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    ).stdout  # fmt: skip
    assert said.count(" --ignore-vuln GHSA-1a-2b --ignore-vuln PYSEC-2026-1 --requirement") == 5
    assert "xxxx" not in said


def test_dependabot_groups_and_waits() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    assert {entry["package-ecosystem"] for entry in updates} == {"github-actions", "pip"}
    for entry in updates:
        assert entry["groups"]
        assert entry["cooldown"]["default-days"] >= 7


# -- the guide --


GUIDE = "".join(path.read_text() for path in GUIDES)
EXAMPLES = [yaml.safe_load(part.split("```")[0]) for part in GUIDE.split("```yaml\n")[1:]]
CALLED = ["benchmark", "publish"]


@pytest.mark.parametrize(("example", "called"), [*zip(EXAMPLES, CALLED, strict=True)])
def test_the_guides_examples_call_what_exists(example: dict[str, Any], called: str) -> None:
    (job,) = example["jobs"].values()
    assert job["uses"].partition("/.github/workflows/")[2] == f"{called}.yml@COMMIT"
    inputs = WORKFLOWS[called]["on"]["workflow_call"]["inputs"]
    assert set(job["with"]) <= set(inputs)
    # A called workflow can have no more than its caller grants; benchmark.yml calls publish.yml.
    needed: dict[str, str] = {}
    for name in {called, "publish"}:
        for body in WORKFLOWS[name]["jobs"].values():
            for scope, level in body["permissions"].items():
                needed[scope] = "write" if "write" in (level, needed.get(scope)) else level
    assert job["permissions"] == needed


def test_the_guide_names_what_is_used() -> None:
    for name in ("benchmark-pull-request", "HF_TOKEN", "timeout_minutes", "quarto.sha256"):
        assert name in GUIDE
    assert {
        step["uses"].split("/")[0] for step in STEPS.values() if "@" in step.get("uses", "")
    } == {"actions"}


# -- linters --


def _lint(program: str, *arguments: str | Path) -> None:
    answer = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.lint
@pytest.mark.parametrize(
    ("schema", "pattern"),
    [("github-workflows", "workflows/*.yml"), ("github-actions", "actions/*/action.yml"),
     ("dependabot", "dependabot.yml")],
)  # fmt: skip
def test_schemas(schema: str, pattern: str) -> None:
    files = sorted(GITHUB.glob(pattern))
    assert files
    _lint("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


@pytest.mark.lint
def test_zizmor() -> None:
    _lint("zizmor", "--offline", "--no-progress", "--persona=auditor", ".github")


@pytest.mark.lint
def test_actionlint() -> None:
    # Without shellcheck: actionlint takes whichever the machine happens to have, and what there is
    # to check is one command a step, see test_a_step_is_pinned_and_thin.
    # act 0.2.89 refuses a workflow with `cache-mode`; and a pull request never gets to `publish`,
    # see test_a_pull_requests_run_can_neither_commit_nor_publish.
    ignored = ("-ignore", "has no explicit cache access limit")
    files = sorted((GITHUB / "workflows").glob("*.yml"))
    _lint("actionlint", "-shellcheck=", "-pyflakes=", *ignored, *files)


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_every_exception_carries_its_reason(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "zizmor: ignore" in line:
            assert re.search(r"zizmor: ignore\[[\w-]+\] \w+( \S+){3,}", line), line
