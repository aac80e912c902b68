"""`bench actions …` as the workflows call it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import github_server
from click.testing import CliRunner, Result

from bench.cli import cli
from bench.github import comment

SHA = "a" * 40
MERGE = "c" * 40


def invoke(
    folder: Path,
    *arguments: str,
    event: dict[str, Any],
    name: str = "push",
    url: str = "",
    **variables: str,
) -> Result:
    """A command in an environment such as Actions sets, with some variables of the step's own."""
    (folder / "event.json").write_text(json.dumps(event))
    environment = {
        "GITHUB_EVENT_NAME": name,
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_SHA": MERGE,
        "GITHUB_SERVER_URL": "https://github.invalid",
        "GITHUB_RUN_ID": "1",
        "GITHUB_REPOSITORY": github_server.REPOSITORY,
        "GITHUB_API_URL": url,
        "GITHUB_TOKEN": github_server.TOKEN,
        **variables,
    }
    return CliRunner().invoke(cli, ["actions", *arguments], env=environment)


def outputs(folder: Path) -> dict[str, str]:
    lines = (folder / "output").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


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
