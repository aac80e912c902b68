"""Targets of which only the address, the name and the tokenizer are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.engine.server import Server
from bench.measure.client import Target
from bench.records.record import ModelFacts
from bench.weights.checkpoint import Checkpoint


def target(url: str, served_name: str = "model", tokenizer: str | Path = ".") -> Target:
    """A target without a process behind it."""
    nobody: Any = None
    checkpoint = Checkpoint(Path("model"), Path(tokenizer), ModelFacts(source="hub"))
    return Target(Server(url, (), Path("server.log"), nobody), served_name, checkpoint)
