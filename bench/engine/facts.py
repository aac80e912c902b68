"""What the vLLM server says about itself: its `/metrics` first, its log second.

Wordings move between versions. The patterns are those of 0.9.1 (the published experiment) and of
0.32.0, on GPU and CPU; a line that is not found leaves its fact unknown (None), never zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Facts:
    """The facts of `record.EngineFacts` that only the running server knows; None is unknown.

    `weights_gib` is per GPU. `load_s` is loading the model where the server says so (GPU), else
    reading its weights (CPU). `quantization` is "none" where the server says that there is none.
    """

    quantization: str | None = None
    linear_kernel: str | None = None
    attention_backend: str | None = None
    kv_cache_tokens: int | None = None
    kv_cache_gib: float | None = None
    max_concurrency: float | None = None
    weights_gib: float | None = None
    load_s: float | None = None
    compile_s: float | None = None
    graph_capture_s: float | None = None
    graph_memory_gib: float | None = None
    engine_init_s: float | None = None


@dataclass(frozen=True)
class Histogram:
    """How much was observed, and how often."""

    sum: float
    count: int


@dataclass(frozen=True)
class Metrics:
    """What `/metrics` tells: the KV cache, and what was counted since the server started.

    `histograms` are those of HISTOGRAMS that it has, by their names without "vllm:".
    """

    kv_cache_tokens: int | None = None
    kv_cache_gib: float | None = None
    max_concurrency: float | None = None
    prefix_cache_queries: int | None = None
    prefix_cache_hits: int | None = None
    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    requests_running: int | None = None
    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def grown(self, before: Metrics, name: str) -> Histogram | None:
        """What a histogram observed since; one that appeared meanwhile began at zero."""
        now, then = self.histograms.get(name), before.histograms.get(name, Histogram(0.0, 0))
        return now and Histogram(now.sum - then.sum, now.count - then.count)


# By the engine's own clock, apart from what its front end adds; see vLLM's `FinishedRequestStats`.
HISTOGRAMS = (
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "iteration_tokens_total",
)


# The first pattern that matches anywhere in the log gives the fact.
_PATTERNS: dict[str, tuple[str, ...]] = {
    "quantization": (r"LLM engine \(v[^)]*\) with config:.*?[ ,]quantization=([\w.-]+)",),
    "kv_cache_tokens": (r"KV cache size: ([\d,]+) tokens",),
    "kv_cache_gib": (
        r"Available KV cache memory: ([\d.]+) GiB",
        r"(?:Explicitly|Auto) set \(([\d.]+)/[\d.]+\) GiB for KV cache",
    ),
    "max_concurrency": (r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x",),
    "weights_gib": (r"Model loading took ([\d.]+) GiB",),
    "load_s": (
        r"Model loading took [\d.]+ GiB(?: memory)? and ([\d.]+) seconds",
        r"Loading weights took ([\d.]+) seconds",
    ),
    "compile_s": (
        r"init engine \([^)]*\) took [\d.]+ s \(compilation: ([\d.]+) s",
        r"torch\.compile (?:takes|took) ([\d.]+) s in total",
        r"torch\.compile and initial profiling/warmup run together took ([\d.]+) s in total",
    ),
    "graph_capture_s": (r"Graph capturing finished in ([\d.]+) secs",),
    "graph_memory_gib": (r"Graph capturing finished in [\d.]+ secs, took (-?[\d.]+) GiB",),
    "engine_init_s": (r"init engine \([^)]*\) took ([\d.]+) s",),
}
_KERNEL_LINES = (
    r"Using (\w+Kernel) for \w",  # MarlinLinearKernel, MacheteLinearKernel, CPUWNA16LinearKernel
    r"Selected (\w+Kernel) for \w",  # scaled-mm kernels: FP8 and INT8
    r"Using (awq_marlin|gptq_marlin) kernel\.",  # 0.9.1, chosen by quantization method
    r"Falling back to (unoptimized AWQ kernels)",  # a layer whose shape Marlin cannot take
    r"Using (GGUF \w+ by .+) for quantized weights",  # our own plugin's: the GGUF plugin says none
    r"Using (FlashInfer [\w-]+) for eligible unquantized BF16 GEMMs",
)
_ATTENTION_LINES = (
    r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]+) attention backend out of",
    r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]+) backend(?:\.| out of| \(selected)",
    r"Using ([A-Z][\w ]*?) backend on V1 engine",  # 0.9.1: Flash Attention, FlashInfer, Triton
)


def parse_log(text: str) -> Facts:
    """The facts that a server's log states; several kernels are joined with " + "."""
    found = {name: _first(patterns, text) for name, patterns in _PATTERNS.items()}
    numbers = {name: _number(value) for name, value in found.items() if name != "quantization"}
    tokens = numbers.pop("kv_cache_tokens")
    quantization = found["quantization"]
    return Facts(
        quantization="none" if quantization == "None" else quantization,
        linear_kernel=_all(_KERNEL_LINES, text),
        attention_backend=_all(_ATTENTION_LINES, text),
        kv_cache_tokens=None if tokens is None else int(tokens),
        **numbers,
    )


def _first(patterns: tuple[str, ...], text: str) -> str | None:
    for pattern in patterns:
        if match := re.search(pattern, text):
            return match[1]
    return None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text.replace(",", ""))
    except ValueError:
        return None  # such as "1.2.3": not a line of the shape that is meant


def _all(patterns: tuple[str, ...], text: str) -> str | None:
    """Every distinct match, in the order of the log."""
    hits = sorted((m.start(), m[1]) for pattern in patterns for m in re.finditer(pattern, text))
    return " + ".join(dict.fromkeys(name for _, name in hits)) or None


def from_metrics(text: str) -> Metrics:
    """The facts in the Prometheus text that the server's `/metrics` answers with.

    The engine's own token capacity is taken where it has one: blocks × block size, which older
    versions leave one to, is wrong for models whose requests take blocks of several kinds.
    """
    samples = _samples(text)
    cache = next((one.labels for one in samples if one.name == "vllm:cache_config_info"), {})
    size_bytes = _number(cache.get("kv_cache_memory_bytes"))
    tokens = _number(cache.get("kv_cache_size_tokens"))
    if tokens is None:
        blocks = _number(cache.get("num_gpu_blocks"))
        size = _number(cache.get("block_size"))
        tokens = None if blocks is None or size is None else blocks * size

    def count(name: str) -> int | None:
        values = [one.value for one in samples if one.name == f"vllm:{name}"]
        return round(sum(values)) if values else None

    def histogram(name: str) -> Histogram | None:
        sums = [one.value for one in samples if one.name == f"vllm:{name}_sum"]
        counted = count(f"{name}_count")
        return Histogram(sum(sums), counted) if sums and counted is not None else None

    found = {name: histogram(name) for name in HISTOGRAMS}
    return Metrics(
        kv_cache_tokens=None if tokens is None else int(tokens),
        kv_cache_gib=None if size_bytes is None else size_bytes / 2**30,
        max_concurrency=_number(cache.get("kv_cache_max_concurrency")),
        prefix_cache_queries=count("prefix_cache_queries_total"),
        prefix_cache_hits=count("prefix_cache_hits_total"),
        prompt_tokens=count("prompt_tokens_total"),
        generation_tokens=count("generation_tokens_total"),
        requests_running=count("num_requests_running"),
        histograms={name: each for name, each in found.items() if each is not None},
    )


def _samples(text: str) -> list[Sample]:
    """Every number that is one; of a text that is not Prometheus's, none."""
    try:
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    except ValueError:
        return []
    return [one for one in samples if math.isfinite(one.value)]


def combine(log: Facts, metrics: Metrics) -> Facts:
    """What both say, as one: where `/metrics` answers, its figure stands."""
    shared = {field.name for field in fields(Facts)} & {field.name for field in fields(Metrics)}
    answers = {name: getattr(metrics, name) for name in shared}
    return replace(log, **{name: value for name, value in answers.items() if value is not None})
