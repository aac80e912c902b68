"""The doctor on this machine, with files, programs and NVML replaced at their boundaries."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import PUBLISHED_MODELS

from bench import doctor
from bench.doctor import Check, examine, line
from bench.engine import installed, processor

MODELS = """\
{hardware}
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


def entry(name: str, build: str, **more: float) -> str:
    """One [[hardware]] table."""
    more = {"gpu_memory_gib": 44.5, **more} if build == "cuda" else more
    keys = "".join(f", {key} = {value}" for key, value in more.items())
    return f'{{ id = "{name}", name = "It", engine = "{build}", runner = ["x"]{keys} }}'


def looked_at(
    tmp_path: Path, nvml: Any, build: str = "cpu", *, hardware: tuple[str, ...] = ()
) -> dict[str, Check]:
    models = tmp_path / "models.toml"
    entries = ", ".join(hardware or [entry("it", build)])
    models.write_text(MODELS.format(hardware=f"hardware = [{entries}]"))
    return {check.name: check for check in examine(models, nvml)}


def stops(checks: dict[str, Check]) -> set[str]:
    """What makes `bench doctor` end with 3."""
    return {name for name, check in checks.items() if check.ok is False and check.required}


def test_a_machine_without_a_gpu_measures_on_cpu(tmp_path: Path) -> None:
    checks = looked_at(tmp_path, NoNvml())
    assert checks["NVIDIA driver"] == Check("NVIDIA driver", None, "no NVIDIA GPU here")
    assert checks["cpu engine"].ok is None
    assert checks["cpu engine"].found == "missing"
    assert checks["models.toml"].found == "hardware: it (cpu)"
    assert checks["Python"].ok is True
    assert checks["git"].ok is True
    assert "cuda engine" not in checks
    assert not (tmp_path / "cache").exists()  # looking makes nothing


def test_gpu_hardware_without_a_gpu_is_another_machines_work(tmp_path: Path) -> None:
    both = (entry("gpu", "cuda"), entry("cpu", "cpu"))
    checks = looked_at(tmp_path, NoNvml(), hardware=both)
    assert checks["NVIDIA driver"].ok is None
    assert "on a machine that has one" in checks["NVIDIA driver"].fix
    assert "cuda engine" not in checks
    assert "Hub cache" in checks
    assert stops(checks) == set()


def test_gpu_hardware_alone_without_a_gpu_is_nothing_to_measure_here(tmp_path: Path) -> None:
    checks = looked_at(tmp_path, NoNvml(), "cuda")
    assert stops(checks) == {"NVIDIA driver"}
    assert 'add a [[hardware]] entry with engine = "cpu"' in checks["NVIDIA driver"].fix
    assert "Hub cache" not in checks  # another machine's work, and another's disk


def test_the_command_ends_with_3_where_nothing_can_be_measured(
    tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "load_nvml", NoNvml)
    models = tmp_path / "models.toml"
    for text, code in (
        (MODELS.format(hardware=f"hardware = [{entry('it', 'cuda')}]"), 3),
        (MODELS.format(hardware=f"hardware = [{entry('it', 'cpu')}]"), 0),
        ("nonsense", 3),
    ):
        models.write_text(text)
        assert bench("doctor", "--models", models).code == code


@pytest.mark.parametrize(
    ("hardware", "found", "stop"),
    [
        ((entry("l40", "cuda", gpus=1, gpu_memory_gib=44.5),), [True], set()),
        ((entry("h100", "cuda", gpu_memory_gib=79.6),), [False], {"hardware h100"}),
        ((entry("two", "cuda", gpus=2, gpu_memory_gib=44.5),), [False], {"hardware two"}),
        ((entry("fleet", "cuda", gpus=2, nodes=2, gpu_memory_gib=44.5),), [True], set()),
        (
            (entry("l40", "cuda", gpu_memory_gib=44.5), entry("h100", "cuda", gpu_memory_gib=79.6)),
            [True, None],
            set(),
        ),
        ((entry("h100", "cuda", gpu_memory_gib=79.6), entry("cpu", "cpu")), [False], set()),
    ],
)
def test_which_hardware_entries_this_machine_can_be(
    hardware: tuple[str, ...], found: list[bool | None], stop: set[str], tmp_path: Path
) -> None:
    checks = looked_at(tmp_path, FakeNvml(), hardware=hardware)
    assert [check.ok for name, check in checks.items() if name.startswith("hardware ")] == found
    assert stops(checks) - {"disk space"} == stop  # of the machine that runs the test


def test_the_checkpoints_need_room_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of this machine's entries, without what is there; the shipped file's are 127 GiB."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    shipped = PUBLISHED_MODELS

    def room(free_gib: int) -> Check:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_gib * 2**30))
        return next(c for c in examine(shipped, FakeNvml()) if c.name == "Hub cache")

    assert (room(126).ok, room(126).required, room(128).ok) == (False, False, True)
    assert room(126).found.startswith("127.1 GiB to download, 126 GiB free in ")
    assert "HF_HOME" in room(126).fix
    blobs = tmp_path / "hub" / "models--Qwen--Qwen3-8B" / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / "half.incomplete").open("wb") as file:
        file.truncate(8 * 2**30)
    assert room(126).found.startswith("119.1 GiB to download, ")
    with (blobs / "others").open("wb") as file:
        file.truncate(80 * 2**30)
    assert room(126).found.startswith("111.8 GiB to download, ")  # what else there is helps nobody


def test_checkpoints_of_unknown_size_are_said_to_be(tmp_path: Path) -> None:
    found = looked_at(tmp_path, NoNvml())["Hub cache"].found
    assert found.startswith("0.0 GiB to download and 1 of unknown size, ")


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
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
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
    assert checks["Hub token"].found.startswith("present (not tried: ")
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
    assert f"needs {installed.DISK_GIB['cuda']} GiB" in check.fix


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
    assert (checks[0].ok, checks[0].required) == (False, True)
    assert checks[0].fix == "run `bench validate`"


def test_a_fix_is_shown_only_where_there_is_something_to_mend() -> None:
    assert line(Check("git", True, "2.39", "install git")) == "ok     git               2.39"
    lacking = line(Check("git", False, "not found", "install git"))
    assert lacking.splitlines()[1].strip() == "fix: install git"
