"""A run by hand with nothing typed: the demo in a fresh copy, what is missing everywhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import copies
import github_server
import pytest
import yaml
from actions_calls import invoke, outputs
from folders import GOLDEN, ROOT
from github_server import State
from models_texts import VALID
from nvml_fakes import NoNvml

from bench.github import dispatch
from bench.github.api import Api
from bench.setup import hardware

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/benchmark.yml").read_text())
INPUTS = WORKFLOW[True]["workflow_dispatch"]["inputs"]  # YAML 1.1 reads `on` as true
DEMO = ROOT / "bench/demo/models.toml"


RECORD = (GOLDEN / "record-speed.json").read_text()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A fresh copy with a GPU runner in models.toml and records of the template's only."""
    copies.git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    (tmp_path / "models.toml").write_text(VALID)
    record(tmp_path, "l40")
    return tmp_path


@pytest.fixture
def api(data: Path) -> Iterator[Api]:
    with github_server.serving(State(origin=data)) as state:
        yield Api(state.url, github_server.REPOSITORY, github_server.TOKEN)


def record(data: Path, machine: str, time: str = "20260101T000000Z") -> None:
    path = data / f"bench/results/{machine}/a/speed-{time}-00000000.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RECORD)
    copies.git(data, "add", "--all")
    copies.git(data, "commit", "--quiet", "--message", machine)


def chosen(data: Path, api: Api, name: str = INPUTS["models"]["default"]) -> dispatch.Asked:
    return dispatch.choose(data / name, data / "bench" / "results", lambda: api)


def test_a_fresh_copy_measures_the_demo_on_githubs_machines(data: Path, api: Api) -> None:
    asked = chosen(data, api)
    assert (asked.models, asked.hardware) == (DEMO, ("github-hosted",))
    assert "l40" in asked.why


def test_and_again_once_the_demo_is_measured_as_there_is_still_no_runner(
    data: Path, api: Api
) -> None:
    record(data, "github-hosted")
    assert chosen(data, api).models == DEMO


def test_an_established_repository_measures_what_is_missing(data: Path, api: Api) -> None:
    record(data, "l40", "20270101T000000Z")
    asked = chosen(data, api)
    assert (asked.models, asked.hardware) == (data / "models.toml", ())


def test_a_copy_that_githubs_machines_measure_needs_no_demo(data: Path, api: Api) -> None:
    tables = hardware.table(hardware.HOSTED) + "".join(VALID.partition("[[family]]")[1:])
    (data / "models.toml").write_text(tables)
    assert chosen(data, api).models == data / "models.toml"
    own = hardware.table(hardware.this_machine(NoNvml()))
    (data / "models.toml").write_text(own + tables)
    assert chosen(data, api).models == DEMO  # one of the two would wait for its runner


@pytest.mark.parametrize("name", [*INPUTS["models"]["options"][1:], "other.toml"])
def test_what_is_named_is_taken(name: str, data: Path, api: Api) -> None:
    assert chosen(data, api, name) == dispatch.Asked(data / name)


def test_the_choices_are_files_that_are_there_and_stages_that_exist() -> None:
    first, *files = INPUTS["models"]["options"]
    assert first == dispatch.AUTOMATIC == INPUTS["models"]["default"]
    assert all((ROOT / name).is_file() for name in files)
    stages = INPUTS["stages"]
    assert stages["options"] == ["speed quality", "speed", "quality"]
    assert stages["default"] == "speed quality"
    for asked in INPUTS.values():
        if asked["type"] == "choice":
            assert asked["default"] in asked["options"]


def test_nothing_has_to_be_typed() -> None:
    assert not any(asked.get("required") for asked in INPUTS.values())


@pytest.mark.parametrize("stages", INPUTS["stages"]["options"])
def test_the_plan_of_a_fresh_copy(stages: str, data: Path, api: Api) -> None:
    """With what Actions passes on for a run by hand in which nothing was typed."""
    event = {"ref": "refs/heads/main"}
    ran = invoke(
        data, "plan", "--models", str(data / "automatic"), "--results", str(data / "bench/results"),
        "--out", str(data / "plan"), "--sessions", "", "--force", "false",
        event=event, name="workflow_dispatch", url=api.url,
        VARIANTS="", HARDWARE="", STAGES=stages,
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "::notice::this repository has measured nothing on l40 yet" in ran.output
    entries = json.loads(outputs(data)["matrix"])["include"]
    rounds = [entry["session"] for entry in entries]
    assert rounds == ([1] * 4 if stages == "quality" else [1] * 4 + [2] * 4)
    assert {tuple(entry["runner"]) for entry in entries} == {("ubuntu-24.04",)}
    assert {" ".join(entry["stages"]) for entry in entries[:4]} == {stages}
    assert {" ".join(entry["stages"]) for entry in entries[4:]} <= {"speed"}
    assert (data / "plan" / "models.toml").read_text() == DEMO.read_text()
