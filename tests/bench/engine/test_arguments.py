"""Command lines against the table of arguments that the engine's own parsers gave."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Build, ServeOptions
from bench.engine import arguments, installed
from bench.engine.arguments import Refusal
from bench.modelsfile import problems

BUILDS: tuple[Build, ...] = get_args(Build)
TABLE = Path(arguments.__file__).parent / "locks" / "serve-arguments.json"
DUMP = TABLE.with_name("dump_arguments.py")
# What the tool itself passes, whatever models.toml says.
CLIENT = shlex.split("""
 --backend openai --endpoint /v1/completions --dataset-name random --random-input-len 512
 --random-output-len 128 --num-prompts 200 --request-rate inf --seed 1 --temperature 0 --ignore-eos
 --percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,99 --save-result --save-detailed
 --result-dir out --result-filename a.json --num-warmups 0 --ready-check-timeout-sec 0
 --disable-tqdm --model served --tokenizer folder --host 127.0.0.1 --port 8000""")
SERVER = shlex.split("""
 folder --served-model-name served --tokenizer folder --no-enable-prefix-caching
 --disable-uvicorn-access-log --host 127.0.0.1 --port 8000""")


@pytest.mark.parametrize("build", BUILDS)
def test_the_locked_engines_know_every_option_there_is_and_what_the_tool_passes(
    build: Build,
) -> None:
    known = arguments.accepted("serve", build, installed.version(build))
    assert known is not None
    assert {f"--{name.replace('_', '-')}" for name in ServeOptions.model_fields} <= set(known)
    assert arguments.check_argv("serve", SERVER, build) == []
    assert arguments.check_argv("bench serve", CLIENT, build) == []


def test_options_become_arguments() -> None:
    options = ServeOptions(
        dtype="half", linear_backend="marlin", gpu_memory_utilization=0.96, max_model_len=2048
    ).merged(ServeOptions(enforce_eager=True, enable_expert_parallel=False))
    assert arguments.serve_argv(options) == [
        *("--dtype", "half", "--linear-backend", "marlin", "--max-model-len", "2048"),
        *("--gpu-memory-utilization", "0.96", "--enforce-eager", "--no-enable-expert-parallel"),
    ]
    assert arguments.check(options, "cuda") == []


def test_a_misspelt_word_is_named_with_the_nearest() -> None:
    assert arguments.check(ServeOptions(linear_backend="marlim"), "cuda") == [
        Refusal(
            "linear_backend", "vLLM 0.32.0 (cuda) does not know 'marlim'", "did you mean 'marlin'?"
        )
    ]
    (refusal,) = arguments.check({"attention_backend": "flash_atn"}, "cpu")
    assert refusal.fix == "did you mean 'FLASH_ATTN'?"
    (refusal,) = arguments.check({"dtype": "q"}, "cpu")
    assert refusal.fix.startswith("use one of: auto, bfloat16")


@pytest.mark.parametrize("options", [{"quantization": "gguf"}, {"load_format": "gguf"}])
def test_gguf_is_the_cuda_environments_alone(options: dict[str, Any]) -> None:
    assert arguments.check(options, "cuda") == []
    (refusal,) = arguments.check(options, "cpu")
    assert "does not know 'gguf'" in refusal.message


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        (["--max-seq-len-to-capture", "2048"], "--max-seq-len-to-capture"),  # gone since 0.9.1
        (["--dtype"], "--dtype"),
        (["--dtype", "--enforce-eager"], "--dtype"),
        (["--port", "http"], "--port"),
        (["--dtype=quarter"], "--dtype"),
        (["--enforce-eager", "model", "--block-size", "16"], None),
        (["--served-model-name", "a", "b", "--dtype", "auto"], None),
    ],
)
def test_command_lines(argv: list[str], wrong: str | None) -> None:
    refusals = arguments.check_argv("serve", argv, "cpu")
    assert [refusal.key for refusal in refusals] == ([wrong] if wrong else [])


def test_an_engine_without_a_table_is_said_to_be_unknown() -> None:
    (refusal,) = arguments.check(ServeOptions(), "cpu", "0.1.0")
    assert "no table" in refusal.message


def words_of(name: str) -> list[str]:
    argument = (arguments.accepted("serve", "cuda", installed.version("cuda")) or {})[name]
    return list(argument.get("choices") or argument["words"])


@given(
    quantization=st.sampled_from(words_of("--quantization")),
    attention=st.sampled_from(words_of("--attention-backend")),
    length=st.integers(1, 10_000_000),
    share=st.floats(0.01, 1),
    eager=st.none() | st.booleans(),
)
def test_whatever_the_engine_lists_is_accepted(
    quantization: str, attention: str, length: int, share: float, eager: bool | None
) -> None:
    options = ServeOptions(
        quantization=quantization,
        attention_backend=attention,
        max_model_len=length,
        gpu_memory_utilization=share,
        enforce_eager=eager,
    )
    assert arguments.check(options, "cuda") == []


EXPERIMENT = """\
hardware = [
    { id = "cpu", name = "CPU", engine = "cpu", runner = ["x"] },
    { id = "l40", name = "L40", engine = "cuda", runner = ["x"], gpu_memory_gib = 44.5 },
]
[serve]
dtype = "bfloat61"
[[family]]
name = "F"
baseline = "A"
[[variant]]
name = "A"
family = "F"
repo = "o/a"
[variant.serve]
linear_backend = "marlim"
[[variant]]
name = "B"
family = "F"
repo = "o/b"
hardware = ["l40"]
serve = { quantization = "gguf" }
[[variant]]
name = "C"
family = "F"
repo = "o/c"
serve = { dtype = "half" }
on = { cpu = { serve = { quantization = "gguf" } }, l40 = { serve = { quantization = "gguf" } } }
"""


def test_models_toml_names_line_key_and_fix() -> None:
    found = [(p.line, p.key, p.fix) for p in problems.find_problems(EXPERIMENT)]
    assert [(line, key) for line, key, _ in found] == [
        (6, "serve.dtype"),
        (15, "variant[0].serve.linear_backend"),
        (27, "variant[2].on.cpu.serve.quantization"),
    ]
    assert found[0][2] == "did you mean 'bfloat16'?"
    assert found[1][2] == "did you mean 'marlin'?"


def test_a_wrong_shape_is_reported_once_by_the_schema() -> None:
    text = EXPERIMENT.replace('"marlim"', "7").replace('"bfloat61"', '"auto"')
    keys = [problem.key for problem in problems.find_problems(text)]
    assert keys.count("variant[0].serve.linear_backend") == 1


@pytest.mark.engine
def test_the_committed_table_is_what_the_engine_says(tmp_path: Path) -> None:
    python = installed.ensure("cpu").python
    fresh = tmp_path / "table.json"
    subprocess.run([python, DUMP, "cpu", fresh], check=True, cwd=tmp_path)
    (entry,) = json.loads(fresh.read_text())
    committed = json.loads(TABLE.read_text())
    assert entry in committed
