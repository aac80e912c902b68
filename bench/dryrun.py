"""The exact command lines a variant would run, without running them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bench import launch, speed
from bench.checkpoint import Checkpoint
from bench.config import Experiment, Hardware, Stage, Variant
from bench.engine import Engine
from bench.record import ModelFacts
from bench.server import HOST
from bench.speed import Endpoint


def commands(
    experiment: Experiment, variant: Variant, hardware: Hardware, stages: Collection[Stage]
) -> list[list[str]]:
    """`vllm serve`, and for a speed stage one `vllm bench serve` per rate with its first seed.

    Where a run names a folder of this machine, the repository is named; the port is a free one,
    chosen when the server starts, and stands here as 0.
    """
    model = Path(variant.repo or str(variant.bundled))
    path = model / variant.file if variant.file else model
    ready = Checkpoint(path, Path(variant.tokenizer or path), ModelFacts(source="hub"))
    engine = Engine(hardware.engine, Path("python"), "", "", "")
    serve = launch.command(engine, ready, experiment.serve_options(variant, hardware), variant.id)
    lines = [["vllm", *serve[3:], "--host", HOST, "--port", "0"]]
    if "speed" in stages:
        options = experiment.speed_options(variant, hardware)
        endpoint = Endpoint(f"http://{HOST}:0", variant.id, str(ready.tokenizer))
        for rate, seeds in speed.seeds(options):
            argv = speed.arguments(endpoint, options, rate, seeds[0], options.prompts)
            lines.append(["vllm", "bench", "serve", *argv])
    return lines
