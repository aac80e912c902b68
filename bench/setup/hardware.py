"""The `[[hardware]]` table of the machine at hand, or of GitHub's own machines."""

from __future__ import annotations

import math
import re
from typing import Any

import tomlkit

from bench.config import Hardware, slug
from bench.measure.machine import cpu_model

GIB = 2**30
HOSTED = Hardware(
    id="github-hosted",
    name="GitHub-hosted runner, 4 vCPU",
    engine="cpu",
    runner=("ubuntu-24.04",),
    gpus=0,
    timeout_minutes=60,
)
_MEMORY_TOLERANCE = 0.05  # what the driver keeps of a GPU's memory, or a person rounds
_OWN = ("self-hosted", "linux", "x64")  # what every runner on a Linux x86-64 machine is labelled
# Of a card's name, what is not its model: how many, who sells it; then how it is built in.
_VENDOR = re.compile(r"^\d+ x |\b(?:NVIDIA|GeForce|Tesla|Quadro) ")
_DETAILS = re.compile(r"(?:,|[ -](?:\d+ ?GB|PCIe|SXM\d*|HBM\d*e?|NVL|Generation|Edition)\b).*")


def this_machine(nvml: Any) -> Hardware:
    """What this machine measures with: its GPUs if it has a driver that answers, else its CPU.

    Args:
        nvml: the `pynvml` module.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return _of_cpu()
    try:
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
        ]
        names = [nvml.nvmlDeviceGetName(handle) for handle in handles]
        memory = [nvml.nvmlDeviceGetMemoryInfo(handle).total / GIB for handle in handles]
    finally:
        nvml.nvmlShutdown()
    return _of_gpus(names, memory) if names else _of_cpu()


def _of_gpus(names: list[str], memory_gib: list[float]) -> Hardware:
    """All of the machine's GPUs; memory is the smallest one's, rounded down."""
    many = len(names) > 1
    id_ = f"{_model(names[0])[:30]}{f'x{len(names)}' if many else ''}"
    name = " + ".join(dict.fromkeys(names))
    return Hardware(
        id=id_,
        name=_inert(f"{len(names)} x {name}" if many else name),
        engine="cuda",
        runner=(*_OWN, f"gpu-{id_}"),
        gpus=len(names),
        gpu_memory_gib=math.floor(min(memory_gib) * 10) / 10,
    )


def _model(name: str) -> str:
    """A card's model as a slug: "l40" of "NVIDIA L40, 46 GB"."""
    return slug(_DETAILS.sub("", _VENDOR.sub("", name))) or slug(name)


def _of_cpu() -> Hardware:
    return Hardware(
        id="cpu",
        name=_inert(f"{cpu_model()}, CPU only"),
        engine="cpu",
        runner=(*_OWN, "cpu"),
        gpus=0,
    )


def _inert(name: str) -> str:
    """A machine's name for itself with nothing that models.toml does not take in names."""
    return " ".join(re.sub(r"[^A-Za-z0-9 .,_+()-]", " ", name).split())[:80].strip()


def is_same(entry: Hardware, machine: Hardware) -> bool:
    """Whether an entry of models.toml says what the machine is, whatever it is called there."""
    alike = (entry.engine, entry.gpus) == (machine.engine, machine.gpus)
    named = entry.id == machine.id or _model(entry.name) == _model(machine.name)
    ours, theirs = machine.gpu_memory_gib or 1.0, entry.gpu_memory_gib or 1.0
    return alike and named and abs(theirs / ours - 1) < _MEMORY_TOLERANCE


def table(entry: Hardware) -> str:
    """The entry as models.toml has it; what is the default is left out, but for `gpus`."""
    written = entry.model_dump(mode="json", exclude_defaults=True) | {"gpus": entry.gpus}
    keys = [key for key in Hardware.model_fields if key in written]
    rows = [f"{key} = {tomlkit.item(written[key]).as_string()}" for key in keys]
    return "\n".join(["[[hardware]]", *rows, ""])
