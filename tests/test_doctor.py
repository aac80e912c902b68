"""The doctor on this machine, with files, programs and NVML replaced at their boundaries."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import doctor, engine
from bench.doctor import Check, examine, line

MODELS = """\
hardware = [
    {{ id = "it", name = "It", engine = "{engine}", runner = ["x"], gpu_memory_gib = 44.5 }},
]
[[family]]
name = "F"
baseline = "A"
[[variant]]
name = "A"
family = "F"
repo = "o/a"
"""


class NoNvml:
    """A machine without NVIDIA's driver."""

    class NVMLError(Exception):
        """What pynvml raises."""

    def nvmlInit(self) -> None:  # noqa: N802
        raise self.NVMLError("Driver Not Loaded")


class FakeNvml(NoNvml):
    """One GPU."""

    def __init__(self, *, cuda: int = 13020, free_gib: int = 45, tenants: int | None = 0) -> None:
        self.cuda, self.free_gib, self.tenants = cuda, free_gib, tenants

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.65.06"

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, _: int) -> str:  # noqa: N802
        return "NVIDIA L40"

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:  # noqa: N802
        return SimpleNamespace(free=self.free_gib * 2**30, total=46 * 2**30)

    def nvmlDeviceGetComputeRunningProcesses(self, _: int) -> list[Any]:  # noqa: N802
        if self.tenants is None:
            raise self.NVMLError("Not Supported")
        return [SimpleNamespace(pid=n) for n in range(self.tenants)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_ENGINE_PYTHON", raising=False)
    monkeypatch.setattr(doctor, "_PCI", tmp_path)  # whatever this machine has


def looked_at(tmp_path: Path, nvml: Any, build: str = "cpu") -> dict[str, Check]:
    models = tmp_path / "models.toml"
    models.write_text(MODELS.format(engine=build))
    return {check.name: check for check in examine(models, nvml)}


def test_a_machine_without_a_gpu_measures_on_cpu(tmp_path: Path) -> None:
    checks = looked_at(tmp_path, NoNvml())
    assert checks["NVIDIA driver"] == Check("NVIDIA driver", None, "no NVIDIA GPU here")
    assert checks["cpu engine"].ok is None
    assert checks["cpu engine"].found == "missing"
    assert checks["models.toml"].found == "hardware: it (cpu)"
    assert checks["Python"].ok is True
    assert checks["git"].ok is True
    assert "cuda engine" not in checks


def test_gpu_hardware_without_a_gpu_is_another_machines_work(tmp_path: Path) -> None:
    checks = looked_at(tmp_path, NoNvml(), "cuda")
    assert checks["NVIDIA driver"].ok is None
    assert "on a machine that has one" in checks["NVIDIA driver"].fix
    assert "cuda engine" not in checks


def test_a_gpu_without_its_driver_is_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    driver = looked_at(tmp_path, NoNvml(), "cuda")["NVIDIA driver"]
    assert (driver.ok, driver.required) == (False, True)
    assert driver.fix == "install NVIDIA's driver"


def test_a_gpu_that_is_free(tmp_path: Path) -> None:
    checks = looked_at(tmp_path, FakeNvml(), "cuda")
    assert checks["NVIDIA driver"].found == "580.65.06, CUDA 13.2"
    assert checks["GPU 0"].found == "NVIDIA L40, 45.0 of 46.0 GiB free"
    assert [checks[n].ok for n in ("NVIDIA driver", "GPU 0", "GPU 0 co-tenants")] == [True] * 3
    assert "cuda engine" in checks
    assert "cpu engine" not in checks


def test_a_driver_too_old_memory_held_and_co_tenants(tmp_path: Path) -> None:
    checks = looked_at(tmp_path, FakeNvml(cuda=12080, free_gib=20, tenants=2), "cuda")
    assert [checks[n].ok for n in ("NVIDIA driver", "GPU 0", "GPU 0 co-tenants")] == [False] * 3
    needed = ".".join(map(str, doctor._locked_cuda()))
    assert f"CUDA {needed} or newer" in checks["NVIDIA driver"].fix
    assert checks["GPU 0 co-tenants"].found == "2 other compute process(es)"


def test_co_tenants_that_cannot_be_told(tmp_path: Path) -> None:
    check = looked_at(tmp_path, FakeNvml(tenants=None), "cuda")["GPU 0 co-tenants"]
    assert (check.ok, check.found) == (None, "cannot be told (Not Supported)")


@pytest.mark.parametrize(
    ("flags", "ok", "found"),
    [
        ("avx avx2 avx512f avx512_bf16", True, "AVX-512 with bfloat16"),
        ("avx avx2 avx512f", True, "AVX-512, no bfloat16"),
        ("avx avx2", True, "AVX2 only"),
        ("sse4_2 avx", False, "no AVX2"),
    ],
)
def test_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, ok: bool, found: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: X\nflags\t\t: fpu {flags} hypervisor\n")
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "cpuinfo")
    check = doctor._processor(wanted=True)
    assert check.ok is ok
    assert check.found.startswith(found)


def test_a_token_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    assert looked_at(tmp_path, NoNvml())["Hub token"].found == "absent"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    checks = looked_at(tmp_path, NoNvml())
    assert checks["Hub token"].found == "present"
    assert "hf_secret" not in "".join(map(line, checks.values()))


def test_programs_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = looked_at(tmp_path, NoNvml())
    assert (checks["git"].ok, checks["Quarto"].ok) == (False, None)
    assert checks["Pandoc"].ok is True  # it comes with the tool


def test_a_quarto_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quarto = tmp_path / "quarto"
    quarto.write_text("#!/bin/sh\necho 1.8.25\n")
    quarto.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert looked_at(tmp_path, NoNvml())["Quarto"] == Check(
        "Quarto",
        True,
        "1.8.25",
        "install Quarto for its search and navigation; without it Pandoc makes the report",
    )


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    check = looked_at(tmp_path, FakeNvml(), "cuda")["disk space"]
    assert (check.ok, check.required) == (False, True)
    assert f"needs {engine.DISK_GIB['cuda']} GiB" in check.fix


@pytest.mark.parametrize(("mode", "ok"), [(0o755, True), (0o644, False)])
def test_an_engine_prepared_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, ok: bool
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(mode)
    monkeypatch.setenv("BENCH_ENGINE_PYTHON", str(python))
    assert looked_at(tmp_path, NoNvml())["cpu engine"].ok is ok


def test_a_models_toml_that_does_not_load(tmp_path: Path) -> None:
    checks = examine(tmp_path / "models.toml", NoNvml())
    assert checks[0].ok is False
    assert checks[0].fix == "run `bench validate`"


def test_a_fix_is_shown_only_where_there_is_something_to_mend() -> None:
    assert line(Check("git", True, "2.39", "install git")) == "ok     git               2.39"
    lacking = line(Check("git", False, "not found", "install git"))
    assert lacking.splitlines()[1].strip() == "fix: install git"
