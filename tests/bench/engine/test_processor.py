"""What the CPU build can compute on a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.engine import processor
from bench.errors import UnsupportedError

COMPRESSED = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {}}}


def groups(bits: int) -> dict[str, Any]:
    return COMPRESSED | {"config_groups": {"group_0": {"weights": {"num_bits": bits}}}}


@pytest.fixture(params=["avx2", "avx2 avx512f", "avx2 avx512f avx512_bf16"])
def flags(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    told = str(request.param)
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {told} avx512_vnni2 hypervisor\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    return told


def test_the_extensions_are_those_that_linux_names(flags: str) -> None:
    assert processor.extensions() == set(flags.split())


@pytest.mark.parametrize(
    "config", [groups(4), {"quant_method": "awq", "bits": 4}, {"quant_method": "gptq", "bits": 4}]
)
def test_four_bits_need_avx_512_on_a_cpu(flags: str, config: dict[str, Any]) -> None:
    processor.check("cuda", config)
    if "avx512f" in flags:
        processor.check("cpu", config)
    else:
        with pytest.raises(UnsupportedError, match="no kernel for weights of four bits"):
            processor.check("cpu", config)


@pytest.mark.parametrize("config", [{}, COMPRESSED, groups(8), {"config_groups": {"a": 4}}])
def test_what_is_not_of_four_bits_is_served_everywhere(flags: str, config: dict[str, Any]) -> None:
    processor.check("cpu", config)
