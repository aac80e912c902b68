"""How a variant is served: the command line, its environment, and what the server says it did."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence

from bench import arguments, enginefacts
from bench.checkpoint import Checkpoint
from bench.config import Engine as Build
from bench.config import ServeOptions
from bench.engine import Engine
from bench.errors import MeasurementError
from bench.record import EngineFacts
from bench.server import Server

# Switches of vLLM that this program's caller set: they reach the server too, and change what runs.
_SWITCH = re.compile(r"VLLM_(?:USE|DISABLE|ENABLE|ALLOW)_[A-Z0-9_]+")
_CPU_KV_CACHE_GIB = "2"  # taken from main memory; the demo's loads need a tenth of it


def command(
    engine: Engine, checkpoint: Checkpoint, options: ServeOptions, served_name: str
) -> list[str]:
    """`vllm serve` for a checkpoint, without host and port.

    Prefix caching is off, whatever the variant: a prompt seen before would be measured too fast.
    """
    tokenizer = [] if checkpoint.tokenizer == checkpoint.path else [str(checkpoint.tokenizer)]
    return engine.command(
        "serve",
        str(checkpoint.path),
        *("--served-model-name", served_name),
        *(("--tokenizer", *tokenizer) if tokenizer else ()),
        "--no-enable-prefix-caching",
        "--disable-uvicorn-access-log",
        *arguments.serve_argv(options),
    )


def environment(build: Build) -> dict[str, str]:
    """What is set for the server; all of it is in the record."""
    common = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    if build == "cpu":
        return {**common, "VLLM_CPU_KVCACHE_SPACE": _CPU_KV_CACHE_GIB}
    return {**common, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # CUDA counts GPUs as NVML does


def switches(variables: Mapping[str, str]) -> dict[str, str]:
    """vLLM's on-off switches among environment variables; nothing that could name a place."""
    return {
        name: value
        for name, value in sorted(variables.items())
        if _SWITCH.fullmatch(name) and value in ("0", "1")
    }


def check_quantized(server: Server) -> None:
    """Raises MeasurementError if a quantization was asked for and the engine applied it nowhere.

    vLLM accepts some online methods for models they have no layer for, says so in its log only,
    and serves the unquantized model: the row would be the baseline under another name.
    """
    if re.search(r"Quantizing 0 layers", server.log.read_text(errors="replace")):
        raise MeasurementError(
            "the engine accepted the quantization and applied it to no layer (its log says "
            "'Quantizing 0 layers')",
            "choose a method that this version of vLLM has for this kind of model",
        )


def max_model_len(server: Server) -> int:
    """The longest sequence the server takes, in tokens, as it says itself."""
    return int(json.loads(server.get("/v1/models"))["data"][0]["max_model_len"])


def facts(engine: Engine, server: Server, checkpoint: Checkpoint) -> EngineFacts:
    """What the server did: its API and `/metrics` first, its log second, unknown stays unknown."""
    said = enginefacts.combine(
        enginefacts.parse_log(server.log.read_text(errors="replace")),
        enginefacts.from_metrics(server.get("/metrics")),
    )
    return EngineFacts(
        version=engine.version,
        build=engine.build,
        lm_eval_version=engine.lm_eval_version,
        lock_sha256=engine.lock_sha256,
        argv=("vllm", *public(server.argv[3:], checkpoint)),
        environment={**switches(os.environ), **environment(engine.build)},
        startup_s=round(server.startup_s, 3),
        **dataclasses.asdict(said),
    )


def public(argv: Sequence[str], checkpoint: Checkpoint) -> tuple[str, ...]:
    """A command line with this machine's folders replaced by what anybody can say."""
    model = checkpoint.facts
    named = {
        str(checkpoint.tokenizer): model.tokenizer or model.repo or model.bundled or "MODEL",
        str(checkpoint.path): model.repo or model.bundled or "MODEL",
    }
    return tuple(named.get(argument, argument) for argument in argv)
