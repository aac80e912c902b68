"""The machine at hand as a table of models.toml."""

from __future__ import annotations

from typing import Any

import pytest
from models_texts import VALID
from nvml_fakes import Gpus, NoNvml

from bench.modelsfile import problems
from bench.setup import hardware

H100 = ("NVIDIA H100 80GB HBM3", 79.65)


def entry(nvml: Any) -> dict[str, Any]:
    return hardware.this_machine(nvml).model_dump(exclude_defaults=True)


def test_one_gpu() -> None:
    assert entry(Gpus(H100)) == {
        "id": "h100",
        "name": "NVIDIA H100 80GB HBM3",
        "engine": "cuda",
        "runner": ("self-hosted", "linux", "x64", "gpu-h100"),
        "gpu_memory_gib": 79.6,
    }


def test_eight_gpus_and_two_kinds_in_one_machine() -> None:
    eight = entry(Gpus(*[H100] * 8))
    assert (eight["id"], eight["gpus"]) == ("h100x8", 8)
    assert eight["name"] == "8 x NVIDIA H100 80GB HBM3"
    mixed = entry(Gpus(H100, ("NVIDIA L40", 44.52)))
    assert mixed["gpu_memory_gib"] == 44.5  # what every one of them has


def test_without_a_driver_or_without_a_card_it_is_the_cpu() -> None:
    for nvml in (NoNvml(), Gpus()):
        found = entry(nvml)
        assert (found["id"], found["engine"], found["gpus"]) == ("cpu", "cpu", 0)
        assert found["name"].endswith(", CPU only")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA L40", "l40"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("Tesla T4", "t4"),
        ("NVIDIA H100 NVL", "h100"),
        ("GPU (R) Ünïcode", "gpu-r-n-code"),
    ],
)
def test_a_cards_name_as_an_id(name: str, expected: str) -> None:
    assert entry(Gpus((name, 10)))["id"] == expected


@pytest.mark.parametrize(
    "nvml", [NoNvml(), Gpus(H100), Gpus(*[H100] * 2), Gpus(('A "card" [x]', 8.0))]
)
def test_every_table_is_valid_in_models_toml(nvml: Any) -> None:
    machine = hardware.this_machine(nvml)
    text = VALID.partition("[[family]]")
    whole = hardware.table(machine) + text[1] + text[2]
    assert problems.find_problems(whole) == []
    assert hardware.is_same(hardware.this_machine(nvml), machine)
    assert problems.find_problems(hardware.table(hardware.HOSTED) + text[1] + text[2]) == []


def test_an_entry_is_the_machine_by_its_model_its_count_and_its_memory() -> None:
    l40 = hardware.this_machine(Gpus(("NVIDIA L40", 44.99)))
    known = l40.model_copy(update={"id": "ours", "name": "NVIDIA L40, 46 GB", "gpu_memory_gib": 44})
    assert hardware.is_same(known, l40)
    for other in ({"name": "NVIDIA L40S"}, {"gpu_memory_gib": 22.0}, {"gpus": 2}):
        assert not hardware.is_same(known.model_copy(update=other), l40)
    assert not hardware.is_same(hardware.HOSTED, hardware.this_machine(NoNvml()))
