"""GGUF in the real engine: the pinned plugin, our own, and the tool's command line for such a file.

The plugin has CUDA's and Triton's kernels only. Here it runs in the CPU engine, its wheel beside
it, and its kernels are gguf-py's (tests/support/gguf_on_cpu).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from folders import ROOT

from bench.config import ServeOptions
from bench.demo import inputs
from bench.engine import installed, launch
from bench.engine.server import serving
from bench.errors import MeasurementError
from bench.measure import fidelity, prompts, run
from bench.modelsfile import problems
from bench.records.record import ModelFacts
from bench.weights.checkpoint import Checkpoint

pytestmark = pytest.mark.engine

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}
RESOLVE = """\
import json, sys
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.plugins import load_general_plugins
from vllm.utils.argparse_utils import FlexibleArgumentParser

load_general_plugins()
options = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
options.model = options.model_tag or options.model
args = EngineArgs.from_cli_args(options)
model = args.create_model_config()
print(json.dumps([model.quantization, args.load_format, model.hf_config.model_type]))
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The plugin's wheel as the CUDA engine's lock pins it, installed in a folder of its own."""
    lock = installed.lock_path("cuda").read_text()
    pinned = re.search(r"^vllm-gguf-plugin==(?:.*\\\n)*.*", lock, re.MULTILINE)
    assert pinned
    (tmp_path / "plugin.txt").write_text(f"{pinned[0]}\n")
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    argv += ["--only-binary=:all:", "--disable-pip-version-check", "--target", "plugin"]
    subprocess.run([*argv, "--requirement", "plugin.txt"], cwd=tmp_path, check=True)
    return tmp_path / "plugin"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer's folder of a repository that is itself quantized, as the experiment's is."""
    demo = problems.load_experiment(ROOT / "bench" / "demo" / "models.toml").variant[0]
    ready = run.prepare_checkpoint(demo, installed.ensure("cpu"), [str(demo.bundled)], print)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for path in ready.path.glob("*.json"):
        shutil.copy(path, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": AWQ}))
    return folder


def test_a_gguf_file_is_gguf_to_the_engine_whatever_its_tokenizers_repository_is(
    plugin: Path, tokenizer: Path
) -> None:
    cpu = installed.ensure("cpu")
    ready = Checkpoint(inputs.fetch(inputs.MODEL), tokenizer, ModelFacts(source="hub"))
    options = ServeOptions(max_model_len=256, max_num_seqs=1)
    argv = launch.command(cpu, ready, options, "x")
    environment = {**os.environ, **launch.environment(cpu, ready), "PYTHONPATH": str(plugin)}
    done = subprocess.run(
        [str(cpu.python), "-c", RESOLVE, *argv[4:]],
        env=environment,
        cwd=plugin.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == ["gguf", "gguf", "llama"]


def test_the_rows_of_a_llama_are_put_back_and_without_our_plugin_it_is_refused(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM2's file: -3.27 nats per token in BF16 made from it, -4.51 with its rows as stored."""
    kernels = ROOT / "tests" / "support" / "gguf_on_cpu"
    monkeypatch.setenv("PYTHONPATH", f"{kernels}{os.pathsep}{plugin}")
    cpu = installed.ensure("cpu")
    ready = inputs.gguf_checkpoint(cpu, "smollm2-135m-gguf-q4-1")
    options = ServeOptions(max_model_len=256, dtype="float32", enforce_eager=True)

    def serve(name: str) -> Any:
        return serving(
            launch.command(cpu, ready, options, "x"),
            environment=launch.environment(cpu, ready),
            folder=tmp_path / name,
            limit_s=600,
            title=name,
        )

    with serve("mended") as server:
        launch.check_gguf(server, ready)
        facts = launch.facts(cpu, server, ready)
        assert facts.linear_kernel == "GGUF Q4_1 by Triton + GGUF Q8_0 by Triton"
        found, _ = fidelity.measure(server.url, "x")
        assert found.mean_logprob == pytest.approx(-3.272, abs=0.01)
    monkeypatch.setenv("VLLM_PLUGINS", "gguf,gguf_on_cpu")
    with serve("as stored") as server:
        with pytest.raises(MeasurementError, match="its rows are in another order"):
            launch.check_gguf(server, ready)
        with pytest.raises(prompts.AbsurdError, match="less the more of it"):
            fidelity.measure(server.url, "x")
