"""The whole way with the real vLLM, the real lm-eval, the real model and the real data set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import hub_server
import psutil
import pytest
import real_models
from folders import ROOT
from targets import target

from bench.demo import inputs
from bench.engine import installed, launch, processor
from bench.measure import speed
from bench.modelsfile import problems
from bench.records import store
from bench.records.record import Record

pytestmark = pytest.mark.engine

BENCH = [sys.executable, "-m", "bench"]
FROM_HUB = "smollm2-135m-int8-w8a8"
EVERYWHERE = ("smollm2-135m-bf16", FROM_HUB)
FOUR_BITS = "smollm2-135m-int4-w4a16"


@dataclass(frozen=True)
class Ran:
    """One `bench run` of two variants, one of which a Hub has: its records, and what it asked for.

    Attributes:
        environment: by which `bench` finds the Hub.
        repo: the variant's, whose download was cut twice.
    """

    models: Path
    results: Path
    environment: dict[str, str]
    repo: hub_server.Repo
    continued: int


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """The run; its Hub stays."""
    folder = tmp_path_factory.mktemp("real")
    made = inputs.checkpoints(installed.ensure("cpu"), [FROM_HUB])
    models = folder / "models.toml"
    models.write_text(
        real_models.text().replace(f'bundled = "{FROM_HUB}"', 'repo = "stand-in/SmolLM2-INT8"')
    )
    repo = hub_server.Repo.of_folder(made[FROM_HUB].path)
    half = repo.files["model.safetensors"].size // 2
    with hub_server.serve({"stand-in/SmolLM2-INT8": repo}) as hub:
        hub.faults.cut_after["model.safetensors"] = [half, half // 4]
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "0"}
        bench_run(models, folder / "results", *EVERYWHERE, environment=home)
        continued = [asked for asked in hub.asked("model.safetensors") if asked[2]]
        yield Ran(models, folder / "results", home, repo, len(continued))


@pytest.fixture(scope="module")
def results(ran: Ran) -> Path:
    """Where the run's records are."""
    return ran.results


def bench_run(
    models: Path,
    results: Path,
    *variants: str,
    expected: int = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """`bench run` as a person would call it; returns what it printed."""
    logs = results.parent / "logs"
    argv = [*BENCH, "run", "--models", str(models), "--results", str(results), "--logs", str(logs)]
    argv += [argument for name in variants for argument in ("--variant", name)]
    whole = {**os.environ, **environment}
    done = subprocess.run(argv, cwd=ROOT, env=whole, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    assert not [
        process.info for process in psutil.process_iter(["cmdline"]) if lives(process, logs)
    ]
    return done.stderr


def lives(process: psutil.Process, folder: Path) -> bool:
    """Whether a process works in a folder of a run: a server or client left behind would."""
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def records(results: Path) -> dict[tuple[str, str], Record]:
    """The records by variant and stage."""
    found = [record for _, record in store.records(results)]
    return {(record.variant, record.stage): record for record in found}


def test_every_stage_of_both_variants_is_recorded(
    records: dict[tuple[str, str], Record],
) -> None:
    assert set(records) == {
        (variant, stage) for variant in EVERYWHERE for stage in ("speed", "quality")
    }
    assert {record.status for record in records.values()} == {"ok"}


def test_the_server_did_exactly_what_was_asked(records: dict[tuple[str, str], Record]) -> None:
    speed = records["smollm2-135m-bf16", "speed"].speed
    assert speed is not None
    assert [load.request_rate_rps for load in speed.loads] == [4.0, "inf"]
    repeats = [repeat for load in speed.loads for repeat in load.repeats]
    assert len({repeat.seed for repeat in repeats}) == 6
    for repeat in repeats:
        assert (repeat.asked, repeat.completed, repeat.failed) == (6, 6, 0)
        assert repeat.server_output_tokens == repeat.output_tokens == 6 * 8
        assert repeat.server_input_tokens == repeat.input_tokens == 6 * 16
        assert repeat.prefix_cache_hits == 0
        assert 0 < repeat.ttft_ms.p50 <= repeat.ttft_ms.p90 <= repeat.e2e_ms.p99


def test_the_kernel_that_ran_is_recorded(records: dict[tuple[str, str], Record]) -> None:
    facts = records["smollm2-135m-int8-w8a8", "speed"].engine
    assert facts is not None
    assert facts.linear_kernel is not None
    assert "CPUInt8ScaledMM" in facts.linear_kernel
    assert facts.kv_cache_tokens is not None
    assert facts.kv_cache_tokens > 10_000


def test_four_bits_are_measured_where_the_processor_can_and_refused_elsewhere(
    tmp_path: Path,
) -> None:
    """By the same command: with AVX-512 it ends well, else in words before a server is started."""
    able = processor.serves_four_bits("cpu")
    models = tmp_path / "models.toml"
    models.write_text(real_models.text())
    said = bench_run(models, tmp_path / "results", FOUR_BITS, expected=0 if able else 3)
    ((_, record),) = store.records(tmp_path / "results")
    if able:
        assert record.engine
        assert "WNA16" in (record.engine.linear_kernel or "")
    else:
        assert record.error
        assert record.error.kind == "UnsupportedError"
        assert "this processor has no AVX-512" in record.error.message
        for step in ("checkpoint", "server"):
            assert f"INT4 W4A16: {step}" not in said


def test_bundled_checkpoints_have_the_bits_that_are_told_before_they_are_made() -> None:
    made = inputs.checkpoints(installed.ensure("cpu"), inputs.WEIGHT_BITS)
    for name, checkpoint in made.items():
        stated = checkpoint.facts.quantization_config
        assert processor.weight_bits(stated or {}) == {inputs.WEIGHT_BITS[name]}


def test_all_variants_answer_the_same_documents(
    results: Path, records: dict[tuple[str, str], Record]
) -> None:
    hashes = set()
    for (_, stage), record in records.items():
        if stage == "quality":
            assert record.quality is not None
            task = record.quality.tasks[0]
            assert (task.documents_effective, task.documents_original) == (6, 10_042)
            assert {metric.name for metric in task.metrics} >= {"acc", "acc_norm"}
            hashes.add(task.documents_sha256)
    assert len(hashes) == 1


def test_nothing_is_measured_twice(ran: Ran) -> None:
    before = store.paths(ran.results)
    said = bench_run(ran.models, ran.results, *EVERYWHERE, environment=ran.environment)
    assert "0 of 4 stages to measure" in said
    assert store.paths(ran.results) == before


def test_a_hub_repository_is_resolved_downloaded_and_recorded(
    ran: Ran, records: dict[tuple[str, str], Record]
) -> None:
    """An ordinary `repo = …` variant, the download cut twice and continued in the same run."""
    assert ran.continued == 2
    for stage in ("speed", "quality"):
        model = records[FROM_HUB, stage].model
        assert model is not None
        assert (model.source, model.revision) == ("hub", ran.repo.commit)
        served = {file.name: file.sha256 for file in model.files}
        assert served["model.safetensors"] == ran.repo.files["model.safetensors"].sha256


PARSERS = """\
import json, sys
from vllm.benchmarks.serve import add_cli_args
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

serve, client = make_arg_parser(FlexibleArgumentParser()), FlexibleArgumentParser()
add_cli_args(client)
lines = json.load(sys.stdin)
for argv in lines["serve"]:
    assert serve.parse_args(argv).enable_prefix_caching is False
for argv in lines["bench serve"]:
    parsed = client.parse_args(argv)
    assert parsed.ignore_eos and parsed.temperature == 0
"""


def test_the_engines_own_parsers_take_every_published_row(tmp_path: Path) -> None:
    experiment, cpu = problems.load_experiment(ROOT / "models.toml"), installed.ensure("cpu")
    lines: dict[str, list[list[str]]] = {"serve": [], "bench serve": []}
    for variant, hardware in experiment.pairs():
        asked = target("http://127.0.0.1:1", variant.id, variant.tokenizer or ".")
        options = experiment.serve_options(variant, hardware)
        lines["serve"].append(launch.command(cpu, asked.checkpoint, options, variant.id)[4:])
        load = experiment.speed_options(variant, hardware)
        for rate, seeds in speed.seeds(load, 1):
            argv = speed.arguments(asked, load, rate, seeds[0], load.prompts)
            lines["bench serve"].append(argv)
    done = subprocess.run(
        [cpu.python, "-c", PARSERS],
        input=json.dumps(lines),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
