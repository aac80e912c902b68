"""What this machine lacks to measure and to report, and how to mend each."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import places
from bench.config import Build, Experiment, Hardware
from bench.engine import installed, processor
from bench.errors import BenchError
from bench.measure.telemetry import load_nvml
from bench.modelsfile import problems
from bench.weights import download, hub, sizes

GIB = 2**30
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_MEMORY_TOLERANCE = 0.05  # what the driver keeps of a GPU's memory, or a card's name rounds


@dataclass(frozen=True)
class Check:
    """One thing looked at; `ok` is None where it is only worth knowing.

    Without a `required` one, nothing can be measured here.
    """

    name: str
    ok: bool | None
    found: str
    fix: str = ""
    required: bool = False


def line(check: Check) -> str:
    """A check as a line for the terminal, with the fix under it where there is one."""
    state = {True: "ok", False: "lacks", None: "note"}[check.ok]
    fix = f"\n{'':25}fix: {check.fix}" if check.fix and check.ok is not True else ""
    return f"{state:6} {check.name:18}{check.found}{fix}"


def examine(models: Path, nvml: Any = None) -> list[Check]:
    """Looks at everything; fetches, installs and prints nothing.

    Args:
        models: the models.toml whose hardware entries say which engine builds are wanted.
        nvml: the `pynvml` module; imported by default.
    """
    checks, experiment = _models(models)
    entries = experiment.hardware if experiment else ()
    gpus = list(_gpus(nvml or load_nvml(), entries))
    # Hardware entries for a GPU are other machines' work where there is none.
    builds = dict.fromkeys(entry.engine for entry in entries)
    here = [build for build in builds if build == "cpu" or len(gpus) > 1] or ["cpu"]
    checks += [_python(), _platform(), _processor(wanted="cpu" in here), *gpus]
    for build in here:
        checks += _engine(build)
    if experiment:
        checks += _downloads(experiment, here)
    return [*checks, _uv(), _git(), _token(), *_renderers()]


def _models(path: Path) -> tuple[list[Check], Experiment | None]:
    """What the file asks for; without one that is valid nothing is measured."""
    try:
        experiment = problems.load_experiment(path)
    except BenchError as error:
        found = error.message.splitlines()[0].rstrip(":")
        return [Check(path.name, False, found, "run `bench validate`", required=True)], None
    rows = ", ".join(f"{hardware.id} ({hardware.engine})" for hardware in experiment.hardware)
    return [Check(path.name, True, f"hardware: {rows}")], experiment


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    fix = "install Python 3.11 or newer and delete .venv"
    return Check("Python", ok, platform.python_version(), fix, required=True)


def _platform() -> Check:
    ok = sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")
    return Check(
        "platform",
        ok,
        f"{platform.system()} on {platform.machine()}",
        "the engine's locks are for Linux on x86-64: measure on such a machine or in a container; "
        "`bench report`, `validate` and `plan` work here",
        required=True,
    )


def _processor(*, wanted: bool) -> Check:
    """The CPU build has code for AVX2, for AVX-512, and for AVX-512 with bfloat16."""
    flags = processor.extensions()
    best = "AVX2 only: no weights of four bits, and slower than AVX-512" if flags else "no AVX2"
    if "avx512f" in flags:
        best = "AVX-512 with bfloat16" if "avx512_bf16" in flags else "AVX-512, no bfloat16"
    ok = bool(flags) if wanted else None
    fix = "the CPU engine needs a processor (or a virtual machine) with AVX2"
    return Check("processor", ok, best, fix, required=wanted)


def _gpus(nvml: Any, entries: Sequence[Hardware]) -> Iterator[Check]:
    """The driver first, then each GPU and who else is on it, and which entries are this machine."""
    asked = [entry for entry in entries if entry.engine == "cuda"]
    required = bool(asked) and len(asked) == len(entries)  # nothing is measured without a GPU
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        yield _no_driver(str(error), wanted=bool(asked), required=required)
        return
    try:
        number = nvml.nvmlSystemGetCudaDriverVersion()
        cuda, needs = (number // 1000, number % 1000 // 10), _locked_cuda()
        yield Check(
            "NVIDIA driver",
            cuda[0] >= needs[0],  # within a major version CUDA runs on every driver of it
            f"{nvml.nvmlSystemGetDriverVersion()}, CUDA {cuda[0]}.{cuda[1]}",
            f"install a driver for CUDA {needs[0]}.{needs[1]} or newer: the engine is built for it",
            required=bool(asked),
        )
        sizes_gib = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            sizes_gib.append(memory.total / GIB)
            yield Check(
                f"GPU {index}",
                memory.free > 0.9 * memory.total,
                f"{nvml.nvmlDeviceGetName(handle)}, {memory.free / GIB:.1f} of "
                f"{memory.total / GIB:.1f} GiB free",
                "end the programs that hold its memory (see nvidia-smi)",
            )
            yield _tenants(nvml, index, handle)
        yield from _entries(asked, sizes_gib, required=required)
    finally:
        nvml.nvmlShutdown()


def _entries(
    asked: Sequence[Hardware], sizes_gib: Sequence[float], *, required: bool
) -> Iterator[Check]:
    """Which hardware entries this machine's GPUs can be; the others are other machines'."""
    count = {entry.id: max(entry.gpus // entry.nodes, 1) for entry in asked}
    agrees = {
        entry.id: len(sizes_gib) >= count[entry.id]
        and abs(min(sizes_gib) / (entry.gpu_memory_gib or min(sizes_gib)) - 1) < _MEMORY_TOLERANCE
        for entry in asked
    }
    for entry in asked:
        size = f" of {entry.gpu_memory_gib} GiB" if entry.gpu_memory_gib else ""
        yield Check(
            f"hardware {entry.id}",
            agrees[entry.id] or (None if any(agrees.values()) else False),
            f"{count[entry.id]} GPU(s){size} a machine",
            "measure it on such a machine, or add a [[hardware]] entry for this one",
            required=required,
        )


def _no_driver(reason: str, *, wanted: bool, required: bool) -> Check:
    """A GPU without its driver is to be mended; a machine without a GPU measures on its CPU."""
    if _NVIDIA not in {path.read_text().strip() for path in _PCI.glob("*/vendor")}:
        fix = (
            'measure on a machine that has one, or add a [[hardware]] entry with engine = "cpu"; '
            "`bench demo` runs here"
        )
        state = False if required else None
        return Check(
            "NVIDIA driver", state, "no NVIDIA GPU here", fix if wanted else "", required=required
        )
    found = f"does not answer, though there is an NVIDIA device ({reason})"
    return Check(
        "NVIDIA driver", False if wanted else None, found, "install NVIDIA's driver", wanted
    )


def _tenants(nvml: Any, index: int, handle: Any) -> Check:
    name, fix = f"GPU {index} co-tenants", "end them: they share its memory, power and bandwidth"
    try:
        count = len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError as error:
        return Check(name, None, f"cannot be told ({error})")
    return Check(name, count == 0, f"{count} other compute process(es)", fix)


def _locked_cuda() -> tuple[int, int]:
    """The CUDA version that the engine's lock has the runtime of."""
    lock = installed.lock_path("cuda").read_text(encoding="utf-8")
    found = re.search(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+)\.(\d+)", lock, re.MULTILINE)
    assert found  # a committed file; a test says so too
    return int(found[1]), int(found[2])


def _engine(build: Build) -> Iterator[Check]:
    """The engine's environment, and room to make it if it must be made."""
    name = f"{build} engine"
    if python := os.environ.get("BENCH_ENGINE_PYTHON"):
        ok = os.access(python, os.X_OK)
        fix = "name the Python of an environment that has vllm and lm-eval, or unset it"
        yield Check(name, ok, f"BENCH_ENGINE_PYTHON={python}", fix, required=True)
        return
    folder = installed.folder_of(build)
    damage = installed.damage_of(folder)
    free_gib, need_gib = _free_gib(folder), installed.DISK_GIB[build]
    enough = damage is None or free_gib >= need_gib
    found = f"vLLM {installed.version(build)}, ready" if damage is None else damage
    yield Check(name, True if damage is None else None, found, "`bench run` makes it")
    room = f"{free_gib:.0f} GiB free in {places.cached()}"
    fix = f"free some: the engine needs {need_gib} GiB; or set BENCH_CACHE to a larger disk"
    yield Check("disk space", enough, room, fix, required=True)


def _downloads(experiment: Experiment, builds: Sequence[Build]) -> Iterator[Check]:
    """Room for the checkpoints that are not in the Hub's cache, as far as their sizes are kept."""
    cache, known = hub.default_cache(), sizes.known()
    wanted: dict[str, dict[str, float | None]] = {}
    for variant, hardware in experiment.pairs():
        if variant.repo and hardware.engine in builds:
            facts = known.get(sizes.key(variant))
            size = facts.download_bytes / GIB if facts else None
            wanted.setdefault(variant.repo, {})[sizes.key(variant)] = size
    if not wanted:
        return
    unknown = sum(size is None for files in wanted.values() for size in files.values())
    need_gib = sum(
        max(sum(size or 0.0 for size in files.values()) - _held_gib(cache, repo), 0.0)
        for repo, files in wanted.items()
    )
    free_gib = _free_gib(cache)
    more = f" and {unknown} of unknown size" if unknown else ""
    yield Check(
        "Hub cache",
        free_gib >= need_gib,
        f"{need_gib:.1f} GiB to download{more}, {free_gib:.0f} GiB free in {cache}",
        "free some, set HF_HOME to a larger disk, or measure some variants only (--variants)",
    )


def _free_gib(folder: Path) -> float:
    """On the disk where the folder is, or would be made."""
    return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free / GIB


def _held_gib(cache: Path, repo: str) -> float:
    """What the cache holds of a repository, whole files and parts of such."""
    blobs = download.storage_of(repo, cache) / "blobs"
    return sum(path.stat().st_size for path in blobs.glob("*")) / GIB


def _uv() -> Check:
    """uv, and whether it has the Python that the engine's lock is for."""
    from uv import find_uv_bin

    try:
        uv = find_uv_bin()
    except FileNotFoundError:
        return Check("uv", False, "not found", "delete .venv: `./run` makes it again", True)
    version = _first_line(uv, "--version") or "uv does not run"
    if _first_line(uv, "python", "find", installed.PYTHON):
        return Check("uv", True, f"{version}, finds Python {installed.PYTHON}")
    fix = f"uv downloads it once; without a network, install Python {installed.PYTHON}"
    return Check("uv", None, f"{version}, finds no Python {installed.PYTHON}", fix)


def _git() -> Check:
    found = _first_line("git", "--version")
    fix = "install git: without it a record cannot say which commit made it"
    return Check("git", found is not None, found or "not found", fix)


def _token() -> Check:
    """Whether there is a Hub token; it goes nowhere, so whether the Hub takes it is not known."""
    from huggingface_hub import get_token

    if get_token():
        return Check("Hub token", True, "present (not tried: `hf auth whoami` does)")
    fix = "set HF_TOKEN or run `hf auth login`; only gated models (such as Llama) need one"
    return Check("Hub token", None, "absent", fix)


def _renderers() -> Iterator[Check]:
    """Quarto renders the report; Pandoc, which comes with this tool, where there is no Quarto."""
    quarto = _first_line("quarto", "--version")
    fix = "install Quarto for its search and navigation; without it Pandoc makes the report"
    yield Check("Quarto", True if quarto else None, quarto or "not found", fix)
    try:
        import pypandoc

        yield Check("Pandoc", True, pypandoc.get_pandoc_version())
    except (ImportError, OSError) as error:
        fix = "install Pandoc or Quarto: one of them makes the report"
        yield Check("Pandoc", None if quarto else False, f"not found ({error})", fix)


def _first_line(*argv: str) -> str | None:
    """What a program answers, or None if it is not there or fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0]
