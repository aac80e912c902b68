"""How a variant is served, and what of its command line is published."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import arguments, launch
from bench.checkpoint import Checkpoint
from bench.config import ServeOptions
from bench.engine import Engine
from bench.errors import MeasurementError
from bench.process import Supervised
from bench.record import ModelFacts
from bench.server import Server

ENGINE = Engine("cpu", Path("/home/me/engine/bin/python"), "0.32.0", "0.4.13", "0" * 64)
FOLDER = Path("/home/me/.cache/model")
HUB = Checkpoint(FOLDER, FOLDER, ModelFacts(source="hub", repo="Qwen/Qwen3-8B"))
GGUF = Checkpoint(
    FOLDER / "x.gguf",
    Path("/home/me/.cache/tokenizer"),
    ModelFacts(source="hub", repo="a/x-GGUF", file="x.gguf", tokenizer="a/x"),
)
BUNDLED = Checkpoint(FOLDER, FOLDER, ModelFacts(source="bundled", bundled="smollm2-135m-bf16"))
RECORDED = Path(__file__).with_name("recorded")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Supervised]:
    quiet = subprocess.DEVNULL
    running = Supervised(["sleep", "60"], environment={}, cwd=tmp_path, stdout=quiet, stderr=quiet)
    yield running
    running.stop()


@pytest.mark.parametrize("checkpoint", [HUB, GGUF, BUNDLED], ids=["hub", "gguf", "bundled"])
def test_the_engine_takes_the_command_and_caches_no_prefix(checkpoint: Checkpoint) -> None:
    options = ServeOptions(dtype="bfloat16", max_model_len=1024, enforce_eager=True)
    argv = launch.command(ENGINE, checkpoint, options, "served")
    assert argv[:5] == [
        *(str(ENGINE.python), "-m", "vllm.entrypoints.cli.main", "serve", str(checkpoint.path))
    ]
    assert arguments.check_argv("serve", argv[4:], "cpu") == []
    assert "--no-enable-prefix-caching" in argv
    assert argv[argv.index("--served-model-name") + 1] == "served"
    assert ("--tokenizer" in argv) == (checkpoint is GGUF)
    assert argv[-5:] == ["--dtype", "bfloat16", "--max-model-len", "1024", "--enforce-eager"]


@pytest.mark.parametrize(
    ("checkpoint", "shown"),
    [
        (HUB, "vllm serve Qwen/Qwen3-8B --served-model-name served"),
        (GGUF, "vllm serve a/x-GGUF --served-model-name served --tokenizer a/x"),
        (BUNDLED, "vllm serve smollm2-135m-bf16 --served-model-name served"),
        (dataclasses.replace(HUB, facts=ModelFacts(source="random")), "vllm serve MODEL "),
    ],
    ids=["hub", "gguf", "bundled", "unnamed"],
)
def test_what_is_published_names_no_place_of_this_machine(
    checkpoint: Checkpoint, shown: str
) -> None:
    argv = launch.command(ENGINE, checkpoint, ServeOptions(), "served")
    public = " ".join(("vllm", *launch.public(argv[3:], checkpoint)))
    assert public.startswith(shown)
    assert "/home" not in public
    assert launch.public(["--tokenizer", str(checkpoint.tokenizer)], checkpoint)[1][0] != "/"


def test_the_servers_environment_calls_nobody() -> None:
    for build in ("cpu", "cuda"):
        environment = launch.environment(build)
        assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
        assert environment["HF_HUB_OFFLINE"] == "1"
    assert launch.environment("cuda")["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_quantization_that_was_applied_nowhere_fails(tmp_path: Path, process: Supervised) -> None:
    log = tmp_path / "server.log"
    server = Server("http://127.0.0.1:1", (), log, process)
    for recorded in RECORDED.glob("*.log"):
        log.write_bytes(recorded.read_bytes())
        launch.check_quantized(server)
    said = "INFO 11-23 12:59:19 [base_loader.py:151] Quantizing 0 layers of types: "
    log.write_text(f"{log.read_text()}{said}\n")
    with pytest.raises(MeasurementError, match="applied it to no layer"):
        launch.check_quantized(server)
