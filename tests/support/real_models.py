"""The real engine's experiment, in the numbers that this machine's processor is quick with.

Without AVX-512 bfloat16 is far slower than float32; with it, vLLM's kernels for quantized weights
take no float32 (four bits never, INT8 not where the processor has AMX).
"""

from __future__ import annotations

from folders import ROOT

from bench.engine import processor

_FILE = ROOT / "tests" / "real" / "models.toml"


def text() -> str:
    """What to write as models.toml."""
    written = _FILE.read_text(encoding="utf-8")
    if processor.has_avx512():
        return written
    assert written.count('dtype = "bfloat16"') == 1
    return written.replace('dtype = "bfloat16"', 'dtype = "float32"')
