"""Headers of checkpoint files made by hand, and what the Hub says of the published ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from folders import PUBLISHED_MODELS
from hub_server import Content, Repo, serve_client
from published_checkpoints import CHECKPOINTS, LLAMA_70B, write

from bench.config import ServeOptions, Variant
from bench.modelsfile.problems import load_experiment
from bench.plan import fit
from bench.weights import contents, sizes

GGUF = "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF:Meta-Llama-3.1-70B-Instruct-{}.gguf"
GGUF_BYTES = {"Q4_K_M": 42_520_000_000, "IQ2_S": 22_240_000_000}  # on the repository's card


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
        read = {repo: contents.read_hub(variant(repo), root / "cache") for repo in CHECKPOINTS}
        found = {repo: one.sizes for repo, one in read.items() if one.sizes}
        ranges = [byte_range for _, _, byte_range, _ in server.asked("/cdn/")]
    assert ranges
    assert all(ranges)
    for repo, facts in found.items():
        assert facts.basis == f"its safetensors headers at {repos[repo].commit[:8]}"
    return found


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


def safetensors(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


TENSOR = {"dtype": "BF16", "shape": [4, 2], "data_offsets": [0, 16]}
# With 44.5 GiB: the 46,068 MiB of the card, less what the driver keeps, was not published.
L40 = next(machine for machine in load_experiment(PUBLISHED_MODELS).hardware if machine.id == "l40")


def judge(facts: sizes.Sizes) -> None:
    """Whatever a checkpoint says, it can be kept, read again, and asked whether it fits."""
    fit.for_variant(variant("a/b"), L40, ServeOptions(max_model_len=2048), facts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints.json"
        sizes.keep({"a/b": facts}, path)
        assert sizes.read(path) == {"a/b": facts}


UNPADDED = "test, without the padding of merged tensors"


def read_of(data: bytes) -> Callable[[int], bytes]:
    return lambda size: data[:size]
