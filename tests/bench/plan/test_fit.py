"""What fits: sizes against those vLLM 0.9.1 printed in the published experiment."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from checkpoint_headers import (
    GGUF,
    L40,
    published,
    variant,
)
from folders import MEASURED, ROOT
from hypothesis import given
from hypothesis import strategies as st
from published_checkpoints import LLAMA_70B

from bench.config import Hardware, ServeOptions
from bench.modelsfile.problems import load_experiment
from bench.plan import fit
from bench.records import store
from bench.weights import sizes

__all__ = ["published"]  # a fixture
# weights GiB, KV cache GiB, KV cache tokens, as the server printed them
PUBLISHED = {
    "Qwen/Qwen3-8B": (15.2683, 23.33, 169_856),
    "Qwen/Qwen3-8B-FP8": (8.8011, 29.79, 216_944),
    "Qwen/Qwen3-8B-AWQ": (5.7073, 32.89, 239_456),
    "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4": (37.0909, 0.99, 3_216),
}
QWEN = sizes.Shape(36, 8, 128, 4096, 12288, 151_936, 40_960)
FACTS = sizes.Sizes(16 * 2**30, 16 * 2**30, 14 * 2**30, 16 * 2**30, None, QWEN, "test")


@pytest.mark.parametrize("repo", PUBLISHED)
def test_weights_are_within_one_percent_of_what_the_server_printed(
    repo: str, published: dict[str, sizes.Sizes]
) -> None:
    size = fit.weights_bytes(published[repo], ServeOptions())
    assert size is not None
    assert size / 2**30 == pytest.approx(PUBLISHED[repo][0], rel=0.01)


@pytest.mark.parametrize("repo", PUBLISHED)
def test_a_token_of_kv_cache_takes_what_the_server_gave_it(
    repo: str, published: dict[str, sizes.Sizes]
) -> None:
    shape = published[repo].shape
    assert shape is not None
    _, cache_gib, tokens = PUBLISHED[repo]
    each = fit.kv_bytes_per_token(shape, ServeOptions())
    assert each == pytest.approx(cache_gib * 2**30 / tokens, rel=0.01)


# The published runs: lm-eval's in-process engine profiled 8,192 tokens whatever the context, and
# vLLM 0.9.1 took CUDA graphs from outside its budget.
AS_PUBLISHED = ServeOptions(
    max_model_len=256,
    max_num_batched_tokens=8192,
    enforce_eager=True,
    gpu_memory_utilization=0.9,
)


@pytest.mark.parametrize("repo", PUBLISHED)
def test_the_overhead_and_the_tokens_are_those_of_the_published_runs(
    repo: str, published: dict[str, sizes.Sizes]
) -> None:
    facts = published[repo]
    assert facts.shape is not None
    options = AS_PUBLISHED.merged(ServeOptions(max_num_seqs=1) if "70B" in repo else None)
    overhead = fit.overhead_bytes(facts.shape, L40, options)
    assert overhead is not None
    assert L40.gpu_memory_gib is not None
    weights_gib, cache_gib, tokens = PUBLISHED[repo]
    left = 0.90 * L40.gpu_memory_gib - weights_gib - cache_gib
    assert overhead / 2**30 == pytest.approx(left, abs=0.125)
    assert fitting(repo, L40, options, facts) == pytest.approx(tokens, rel=0.04)


def fitting(repo: str, hardware: Hardware, options: ServeOptions, facts: sizes.Sizes) -> float:
    """The tokens that the KV cache is estimated to hold."""
    found = fit.for_variant(variant(repo), hardware, options, facts)
    assert found.max_concurrency is not None
    assert options.max_model_len is not None
    return found.max_concurrency * options.max_model_len


@pytest.mark.parametrize("name", ["qwen3-8b-shape-bf16", "qwen3-8b-shape-fp8"])
def test_the_kv_cache_is_within_two_percent_of_what_an_h100_had(
    name: str, published: dict[str, sizes.Sizes]
) -> None:
    """Runs the formula was not set by: another GPU, another version of vLLM, with CUDA graphs."""
    record = store.read(next((MEASURED / "h100" / name).glob("speed-*.json")))
    h100 = next(iter(load_experiment(ROOT / "bench" / "demo" / "gpu.toml").hardware))
    options = ServeOptions.model_validate_json(json.dumps(record.spec["serve"]))
    facts = published["Qwen/Qwen3-8B"]
    assert record.engine is not None
    assert record.engine.weights_gib is not None
    weights = fit.weights_bytes(facts, options)
    assert weights is not None
    assert weights / 2**30 == pytest.approx(record.engine.weights_gib, rel=0.01)
    assert fitting("a/b", h100, options, facts) == pytest.approx(
        record.engine.kv_cache_tokens, rel=0.02
    )


@pytest.mark.parametrize(
    ("asked", "gpu", "memory_gib", "batch"),
    [
        ({"max_model_len": 2048}, "NVIDIA L40", 44.5, (2048, 256)),
        ({"max_model_len": 2048}, "NVIDIA H100", 79.6, (8192, 1024)),
        ({"max_model_len": 2048}, "NVIDIA A100", 79.6, (2048, 256)),
        ({"max_model_len": 2048}, "NVIDIA B200", 178.0, (16384, 1024)),
        ({"max_model_len": 256, "max_num_seqs": 1}, "NVIDIA L40", 44.5, (256, 1)),
        (
            {"max_model_len": 256, "max_num_seqs": 1, "max_num_batched_tokens": 8192},
            "NVIDIA L40",
            44.5,
            (8192, 1),
        ),
    ],
)
def test_the_batch_that_is_profiled_is_the_engines_own_default(
    asked: dict[str, Any], gpu: str, memory_gib: float, batch: tuple[int, int]
) -> None:
    """vLLM 0.32 lowers its default to context × sequences, 0.9.1 did not; never what is given."""
    assert fit._batch(QWEN, memory_gib, gpu, ServeOptions(**asked)) == batch


def test_the_kv_cache_is_split_over_gpus_as_far_as_there_are_heads() -> None:
    """Beyond one GPU a head vLLM holds heads twice; a stage of the pipeline has fewer layers."""
    shape = replace(QWEN, kv_heads=2)

    def tokens(gpus: int, *, pipeline: int = 1) -> int:
        options = ServeOptions(tensor_parallel_size=gpus, pipeline_parallel_size=pipeline)
        return fit._cache_tokens(
            weights=0, kv=1000, overhead=0, shape=shape, hardware=L40, options=options
        )

    assert tokens(2) == pytest.approx(2 * tokens(1), abs=1)
    assert tokens(4) == tokens(2)
    assert tokens(4, pipeline=3) == pytest.approx(3 * tokens(2), abs=2)


def test_what_is_offloaded_to_main_memory_leaves_room_for_the_cache() -> None:
    options = ServeOptions(max_model_len=1024)
    more = fitting("a/b", L40, options.merged(ServeOptions(cpu_offload_gb=4.0)), FACTS)
    all_of_it = fitting("a/b", L40, options.merged(ServeOptions(cpu_offload_gb=400.0)), FACTS)
    each = fit.kv_bytes_per_token(QWEN, options)
    assert each is not None
    assert more - fitting("a/b", L40, options, FACTS) == pytest.approx(4 * 2**30 / each, abs=2)
    assert all_of_it - more == pytest.approx(12 * 2**30 / each, abs=2)  # no more than there is


def test_cuda_graphs_take_what_they_took_in_the_published_runs() -> None:
    """0.60 to 0.65 GiB for 36 layers, 1.25 for 80; none where they are switched off."""
    llama = sizes.shape_of(LLAMA_70B.config(None))
    assert llama is not None
    for shape, gib in ((QWEN, 0.62), (llama, 1.25)):
        with_graphs = fit.overhead_bytes(shape, L40, ServeOptions())
        without = fit.overhead_bytes(shape, L40, ServeOptions(enforce_eager=True))
        assert with_graphs is not None
        assert without is not None
        assert (with_graphs - without) / 2**30 == pytest.approx(gib, abs=0.07)


@pytest.mark.parametrize(
    ("name", "options", "concurrency"),
    [
        ("Qwen/Qwen3-8B", {}, 90),
        ("Qwen/Qwen3-8B-FP8", {}, 110),
        ("Qwen/Qwen3-8B-AWQ", {"quantization": "awq"}, 120),
        ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", {"max_num_seqs": 1}, 1),
        (GGUF.format("Q4_K_M"), {"max_num_seqs": 1, "max_model_len": 256}, 1),
        (GGUF.format("IQ2_S"), {"max_num_seqs": 1}, 25),
    ],
)
def test_every_published_row_fits_on_its_l40(
    name: str, options: dict[str, Any], concurrency: int
) -> None:
    """The Q4_K_M file does at its row's 256 tokens, and not at 2,048."""
    repo, _, file = name.partition(":")
    row = variant(repo, file or None)
    found = fit.for_variant(
        row,
        L40,
        ServeOptions(**({"max_model_len": 2048, "gpu_memory_utilization": 0.96} | options)),
        sizes.known()[sizes.key(row)],
    )
    assert found.fits is True
    assert found.max_concurrency is not None
    assert found.max_concurrency >= concurrency
    assert found.download_gib == pytest.approx(found.weights_gib, rel=0.08 if file else 0.01)
    assert "published" in found.basis or "card" in found.basis


def test_what_is_too_large_does_not_fit_and_two_gpus_help() -> None:
    row = variant("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4")
    facts = sizes.known()[sizes.key(row)]
    small = L40.model_copy(update={"gpu_memory_gib": 23.6})
    options = ServeOptions(max_model_len=2048, max_num_seqs=1)
    alone = fit.for_variant(row, small, options, facts)
    assert (alone.fits, alone.max_context, alone.max_concurrency) == (False, 0, 0.0)
    pair = fit.for_variant(
        row, small, options.model_copy(update={"tensor_parallel_size": 2}), facts
    )
    assert pair.fits is True
    assert pair.weights_gib == alone.weights_gib


def test_without_facts_everything_is_unknown() -> None:
    assert fit.for_variant(variant("a/b"), L40, ServeOptions(), None) == fit.UNKNOWN


def test_without_a_gpu_of_known_memory_the_sizes_are_known_and_the_fit_is_not() -> None:
    cpu = Hardware(id="cpu", name="CPU", engine="cpu", runner=("x",), gpus=0)
    found = fit.for_variant(variant("a/b"), cpu, ServeOptions(), FACTS)
    assert found.weights_gib == 16.0
    assert (found.fits, found.max_context, found.overhead_gib) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "gib"),
    [
        (ServeOptions(), 16.0),
        (ServeOptions(dtype="float32"), 32.0),
        (ServeOptions(quantization="fp8"), 9.0),
        (ServeOptions(quantization="int8_per_channel_weight_only"), 9.0),
        (ServeOptions(quantization="torchao"), None),
    ],
)
def test_weights_follow_dtype_and_quantization_while_loading(
    options: ServeOptions, gib: float | None
) -> None:
    assert fit.for_variant(variant("a/b"), L40, options, FACTS).weights_gib == gib


@pytest.mark.parametrize(
    ("name", "size"), [(None, 147_456), ("fp8", 73_728), ("bfloat16", 147_456), ("nvfp4", None)]
)
def test_the_kv_cache_follows_its_type(name: str | None, size: int | None) -> None:
    assert fit.kv_bytes_per_token(QWEN, ServeOptions(kv_cache_dtype=name)) == size


@given(memory=st.floats(18, 200), more=st.floats(0.1, 100), length=st.integers(256, 40_960))
def test_more_memory_never_means_less_context(memory: float, more: float, length: int) -> None:
    options = ServeOptions(max_model_len=length, max_num_batched_tokens=2048, max_num_seqs=64)

    def on(gib: float) -> fit.Fit:
        hardware = L40.model_copy(update={"gpu_memory_gib": gib})
        return fit.for_variant(variant("a/b"), hardware, options, FACTS)

    smaller, larger = on(memory), on(memory + more)
    assert smaller.max_context is not None
    assert larger.max_context is not None
    assert larger.max_context >= smaller.max_context
    assert (smaller.max_context >= length) == smaller.fits
