"""Tokenizers of one token a byte, which put what is asked for around a text."""

from __future__ import annotations

import json
from pathlib import Path

BOS, EOS = 256, 257
CHAT = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}" \
    "{% if thinking %}<think>{% endif %}"  # fmt: skip


def make(folder: Path, *, before: bool = False, after: bool = False) -> Path:
    """A tokenizer's folder.

    Args:
        before: it begins every text with BOS.
        after: it ends every text with EOS.
    """
    special = [{"id": BOS, "content": "<s>"}, {"id": EOS, "content": "</s>"}]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    parts: list[dict[str, object]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    if before:
        parts.insert(0, {"SpecialToken": {"id": "<s>", "type_id": 0}})
    if after:
        parts.append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    around = {
        "type": "TemplateProcessing",
        "single": parts,
        "pair": [*parts, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            each["content"]: {
                "id": each["content"],
                "ids": [each["id"]],
                "tokens": [each["content"]],
            }
            for each in special
        },
    }
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**each, **flags, "special": True} for each in special],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": False},
        "post_processor": around,
        "decoder": {**byte_level, "use_regex": False},
        "model": {"type": "BPE", "vocab": _bytes(), "merges": []},
    }
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": CHAT,
        "model_max_length": 100_000,
    }
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 258}))
    return folder


def _bytes() -> dict[str, int]:
    """Each byte's stand-in in the text of a byte-level vocabulary, with the byte as its id."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + number) for number, byte in enumerate(others)}
    return {letters[byte]: byte for byte in range(256)}
