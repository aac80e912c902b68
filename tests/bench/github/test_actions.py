"""`bench actions`: what each command prints, writes and refuses, on hostile input too."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import github_server
import hostile
import pytest
import synthetic
from actions_calls import MERGE, PULL, SHA, document, invoke, outputs, review
from click.testing import Result
from github_server import State
from plans import EXPERIMENT
from plans import measured as record_of
from synthetic_parts import Variant

from bench.errors import BenchError, ConfigError, RefusedError
from bench.github import approval, lookup
from bench.github.actions import make_matrix
from bench.github.commit import git
from bench.modelsfile import problems
from bench.plan.jobs import find_jobs
from bench.records import store

MODELS = "speed = { sessions = 1 }\n" + hostile.models(
    f'repo = "Qwen/Qwen3-8B"\nrevision = "{"a" * 40}"'
)


@pytest.fixture
def state() -> Iterator[State]:
    with github_server.serving(State()) as state:
        yield state


# -- review ----------------------------------------------------------------------------------------


def test_a_sound_file_gets_its_plan(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(MODELS)
    answer = review(tmp_path)
    assert answer.exit_code == 0
    assert document(tmp_path).headline == "2 of 2 stages would be measured, 0 are current."
    assert document(tmp_path).head_sha == SHA
    assert "| v | h | speed | not measured yet |" in (tmp_path / "summary.md").read_text()


def test_a_row_that_nobody_published_is_annotated(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(f'{MODELS}\nreproduces = "nothing-like-it"\n')
    answer = review(tmp_path)
    assert isinstance(answer.exception, ConfigError)
    assert "no published row 'nothing-like-it'" in answer.output


@pytest.mark.parametrize("case", hostile.MODELS)
def test_hostile_models_leave_one_command_per_problem_and_inert_text(
    case: str, tmp_path: Path
) -> None:
    (tmp_path / "models.toml").write_text(hostile.MODELS[case][0])
    answer = review(tmp_path)
    assert isinstance(answer.exception, ConfigError)
    lines = answer.output.splitlines()
    assert lines
    assert all(line.startswith("::error ") for line in lines)
    text = (tmp_path / "summary.md").read_text()
    assert document(tmp_path).headline in text
    outside_code = re.sub(r"`[^`\n]*`", "", text)
    assert not re.search(r"<(?!/?sub>)|\]\(|@|https?:", outside_code)
    assert all(line[:1] != "#" or line.startswith("## What") for line in text.splitlines())


@pytest.mark.parametrize("target", ["/etc/passwd", "other.toml"])
def test_a_link_is_not_followed(target: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(MODELS)
    (tmp_path / "models.toml").symlink_to(target)
    answer = review(tmp_path)
    assert isinstance(answer.exception, ConfigError)
    assert "is a link" in answer.output
    assert "root" not in answer.output


def test_a_large_file_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_bytes(b"#" * 10_000_000)
    answer = review(tmp_path)
    assert isinstance(answer.exception, ConfigError)
    assert "10,000,000 bytes" in answer.output


# -- plan ------------------------------------------------------------------------------------------


def make_plan(folder: Path, state: State, *more: str, **event: Any) -> Result:
    (folder / "models.toml").write_text(MODELS)
    return invoke(
        folder, "plan", "--models", str(folder / "models.toml"),
        "--results", str(folder / "results"), "--out", str(folder / "plan"), *more,
        event={"commits": [], **event}, url=state.url,
    )  # fmt: skip


def test_the_matrix_is_one_job_per_variant_and_hardware(tmp_path: Path, state: State) -> None:
    assert make_plan(tmp_path, state).exit_code == 0
    (job,) = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert (job["variant"], job["stages"]) == ("v", ["speed", "quality"])
    assert job["job_timeout_minutes"] == job["timeout_minutes"] + 30
    assert (outputs(tmp_path)["count"], outputs(tmp_path)["adopted"]) == ("1", "false")


def test_more_jobs_than_a_matrix_holds_are_said(tmp_path: Path, state: State) -> None:
    table = MODELS[MODELS.index("[[variant]]") :]
    names = [table.replace('name = "V"', f'name = "V{i}"') for i in range(300)]
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "models.toml").write_text(MODELS + "".join(names))
    answer = invoke(
        folder, "plan", "--models", str(folder / "models.toml"), "--results", str(folder),
        "--out", str(folder / "plan"), event={"commits": []}, url=state.url,
    )  # fmt: skip
    assert answer.exit_code == 0
    assert outputs(folder)["count"] == "256"
    assert "::warning::more than 256 jobs" in answer.output
    there = {job["variant"] for job in json.loads(outputs(folder)["matrix"])["include"]}
    for left in {"v", *(f"v{i}" for i in range(300))} - there:
        assert f"{left} on h, session 1" in answer.output


def test_the_matrix_has_one_entry_per_server_with_something_to_do(tmp_path: Path) -> None:
    jobs = find_jobs(EXPERIMENT, tmp_path)
    for job in (jobs[0], jobs[4], jobs[5]):
        store.write(tmp_path, record_of(job))
    jobs = find_jobs(EXPERIMENT, tmp_path)
    assert sorted(make_matrix(jobs), key=lambda entry: entry["hardware"]) == [
        {
            "variant": "v",
            "hardware": hardware,
            "session": 1,
            "runner": ["x"],
            "timeout_minutes": 360,
            "stages": [job.stage for job in found],
            "keys": [job.key for job in found],
        }
        for hardware, found in (("a", jobs[1:2]), ("b", jobs[2:4]))
    ]
    assert make_matrix([]) == []


@pytest.mark.parametrize("sessions", ["0", "-3", "3.5", "３", "x", "101"])
def test_sessions_are_a_number_that_a_file_may_ask_for(
    sessions: str, tmp_path: Path, state: State
) -> None:
    answer = make_plan(tmp_path, state, "--sessions", sessions)
    assert isinstance(answer.exception, BenchError)
    assert answer.exception.exit_code == 2


def test_a_job_is_one_session_and_they_come_round_by_round(tmp_path: Path, state: State) -> None:
    assert make_plan(tmp_path, state, "--sessions", "3").exit_code == 0
    jobs = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert [(job["session"], job["stages"]) for job in jobs] == [
        (1, ["speed", "quality"]), (2, ["speed"]), (3, ["speed"]),
    ]  # fmt: skip
    rows = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert [row["sessions"] for row in rows] == [[1, 2, 3], []]


def merge_of(number: int) -> str:
    return MERGE if number == 7 else f"{number:x}" * 40


def measured(folder: Path, state: State, models: str, *stages: str, number: int = 7) -> Path:
    """What a pull request that asked for `models` left behind, and its merge; its records."""
    theirs = folder / f"theirs-{number}"
    (folder / "theirs.toml").write_text(models)
    experiment = problems.load_experiment(folder / "theirs.toml")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for job in find_jobs(experiment, folder / "none", stages=stages or ["speed"]):
            variant = Variant("V", "F", True)
            record, sidecars = (
                synthetic.speed_record(
                    variant, prompts=job.speed.prompts, repeats=job.speed.repeats
                )
                if job.stage == "speed"
                else synthetic.quality_record(variant, split=200)
            )
            store.write(theirs, synthetic.of_job(record, job), sidecars)
        for path in theirs.rglob("*.json*"):
            archive.write(path, path.relative_to(theirs))
    head = {"sha": f"{number:x}" * 40}
    state.pulls[number] = {
        "number": number, "head": head, "merged_at": "x", "merge_commit_sha": merge_of(number),
    }  # fmt: skip
    state.runs[number] = {"id": number, "event": "pull_request_target", "path": approval.WORKFLOW}
    state.add_artifact(number, approval.artifact_name(head["sha"]), buffer.getvalue())
    return theirs


def test_a_merge_adopts_what_was_measured(tmp_path: Path, state: State) -> None:
    measured(tmp_path, state, MODELS)
    answer = make_plan(tmp_path, state, commits=[{"id": MERGE}])
    assert answer.exit_code == 0
    (job,) = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert job["stages"] == ["quality"]
    assert outputs(tmp_path)["adopted"] == "true"
    assert len(store.paths(tmp_path / "plan" / "adopted")) == 1
    assert not state.leaked


def test_a_merge_adopts_nothing_but_what_it_brings(tmp_path: Path, state: State) -> None:
    """Records of what main asked for before are not what the pull request was approved for."""
    measured(tmp_path, state, MODELS)
    (tmp_path / "models.toml").write_text(MODELS)
    for line in ("init --quiet", "add models.toml", "commit --quiet --message=before"):
        git(tmp_path, *line.split())
    state.origin = tmp_path
    before = git(tmp_path, "rev-parse", "HEAD").strip()
    answer = make_plan(tmp_path, state, commits=[{"id": MERGE}], before=before)
    assert "::warning::not the records main asks for" in answer.output
    assert outputs(tmp_path)["adopted"] == "false"
    (job,) = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert job["stages"] == ["speed", "quality"]
    for earlier in ("0" * 40, "1" * 40):  # there was none, or it is not to be found
        make_plan(tmp_path, state, commits=[{"id": MERGE}], before=earlier)
        assert (tmp_path / "output").read_text().count("adopted=true") >= 1


def test_a_push_of_several_merges_adopts_all_of_them(tmp_path: Path, state: State) -> None:
    measured(tmp_path, state, MODELS)
    measured(tmp_path, state, MODELS, "quality", number=8)
    commits = [{"id": MERGE}, {"id": "d" * 40}, {"id": merge_of(8)}]
    assert make_plan(tmp_path, state, commits=commits).exit_code == 0
    assert outputs(tmp_path)["count"] == "0"
    assert len(store.paths(tmp_path / "plan" / "adopted")) == 2


def test_what_main_has_already_does_not_spoil_the_rest(tmp_path: Path, state: State) -> None:
    theirs = measured(tmp_path, state, MODELS, "speed", "quality")
    shutil.copytree(theirs, tmp_path / "results", ignore=shutil.ignore_patterns("quality-*"))
    answer = make_plan(tmp_path, state, commits=[{"id": MERGE}])
    assert "::warning::" not in answer.output
    assert (outputs(tmp_path)["count"], outputs(tmp_path)["adopted"]) == ("0", "true")
    assert len(store.paths(tmp_path / "results")) == 2


def test_what_main_does_not_ask_for_is_measured_anew(tmp_path: Path, state: State) -> None:
    measured(tmp_path, state, MODELS + "[variant.speed]\nprompts = 7\n")
    answer = make_plan(tmp_path, state, commits=[{"id": MERGE}])
    assert answer.exit_code == 0
    (job,) = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert job["stages"] == ["speed", "quality"]
    assert outputs(tmp_path)["adopted"] == "false"
    assert "::warning::not the records main asks for" in answer.output
    assert not (tmp_path / "plan" / "adopted").exists()
    assert not (tmp_path / "results").exists()


# -- plan, for a pull request ----------------------------------------------------------------------

LONG = "[[hardware]]\ntimeout_minutes = 7200"
OURS = MODELS + f'[[variant]]\nname = "W"\nfamily = "F"\nrepo = "a/b"\nrevision = "{"b" * 40}"\n'


def plan_pull(folder: Path, state: State, ours: str, theirs: str) -> Result:
    """The plan of a labelled pull request that makes `theirs` of main's `ours`."""
    (folder / "models.toml").write_text(theirs)
    for line in ("init --quiet", "add models.toml", "commit --quiet --message=theirs"):
        git(folder, *line.split())
    sha = git(folder, "rev-parse", "HEAD").strip()
    state.origin = folder
    state.protect(approval.ENVIRONMENT)
    state.pulls[7] = {"number": 7, "state": "open", "head": {"sha": sha}}
    (folder / "main.toml").write_text(ours)
    event = {
        "action": "labeled", "number": 7, "pull_request": state.pulls[7],
        "label": {"name": approval.LABEL}, "sender": {"login": "maintainer"},
    }  # fmt: skip
    return invoke(
        folder, "plan", "--models", str(folder / "main.toml"), "--results", str(folder / "none"),
        "--out", str(folder / "plan"), event=event, name="pull_request_target", url=state.url,
    )  # fmt: skip


def test_a_pull_request_measures_what_it_adds_or_changes(tmp_path: Path, state: State) -> None:
    more = OURS.removeprefix(MODELS).replace('"W"', '"X"').replace('"a/b"', '"a/x"')
    theirs = OURS.replace('repo = "a/b"', 'repo = "a/b"\nspeed = { prompts = 7 }') + more
    assert plan_pull(tmp_path, state, OURS, theirs).exit_code == 0
    found = {e["variant"]: e["stages"] for e in json.loads(outputs(tmp_path)["matrix"])["include"]}
    # V is not measured on main either; but that is not this pull request's doing.
    assert found == {"w": ["speed"], "x": ["speed", "quality"]}
    rows = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert {row["variant"] for row in rows} == {"w", "x"}


def test_a_pull_request_of_something_that_moves_is_measured_at_no_commit_nobody_saw(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the Hub does not say what the newest is, it must be written down."""
    monkeypatch.setattr(lookup, "WITHIN_S", 0.01)
    theirs = OURS.replace(f'\nrevision = "{"b" * 40}"', "")
    answer = plan_pull(tmp_path, state, MODELS, theirs)
    assert isinstance(answer.exception, RefusedError)
    assert "nobody knows which commit is approved of a/b" in str(answer.exception)
    assert not (tmp_path / "output").exists()


def test_a_pull_request_may_ask_for_more_sessions(tmp_path: Path, state: State) -> None:
    theirs = MODELS.replace("sessions = 1", "sessions = 2")
    assert plan_pull(tmp_path, state, MODELS, theirs).exit_code == 0
    jobs = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert [(job["session"], job["stages"]) for job in jobs] == [(1, ["speed"]), (2, ["speed"])]


def test_a_pull_request_chooses_no_runner(tmp_path: Path, state: State) -> None:
    theirs = OURS.replace("ubuntu-latest", "gpu-h100").replace("[[hardware]]", LONG)
    assert plan_pull(tmp_path, state, MODELS, theirs).exit_code == 0
    (job,) = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert (job["runner"], job["timeout_minutes"]) == (["ubuntu-latest"], 360)
    assert "gpu-h100" not in (tmp_path / "plan" / "models.toml").read_text()


def test_hardware_that_main_does_not_have_is_refused(tmp_path: Path, state: State) -> None:
    answer = plan_pull(tmp_path, state, MODELS, OURS.replace('id = "h"', 'id = "mine"'))
    assert isinstance(answer.exception, RefusedError)
    assert "main has no [[hardware]] mine" in str(answer.exception)
    assert not (tmp_path / "output").exists()


# -- missing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("force", "stages"), [("", "quality"), ("true", "speed quality")])
def test_what_main_has_by_now_is_not_measured_unless_forced(
    force: str, stages: str, tmp_path: Path, state: State
) -> None:
    main = measured(tmp_path, state, MODELS)
    answer = invoke(
        tmp_path, "missing", "--models", str(tmp_path / "theirs.toml"), "--results", str(main),
        "--variant", "v", "--hardware", "h", "--session", "1", "--force", force,
        event={}, STAGES="speed quality",
    )  # fmt: skip
    assert answer.exit_code == 0
    beside = "" if force else str(main)
    assert outputs(tmp_path) == {"stages": stages, "beside": beside}


# -- keep ------------------------------------------------------------------------------------------


def keep(folder: Path) -> Result:
    ((ticket, asked),) = hostile.plan().items()
    told = {"key": asked.key, "description": asdict(asked.description)}
    row = {**vars(ticket), **told, "needed": True, "sessions": [1]}
    (folder / "plan").mkdir()
    (folder / "plan" / "plan.json").write_text(json.dumps([row]))
    return invoke(
        folder, "keep", str(folder / "incoming"), "--plan", str(folder / "plan"),
        "--results", str(folder / "results"), "--out", str(folder / "kept"), event=PULL,
    )  # fmt: skip


def test_keep_takes_the_sound_artifacts_and_names_the_others(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    hostile.write_files(incoming / "results-good", hostile.record_files())
    hostile.write_files(incoming / "results-bad%0A::x", hostile.ARTIFACTS["a workflow"][0]())
    answer = keep(tmp_path)
    assert isinstance(answer.exception, RefusedError)
    (line,) = answer.output.splitlines()
    assert line.startswith("::error title=refused results-bad%250A%3A%3Ax::")
    assert len(store.paths(tmp_path / "kept")) == 1


def test_the_archive_of_a_run_with_one_job_lies_in_the_folder_itself(tmp_path: Path) -> None:
    """As actions/download-artifact does for a lone match of its pattern."""
    (tmp_path / "incoming").mkdir()
    with zipfile.ZipFile(tmp_path / "incoming" / "results-h-v.zip", "w") as archive:
        for name, data in hostile.record_files().items():
            archive.writestr(name, data)
    assert keep(tmp_path).exit_code == 0
    assert len(store.paths(tmp_path / "kept")) == 1


# -- commit ----------------------------------------------------------------------------------------


class Main:
    """A repository with a main branch, and clones of it in which runs commit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.origin = folder, folder / "origin.git"
        subprocess.run(["git", "init", "--quiet", "--bare", self.origin], check=True)
        seed = folder / "seed"
        seed.mkdir()
        git(seed, "init", "--quiet")
        git(seed, "commit", "--quiet", "--allow-empty", "--message", "start")
        git(seed, "push", "--quiet", str(self.origin), "HEAD:refs/heads/main")
        self.runs = 0

    def commit(self, finished: datetime = synthetic.START, force: str = "") -> dict[str, str]:
        """A run whose one job sent a record that finished then: the outputs, and the subjects."""
        self.runs += 1
        run = self.folder / f"run-{self.runs}"
        clone = ["git", "clone", "--quiet", "--branch", "main", str(self.origin), str(run / "data")]
        subprocess.run(clone, check=True)
        record, sidecars = synthetic.speed_record(hostile.VARIANT, finished=finished)
        store.write(run / "incoming" / "results-h-v", record, sidecars)
        (run / "plan").mkdir()
        row = {"variant": record.variant, "hardware": record.hardware, "stage": record.stage}
        told = {"key": record.key, "description": asdict(hostile.describe(record))}
        rows = [{**row, **told, "needed": True, "sessions": [1]}]
        (run / "plan" / "plan.json").write_text(json.dumps(rows))
        answer = invoke(
            run, "commit", str(run / "incoming"), "--plan", str(run / "plan"),
            "--repository", str(run / "data"), "--results", str(run / "data" / "bench" / "results"),
            "--branch", "main", "--checksums", str(run / "checksums.txt"), "--force", force,
            event={},
        )  # fmt: skip
        assert answer.exit_code == 0, answer.output
        return {**outputs(run), "subjects": (run / "checksums.txt").read_text()}

    def messages(self) -> list[str]:
        return git(self.origin, "log", "--format=%s", "main").splitlines()


LATER = synthetic.START + timedelta(hours=1)


def test_a_rerun_attests_and_publishes_what_is_there_already(tmp_path: Path) -> None:
    main = Main(tmp_path)
    first, second = main.commit(), main.commit()
    assert first == second
    assert first["sha"] == git(main.origin, "rev-parse", "main").strip()
    assert len(first["subjects"].splitlines()) == 2
    assert main.messages() == ["Add 1 results", "start"]


def test_what_another_run_has_stored_meanwhile_is_not_doubled(tmp_path: Path) -> None:
    main = Main(tmp_path)
    main.commit()
    second = main.commit(LATER)
    assert second == {"sha": "", "subjects": "\n"}
    assert main.messages() == ["Add 1 results", "start"]


def test_what_was_measured_again_on_purpose_is_stored_beside(tmp_path: Path) -> None:
    main = Main(tmp_path)
    main.commit()
    assert len(main.commit(LATER, force="true")["subjects"].splitlines()) == 2
    assert main.messages() == ["Add 1 results", "Add 1 results", "start"]
