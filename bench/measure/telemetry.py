"""What the machine did while a stage ran: NVML on NVIDIA GPUs, resident memory on CPU.

A thread takes one reading every `interval_s`. Half a second is enough: NVML's power reading is
itself a mean over about a second, and what is wanted is a peak and a mean over minutes.
"""

from __future__ import annotations

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from bench.config import ServeOptions
from bench.errors import MachineError, MeasurementError
from bench.records import record

INTERVAL_S = 0.5
GIB = 2**30
# NVML's bit mask of why the clocks are where they are, and those that are normal operation.
NORMAL_REASONS = {
    0x001: "idle",
    0x002: "application clocks",
    0x010: "sync boost",
    0x100: "display clocks",
}


@dataclass(frozen=True)
class Sample:
    """One reading over all watched GPUs, or of the process group; None is not measurable."""

    time_s: float
    memory_bytes: int | None = None
    power_w: float | None = None
    energy_j: float | None = None
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    temperature_c: float | None = None
    reasons: int | None = None
    shared: bool | None = None


@dataclass
class Watch:
    """Readings as they come in; `result` sums them up once the watch has ended."""

    source: str
    interval_s: float
    samples: list[Sample] = field(default_factory=list)
    error: Exception | None = None

    def result(self, output_tokens: int) -> record.Telemetry:
        """The watch as the record has it; `output_tokens` are those generated meanwhile.

        Raises:
            MeasurementError: a reading failed in a way that is not "not supported here".
        """
        if self.error is not None:
            raise MeasurementError(
                f"telemetry stopped: {self.error!r}", "run the stage again"
            ) from self.error
        return summarize(self.samples, self.source, self.interval_s, output_tokens)


@contextmanager
def watch(
    pid_group: int,
    gpu_indices: Sequence[int] = (),
    *,
    interval_s: float = INTERVAL_S,
    nvml: Any = None,
) -> Iterator[Watch]:
    """Watches the GPUs, or without any the resident memory of process group `pid_group`.

    The first reading is taken on entry and the last on exit, so `start` and `end` are those.

    Args:
        pid_group: the server's process group; any other process on the GPUs is a co-tenant.
        gpu_indices: NVML's indices (PCI order; start the server with CUDA_DEVICE_ORDER=PCI_BUS_ID
            if CUDA is to count the same way).
        nvml: the `pynvml` module; by default it is imported when there are GPUs to watch.

    Raises:
        MachineError: there are GPUs to watch and NVML does not answer.
    """
    if not gpu_indices:
        yield from _run(Watch("psutil", interval_s), lambda: _read_memory(pid_group))
        return
    nvml = nvml or load_nvml()
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in gpu_indices]
    except nvml.NVMLError as error:
        raise MachineError(f"NVML: {error}", "run `bench doctor`") from error
    try:
        yield from _run(Watch("nvml", interval_s), lambda: _read_gpus(nvml, handles, pid_group))
    finally:
        nvml.nvmlShutdown()


@contextmanager
def opened(nvml: Any) -> Iterator[None]:
    """NVML while it is asked, closed afterwards.

    Args:
        nvml: the `pynvml` module.

    Raises:
        MachineError: it does not answer.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise MachineError(f"NVML: {error}", "run `bench doctor`") from error
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def load_nvml() -> Any:
    """The `pynvml` module, imported only where it is needed."""
    import pynvml

    return pynvml


def gpus_used(options: ServeOptions, nodes: int) -> int:
    """How many of this machine's GPUs the server runs on: the others' power is not its own.

    NVML sees this machine only: of several nodes, telemetry is that of the first.
    """
    return max(options.gpus // nodes, 1)


def gpu_indices(
    count: int, visible: str | None = os.environ.get("CUDA_VISIBLE_DEVICES"), nvml: Any = None
) -> list[int]:
    """NVML's indices of the first `count` GPUs that CUDA shows to this program's children.

    Args:
        visible: the value of CUDA_VISIBLE_DEVICES: indices or (starts of) UUIDs, or None.
        nvml: the `pynvml` module; needed for UUIDs only.
    """
    names = [name.strip() for name in (visible or "").split(",") if name.strip()]
    if not names:
        return list(range(count))
    if all(name.isdecimal() for name in names):
        return [int(name) for name in names[:count]]
    nvml = nvml or load_nvml()
    nvml.nvmlInit()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        uuids = [nvml.nvmlDeviceGetUUID(handle) for handle in handles]
    finally:
        nvml.nvmlShutdown()
    return [i for name in names[:count] for i, uuid in enumerate(uuids) if uuid.startswith(name)]


def _run(watching: Watch, read: Callable[[], Sample]) -> Iterator[Watch]:
    stop = threading.Event()

    def sample_until_stopped() -> None:
        try:
            while not stop.wait(watching.interval_s):
                watching.samples.append(read())
        except Exception as error:  # noqa: BLE001  # a thread cannot raise: `result` does
            watching.error = error

    watching.samples.append(read())
    thread = threading.Thread(target=sample_until_stopped, name="telemetry", daemon=True)
    thread.start()
    try:
        yield watching
    finally:
        stop.set()
        thread.join()
        if watching.error is None:
            watching.samples.append(read())


def _read_memory(pid_group: int) -> Sample:
    """Resident memory of the group; pages that its processes share count once for each."""
    total = None
    for pid in psutil.pids():
        try:
            if os.getpgid(pid) == pid_group:
                total = (total or 0) + psutil.Process(pid).memory_info().rss
        except (ProcessLookupError, psutil.Error):
            continue  # it ended between the listing and the reading
    return Sample(time.monotonic(), memory_bytes=total)


def _read_gpus(nvml: Any, handles: Sequence[Any], pid_group: int) -> Sample:
    """One reading: memory, power, energy are sums over the GPUs; clocks are of the slowest one."""

    def ask(function: str, *arguments: Any) -> list[Any]:
        answers = []
        for handle in handles:
            try:
                answers.append(getattr(nvml, function)(handle, *arguments))
            except nvml.NVMLError:
                return []  # this GPU or driver does not tell: unknown, not zero
        return answers

    memory = ask("nvmlDeviceGetMemoryInfo")
    power = ask("nvmlDeviceGetPowerUsage")  # mW
    energy = ask("nvmlDeviceGetTotalEnergyConsumption")  # mJ since the driver was loaded
    processes = ask("nvmlDeviceGetComputeRunningProcesses")
    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return Sample(
        time_s=time.monotonic(),
        memory_bytes=sum(answer.used for answer in memory) if memory else None,
        power_w=sum(power) / 1000 if power else None,
        energy_j=sum(energy) / 1000 if energy else None,
        sm_mhz=min(ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM), default=None),
        memory_mhz=min(ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM), default=None),
        temperature_c=max(ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU), default=None),
        reasons=_union(reasons) if reasons else None,
        shared=is_shared([p.pid for listed in processes for p in listed], pid_group),
    )


def is_shared(pids: Sequence[int], pid_group: int) -> bool | None:
    """Whether a process outside the group is among those on the GPU; None if it cannot be told.

    In a container NVML may list nothing, or number the processes as the host does: without one
    process of our own in the list, a number that is nobody's here could be ours.
    """
    groups: list[int | None] = []
    for pid in pids:
        try:
            groups.append(os.getpgid(pid))
        except ProcessLookupError:
            groups.append(None)
    if any(group not in (pid_group, None) for group in groups):
        return True
    if pid_group in groups:
        return None in groups
    return None


def summarize(
    samples: Sequence[Sample], source: str, interval_s: float, output_tokens: int
) -> record.Telemetry:
    """Readings in the order of time as the record has them.

    Energy is the difference of the GPU's own counter where it has one, else power integrated over
    time (trapezoids); mean power is that energy by the time, so that the two always agree.
    """
    powers = [s.power_w for s in samples if s.power_w is not None]
    memory = [s.memory_bytes for s in samples if s.memory_bytes is not None]
    seconds = samples[-1].time_s - samples[0].time_s
    energy_j = _energy_j(samples)
    shared = [s.shared for s in samples if s.shared is not None]
    reasons = [s.reasons for s in samples if s.reasons is not None]
    gpu = source == "nvml"
    return record.Telemetry(
        source="nvml" if gpu else "psutil",
        samples=len(samples),
        interval_s=interval_s,
        peak_memory_gib=max(memory) / GIB if memory else None,
        memory_kind="gpu" if gpu else "process group rss",
        mean_power_w=energy_j / seconds if energy_j is not None and seconds > 0 else None,
        peak_power_w=max(powers, default=None),
        energy_j=energy_j,
        energy_per_output_token_j=(
            energy_j / output_tokens if energy_j is not None and output_tokens > 0 else None
        ),
        start=_clocks(samples[:1]) if gpu else None,
        during=_clocks(samples[1:-1] or samples) if gpu else None,
        end=_clocks(samples[-1:]) if gpu else None,
        throttled=bool(_union(reasons) & _union(record.THROTTLE_REASONS)) if reasons else None,
        shared=any(shared) if shared else None,
    )


def _energy_j(samples: Sequence[Sample]) -> float | None:
    first, last = samples[0].energy_j, samples[-1].energy_j
    if first is not None and last is not None and last >= first:
        return last - first
    points = [(s.time_s, s.power_w) for s in samples if s.power_w is not None]
    if len(points) < 2:
        return None
    return sum(
        (after - before) * (power + next_power) / 2
        for (before, power), (after, next_power) in itertools.pairwise(points)
    )


def _clocks(samples: Sequence[Sample]) -> record.Clocks:
    """Median clocks, highest temperature, every reason seen."""
    sm = [s.sm_mhz for s in samples if s.sm_mhz is not None]
    memory = [s.memory_mhz for s in samples if s.memory_mhz is not None]
    mask = _union([s.reasons for s in samples if s.reasons is not None])
    names = NORMAL_REASONS | record.THROTTLE_REASONS
    return record.Clocks(
        sm_mhz=statistics.median_low(sm) if sm else None,
        memory_mhz=statistics.median_low(memory) if memory else None,
        temperature_c=max(
            (float(s.temperature_c) for s in samples if s.temperature_c is not None), default=None
        ),
        throttle_reasons=tuple(names[bit] for bit in sorted(names) if mask & bit),
    )


def _union(masks: Any) -> int:
    mask = 0
    for bits in masks:
        mask |= bits
    return mask
