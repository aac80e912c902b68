"""What vLLM's CPU build can compute on the processor at hand.

The build comes in three: for AVX2, for AVX-512, and for AVX-512 with bfloat16, and vLLM takes the
best that the processor has. The one for AVX2 holds no kernel for weights of four bits
(`cpu_gemm_wna16` is compiled for AVX-512 only), yet vLLM 0.32 chooses that kernel there too, loads
the model, and ends at the first prompt. Most laptops have no AVX-512.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.config import Build
from bench.engine import installed
from bench.errors import UnsupportedError
from bench.weights import formats

CPUINFO = Path("/proc/cpuinfo")
_EXTENSIONS = ("avx2", "avx512f", "avx512_bf16")
_FOUR_BITS = 4


def extensions() -> set[str]:
    """Those of AVX2, AVX-512 and its bfloat16 that the processor has, as Linux names them."""
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    return set(re.findall(rf"\b(?:{'|'.join(_EXTENSIONS)})\b", text))


def has_avx512() -> bool:
    """Whether the CPU build's code for AVX-512 runs here."""
    return "avx512f" in extensions()


def serves_four_bits(build: Build) -> bool:
    """Whether the build has a kernel for weights of four bits here."""
    return build != "cpu" or has_avx512()


def check(build: Build, quantization: Mapping[str, Any]) -> None:
    """Raises UnsupportedError for a checkpoint that the engine would load and could not compute.

    Args:
        quantization: what the checkpoint's configuration says of it; empty for a plain one.
    """
    if _FOUR_BITS in weight_bits(quantization) and not serves_four_bits(build):
        raise UnsupportedError(
            "this processor has no AVX-512, and without it the CPU build of vLLM "
            f"{installed.version(build)} has no kernel for weights of four bits",
            "measure it on a processor with AVX-512 or on a GPU; BF16 and INT8 W8A8 run here",
        )


def weight_bits(quantization: Mapping[str, Any]) -> frozenset[int]:
    """The sizes of quantized weights that a checkpoint's configuration states."""
    return formats.read({"quantization_config": quantization}, {}).weight_bits
