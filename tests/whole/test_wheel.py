"""The wheel: it holds all that the code reads, and works where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import synthetic
from folders import ROOT

from bench.records import store

pytestmark = pytest.mark.process
Installed = Callable[..., str]
PROVENANCE = """\
import bench, sys
from datetime import UTC, datetime
from bench.measure import machine
now = datetime.now(UTC)
print(bench.__file__, machine.provenance(now, now).commit)
"""


def run(*argv: object, at: Path, environment: dict[str, str] | None = None) -> str:
    """What a program prints; it has to end well."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=at, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*folders: str) -> list[str]:
    """The repository's files, also those that are not added yet, as far as they are there."""
    listed = run(
        *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders),
        at=ROOT,
    )
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


def copy(names: Iterable[str], target: Path) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by pip and setuptools from a clean copy: a checkout may hold an older build's files."""
    folder = tmp_path_factory.mktemp("build")
    copy(tracked("bench", "report", "pyproject.toml", "README.md", "LICENSE"), folder)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "--quiet", "--wheel-dir", folder / "dist", folder, at=folder)
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's repository: a models.toml, some records, and a commit that is not ours."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "models.toml", folder)
    for variant in (synthetic.BF16, synthetic.FP8):
        store.write(folder / "bench" / "results", *synthetic.speed_record(variant))
    (folder / "notes").mkdir()
    (folder / ".gitignore").write_text(".venv/\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "theirs")):
        run("git", *identity, *arguments, at=folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Nothing that names a checkout, and caches that nobody has made."""
    nowhere = tmp_path_factory.mktemp("nowhere")
    own = {"BENCH_CACHE": str(nowhere / "cache"), "HF_HOME": str(nowhere / "hub")}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **own, "GITHUB_SHA": "a" * 40}


@pytest.fixture(scope="module")
def installed(wheel: Path, project: Path, environment: dict[str, str]) -> Installed:
    """Runs a program of an environment in the project that has the wheel.

    It sees the tests' dependencies, but not this checkout: that is in the tests' environment by a
    .pth file, and Python reads none in a folder that is itself named by one.
    """
    run(sys.executable, "-m", "venv", "--without-pip", ".venv", at=project)
    python = project / ".venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    run(*pip, "--quiet", wheel, at=project)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    theirs = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    pth = project / ".venv" / "lib" / version / "site-packages" / "dependencies.pth"
    pth.write_text("\n".join(sorted(theirs)) + "\n")

    def start(program: str, *arguments: object, at: str = ".") -> str:
        path = project / ".venv" / "bin" / program
        return run(path, *arguments, at=project / at, environment=environment)

    return start


def test_the_wheel_holds_both_packages_and_no_records(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info" not in name.partition("/")[0]}
    files = set(tracked("bench", "report"))
    records = {name for name in files if name.startswith("bench/results/")}
    assert records
    assert held == files - records


def test_it_is_what_runs_and_it_names_nobody_elses_commit(
    installed: Installed, project: Path
) -> None:
    where, commit = installed("python", "-c", PROVENANCE).split()
    assert Path(where).is_relative_to(project / ".venv")
    assert commit == "None"


def test_what_reads_works_in_another_folder_and_keeps_only_what_it_read(
    installed: Installed, project: Path, environment: dict[str, str]
) -> None:
    models = project / "models.toml"
    for at in (".", "notes"):
        assert installed("bench", "validate", at=at).startswith(f"{models}: valid, ")
        rows = json.loads(installed("bench", "plan", "--json", at=at))
        assert {row["fits"] for row in rows} >= {True}  # from the sizes that come with it
    assert "l40/qwen3-8b-fp8" in installed("bench", "compare", "qwen3-8b-bf16", "qwen3-8b-fp8")
    assert run("git", "status", "--porcelain", at=project) == ""
    assert {each.name for each in Path(environment["BENCH_CACHE"]).iterdir()} <= {"records.sqlite"}
    assert not Path(environment["HF_HOME"]).exists()


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        ((), "site/index.html"),  # the project's, as its models.toml is
        (("--results", "../bench/results", "--out", "pages"), "notes/pages/index.html"),
    ],
)
def test_a_report_is_where_it_is_said_to_be(
    arguments: tuple[str, ...], page: str, installed: Installed, project: Path
) -> None:
    said = installed("bench", "report", "--engine", "pandoc", *arguments, at="notes")
    assert said == f"{project / page}\n"
    assert "Qwen3-8B FP8" in (project / page).read_text()
