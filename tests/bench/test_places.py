"""Whose files a command means, from wherever it is called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from folders import ROOT
from models_texts import VALID

from bench import cli, places


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a models.toml, one of another within it, and folders below both."""
    for name in ("mine/notes/deep", "mine/other/below", "nothing/here"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mine" / "models.toml").write_text(VALID)
    (tmp_path / "mine" / "other" / "models.toml").write_text(VALID)
    (tmp_path / "nothing" / "models.toml").mkdir()  # a folder is no experiment
    return tmp_path


@pytest.mark.parametrize(
    ("at", "found"),
    [
        ("mine", "mine"),
        ("mine/notes/deep", "mine"),
        ("mine/other/below", "mine/other"),
        ("nothing/here", "nothing/here"),
    ],
)
def test_the_project_is_the_nearest_folder_with_a_models_toml(
    at: str, found: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / at)
    assert places.project() == project / found


def test_a_checkout_is_the_project_of_its_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (ROOT, ROOT / "bench", ROOT / "bench" / "results", ROOT / "tests" / "bench"):
        monkeypatch.chdir(at)
        assert places.project() == ROOT == places.CODE


def test_what_is_not_named_is_the_projects_and_what_is_named_is_the_shells(
    project: Path, monkeypatch: pytest.MonkeyPatch, bench: Any
) -> None:
    monkeypatch.chdir(project / "mine" / "notes")
    for arguments, told in (
        ((), "mine/models.toml"),
        (("models.toml",), "mine/notes/models.toml"),
        (("deep/../../other/models.toml",), "mine/other/models.toml"),
    ):
        ran = bench("validate", *arguments)
        assert f"{project / told}" in ran.out + ran.err
        assert ran.code == (2 if told == "mine/notes/models.toml" else 0)


def paths(command: click.Command, name: str = "bench") -> Iterator[tuple[str, click.Parameter]]:
    """Every parameter of a command and of those below it that is a path."""
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            yield f"{name} {parameter.name}", parameter
    for below, found in getattr(command, "commands", {}).items():
        yield from paths(found, f"{name} {below}")


def test_every_path_of_every_command_is_made_absolute_where_it_enters() -> None:
    found = dict(paths(cli.cli))
    assert {"bench report out", "bench validate file", "bench actions keep folder"} <= set(found)
    assert not [name for name, one in found.items() if type(one.type) is not places.PathType]


def test_a_link_keeps_its_name_and_all_else_is_resolved(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "mine" / "link").symlink_to("other")
    monkeypatch.chdir(project / "mine" / "link")
    kind = places.PathType()
    assert kind.convert("../link", None, None) == project / "mine" / "other" / ".." / "link"
    assert kind.convert("..", None, None) == project / "mine"
    assert kind.convert("new", None, None) == project / "mine" / "other" / "new"
    (project / "loop").symlink_to("loop")
    for name in ("loop", "loop/below"):
        assert kind.convert(f"{project}/{name}", None, None) == project / name


def test_help_needs_no_folder_at_all(tmp_path: Path) -> None:
    gone = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
    program = gone + "from bench.cli import main; sys.argv[0] = 'bench'; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "plan", "--help"],
        cwd=tmp_path, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "models.toml by default" in ran.stdout
