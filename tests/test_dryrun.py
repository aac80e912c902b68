"""Every row of models.toml gives command lines that the engine's own parsers accept."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import arguments, dryrun, engine, problems
from bench.config import Hardware, Variant

ROOT = Path(__file__).parent.parent
EXPERIMENT = problems.load_experiment(ROOT / "models.toml")
PAIRS = list(EXPERIMENT.pairs())
ENGINE_PARSERS = """
import json, sys
from vllm.benchmarks.serve import add_cli_args
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
serve, client = make_arg_parser(FlexibleArgumentParser()), FlexibleArgumentParser()
add_cli_args(client)
for line in json.load(sys.stdin):
    if line[1] == "serve":
        parsed = serve.parse_args(line[2:])
        assert parsed.enable_prefix_caching is False
    else:
        parsed = client.parse_args(line[3:])
        assert parsed.ignore_eos and parsed.temperature == 0
    print(json.dumps({name: str(value) for name, value in vars(parsed).items()}))
"""


def lines_of(variant: Variant, hardware: Hardware) -> list[list[str]]:
    return dryrun.commands(EXPERIMENT, variant, hardware, variant.stages)


def test_all_seven_published_rows_are_there() -> None:
    assert len(PAIRS) == 7
    assert len({variant.reproduces for variant, _ in PAIRS}) == 7


@pytest.mark.parametrize("build", ["cpu", "cuda"])
@pytest.mark.parametrize(("variant", "hardware"), PAIRS, ids=lambda entry: entry.id)
def test_both_builds_tables_accept_every_line(
    variant: Variant, hardware: Hardware, build: Any
) -> None:
    for line in lines_of(variant, hardware):
        if line[1] == "serve":
            assert arguments.check_argv("serve", line[3:], build) == []
        else:
            assert arguments.check_argv("bench serve", line[3:], build) == []


def test_the_published_load_is_what_is_asked() -> None:
    serve, fixed, unthrottled = lines_of(*PAIRS[0])
    text = shlex.join(serve)
    assert "--max-model-len 2048" in text
    assert "--gpu-memory-utilization 0.96" in text
    assert "max-seq-len-to-capture" not in text
    for part in ("random-input-len 512", "random-output-len 128", "num-prompts 200"):
        assert part in shlex.join(fixed)
    assert "--request-rate 10.0" in shlex.join(fixed)
    assert "--request-rate inf" in shlex.join(unthrottled)


def test_the_two_awq_rows_are_one_checkpoint_with_two_kernels() -> None:
    default, marlin = (
        lines_of(variant, hardware)[0]
        for variant, hardware in PAIRS
        if "AWQ" in variant.name and variant.family == "Qwen3-8B"
    )
    assert default[2] == marlin[2] == "Qwen/Qwen3-8B-AWQ"
    differing = set(default) ^ set(marlin)
    assert {"triton", "marlin"} <= differing


def test_a_gguf_row_names_its_file_and_tokenizer(bench: Any) -> None:
    ran = bench("plan", "--commands", "--variants", "llama-3-1-70b-instruct-gguf-iq2-s")
    assert ran.code == 0
    assert "GGUF/Meta-Llama-3.1-70B-Instruct-IQ2_S.gguf" in ran.out
    assert "--tokenizer hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4" in ran.out
    assert "bench serve" not in ran.out  # its one stage is quality


@pytest.mark.engine
def test_the_installed_engines_own_parsers_accept_every_line(tmp_path: Path) -> None:
    lines = [line for variant, hardware in PAIRS for line in lines_of(variant, hardware)]
    done = subprocess.run(
        [engine.ensure("cpu").python, "-c", ENGINE_PARSERS],
        input=json.dumps(lines),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(lines) == 7 + 2 * 4
