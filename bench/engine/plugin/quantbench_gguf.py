"""Runs inside vLLM: puts rows of a GGUF file back in order, and says which kernels it gets.

llama.cpp rotates neighbouring elements of a head, the models' own code the two halves of it; so
its converter interleaves the rows of attn_q and attn_k of some architectures. vLLM up to 0.23
rotated such a file as llama.cpp does. Since 0.24 vllm-gguf-plugin loads GGUF: it takes the rows as
they are stored and rotates halves, which answers fluently and wrongly. Here the rows are put back
while they are loaded. That is exact: quantized blocks lie along a row, and rows move whole.

vLLM finds this file by the entry point in the folder beside it, once that place is on PYTHONPATH.
Nothing of this project is importable here, so the file stands alone. What changes a number raises
the version in the folder's name: it is part of what identifies a record.
"""

# The engine's packages are not where mypy runs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

INTERLEAVED = frozenset({"llama"})  # the architectures that need it, as the file names them
CHECKED = ("0.0.5",)  # versions of vllm-gguf-plugin: another one may have mended it, or moved
_ROTATED = re.compile(r"\.self_attn\.([qk])_proj\.(?:qweight|weight|bias)$")


def register() -> None:
    """Wraps the plugin's loading. vLLM calls this in each of its processes, in some twice."""
    from vllm_gguf_plugin import loader

    if hasattr(loader, "quantbench_gguf"):
        return
    loader.quantbench_gguf = True
    choose, load_model = loader.get_weights_adapter, loader.GGUFModelLoader.load_model

    @wraps(choose)
    def get_weights_adapter(*arguments: Any) -> Any:
        adapter = choose(*arguments)
        prepare = adapter.prepare_weights
        adapter.prepare_weights = lambda model_config: _ordered(model_config, prepare(model_config))
        return adapter

    @wraps(load_model)
    def load_checked(*arguments: Any, **options: Any) -> Module:
        model: Module = load_model(*arguments, **options)
        check_rotation(model)
        return model

    loader.get_weights_adapter = get_weights_adapter
    loader.GGUFModelLoader.load_model = load_checked


def _ordered(model_config: Any, weights: Iterable[tuple[str, Tensor]]) -> Iterator[Any]:
    """The weights as the model wants them; at their end the log says what was done."""
    from vllm.logger import init_logger

    logger = init_logger("vllm.quantbench_gguf")  # only what is below "vllm" is printed
    if (found := version("vllm-gguf-plugin")) not in CHECKED:
        raise RuntimeError(f"vllm-gguf-plugin {found} was not checked, {', '.join(CHECKED)} was")
    architecture = architecture_of(model_config.model_weights)
    config = model_config.hf_config.get_text_config()
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    moved, types = 0, set()
    for name, weight in weights:
        if name.endswith("qweight_type"):
            types.add(int(weight))
        rotated = _ROTATED.search(name) if architecture in INTERLEAVED else None
        moved += rotated is not None
        yield name, put_back(weight, heads[rotated[1]]) if rotated else weight
    if architecture in INTERLEAVED and not moved:
        raise RuntimeError(f"no attn_q or attn_k was found in a GGUF file of {architecture}")
    logger.info("GGUF of %s: the rows of %d tensors were put back", architecture, moved)
    for words in kernels(types):
        logger.info("Using GGUF %s for quantized weights", words)


def put_back(weight: Tensor, heads: int) -> Tensor:
    """Undoes llama.cpp's order of a projection's rows: pairs of each head become two halves.

    Args:
        weight: (rows, anything) or (rows,), quantized or not.
        heads: the rows belong to so many heads, each with the same number of them.
    """
    pairs = weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def architecture_of(path: str) -> str:
    """What a GGUF file says it is."""
    from gguf import GGUFReader

    return str(GGUFReader(path).get_field("general.architecture").contents())


def check_rotation(model: Module) -> None:
    """Raises RuntimeError if a Llama would rotate neighbours: this vLLM undoes the order itself."""
    kind = type(model).__name__
    for module in model.modules():
        if "Llama" in kind and getattr(module, "is_neox_style", True) is False:
            raise RuntimeError(f"{kind} rotates GGUF's order of rows itself: it was undone twice")


def kernels(types: Iterable[int]) -> Iterator[str]:
    """For each type of weights, what multiplies by it: one row at a time, and many at once."""
    from gguf import GGMLQuantizationType
    from vllm_gguf_plugin import ops
    from vllm_gguf_plugin.quantization.utils import MMQ_QUANT_TYPES

    for number in sorted(types):
        kind = GGMLQuantizationType(number)
        few = ops._cuda_kernel_available("ggml_mul_mat_vec_a8", kind)
        if kind in MMQ_QUANT_TYPES:
            many = ops._cuda_gemm_kernel_available("ggml_mul_mat_a8", kind)
            rest = ""
        else:
            many = ops._cuda_kernel_available("ggml_dequantize", kind)
            rest = ", many rows dequantized first"
        if few == many:
            yield f"{kind.name} by {'CUDA' if few else 'Triton'}{rest}"
        else:
            names = ["CUDA" if one else "Triton" for one in (few, many)]
            yield f"{kind.name} by {names[0]}, many rows by {names[1]}"
