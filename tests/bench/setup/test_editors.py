"""What editors, pre-commit and dev containers are told about this repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import copies
import pytest
import yaml
from folders import ROOT
from models_texts import VALID

from bench import config
from report.rows.results import load
from report.site import build

PROGRAMS = Path(sys.executable).parent
SCHEMA = ROOT / "bench" / "models.schema.json"
FILES = ("models.toml", *(f"bench/demo/{name}.toml" for name in ("models", "gpu", "two-gpus")))
HOOKS = ROOT / ".pre-commit-hooks.yaml"


# -- the schema of models.toml ---------------------------------------------------------------------


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for table, shape in {"": schema, **schema["$defs"]}.items():
        for key, value in shape["properties"].items():
            yield f"{table}.{key}", value


def test_every_key_says_what_it_is() -> None:
    undescribed = [
        key for key, value in properties(config.schema()) if not value.get("description")
    ]
    assert undescribed == []


def test_toml_has_no_null_so_nothing_offers_one() -> None:
    for key, value in properties(config.schema()):
        assert {"type": "null"} not in value.get("anyOf", []), key
        assert value.get("default", 0) is not None, key


@pytest.mark.parametrize("name", FILES)
def test_the_first_line_names_the_committed_schema(name: str) -> None:
    first = (ROOT / name).read_text().partition("\n")[0]
    found = re.fullmatch(r"#:schema (\.\.?/\S+)", first)
    assert found
    assert (ROOT / name).parent.joinpath(found[1]).resolve() == SCHEMA


def test_the_site_publishes_it_for_other_repositories(tmp_path: Path) -> None:
    build.add_files(load(tmp_path / "results", None), [], None, tmp_path / "site", None)
    assert (tmp_path / "site" / SCHEMA.name).read_text() == SCHEMA.read_text()


def taplo(path: Path) -> subprocess.CompletedProcess[str]:
    """The linter of what Even Better TOML runs; it reads the schema that the first line names."""
    return subprocess.run(
        [PROGRAMS / "taplo", "lint", "--no-auto-config", path],
        capture_output=True, text=True, check=False, cwd=path.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(path.parent)},
    )  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_an_editor_finds_nothing_wrong_in_the_committed_files(name: str) -> None:
    done = taplo(ROOT / name)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('max_model_len = "long"', "is not of type"),
        ("max_modle_len = 4", "Additional properties are not allowed"),
        ("gpu_memory_utilization = 1.5", "greater than the maximum"),
    ],
)
def test_an_editor_underlines_what_the_schema_refuses(
    line: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "bench").mkdir()
    shutil.copy(SCHEMA, tmp_path / "bench")
    path = tmp_path / "models.toml"
    path.write_text(f"#:schema ./bench/{SCHEMA.name}\n[serve]\n{line}\n{VALID}")
    done = taplo(path)
    assert done.returncode != 0
    assert words in done.stderr


# -- pre-commit ------------------------------------------------------------------------------------


def test_the_hook_names_a_program_and_a_command_that_exist() -> None:
    (hook,) = yaml.safe_load(HOOKS.read_text())
    program, *rest = hook["entry"].split()
    assert os.access(ROOT / program, os.X_OK)
    assert rest == ["bench", "validate"]
    assert re.search(hook["files"], "models.toml")
    assert not re.search(hook["files"], "bench/demo/models.toml")


@pytest.mark.process
def test_pre_commit_runs_the_hook_on_another_repositorys_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    tool, theirs = tmp_path / "tool", tmp_path / "theirs"
    for name in (".pre-commit-hooks.yaml", "run", "requirements/tool.txt"):
        (tool / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tool / name)
    theirs.mkdir()
    for folder in (tool, theirs):
        copies.git(folder, "init", "--quiet")
    sha = copies.commit(tool, "tool")
    (theirs / ".pre-commit-config.yaml").write_text(
        yaml.safe_dump(
            {"repos": [{"repo": str(tool), "rev": sha, "hooks": [{"id": "bench-validate"}]}]}
        )
    )
    (theirs / "models.toml").write_text(VALID)
    copies.commit(theirs, "theirs")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [str(PROGRAMS / "pre-commit"), *arguments]
        return subprocess.run(argv, cwd=theirs, capture_output=True, text=True, check=False)

    assert run("install-hooks").returncode == 0
    # What ./run would make of the locks in pre-commit's clone, with this environment's packages.
    (clone,) = (path.parent for path in (tmp_path / "cache").glob("repo*/run"))
    programs = clone / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "bench").write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n')
    (programs / "bench").chmod(0o755)
    shutil.copy(clone / "requirements/tool.txt", clone / ".venv/.made-from-tool")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    good = run("run", "--all-files")
    assert good.returncode == 0, good.stdout
    assert "Passed" in good.stdout
    (theirs / "models.toml").write_text(VALID.replace("repo =", "rep0 ="))
    bad = run("run", "--all-files")
    assert bad.returncode == 1
    assert "did you mean 'repo'?" in bad.stdout


# -- the dev container -----------------------------------------------------------------------------


def test_the_dev_container_prepares_the_readmes_two_commands() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    readme = (ROOT / "README.md").read_text()
    prepared = [command.split()[:2] for command in container["postCreateCommand"].split(" && ")]
    assert prepared == [["./run", "pytest"], ["./run", "bench"]]
    for run, name in prepared:
        assert f"{run} {name}" in readme
    version = re.search(r"python:(\d+)\.(\d+)", container["image"])
    assert version
    assert tuple(map(int, version.groups())) >= (3, 11)
    assert "tamasfe.even-better-toml" in container["customizations"]["vscode"]["extensions"]
