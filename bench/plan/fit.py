"""Does a variant fit on a GPU, and with what context and concurrency? An estimate, and says so.

Weights are read from the checkpoint's headers and agree with what vLLM reports within a few
percent. The KV cache is exact for ordinary attention: 2 × layers × KV heads × head dimension ×
bytes per token. The overhead is a formula set by the four runs in the published experiment.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.config import Hardware, ServeOptions, Variant
from bench.weights.sizes import Shape, Sizes

GIB = 2**30
# vLLM 0.32 where an option is not given: vllm/config/cache.py, and get_batch_defaults() in
# vllm/engine/arg_utils.py for the server.
_UTILIZATION = 0.92
_BATCHES = ((160.0, 16384, 1024), (70.0, 8192, 1024), (0.0, 2048, 256))
# CUDA context, libraries and workspaces: what the published runs leave after the other terms.
_CONTEXT_GIB = 0.25
# 36 layers took 0.60 to 0.65 GiB of graphs and 80 layers 1.25 GiB.
_LAYERS_PER_GRAPH_GIB = 64
# Quantizing while loading turns 16-bit linear weights into this many bits.
_ONLINE_BITS = {
    "fp8": 8,
    "fp8_per_tensor": 8,
    "fp8_per_block": 8,
    "fp8_per_channel": 8,
    "int8_per_channel_weight_only": 8,
    "mxfp8": 8,
}


@dataclass(frozen=True)
class Fit:
    """What one variant needs on one kind of hardware; None is unknown, never zero.

    Args:
        weights_gib: of the whole model, over all its GPUs.
        kv_gib_per_1k_tokens: of the whole model.
        overhead_gib: on each GPU: context, activations, logits, CUDA graphs.
        fits: whether one request of the asked context fits beside the weights.
        max_context: the longest single request, in tokens.
        max_concurrency: how many requests of the asked context the KV cache holds at once.
        basis: where the sizes come from.
    """

    weights_gib: float | None
    kv_gib_per_1k_tokens: float | None
    overhead_gib: float | None
    fits: bool | None
    max_context: int | None
    max_concurrency: float | None
    download_gib: float | None
    basis: str


UNKNOWN = Fit(None, None, None, None, None, None, None, "unknown")


def for_variant(
    variant: Variant, hardware: Hardware, options: ServeOptions, sizes: Sizes | None
) -> Fit:
    """The estimate for a variant on a kind of hardware, served with `options`.

    Args:
        options: what `Experiment.serve_options` gives for the two.
        sizes: the checkpoint's, or None if nobody has asked for them yet: then all is unknown.
    """
    if sizes is None or variant.repo is None:
        return UNKNOWN
    weights = weights_bytes(sizes, options)
    shape = sizes.shape
    kv = kv_bytes_per_token(shape, options, sizes.kv_cache) if shape else None
    overhead = overhead_bytes(shape, hardware, options) if shape else None
    tokens = None
    if weights is not None and kv is not None and overhead is not None and shape:
        tokens = _cache_tokens(
            weights=weights,
            kv=kv,
            overhead=overhead,
            shape=shape,
            hardware=hardware,
            options=options,
        )
    limit = shape.max_context if shape else None
    asked = options.max_model_len or limit
    fits = tokens >= asked if tokens is not None and asked else None
    if limit and asked and asked > limit:
        fits = False  # vLLM refuses to start
    return Fit(
        weights_gib=_gib(weights),
        kv_gib_per_1k_tokens=_gib(kv * 1000 if kv is not None else None),
        overhead_gib=_gib(overhead),
        fits=fits,
        max_context=min(tokens, limit or tokens) if tokens is not None else None,
        max_concurrency=tokens / asked if tokens is not None and asked else None,
        download_gib=_gib(sizes.download_bytes),
        basis=sizes.basis,
    )


def weights_bytes(sizes: Sizes, options: ServeOptions) -> int | None:
    """The weights in memory, or None for a way of quantizing while loading not known here."""
    size = sizes.weights_bytes
    if options.dtype in ("float32", "float"):
        size += sizes.float_bytes
    if sizes.quantization is None and options.quantization is not None:
        bits = _ONLINE_BITS.get(options.quantization)
        if bits is None:
            return None
        size -= sizes.linear_bytes * (16 - bits) // 16
    return size


def kv_bytes_per_token(
    shape: Shape, options: ServeOptions, checkpoint: str | None = None
) -> int | None:
    """Keys and values of one token over all layers, or None for a cache type not known here.

    Args:
        checkpoint: the type that the checkpoint asks for, which "auto" takes.
    """
    name = options.kv_cache_dtype or "auto"
    name = checkpoint or name if name == "auto" else name
    if name == "auto":
        width = 4 if options.dtype in ("float32", "float") else 2
    elif name in ("bfloat16", "float16"):
        width = 2
    elif name in ("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"):
        width = 1
    else:
        return None
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * width


def overhead_bytes(shape: Shape, hardware: Hardware, options: ServeOptions) -> int | None:
    """What each GPU needs beside weights and KV cache, or None without a GPU of known memory.

    Activations of the largest batch (three intermediate and four hidden vectors a token, 16 bits),
    two copies of its logits in 32 bits, CUDA graphs by layers, and a constant.
    """
    if hardware.gpu_memory_gib is None:
        return None
    tensor, pipeline = options.tensor_parallel_size or 1, options.pipeline_parallel_size or 1
    tokens, sequences = _batch(shape, hardware.gpu_memory_gib, hardware.name, options)
    activations = 2 * tokens * (3 * shape.intermediate // tensor + 4 * shape.hidden)
    logits = 2 * 4 * sequences * shape.vocabulary
    graphs = 0.0 if options.enforce_eager else shape.layers / pipeline / _LAYERS_PER_GRAPH_GIB
    return int(activations + logits + (graphs + _CONTEXT_GIB) * GIB)


def _batch(shape: Shape, memory_gib: float, gpu: str, options: ServeOptions) -> tuple[int, int]:
    """Tokens and sequences of the largest batch, by vLLM's own defaults where not given."""
    known = 69.0 if "a100" in gpu.lower() else memory_gib  # vLLM makes this exception
    tokens, sequences = next((t, s) for above, t, s in _BATCHES if known >= above)
    sequences = options.max_num_seqs or sequences
    length = options.max_model_len or shape.max_context or tokens
    tokens = options.max_num_batched_tokens or min(tokens, sequences * length)
    return tokens, min(sequences, tokens)


def _cache_tokens(
    *, weights: int, kv: int, overhead: int, shape: Shape, hardware: Hardware, options: ServeOptions
) -> int:
    """Tokens the KV cache holds: what one GPU has left, by what a token takes on that GPU."""
    tensor, pipeline = options.tensor_parallel_size or 1, options.pipeline_parallel_size or 1
    budget = (hardware.gpu_memory_gib or 0.0) * (options.gpu_memory_utilization or _UTILIZATION)
    on_each = weights / (tensor * pipeline) - (options.cpu_offload_gb or 0.0) * GIB
    left = budget * GIB - max(on_each, 0.0) - overhead
    split = min(tensor, shape.kv_heads)  # beyond that, vLLM repeats KV heads
    return max(int(left / (kv / (split * pipeline))), 0)


def _gib(size: float | None) -> float | None:
    return size / GIB if size is not None else None
