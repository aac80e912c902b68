"""Facts from recorded logs of vLLM on CPU and on an H100, and from line shapes of GPU builds."""

from __future__ import annotations

from dataclasses import fields

import pytest
from folders import RECORDED
from hypothesis import given
from hypothesis import strategies as st

from bench.engine.facts import Facts, Metrics, combine, from_metrics, parse_log
from bench.records.record import EngineFacts


def recorded_log(name: str) -> Facts:
    return parse_log((RECORDED / f"vllm-0.32.0-cpu-{name}.log").read_text(encoding="utf-8"))


def test_every_fact_is_a_field_of_the_record() -> None:
    assert {field.name for field in fields(Facts)} <= set(EngineFacts.model_fields)


@pytest.mark.parametrize(
    ("name", "quantization", "kernel", "load_s", "init_s"),
    [
        ("bf16", "none", None, 0.94, 2.90),
        ("int8-w8a8", "compressed-tensors", "CPUInt8ScaledMMLinearKernel", 0.45, 3.01),
        ("int4-w4a16", "compressed-tensors", "CPUWNA16LinearKernel", 0.40, 3.30),
        ("int8-weight-only-online", "int8_per_channel_weight_only", None, 0.22, 3.06),
        ("compiled", "compressed-tensors", "CPUWNA16LinearKernel", 0.10, 63.90),
        ("int4-awq-format", "awq", "CPUWNA16LinearKernel", 0.12, 3.18),
    ],
)
def test_recorded_cpu_logs(
    name: str, quantization: str, kernel: str | None, load_s: float, init_s: float
) -> None:
    assert recorded_log(name) == Facts(
        quantization=quantization,
        linear_kernel=kernel,
        kv_cache_tokens=46_592,
        kv_cache_gib=1.0,
        max_concurrency=45.50,
        load_s=load_s,
        engine_init_s=init_s,
    )


def test_recorded_logs_of_an_h100() -> None:
    facts = {
        name: parse_log((RECORDED / f"vllm-0.25.0-cuda-{name}.log").read_text(encoding="utf-8"))
        for name in ("bf16", "fp8-online", "awq-marlin", "awq-triton", "int8-w8a8")
    }
    assert facts["bf16"] == Facts(
        quantization="none",
        attention_backend="FLASH_ATTN",
        kv_cache_tokens=396_720,
        kv_cache_gib=54.48,
        max_concurrency=193.71,
        weights_gib=15.27,
        load_s=2.414562,
        compile_s=36.54,
        graph_capture_s=7,
        graph_memory_gib=1.0,
        engine_init_s=66.8,
    )
    assert facts["fp8-online"] == Facts(
        quantization="fp8",
        linear_kernel="CutlassFP8ScaledMMLinearKernel",
        attention_backend="FLASH_ATTN",
        kv_cache_tokens=443_600,
        kv_cache_gib=60.92,
        max_concurrency=216.6,
        weights_gib=8.8,
        load_s=3.170095,
        compile_s=74.14,
        graph_capture_s=7,
        graph_memory_gib=0.95,
        engine_init_s=107.68,
    )
    assert facts["awq-marlin"] == Facts(
        quantization="auto_awq",
        linear_kernel="MarlinLinearKernel",
        attention_backend="FLASH_ATTN",
        kv_cache_tokens=466_352,
        kv_cache_gib=64.04,
        max_concurrency=227.71,
        weights_gib=5.71,
        load_s=3.379343,
        compile_s=41.37,
        graph_capture_s=8,
        graph_memory_gib=0.71,
        engine_init_s=104.86,
    )
    assert facts["awq-triton"].linear_kernel == "TritonW4A16LinearKernel"
    assert facts["int8-w8a8"].linear_kernel == "CutlassInt8ScaledMMLinearKernel"


# weights GiB, load s, compile s, KV GiB, KV tokens, concurrency, graphs s, graphs GiB: as published
PUBLISHED = {
    "Llama-3.1-70B AWQ": (37.0909, 169.567562, 87.58, 0.99, 3216, 12.56, 52, 1.25),
    "Qwen3-8B BF16": (15.2683, 67.840160, 9.22, 23.33, 169_856, 663.50, 24, 0.60),
    "Qwen3-8B FP8": (8.8011, 39.210030, 9.26, 29.79, 216_944, 847.44, 30, 0.65),
    "Qwen3-8B AWQ": (5.7073, 26.045704, 51.46, 32.89, 239_456, 935.38, 30, 0.62),
}
LOG_0_9_1 = """\
INFO 07-05 10:00:01 [awq_marlin.py:116] The model is convertible to awq_marlin during runtime. \
Using awq_marlin kernel.
INFO 07-05 10:00:02 [core.py:70] Initializing a V1 LLM engine (v0.9.1) with config: model='m', \
dtype=torch.float16, max_seq_len=256, quantization=awq_marlin, enforce_eager=False
INFO 07-05 10:00:03 [cuda.py:252] Using Flash Attention backend on V1 engine.
INFO 07-05 10:01:03 [default_loader.py:272] Loading weights took 1.11 seconds
INFO 07-05 10:01:04 [gpu_model_runner.py:1624] Model loading took {0:.4f} GiB and {1:.6f} seconds
INFO 07-05 10:01:14 [monitor.py:34] torch.compile takes {2:.2f} s in total
INFO 07-05 10:01:15 [gpu_worker.py:227] Available KV cache memory: {3:.2f} GiB
INFO 07-05 10:01:16 [kv_cache_utils.py:715] GPU KV cache size: {4:,} tokens
INFO 07-05 10:01:16 [kv_cache_utils.py:719] Maximum concurrency for 256 tokens per request: {5:.2f}x
INFO 07-05 10:01:40 [gpu_model_runner.py:2048] Graph capturing finished in {6} secs, \
took {7:.2f} GiB
INFO 07-05 10:01:41 [core.py:171] init engine (profile, create kv cache, warmup model) took \
55.50 seconds
"""


@pytest.mark.parametrize("variant", PUBLISHED)
def test_the_published_facts_of_0_9_1(variant: str) -> None:
    numbers = PUBLISHED[variant]
    weights, load, compile_s, kv_gib, tokens, concurrency, graph_s, graph_gib = numbers
    assert parse_log(LOG_0_9_1.format(*numbers)) == Facts(
        quantization="awq_marlin",
        linear_kernel="awq_marlin",
        attention_backend="Flash Attention",
        kv_cache_tokens=int(tokens),
        kv_cache_gib=kv_gib,
        max_concurrency=concurrency,
        weights_gib=weights,
        load_s=load,
        compile_s=compile_s,
        graph_capture_s=graph_s,
        graph_memory_gib=graph_gib,
        engine_init_s=55.50,
    )


# As the source of 0.32.0 words them for CUDA; no GPU build ran here.
LOG_0_32_CUDA = """\
(EngineCore pid=2) INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: \
model='m', quantization=auto_awq, quantization_config=None, enforce_eager=False
(EngineCore pid=2) INFO [__init__.py:923] Using MarlinLinearKernel for mixed-precision linear
(EngineCore pid=2) INFO [auto_awq.py:451] Using MarlinLinearKernel for AutoAWQMarlinLinearMethod
(EngineCore pid=2) INFO [utils.py:347] Using NHD KV cache layout.
(EngineCore pid=2) INFO [cuda.py:506] Using FLASH_ATTN attention backend out of potential \
backends: ['FLASH_ATTN', 'FLASHINFER', 'TRITON_ATTN'].
(EngineCore pid=2) INFO [topk_topp_sampler.py:124] Using FlashInfer for top-p & top-k sampling.
(EngineCore pid=2) INFO [default_loader.py:501] Loading weights took 2.50 seconds
(EngineCore pid=2) INFO [gpu_model_runner.py:5149] Model loading took 5.71 GiB memory and \
26.045704 seconds
(EngineCore pid=2) INFO [monitor.py:60] torch.compile took 30.25 s in total
(EngineCore pid=2) INFO [gpu_worker.py:759] Available KV cache memory: 32.89 GiB
(EngineCore pid=2) INFO [kv_cache_utils.py:2327] GPU KV cache size: 239,456 tokens, Maximum \
concurrency for 256 tokens per request: 935.38x
(EngineCore pid=2) INFO [gpu_model_runner.py:6581] Graph capturing finished in 30 secs, took \
0.62 GiB
(EngineCore pid=2) INFO [core.py:394] init engine (profile, create kv cache, warmup model) took \
80.00 s (compilation: 31.00 s)
"""


def test_the_wordings_of_0_32_0_on_cuda() -> None:
    assert parse_log(LOG_0_32_CUDA) == Facts(
        quantization="auto_awq",
        linear_kernel="MarlinLinearKernel",
        attention_backend="FLASH_ATTN",
        kv_cache_tokens=239_456,
        kv_cache_gib=32.89,
        max_concurrency=935.38,
        weights_gib=5.71,
        load_s=26.045704,
        compile_s=31.0,
        graph_capture_s=30,
        graph_memory_gib=0.62,
        engine_init_s=80.0,
    )


@pytest.mark.parametrize(
    ("line", "backend"),
    [
        ("Using AttentionBackendEnum.FLASHINFER backend.", "FLASHINFER"),
        ("Using TRITON_ATTN backend (selected via --attention-backend).", "TRITON_ATTN"),
        ("Using CPU_MLA backend.", "CPU_MLA"),
        ("Using FlashInfer backend on V1 engine.", "FlashInfer"),
        ("Using TRITON MLA prefill backend.", None),
        ("Using FLASHINFER MoE backend", None),
        ("Using AttentionBackendEnum.TORCH_SDPA for vit attention", None),
    ],
)
def test_attention_backends(line: str, backend: str | None) -> None:
    assert parse_log(line).attention_backend == backend


def test_several_kernels_are_all_named_once_in_the_order_of_the_log() -> None:
    log = (
        "Selected CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod\n"
        "Using MacheteLinearKernel for mixed-precision linear\n"
        "Using MacheteLinearKernel for CompressedTensorsWNA16\n"
        "Layer 'x' is not supported by AutoAWQMarlin. Falling back to unoptimized AWQ kernels.\n"
    )
    assert parse_log(log).linear_kernel == (
        "CutlassFP8ScaledMMLinearKernel + MacheteLinearKernel + unoptimized AWQ kernels"
    )


def test_compile_time_without_the_summary_line() -> None:
    line = "torch.compile and initial profiling/warmup run together took 12.50 s in total"
    assert parse_log(line).compile_s == 12.5


@given(st.text(max_size=300) | st.from_regex(r"init engine \([^)]*\) took [\d.]+ s"))
def test_no_text_breaks_the_parser(text: str) -> None:
    parse_log(text)
    from_metrics(text)


def test_an_empty_log_leaves_everything_unknown() -> None:
    assert parse_log("") == Facts()
    assert from_metrics("") == Metrics()


def test_the_recorded_metrics_of_one_request() -> None:
    text = (RECORDED / "vllm-0.32.0-cpu.metrics").read_text(encoding="utf-8")
    assert from_metrics(text) == Metrics(
        kv_cache_tokens=46_592,
        kv_cache_gib=1.0,
        max_concurrency=45.5,
        prefix_cache_queries=5,
        prefix_cache_hits=0,
        prompt_tokens=5,
        generation_tokens=16,
    )


METRICS_OLD = """\
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="10616",\
odd="a \\"quoted\\", {braced} value"} 1.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.024e+06
vllm:prompt_tokens_total{engine="1",model_name="m"} 24.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:request_prompt_tokens_sum{engine="0",model_name="m"} 7.0
vllm:gpu_cache_usage_perc{engine="0"} NaN
"""


def test_metrics_of_an_older_version_leave_blocks_times_size() -> None:
    assert from_metrics(METRICS_OLD) == Metrics(kv_cache_tokens=169_856, prompt_tokens=1_024_024)


def test_metrics_go_before_the_log_and_what_they_lack_comes_from_it() -> None:
    log = Facts(kv_cache_tokens=1, max_concurrency=45.5, weights_gib=2.0)
    both = combine(log, Metrics(kv_cache_tokens=2, prompt_tokens=9))
    assert both == Facts(kv_cache_tokens=2, max_concurrency=45.5, weights_gib=2.0)
