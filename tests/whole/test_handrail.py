"""From the template to a page, as a person is told to go: act and the stand-in of the API."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import copies
import github_server
import pytest
import yaml
from act_runner import Workshop
from folders import ROOT

pytestmark = pytest.mark.actions

DEMO = [f"smollm2-135m-{variant}" for variant in ("bf16", "int4-awq-format", "int4-w4a16",
                                                  "int8-w8a8")]  # fmt: skip
OWN = sorted(f"github-hosted/{variant}/{stage}" for variant in DEMO
             for stage in ("quality", "speed", "speed"))  # fmt: skip
JOBS = {
    "Plan": "success",
    **{f"{v} on github-hosted, session {n}": "success" for v in DEMO for n in (1, 2)},
    "Commit": "success",
    "Publish/Build": "success",
    "Publish/Deploy": "success",
}


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with github_server.serving(github_server.State()) as state:
        made = Workshop(tmp_path, state)
        made.become_template()
        yield made


def bench(workshop: Workshop, *arguments: str) -> subprocess.CompletedProcess[str]:
    return copies.bench(workshop.work, *arguments, GITHUB_API_URL=workshop.state.url)


def steps(printed: str) -> list[tuple[str, str]]:
    """What is left for a person: what to do, and where."""
    lines = printed.partition("Left for you")[2].splitlines()[1:]
    numbered = [n for n, line in enumerate(lines) if line.lstrip()[:2].rstrip(".").isdigit()]
    return [(lines[n].strip(), lines[n + 1].strip()) for n in numbered]


def pages(workshop: Workshop) -> list[str]:
    """The records that the last deployment shows; see act/recorded.py."""
    others = {"index.html", "checksums.txt"}
    return sorted(name for name in workshop.state.deployments[-1]["files"] if name not in others)


def test_init_push_and_the_page_has_this_copys_own_records_only(workshop: Workshop) -> None:
    assert workshop.results()  # the template's
    done = bench(workshop, "init", "--yes", "--measure-on", "github")
    assert (done.returncode, done.stderr) == (0, "")
    left = steps(done.stdout)
    assert len(left) <= 3 - 1  # the first was to use the template
    click, push = left
    assert click[1].endswith(f"/{github_server.REPOSITORY}/settings/pages")
    looked = bench(workshop, "doctor", "--github")
    assert looked.returncode == 3
    assert "lacks  pages" in looked.stdout
    workshop.state.pages = {"build_type": "workflow", "html_url": "https://octo.example/bench"}
    assert bench(workshop, "doctor", "--github").returncode == 0

    identity = {f"GIT_{who}_{what}": "someone@example.org"
                for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}  # fmt: skip
    subprocess.run(
        ["sh", "-c", push[1]], cwd=workshop.work, check=True, capture_output=True,
        env={**os.environ, **identity},
    )  # fmt: skip
    sha = workshop.git("rev-parse", "main", at=workshop.origin)
    run = workshop.run(
        "benchmark", "push", {"ref": "refs/heads/main", "after": sha, "commits": [{"id": sha}]}
    )
    assert (run.status, run.jobs) == (0, JOBS), run.failures[-5000:]
    assert workshop.results() == OWN
    assert len(pages(workshop)) == len(OWN)
    history = workshop.git("log", "--reverse", "--format=%s", "main", at=workshop.origin)
    assert history.splitlines() == ["Initial commit", "Make it ours", "Add 12 results"]
    workshop.sync()
    again = bench(workshop, "init", "--measure-on", "github")
    assert "nothing to change" in again.stdout
    assert workshop.git("status", "--porcelain") == ""


def test_without_a_clone_a_run_by_hand_measures_the_demo_on_githubs_machines(
    workshop: Workshop,
) -> None:
    theirs = workshop.results()
    workflow = yaml.safe_load((ROOT / ".github/workflows/benchmark.yml").read_text())
    inputs = workflow[True]["workflow_dispatch"]["inputs"]  # YAML 1.1 reads `on` as true
    as_shown = {name: str(asked.get("default", "")).lower() for name, asked in inputs.items()}
    event = {"ref": "refs/heads/main", "inputs": as_shown}
    run = workshop.run("benchmark", "workflow_dispatch", event)
    assert (run.status, run.jobs) == (0, JOBS), run.failures[-5000:]
    assert workshop.results() == sorted([*theirs, *OWN])
    assert len(pages(workshop)) == len(theirs) + len(OWN)
    workshop.sync()
    again = workshop.run("benchmark", "workflow_dispatch", event, run_id=2)
    assert (again.status, again.jobs) == (0, {"Plan": "success"})
