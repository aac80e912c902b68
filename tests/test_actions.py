"""`bench actions`: what each command prints, writes and refuses, on hostile input too."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import github_server
import hostile
import pytest
import synthetic
from click.testing import CliRunner, Result
from github_server import State
from synthetic_parts import Variant

from bench import plan, problems, store
from bench.cli import cli
from bench.errors import BenchError, ConfigError, RefusedError
from bench.github import approval, comment

SHA = "a" * 40
MERGE = "c" * 40
MODELS = hostile.models('repo = "Qwen/Qwen3-8B"')


@pytest.fixture
def state() -> Iterator[State]:
    with github_server.serving(State()) as state:
        yield state


def invoke(
    folder: Path, *arguments: str, event: dict[str, Any], name: str = "push", url: str = ""
) -> Result:
    """A command in an environment such as Actions sets."""
    (folder / "event.json").write_text(json.dumps(event))
    environment = {
        "GITHUB_EVENT_NAME": name,
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_SHA": MERGE,
        "GITHUB_REPOSITORY": github_server.REPOSITORY,
        "GITHUB_API_URL": url,
        "GITHUB_TOKEN": github_server.TOKEN,
    }
    return CliRunner().invoke(cli, ["actions", *arguments], env=environment)


def outputs(folder: Path) -> dict[str, str]:
    lines = (folder / "output").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


# -- review ----------------------------------------------------------------------------------------

PULL = {"pull_request": {"head": {"sha": SHA}}}


def review(folder: Path) -> Result:
    return invoke(
        folder, "review", "--models", str(folder / "models.toml"),
        "--results", str(folder / "results"), "--out", str(folder / "comment"),
        event=PULL, name="pull_request",
    )  # fmt: skip


def document(folder: Path) -> comment.Document:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(folder / "comment" / comment.FILE, comment.FILE)
    return comment.read_archive(buffer.getvalue())


def test_a_sound_file_gets_its_plan(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(MODELS)
    answer = review(tmp_path)
    assert answer.exit_code == 0
    assert document(tmp_path).headline == "2 of 2 stages would be measured, 0 are current."
    assert document(tmp_path).head_sha == SHA
    assert "| v | h | speed | not measured yet |" in (tmp_path / "summary.md").read_text()


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
    assert "v299 on h" in answer.output


@pytest.mark.parametrize("repeats", ["0", "-3", "3.5", "３", "x", "2"])
def test_repeats_are_a_number_of_at_least_three(repeats: str, tmp_path: Path, state: State) -> None:
    answer = make_plan(tmp_path, state, "--repeats", repeats)
    assert isinstance(answer.exception, BenchError)
    assert answer.exception.exit_code == 2


def measured(folder: Path, state: State, models: str) -> None:
    """What a pull request that asked for `models` left behind, and its merge."""
    (folder / "theirs.toml").write_text(models)
    experiment = problems.load_experiment(folder / "theirs.toml")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for job in plan.jobs(experiment, folder / "none", stages=["speed"]):
            record, sidecars = synthetic.speed_record(Variant("V", "F", True))
            names = {"variant": "v", "hardware": "h", "variant_name": "V"}
            record = record.model_copy(update={**names, "spec": job.spec, "key": job.key})
            store.write(folder / "theirs", record, sidecars)
        for path in (folder / "theirs").rglob("*.json*"):
            archive.write(path, path.relative_to(folder / "theirs"))
    head = {"sha": SHA}
    state.pulls[7] = {"number": 7, "head": head, "merged_at": "x", "merge_commit_sha": MERGE}
    state.runs[5] = {"id": 5, "event": "pull_request_target", "path": approval.WORKFLOW}
    state.add_artifact(5, approval.artifact_name(SHA), buffer.getvalue())


def test_a_merge_adopts_what_was_measured(tmp_path: Path, state: State) -> None:
    measured(tmp_path, state, MODELS)
    answer = make_plan(tmp_path, state, commits=[{"id": MERGE}])
    assert answer.exit_code == 0
    (job,) = json.loads(outputs(tmp_path)["matrix"])["include"]
    assert job["stages"] == ["quality"]
    assert outputs(tmp_path)["adopted"] == "true"
    assert not state.leaked


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


# -- keep ------------------------------------------------------------------------------------------


def test_keep_takes_the_sound_artifacts_and_names_the_others(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    hostile.write_files(incoming / "results-good", hostile.record_files())
    hostile.write_files(incoming / "results-bad%0A::x", hostile.ARTIFACTS["a workflow"][0]())
    ((ticket, key),) = hostile.plan().items()
    row = {**vars(ticket), "key": key, "needed": True}
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(json.dumps([row]))
    answer = invoke(
        tmp_path, "keep", str(incoming), "--plan", str(tmp_path / "plan"),
        "--out", str(tmp_path / "kept"), event=PULL,
    )  # fmt: skip
    assert isinstance(answer.exception, RefusedError)
    (line,) = answer.output.splitlines()
    assert line.startswith("::error title=refused results-bad%250A%3A%3Ax::")
    assert len(store.paths(tmp_path / "kept")) == 1
