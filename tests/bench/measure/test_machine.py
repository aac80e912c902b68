"""The description of this very machine, a fake NVML, and real git repositories."""

from __future__ import annotations

import getpass
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvml_fakes import Gpus, NoNvml

from bench.errors import MachineError
from bench.measure import machine
from bench.records.record import canonical_json

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_this_machine_is_described_without_naming_it() -> None:
    described = machine.describe(None, "cpu")
    assert described.python == platform.python_version()
    assert described.cpu_model
    assert described.cpu_count > 0
    assert described.memory_gib > 0.1
    assert described.gpu_name is None
    assert described.gpu_count == 0
    assert "numpy" in described.packages
    words = canonical_json(described.model_dump(mode="json")).split('"')
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words
    assert str(Path.home()) not in "".join(words)


def test_another_interpreter_is_asked_for_its_packages() -> None:
    own = machine.describe(None, "cpu")
    assert machine.describe(Path(sys.executable), "cpu") == own


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="does not run"):
        machine.describe(tmp_path / "python", "cpu")


class FakeNvml:
    """The part of pynvml that is used, with two GPUs."""

    class NVMLError(Exception):
        """What pynvml raises."""

    def __init__(self, *, driver_loaded: bool = True, limits_mw: tuple[int, ...] = ()) -> None:
        self.driver_loaded, self.limits_mw = driver_loaded, limits_mw

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver_loaded:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, _: int) -> str:  # noqa: N802
        return "NVIDIA L40"

    def nvmlDeviceGetMemoryInfo(self, index: int) -> Any:  # noqa: N802
        return SimpleNamespace(total=(46 - index) * 2**30)

    def nvmlDeviceGetEnforcedPowerLimit(self, index: int) -> int:  # noqa: N802
        if not self.limits_mw:
            raise self.NVMLError("Not Supported")
        return self.limits_mw[index]

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.65.06"

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return 13020


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    described = machine.describe(None, "cuda", FakeNvml(limits_mw=(300_000, 250_000)))
    assert described.gpu_name == "NVIDIA L40"
    assert (described.gpu_count, described.gpu_memory_gib) == (2, 45)
    assert described.gpu_power_limit_w == 250
    assert (described.driver, described.cuda) == ("580.65.06", "13.2")


@pytest.mark.parametrize("visible", ["1", "1,7"])  # CUDA hides what is not there
def test_only_the_gpus_that_are_left_to_this_program(
    visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    described = machine.describe(None, "cuda", FakeNvml(limits_mw=(300_000, 250_000)))
    assert (described.gpu_count, described.gpu_memory_gib) == (1, 45)
    assert described.gpu_power_limit_w == 250


def test_a_gpu_without_a_power_limit() -> None:
    assert machine.describe(None, "cuda", FakeNvml()).gpu_power_limit_w is None


def test_no_driver() -> None:
    with pytest.raises(MachineError, match="Driver Not Loaded"):
        machine.describe(None, "cuda", FakeNvml(driver_loaded=False))


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "models.toml").write_text("# empty\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_commit_stays_clean_when_results_are_added(repository: Path) -> None:
    result = repository / "bench" / "results" / "cpu" / "a.json"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    made = machine.provenance(NOW, NOW, repository, {})
    assert made.commit == git(repository, "rev-parse", "HEAD")
    assert made.dirty is False
    assert (made.workflow, made.run_id, made.run_attempt) == (None, None, None)


@pytest.mark.parametrize("name", ["models.toml", "bench/new.py"])
def test_a_changed_or_new_file_makes_it_dirty(repository: Path, name: str) -> None:
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("# changed\n")
    assert machine.provenance(NOW, NOW, repository, {}).dirty is True


def test_a_program_that_is_no_checkout_names_nobody_elses_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the repository that holds its environment, nor of one that git was told of."""
    installed = repository / ".venv" / "lib"
    installed.mkdir(parents=True)
    monkeypatch.chdir(repository)
    assert machine.provenance(NOW, NOW, installed, {}).commit is None
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert machine.provenance(NOW, NOW, installed, {}).commit is None


def test_a_linked_working_tree_is_a_checkout(repository: Path) -> None:
    linked = repository / "linked"
    git(repository, "worktree", "add", "-q", str(linked))
    git(linked, "commit", "-q", "--allow-empty", "-m", "second")
    made = machine.provenance(NOW, NOW, linked, {})
    assert (made.commit, made.dirty) == (git(linked, "rev-parse", "HEAD"), False)
    assert made.commit != git(repository, "rev-parse", "HEAD")


def test_on_github_actions_outside_a_repository(tmp_path: Path) -> None:
    """The commit that Actions names is of the workflow's repository, not of this program's."""
    variables = {
        "GITHUB_SHA": "a" * 40,
        "GITHUB_WORKFLOW": "benchmark",
        "GITHUB_RUN_ID": "123",
        "GITHUB_RUN_ATTEMPT": "2",
    }
    made = machine.provenance(NOW, NOW, tmp_path, variables)
    assert (made.commit, made.dirty) == (None, None)
    assert (made.workflow, made.run_id, made.run_attempt) == ("benchmark", "123", 2)


def test_a_machine_without_a_gpu_is_seen_before_the_engine_is_installed() -> None:
    machine.check("cpu", NoNvml())
    with pytest.raises(MachineError, match="NVML"):
        machine.check("cuda", NoNvml())
    with pytest.raises(MachineError, match="this machine has no NVIDIA GPU"):
        machine.check("cuda", Gpus())
    machine.check("cuda", Gpus(("NVIDIA L40", 44.5)))
