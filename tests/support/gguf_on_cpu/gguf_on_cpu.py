"""Runs inside vLLM: vllm-gguf-plugin's kernels by gguf-py, for machines without a GPU.

The plugin's own are CUDA's and Triton's. What they compute is to dequantize and to multiply, and
gguf-py and torch do that anywhere; each weight is dequantized once and kept.
"""

# The engine's packages are not where mypy runs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def register() -> None:
    """Replaces the kernels. vLLM calls this in each of its processes."""
    import torch
    from gguf import GGMLQuantizationType, quants
    from vllm_gguf_plugin import ops

    kept: dict[Any, Tensor] = {}

    def dequantize(weight: Tensor, kind: int, _: int, __: int, dtype: Any) -> Tensor:
        exact = quants.dequantize(weight.contiguous().numpy(), GGMLQuantizationType(int(kind)))
        return torch.from_numpy(exact).to(dtype or torch.float16)

    def multiply(weight: Tensor, x: Tensor, kind: int, rows: int) -> Tensor:
        weight = weight.contiguous()  # of merged weights this is a copy, made anew at each call
        key = zlib.crc32(weight.numpy()), tuple(weight.shape), x.dtype
        if key not in kept:
            kept[key] = dequantize(weight, kind, rows, 0, x.dtype).float()
        return (x.float() @ kept[key].T).to(x.dtype)  # a CPU may multiply bfloat16 slowly

    ops.ggml_dequantize = dequantize
    ops.ggml_mul_mat_vec_a8 = ops.ggml_mul_mat_a8 = multiply
