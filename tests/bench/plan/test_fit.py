"""What fits: sizes against those vLLM 0.9.1 printed in the published experiment."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from folders import ROOT
from hub_server import Content, Hub, Repo, serve_client
from hypothesis import example, given, settings
from hypothesis import strategies as st
from published_checkpoints import CHECKPOINTS, LLAMA_70B, QWEN3_8B, gguf_rows, write

from bench.config import Hardware, ServeOptions, Variant
from bench.errors import ConfigError, WeightsError
from bench.modelsfile.problems import load_experiment
from bench.plan import fit
from bench.records import store
from bench.weights import headers, sizes

RESULTS = ROOT / "bench" / "results"
GGUF = "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF:Meta-Llama-3.1-70B-Instruct-{}.gguf"
# weights GiB, KV cache GiB, KV cache tokens, as the server printed them
PUBLISHED = {
    "Qwen/Qwen3-8B": (15.2683, 23.33, 169_856),
    "Qwen/Qwen3-8B-FP8": (8.8011, 29.79, 216_944),
    "Qwen/Qwen3-8B-AWQ": (5.7073, 32.89, 239_456),
    "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4": (37.0909, 0.99, 3_216),
}
# With 44.5 GiB: the 46,068 MiB of the card, less what the driver keeps, was not published.
L40 = next(
    machine for machine in load_experiment(ROOT / "models.toml").hardware if machine.id == "l40"
)

QWEN = sizes.Shape(36, 8, 128, 4096, 12288, 151_936, 40_960)
FACTS = sizes.Sizes(16 * 2**30, 16 * 2**30, 14 * 2**30, 16 * 2**30, None, QWEN, "test")


def variant(repo: str, file: str | None = None, **more: Any) -> Variant:
    return Variant(name="A", family="F", repo=repo, file=file, **more)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, sizes.Sizes]:
    """What the Hub would say of each, asked through the real client for headers only."""
    root = tmp_path_factory.mktemp("published")
    repos, hashes = {}, (f"{n:064x}" for n in count())
    for repo in CHECKPOINTS:
        write(root / repo, repo)
        files = {
            path.name: Content(
                path=path, stated_sha256=None if "index" in path.name else next(hashes)
            )
            for path in sorted((root / repo).iterdir())
        }
        repos[repo] = Repo(files)
    with pytest.MonkeyPatch.context() as patch, serve_client(repos, patch, root) as server:
        found = {repo: sizes.read_hub(variant(repo), root / "cache") for repo in CHECKPOINTS}
        ranges = [byte_range for _, _, byte_range, _ in server.asked("/cdn/")]
    assert ranges
    assert all(ranges)
    for repo, facts in found.items():
        assert facts.basis == f"its safetensors headers at {repos[repo].commit[:8]}"
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_client({}, monkeypatch, tmp_path) as server:
        yield server


# -- weights and KV cache against the published figures ----------------------------------------


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
    record = store.read(next((RESULTS / "h100" / name).glob("speed-*.json")))
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


# -- the facts that come with the repository ---------------------------------------------------


GGUF_BYTES = {"Q4_K_M": 42_520_000_000, "IQ2_S": 22_240_000_000}  # on the repository's card


def kept_facts(published: dict[str, sizes.Sizes]) -> dict[str, sizes.Sizes]:
    derived = "derived from the published architecture"
    facts = {repo: replace(found, basis=derived) for repo, found in published.items()}
    llama = facts["hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"]
    basis = (
        "file size from the repository's card, padding from llama.cpp's choice of types, "
        f"shape {derived}"
    )
    for kind, size in GGUF_BYTES.items():
        padded = size + sizes.padding_bytes(gguf_rows(kind))
        facts[GGUF.format(kind)] = sizes.Sizes(padded, 0, 0, size, "gguf", llama.shape, basis)
    return facts


def test_the_facts_in_the_repository_are_those_of_the_published_shapes(
    published: dict[str, sizes.Sizes], tmp_path: Path
) -> None:
    """Until somebody with the Hub at hand writes what the files themselves say."""
    kept, facts = sizes.known(), kept_facts(published)
    assert kept.keys() >= facts.keys()
    derived = {name: found for name, found in kept.items() if "derived" in found.basis}
    assert derived.items() <= facts.items()
    sizes.keep(kept, tmp_path / "checkpoints.json")
    assert sizes.KNOWN.read_text() == (tmp_path / "checkpoints.json").read_text()


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


# -- unknown stays unknown ---------------------------------------------------------------------


def test_without_facts_everything_is_unknown() -> None:
    assert fit.for_variant(variant("a/b"), L40, ServeOptions(), None) == fit.UNKNOWN


def test_without_a_gpu_of_known_memory_the_sizes_are_known_and_the_fit_is_not() -> None:
    cpu = Hardware(id="cpu", name="CPU", engine="cpu", runner=("x",), gpus=0)
    found = fit.for_variant(variant("a/b"), cpu, ServeOptions(), FACTS)
    assert found.weights_gib == 16.0
    assert (found.fits, found.max_context, found.overhead_gib) == (None, None, None)


@pytest.mark.parametrize(
    "odd",
    [
        {"kv_lora_rank": 512},
        {"layer_types": ["linear_attention", "full_attention"]},
        {"mamba_d_state": 128},
        {"num_hidden_layers": None},
        {"num_hidden_layers": "36"},
        {"num_attention_heads": "32", "head_dim": None},
        {"hidden_size": [4096], "head_dim": None},
        {"vocab_size": 2**40},
        {"text_config": None},
        {"text_config": [36]},
        {"layer_types": 3},
        {"layer_types": [["full_attention"]]},
    ],
)
def test_an_unusual_kv_cache_is_unknown(odd: dict[str, Any]) -> None:
    assert sizes.shape_of(QWEN3_8B.config(None) | odd) is None


def test_a_model_within_a_multimodal_one_and_heads_not_stated() -> None:
    text = QWEN3_8B.config(None)
    del text["head_dim"], text["num_key_value_heads"]
    shape = sizes.shape_of({"model_type": "x", "text_config": text})
    assert shape is not None
    assert (shape.kv_heads, shape.head_dim) == (32, 128)


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


# -- GGUF --------------------------------------------------------------------------------------


def gguf_string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(
    values: dict[str, int | str | list[str] | list[int]],
    rows: dict[str, tuple[int, int]] | None = None,
) -> bytes:
    """A header as the GGUF specification lays it out, with tensors one behind the other."""
    rows = rows or {}
    data = b"GGUF" + struct.pack("<IQQ", 3, len(rows), len(values))
    for name, value in values.items():
        data += gguf_string(name)
        if isinstance(value, int):
            data += struct.pack("<II", 4, value)
        elif isinstance(value, str):
            data += struct.pack("<I", 8) + gguf_string(value)
        elif value and isinstance(value[0], int):
            data += struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
        else:
            texts = b"".join(gguf_string(str(text)) for text in value)
            data += struct.pack("<IIQ", 9, 8, len(value)) + texts
    start = 0
    for name, (rows_here, width) in rows.items():
        data += gguf_string(name) + struct.pack("<IQQIQ", 2, 999, rows_here, 12, start)
        start += -(-rows_here * width // 32) * 32
    return data


LLAMA_GGUF: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": LLAMA_70B.layers,
    "llama.context_length": LLAMA_70B.max_context,
    "llama.embedding_length": LLAMA_70B.hidden,
    "llama.feed_forward_length": LLAMA_70B.intermediate,
    "llama.attention.head_count": LLAMA_70B.heads,
    "llama.attention.head_count_kv": LLAMA_70B.kv_heads,
    "tokenizer.ggml.tokens": ["a"] * 500,
}


def test_a_gguf_header_gives_the_same_shape_as_the_configuration() -> None:
    facts = sizes.from_gguf(gguf(LLAMA_GGUF), 42_520_000_000, "test")
    config = sizes.shape_of(LLAMA_70B.config(None))
    assert config is not None
    assert facts.shape == replace(config, vocabulary=500)
    assert (facts.weights_bytes, facts.quantization) == (42_520_000_000, "gguf")


def test_the_gguf_header_is_read_by_a_range(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    with path.open("wb") as file:
        file.write(gguf(LLAMA_GGUF))
        file.truncate(42_520_000_000)
    hub.repos["acme/gguf"] = Repo({"big.gguf": Content(path=path, stated_sha256="0" * 64)})
    facts = sizes.read_hub(variant("acme/gguf", "big.gguf"), tmp_path / "cache")
    assert facts == replace(
        sizes.from_gguf(gguf(LLAMA_GGUF), 42_520_000_000, ""), basis=facts.basis
    )
    assert [r[2] for r in hub.asked("/cdn/")] == ["bytes=0-16777215"]


@pytest.mark.parametrize(("kind", "gib"), [("Q4_K_M", 1.08), ("IQ2_S", 1.54)])
def test_the_rows_of_merged_tensors_are_padded_to_the_longest(kind: str, gib: float) -> None:
    rows = gguf_rows(kind)
    size = sum(count * width for count, width in rows.values())
    assert size == pytest.approx(GGUF_BYTES[kind], rel=0.0005)  # so these are the file's types
    head = gguf(LLAMA_GGUF, rows)
    facts = sizes.from_gguf(head, len(head) + size, "test")
    assert facts.weights_bytes - facts.download_bytes == sizes.padding_bytes(rows)
    assert sizes.padding_bytes(rows) / 2**30 == pytest.approx(gib, abs=0.01)
    assert facts.basis == "test"


def test_only_tensors_of_one_layer_that_the_plugin_merges_are_padded() -> None:
    rows = {"blk.0.attn_q.weight": (8, 10), "blk.0.attn_v.weight": (2, 13)}
    assert sizes.padding_bytes(rows) == 8 * 3
    rows |= {"blk.0.attn_v.bias": (1, 99), "blk.1.attn_k.weight": (8, 99)}
    rows |= {"blk.0.ffn_down.weight": (8, 99), "token_embd.weight": (8, 99)}
    assert sizes.padding_bytes(rows) == 8 * 3
    rows |= {"blk.0.ffn_gate.weight": (4, 7), "blk.0.ffn_up.weight": (4, 8)}
    assert sizes.padding_bytes(rows) == 8 * 3 + 4


UNPADDED = "test, without the padding of merged tensors"
HEAD = gguf(LLAMA_GGUF, {"blk.0.attn_q.weight": (8, 64), "blk.0.attn_v.weight": (2, 96)})
HEAD_AND_DATA = len(HEAD) + 8 * 64 + 2 * 96


def test_of_a_split_gguf_the_padding_is_unknown() -> None:
    head = gguf(LLAMA_GGUF | {"split.tensors.count": 723}, {"output.weight": (8, 64)})
    facts = sizes.from_gguf(head, 9000, "test")
    assert (facts.basis, facts.weights_bytes) == (UNPADDED, 9000)


def test_of_a_tensor_with_more_dimensions_than_the_format_has_nothing_is_known() -> None:
    for dimensions, basis in ((4, "test"), (5, UNPADDED)):
        head = bytearray(gguf(LLAMA_GGUF))
        struct.pack_into("<Q", head, 8, 1)
        shape = struct.pack(f"<I{dimensions}Q", dimensions, 8, *[1] * (dimensions - 1))
        head += gguf_string("a") + shape + struct.pack("<IQ", 12, 0)
        assert sizes.from_gguf(bytes(head), 2000 + len(head), "test").basis == basis


@given(end=st.integers(24, len(HEAD)))
def test_a_gguf_header_cut_anywhere_states_less_and_nothing_else(end: int) -> None:
    whole = sizes.from_gguf(HEAD, HEAD_AND_DATA, "test")
    assert whole.weights_bytes == HEAD_AND_DATA + 8 * 32
    unpadded = replace(whole, basis=UNPADDED, weights_bytes=HEAD_AND_DATA)
    part = sizes.from_gguf(HEAD[:end], HEAD_AND_DATA, "test")
    assert part in (whole, unpadded, replace(unpadded, shape=None))


@given(tail=st.binary(max_size=200))
def test_nonsense_behind_the_magic_is_no_shape(tail: bytes) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40) + tail
    assert sizes.from_gguf(head, 1000, "test").shape is None


@pytest.mark.parametrize("kind", [4, 8, 9, 12, 99])
@pytest.mark.parametrize("length", [2**20, 2**62, 2**64 - 1])
def test_a_length_that_is_not_there_ends_the_header(kind: int, length: int) -> None:
    entry = gguf_string("a") + struct.pack("<IIQ", 9, kind, length)
    head = gguf(LLAMA_GGUF)
    entries = struct.pack("<Q", len(LLAMA_GGUF) + 1)
    facts = sizes.from_gguf(head[:16] + entries + head[24:] + entry, 1000, "test")
    assert facts == replace(sizes.from_gguf(head, 1000, "test"), basis=UNPADDED)


@given(
    at=st.lists(st.tuples(st.integers(8, len(HEAD) - 1), st.integers(0, 255)), max_size=6),
    number=st.tuples(st.integers(8, len(HEAD) - 8), st.integers(0, 2**64 - 1)),
    size=st.integers(0, 2**50),
)
@settings(max_examples=500)
def test_a_mutated_gguf_header_is_read_or_refused(
    at: list[tuple[int, int]], number: tuple[int, int], size: int
) -> None:
    head = bytearray(HEAD)
    struct.pack_into("<Q", head, *number)
    for place, byte in at:
        head[place] = byte
    judge(sizes.from_gguf(bytes(head), size, "test"))


def judge(facts: sizes.Sizes) -> None:
    """Whatever a checkpoint says, it can be kept, read again, and asked whether it fits."""
    fit.for_variant(variant("a/b"), L40, ServeOptions(max_model_len=2048), facts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints.json"
        sizes.keep({"a/b": facts}, path)
        assert sizes.read(path) == {"a/b": facts}


@pytest.mark.parametrize("head", [b"", b"PK\x03\x04" + b"\0" * 40, b"GGUF" + b"\1" + b"\0" * 40])
def test_what_is_not_gguf_is_refused(head: bytes) -> None:
    with pytest.raises(WeightsError, match="not GGUF"):
        sizes.from_gguf(head, 1000, "test")


@pytest.mark.parametrize(
    "odd",
    [
        {"llama.attention.head_count_kv": [8, 0, 8]},
        {"llama.ssm.state_size": 16},
        {"llama.attention.kv_lora_rank": 512},
    ],
)
def test_an_unusual_gguf_is_unknown(odd: dict[str, Any]) -> None:
    assert sizes.from_gguf(gguf(LLAMA_GGUF | odd), 1000, "test").shape is None


# -- safetensors ---------------------------------------------------------------------------------


def read_of(data: bytes) -> Callable[[int], bytes]:
    return lambda size: data[:size]


def safetensors(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


TENSOR = {"dtype": "BF16", "shape": [4, 2], "data_offsets": [0, 16]}


def test_a_header_is_read_whole_however_long() -> None:
    asked = []

    def read(size: int) -> bytes:
        asked.append(size)
        return data[:size]

    data = safetensors({"__metadata__": {"format": "pt"}, "a": TENSOR}) + b"\0" * 16
    assert headers.safetensors("x", read) == {
        "a": headers.Tensor.model_validate_json(json.dumps(TENSOR))
    }
    assert len(asked) == 1
    data = safetensors({f"layer.{n}": TENSOR for n in range(2000)})
    assert len(headers.safetensors("x", read)) == 2000
    assert asked[1:] == [asked[0], len(data)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"\xff" * 100,
        safetensors({"a": TENSOR})[:-1],
        safetensors([]),
        safetensors({"a": None}),
        safetensors({"a": TENSOR | {"shape": "12"}}),
        safetensors({"a": TENSOR | {"shape": [10**12, "a"]}}),
        safetensors({"a": TENSOR | {"shape": [2**62]}}),
        safetensors({"a": TENSOR | {"data_offsets": [1]}}),
        safetensors({"a": TENSOR | {"dtype": []}}),
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
    ],
)
def test_what_is_no_safetensors_header_is_refused(data: bytes) -> None:
    with pytest.raises(WeightsError, match=r"m\.safetensors has no readable safetensors header"):
        headers.safetensors("m.safetensors", read_of(data))


def test_a_tied_head_is_counted_once() -> None:
    tensors = {
        name: headers.Tensor(dtype="BF16", shape=(10, 4), data_offsets=(0, 80))
        for name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    config = QWEN3_8B.config(None)
    assert sizes.from_tensors(tensors, config, 0, "test").weights_bytes == 160
    tied = config | {"tie_word_embeddings": True}
    assert sizes.from_tensors(tensors, tied, 0, "test").weights_bytes == 80


ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(("full_attention", "awq", "BF16")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from((*QWEN3_8B.config({}), "layer_types", "text_config", "quant_method")),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)
CONFIG_KEYS = (*QWEN3_8B.config({"quant_method": "awq"}), "layer_types", "text_config")


@given(
    config=st.dictionaries(st.sampled_from(CONFIG_KEYS), ODD, max_size=4),
    tensor=st.dictionaries(st.sampled_from(("dtype", "shape", "data_offsets")), ODD, max_size=3),
)
@settings(max_examples=300)
@example(config={"quantization_config": {"quant_method": ["awq"]}}, tensor={})
def test_any_configuration_and_header_are_read_or_refused(
    config: dict[str, Any], tensor: dict[str, Any]
) -> None:
    try:
        tensors = headers.safetensors("x", read_of(safetensors({"a": TENSOR | tensor})))
    except WeightsError:
        tensors = {}
    judge(sizes.from_tensors(tensors, QWEN3_8B.config(None) | config, 0, "test"))


# -- the facts kept --------------------------------------------------------------------------------


def test_a_damaged_list_of_facts_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.json"
    path.write_text('{"a/b": {"weights_bytes": "many"}}')
    with pytest.raises(ConfigError, match=r"checkpoints\.json"):
        sizes.read(path)
