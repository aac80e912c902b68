"""Every row of models.toml gives command lines that the engine's own parsers accept."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from folders import ROOT

from bench.config import Hardware, Variant
from bench.engine import arguments, installed
from bench.measure import dryrun, quality
from bench.measure.speed import Endpoint
from bench.modelsfile import problems

EXPERIMENT = problems.load_experiment(ROOT / "models.toml")
PAIRS = list(EXPERIMENT.pairs())
ENGINE_PARSERS = """
import json, sys
from lm_eval._cli.harness import HarnessCLI
from vllm.benchmarks.serve import add_cli_args
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
serve, client = make_arg_parser(FlexibleArgumentParser()), FlexibleArgumentParser()
add_cli_args(client)
for line in json.load(sys.stdin):
    if line[1] == "serve":
        parsed = serve.parse_args(line[2:])
        assert parsed.enable_prefix_caching is False
    elif line[1] == "bench":
        parsed = client.parse_args(line[3:])
        assert parsed.ignore_eos and parsed.temperature == 0
    else:
        sys.argv = line
        parsed = HarnessCLI().parse_args()
        assert parsed.func.__qualname__ == "Run._execute"
    found = {name: getattr(parsed, name, None) for name in ("tasks", "model_args", "num_fewshot")}
    print(json.dumps(found if line[0] == "lm_eval" else None))
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
        elif line[1] == "bench":
            assert arguments.check_argv("bench serve", line[3:], build) == []


def test_the_published_load_is_what_is_asked() -> None:
    serve, warmup, *repeats, _ = lines_of(*PAIRS[0])
    text = shlex.join(serve)
    assert "--max-model-len 2048" in text
    assert "--gpu-memory-utilization 0.96" in text
    assert "max-seq-len-to-capture" not in text
    asked = EXPERIMENT.speed
    assert f"--num-prompts {asked.warmup_prompts} --request-rate inf" in shlex.join(warmup)
    rates = ["10.0"] * asked.repeats + ["inf"] * asked.repeats
    for line, rate in zip(repeats, rates, strict=True):
        for part in ("random-input-len 512", "random-output-len 128", "num-prompts 200"):
            assert part in shlex.join(line)
        assert f"--request-rate {rate}" in shlex.join(line)
    used = {line[line.index("--seed") + 1] for line in (warmup, *repeats)}
    assert len(used) == 1 + 2 * asked.repeats


def test_the_published_quality_is_what_is_asked() -> None:
    line = shlex.join(lines_of(*PAIRS[0])[-1])
    assert line.startswith("lm_eval run --model local-completions --model_args model=qwen3-8b-bf16")
    for part in (
        "base_url=http://127.0.0.1:0/v1/completions",
        "tokenizer=Qwen/Qwen3-8B,",
        "max_length=2048",
        "--tasks hellaswag --num_fewshot 0",
    ):
        assert part in line


@pytest.mark.parametrize(
    ("options", "said", "limit"),
    [
        ({"documents": 7, "selection": "random"}, "7 documents of each task, drawn with", False),
        ({"documents": 7, "selection": "first"}, "7 documents of each task, the first", True),
        ({"documents": "all", "selection": "first"}, "all documents of each task;", False),
        ({"data": "bundled"}, "; the bundled data", True),
    ],
)
def test_what_the_line_of_lm_eval_cannot_say_is_a_comment(
    options: dict[str, Any], said: str, limit: bool
) -> None:
    asked = EXPERIMENT.quality.model_copy(update={"apply_chat_template": True, **options})
    experiment = EXPERIMENT.model_copy(update={"quality": asked})
    _, comment, line = dryrun.script(experiment, *PAIRS[0], ["quality"]).splitlines()
    assert comment.startswith("# bench calls lm_eval.simple_evaluate with these arguments, on ")
    assert said in comment
    assert (f"--limit {asked.documents}" in line) is limit
    assert "--apply_chat_template" in line


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
    title, serve, comment, asked = ran.out.splitlines()
    assert (title[0], comment[0]) == ("#", "#")
    assert serve.startswith("vllm serve ")
    assert asked.startswith("lm_eval run --model local-completions ")


@pytest.mark.engine
def test_the_installed_engines_own_parsers_accept_every_line(tmp_path: Path) -> None:
    lines = [line for variant, hardware in PAIRS for line in lines_of(variant, hardware)]
    done = subprocess.run(
        [installed.ensure("cpu").python, "-c", ENGINE_PARSERS],
        input=json.dumps(lines),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parsed = [json.loads(line) for line in done.stdout.splitlines()]
    stages = [stage for variant, _ in PAIRS for stage in variant.stages]
    clients = stages.count("speed") * (1 + 2 * EXPERIMENT.speed.repeats)
    assert len(parsed) == 7 + clients + stages.count("quality")
    found = [each for each in parsed if each]
    asking = [(variant, hardware) for variant, hardware in PAIRS if "quality" in variant.stages]
    for (variant, hardware), each in zip(asking, found, strict=True):
        tokenizer = variant.tokenizer or str(variant.repo)
        endpoint = Endpoint("http://127.0.0.1:0", variant.id, tokenizer)
        longest = EXPERIMENT.serve_options(variant, hardware).max_model_len
        asked = quality.request(endpoint, EXPERIMENT.quality, {}, longest or 0)
        assert each["model_args"] == asked["model_args"]
        assert (each["tasks"], each["num_fewshot"]) == (["hellaswag"], asked["num_fewshot"])
