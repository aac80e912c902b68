"""A checkpoint on this machine: what vLLM is given, and what the record says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.record import ModelFacts


@dataclass(frozen=True)
class Checkpoint:
    """Weights and tokenizer, pinned.

    Attributes:
        path: a checkpoint folder or a GGUF file.
        tokenizer: a folder with the tokenizer's files.
    """

    path: Path
    tokenizer: Path
    facts: ModelFacts

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file."""
        return self.path.suffix == ".gguf"

    def public(self, argv: Sequence[str]) -> tuple[str, ...]:
        """A command line with this machine's folders replaced by what anybody can say."""
        model = self.facts.repo or self.facts.bundled or "MODEL"
        named = {
            str(self.tokenizer): self.facts.tokenizer or model,
            str(self.path): f"{model}/{self.facts.file}" if self.facts.file else model,
        }
        return tuple(named.get(argument, argument) for argument in argv)
