"""Telemetry: arithmetic on a trace, a fake NVML at its boundary, real processes on CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench_runs import wait_until
from folders import RECORDED
from hypothesis import given
from hypothesis import strategies as st

from bench import config
from bench.errors import MachineError, MeasurementError
from bench.measure import run, telemetry
from bench.measure.telemetry import Sample
from bench.plan.jobs import find_jobs


class FakeNvmlError(Exception):
    """What pynvml raises."""


@dataclass
class FakeNvml:
    """The part of pynvml that is used; each answer may be a function of the GPU's index."""

    used: int = 10 * 2**30
    power_mw: int | None = 200_000
    energy_mj: Iterator[int] | None = None
    reasons: int = 0x4
    pids: tuple[int, ...] = ()
    present: bool = True
    calls: list[str] = field(default_factory=list)
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVMLError = FakeNvmlError

    def nvmlInit(self) -> None:  # noqa: N802
        self.calls.append("init")
        if not self.present:
            raise FakeNvmlError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.calls.append("shutdown")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=self.used)

    def nvmlDeviceGetPowerUsage(self, _: int) -> int:  # noqa: N802
        return self._or_unsupported(self.power_mw)

    def nvmlDeviceGetTotalEnergyConsumption(self, _: int) -> int:  # noqa: N802
        return self._or_unsupported(next(self.energy_mj) if self.energy_mj else None)

    def nvmlDeviceGetClockInfo(self, index: int, which: int) -> int:  # noqa: N802
        return {1: 1800, 2: 9000}[which] - 100 * index

    def nvmlDeviceGetTemperature(self, index: int, _: int) -> int:  # noqa: N802
        return 60 + index

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: int) -> int:  # noqa: N802
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, _: int) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetUUID(self, index: int) -> str:  # noqa: N802
        return ("GPU-aa11", "GPU-bb22", "GPU-cc33")[index]

    @staticmethod
    def _or_unsupported(value: int | None) -> int:
        if value is None:
            raise FakeNvmlError("Not Supported")
        return value


def test_two_gpus_are_summed_and_their_slowest_clock_and_hottest_sensor_kept() -> None:
    nvml = FakeNvml(pids=(os.getpid(),))
    with telemetry.watch(os.getpgrp(), (0, 1), interval_s=0.01, nvml=nvml) as watching:
        wait_until(lambda: len(watching.samples) >= 3)
    result = watching.result(output_tokens=100)
    seconds = watching.samples[-1].time_s - watching.samples[0].time_s
    assert nvml.calls == ["init", "shutdown"]
    assert result.source == "nvml"
    assert result.samples == len(watching.samples)
    assert result.peak_memory_gib == 20
    assert result.peak_power_w == 400
    assert result.mean_power_w == pytest.approx(400)
    assert result.energy_j is not None
    assert result.energy_j == pytest.approx(400 * seconds)
    assert result.energy_per_output_token_j == result.energy_j / 100
    assert result.during is not None
    assert (result.during.sm_mhz, result.during.memory_mhz) == (1700, 8900)
    assert result.during.temperature_c == 61
    assert result.during.throttle_reasons == ("power cap",)
    assert result.throttled is True
    assert result.shared is False


def test_what_the_gpu_does_not_tell_is_unknown() -> None:
    nvml = FakeNvml(power_mw=None, reasons=0x1)
    with telemetry.watch(os.getpgrp(), (0,), interval_s=5, nvml=nvml) as watching:
        pass
    result = watching.result(output_tokens=100)
    assert result.samples == 2  # on entry and on exit
    assert result.mean_power_w is result.energy_j is result.energy_per_output_token_j is None
    assert result.shared is None  # no process listed: cannot be told
    assert result.throttled is False
    assert result.end is not None
    assert result.end.throttle_reasons == ("idle",)


def test_no_driver_is_an_error_that_names_the_doctor() -> None:
    with (
        pytest.raises(MachineError, match="Driver Not Loaded"),
        telemetry.watch(os.getpgrp(), (0,), nvml=FakeNvml(present=False)),
    ):
        pass


def test_a_reading_that_breaks_is_not_swallowed() -> None:
    nvml = FakeNvml(energy_mj=iter([1000]))  # the second reading raises StopIteration
    with telemetry.watch(os.getpgrp(), (0,), interval_s=0.01, nvml=nvml) as watching:
        wait_until(lambda: watching.error is not None)
    with pytest.raises(MeasurementError, match="telemetry stopped"):
        watching.result(1)


def test_the_energy_counter_is_preferred_to_integrated_power() -> None:
    samples = [
        Sample(10.0, power_w=100.0, energy_j=5000.0, reasons=0),
        Sample(12.0, power_w=500.0, energy_j=5900.0, reasons=0x20),
        Sample(13.0, power_w=100.0, energy_j=6200.0, reasons=0),
    ]
    result = telemetry.summarize(samples, "nvml", 0.5, 300)
    assert (result.energy_j, result.energy_per_output_token_j) == (1200, 4)
    assert result.mean_power_w == 400
    assert result.peak_power_w == 500
    assert result.throttled is True  # in the middle, though neither at the start nor at the end
    assert result.start is not None
    assert result.start.throttle_reasons == ()
    assert result.during is not None
    assert result.during.throttle_reasons == ("software thermal slowdown",)


def recorded(name: str) -> list[Sample]:
    """Readings of one H100 (driver 580.159.04): idle, multiplying matrices, and sharing."""
    text = (RECORDED / "nvml-h100.json").read_text(encoding="utf-8")
    return [Sample(**reading) for reading in json.loads(text)[name]]


def test_a_recorded_h100_at_its_power_limit() -> None:
    samples = recorded("alone")
    result = telemetry.summarize(samples, "nvml", 0.5, 1000)
    assert result.energy_j == pytest.approx(6917.4, abs=0.1)
    without_counter = [dataclasses.replace(sample, energy_j=None) for sample in samples]
    integrated = telemetry.summarize(without_counter, "nvml", 0.5, 1000)
    # The power reading is a mean over the second before it, so it lags when the load begins.
    assert integrated.energy_j == pytest.approx(result.energy_j, rel=0.1)
    assert result.start is not None
    assert result.during is not None
    assert (result.start.sm_mhz, result.during.sm_mhz) == (1980, 1395)
    assert result.during.throttle_reasons == ("power cap",)
    assert (result.throttled, result.shared) == (True, False)


def test_a_recorded_h100_idle_and_shared() -> None:
    idle = telemetry.summarize(recorded("idle"), "nvml", 0.5, 0)
    assert (idle.throttled, idle.shared) == (False, None)
    assert telemetry.summarize(recorded("with a co-tenant"), "nvml", 0.5, 1).shared is True


@given(
    st.lists(st.floats(0, 1000), min_size=2, max_size=30),
    st.floats(0.01, 10),
)
def test_integrated_power_lies_between_the_least_and_the_most(
    powers: list[float], step_s: float
) -> None:
    samples = [Sample(i * step_s, power_w=power) for i, power in enumerate(powers)]
    result = telemetry.summarize(samples, "nvml", step_s, 0)
    assert result.mean_power_w is not None
    assert min(powers) - 1e-6 <= result.mean_power_w <= max(powers) + 1e-6
    assert result.energy_per_output_token_j is None  # no token, no quotient


@pytest.fixture
def other_group() -> Iterator[int]:
    """A process in a group of its own that holds 64 MiB."""
    code = "import sys; held = bytearray(64 << 20); print('ready', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    yield process.pid
    process.stdin.close()
    process.stdout.close()
    process.wait()


def test_resident_memory_is_of_the_process_group_and_no_other(other_group: int) -> None:
    with telemetry.watch(other_group, interval_s=0.01) as watching:
        time.sleep(0.05)
    result = watching.result(output_tokens=10)
    assert result.source == "psutil"
    assert result.memory_kind == "process group rss"
    assert result.peak_memory_gib is not None
    assert 64 / 1024 < result.peak_memory_gib < 0.2
    assert (result.energy_j, result.throttled, result.shared, result.start) == (None,) * 4


def test_a_group_without_processes_has_unknown_memory() -> None:
    with telemetry.watch(2**22 + 1, interval_s=5) as watching:
        pass
    assert watching.result(0).peak_memory_gib is None


NOBODY = 2**22 + 1  # above the largest process id Linux gives


def test_who_shares_the_gpu(other_group: int) -> None:
    ours, group = os.getpid(), os.getpgrp()
    assert telemetry.is_shared([ours], group) is False
    assert telemetry.is_shared([ours, other_group], group) is True
    assert telemetry.is_shared([other_group], group) is True
    assert telemetry.is_shared([ours, NOBODY], group) is True  # ours are numbered as here
    assert telemetry.is_shared([NOBODY], group) is None  # could be ours, numbered by the host
    assert telemetry.is_shared([], group) is None


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1]),
        ("", [0, 1]),
        ("3", [3]),
        ("2, 0,1", [2, 0]),
        ("GPU-cc33,GPU-aa", [2, 0]),
    ],
)
def test_the_gpus_that_cuda_shows_are_the_ones_watched(
    visible: str | None, expected: list[int]
) -> None:
    assert telemetry.gpu_indices(2, visible, FakeNvml()) == expected


FLEET = """
serve = { tensor_parallel_size = 2 }
hardware = [
    { id = "one", name = "One", engine = "cuda", runner = ["x"], gpus = 8 },
    { id = "two", name = "Two", engine = "cuda", runner = ["x"], gpus = 16, nodes = 2 },
    { id = "cpu", name = "CPU", engine = "cpu", runner = ["x"], gpus = 0 },
]
family = [{ name = "F", baseline = "Small" }]
[[variant]]
name = "Small"
family = "F"
repo = "o/small"
serve = { tensor_parallel_size = 1 }
[[variant]]
name = "Large"
family = "F"
repo = "o/large"
on.one.serve = { pipeline_parallel_size = 2 }
on.two.serve = { tensor_parallel_size = 8, pipeline_parallel_size = 2 }
"""


@pytest.mark.parametrize(
    ("name", "hardware", "gpus"),
    [("small", "one", 1), ("large", "one", 4), ("small", "two", 1), ("large", "two", 8)],
)
def test_a_stage_watches_the_gpus_its_server_uses_and_no_other(
    name: str, hardware: str, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight GPUs a node: the others' power and co-tenants are not this variant's."""
    experiment = config.parse(config.Experiment, tomllib.loads(FLEET))
    asked = find_jobs(experiment, tmp_path, variants=[name], hardware=[hardware], stages=["speed"])
    monkeypatch.setattr(telemetry, "load_nvml", FakeNvml)
    server: Any = SimpleNamespace(process=SimpleNamespace(pid=os.getpgrp()))
    with run._watch(server, asked[0]) as watching:
        pass
    result = watching.result(output_tokens=1)
    assert (result.peak_memory_gib, result.peak_power_w) == (10 * gpus, 200 * gpus)
