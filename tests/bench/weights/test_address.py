"""What is written or pasted for `bench add` names one checkpoint, or is refused in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from bench.weights import address
from bench.weights.address import Address

QWEN = Address("Qwen/Qwen3-8B")
COMMIT = "b968826d9c46dd6066d109eabc6255188de91218"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Qwen/Qwen3-8B", QWEN),
        ("acme/tiny-GGUF:Q4/tiny.gguf", Address("acme/tiny-GGUF", "Q4/tiny.gguf")),
        ("https://huggingface.co/Qwen/Qwen3-8B", QWEN),
        ("huggingface.co/Qwen/Qwen3-8B/", QWEN),
        ("http://hf.co/Qwen/Qwen3-8B?library=vllm#use", QWEN),
        ("https://huggingface.co/Qwen/Qwen3-8B/tree/main", QWEN),
        (
            f"https://huggingface.co/Qwen/Qwen3-8B/tree/{COMMIT}",
            Address("Qwen/Qwen3-8B", None, COMMIT),
        ),
        (
            "https://huggingface.co/Qwen/Qwen3-8B/tree/refs%2Fpr%2F1",
            Address("Qwen/Qwen3-8B", None, "refs/pr/1"),
        ),
        (
            "https://huggingface.co/acme/tiny-GGUF/blob/main/Q4/tiny.gguf",
            Address("acme/tiny-GGUF", "Q4/tiny.gguf"),
        ),
        (
            "https://huggingface.co/acme/tiny-GGUF/resolve/v1/tiny.gguf?download=true",
            Address("acme/tiny-GGUF", "tiny.gguf", "v1"),
        ),
    ],
)
def test_a_name_or_a_page_is_taken_apart(text: str, found: Address) -> None:
    assert address.read(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "'nonsense' is no repository's name"),
        ("a b/c", "'a b/c' is no repository's name"),
        ("", "'' is no repository's name"),
        ("acme/tiny:", "'' is no name of a GGUF file"),
        ("acme/tiny:model.safetensors", "is no name of a GGUF file"),
        ("https://example.org/Qwen/Qwen3-8B", "is no page of the Hub"),
        ("https://huggingface.co/datasets/a/b", "is no model's page"),
        ("https://huggingface.co/Qwen", "is not the page of a model"),
        ("https://huggingface.co/Qwen/Qwen3-8B/discussions/1", "is not the page of a model"),
        ("https://huggingface.co/Qwen/Qwen3-8B/tree/main/folder", "is not the page of a model"),
        ("https://huggingface.co/Qwen/Qwen3-8B/blob/main/config.json", "no name of a GGUF file"),
    ],
)
def test_anything_else_is_wrong_usage_before_any_network(
    text: str, words: str, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as error:
        address.read(text)
    assert words in error.value.message
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # whoever asks there ends with 4
    ran = bench("add", text, "--models", tmp_path / "models.toml")
    assert ran.code == 2
    assert words in ran.err
    assert "OWNER/NAME" in ran.err


def test_a_page_and_an_option_that_name_two_revisions_are_refused(
    bench: Any, tmp_path: Path
) -> None:
    page = "https://huggingface.co/Qwen/Qwen3-8B/tree/v1"
    ran = bench("add", page, "--revision", "v2", "--models", tmp_path / "models.toml")
    assert ran.code == 2
    assert "v1" in ran.err
    assert "v2" in ran.err
