"""How a variant is served, and what of its command line is published."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import PUBLISHED_MODELS, RECORDED

from bench.config import Build, Hardware, ServeOptions, Variant
from bench.engine import arguments, installed, launch
from bench.engine.installed import Engine
from bench.engine.server import Server
from bench.errors import MeasurementError
from bench.modelsfile import problems
from bench.process import Supervised
from bench.records.record import ModelFacts
from bench.weights.checkpoint import Checkpoint

EXPERIMENT = problems.load_experiment(PUBLISHED_MODELS)
ENGINE = Engine("cpu", Path("/home/me/engine/bin/python"), "0.32.0", "0.4.13", "0" * 64)
ON_GPU = dataclasses.replace(ENGINE, build="cuda")
FOLDER = Path("/home/me/.cache/model")
HUB = Checkpoint(FOLDER, FOLDER, ModelFacts(source="hub", repo="Qwen/Qwen3-8B"))
GGUF = Checkpoint(
    FOLDER / "x.gguf",
    Path("/home/me/.cache/tokenizer"),
    ModelFacts(source="hub", repo="a/x-GGUF", file="x.gguf", tokenizer="a/x"),
)
BUNDLED = Checkpoint(FOLDER, FOLDER, ModelFacts(source="bundled", bundled="smollm2-135m-bf16"))
SET_ASIDE = RECORDED / "vllm-0.32.0-cpu-set-aside.log"


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


@pytest.mark.parametrize("build", ["cpu", "cuda"])
@pytest.mark.parametrize(("variant", "hardware"), [*EXPERIMENT.pairs()], ids=lambda one: one.id)
def test_both_builds_take_every_published_row(
    variant: Variant, hardware: Hardware, build: Build
) -> None:
    options = EXPERIMENT.serve_options(variant, hardware)
    argv = launch.command(ENGINE, GGUF if variant.file else HUB, options, variant.id)
    assert arguments.check_argv("serve", argv[4:], build) == []


@pytest.mark.parametrize(
    ("checkpoint", "shown"),
    [
        (HUB, "vllm serve Qwen/Qwen3-8B --served-model-name served"),
        (GGUF, "vllm serve a/x-GGUF/x.gguf --served-model-name served --tokenizer a/x"),
        (BUNDLED, "vllm serve smollm2-135m-bf16 --served-model-name served"),
        (dataclasses.replace(HUB, facts=ModelFacts(source="random")), "vllm serve MODEL "),
    ],
    ids=["hub", "gguf", "bundled", "unnamed"],
)
def test_what_is_published_names_no_place_of_this_machine(
    checkpoint: Checkpoint, shown: str
) -> None:
    argv = launch.command(ENGINE, checkpoint, ServeOptions(), "served")
    public = " ".join(("vllm", *checkpoint.public(argv[3:])))
    assert public.startswith(shown)
    assert "/home" not in public
    assert checkpoint.public(["--tokenizer", str(checkpoint.tokenizer)])[1][0] != "/"


def test_the_servers_environment_calls_nobody() -> None:
    for engine in (ENGINE, ON_GPU):
        environment = launch.environment(engine, HUB)
        assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
        assert environment["HF_HUB_OFFLINE"] == "1"
    assert launch.environment(ON_GPU, HUB)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))
    for name in ("VLLM_CPU_NUM_OF_RESERVED_CPU", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)


def test_on_few_cores_the_model_gets_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 2)
    assert launch.environment(ENGINE, HUB)["VLLM_CPU_NUM_OF_RESERVED_CPU"] == "0"
    assert "VLLM_CPU_NUM_OF_RESERVED_CPU" not in launch.environment(ON_GPU, HUB)
    cores(monkeypatch, 8)
    assert "VLLM_CPU_NUM_OF_RESERVED_CPU" not in launch.environment(ENGINE, HUB)
    monkeypatch.setenv("VLLM_CPU_NUM_OF_RESERVED_CPU", "1")  # whoever sets it knows why
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert "VLLM_CPU_NUM_OF_RESERVED_CPU" not in launch.environment(ENGINE, HUB)


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (None, "/home/me/engine/lib/libiomp5.so"),
        ("/usr/lib/libtcmalloc.so", "/home/me/engine/lib/libiomp5.so:/usr/lib/libtcmalloc.so"),
        ("/opt/libiomp5.so", None),
        ("/usr/lib/libgomp.so.1", None),
    ],
)
def test_the_cpu_build_computes_with_intels_openmp(
    before: str | None, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(monkeypatch, 4)
    if before:
        monkeypatch.setenv("LD_PRELOAD", before)
    with_openmp = dataclasses.replace(ENGINE, openmp="2024.2.1")
    assert launch.environment(with_openmp, HUB).get("LD_PRELOAD") == found
    published = launch.public_environment(with_openmp, HUB).get("LD_PRELOAD")
    assert published == (found and "lib/libiomp5.so")
    assert "LD_PRELOAD" not in launch.environment(ENGINE, HUB)  # an environment without it


def test_what_was_compiled_once_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    caches = ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    for name in ("GITHUB_ACTIONS", *caches):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    found = launch.environment(ENGINE, HUB)
    kept = tmp_path / "cache" / "compiled" / "cpu-000000000000"
    assert [Path(found[name]).parent for name in caches] == [kept] * 3
    newer = dataclasses.replace(ENGINE, lock_sha256="1" * 64)
    assert launch.environment(newer, HUB)["VLLM_CACHE_ROOT"] != found["VLLM_CACHE_ROOT"]
    published = launch.public_environment(ENGINE, HUB)
    assert [published[name] for name in caches] == [
        *("compiled/vllm", "compiled/inductor", "compiled/triton")
    ]

    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "job"))  # another job gets another one
    in_a_job = launch.environment(ENGINE, HUB)
    in_the_job = (*caches, "HF_MODULES_CACHE")  # code that is downloaded is not kept at all
    assert all(Path(in_a_job[name]).is_relative_to(tmp_path / "job") for name in in_the_job)
    assert launch.public_environment(ENGINE, HUB) == published

    monkeypatch.setenv("TRITON_CACHE_DIR", "/theirs")
    assert "TRITON_CACHE_DIR" not in launch.environment(ENGINE, HUB)


def test_no_headers_are_compiled_for_each_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of PyTorch's kernels on a CPU: they are kept where a server's temporary files are."""
    name = "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"
    monkeypatch.delenv(name, raising=False)
    assert launch.environment(ENGINE, HUB)[name] == "0"
    assert name not in launch.environment(dataclasses.replace(ENGINE, build="cuda"), HUB)
    monkeypatch.setenv(name, "1")
    assert name not in launch.environment(ENGINE, HUB)


RECORDED_VARIABLES = {
    "MKL_NUM_THREADS": "4",
    "OMP_NUM_THREADS": "8,2",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0-31|32-63",
    "VLLM_DISABLED_KERNELS": "MarlinLinearKernel,MacheteLinearKernel",
    "VLLM_KV_CACHE_LAYOUT": "HND",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_XGRAMMAR_CACHE_MB": "0.5",
}


def test_what_the_caller_set_for_the_server_is_recorded() -> None:
    assert launch.inherited({**RECORDED_VARIABLES, "OMP_DISPLAY_ENV": "1"}) == RECORDED_VARIABLES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_API_KEY", "123456"),
        ("VLLM_HOST_IP", "10"),
        ("VLLM_PORT", "8000"),
        ("VLLM_DP_MASTER_PORT", "8000"),
        ("VLLM_NIXL_SIDE_CHANNEL_HOST", "1"),
        ("VLLM_USE_PLACE", "/home/somebody"),
        ("VLLM_CPU_OMP_THREADS_BIND", "/home/somebody"),
        ("VLLM_KV_CACHE_LAYOUT", "../layout"),
        ("VLLM_PROCESS_NAME_PREFIX", "somebody"),
        ("VLLM_IMAGE_TAG", "company-internal"),
        ("OMP_NUM_THREADS", "$(hostname)"),
        ("HF_TOKEN", "1"),
        ("HOME", "1"),
        ("MY_OMP_NUM_THREADS", "1"),
    ],
)
def test_no_place_machine_or_secret_is_recorded(name: str, value: str) -> None:
    assert launch.inherited({name: value}) == {}


def served(process: Supervised, log: Path, text: str, *argv: str) -> Server:
    """A server with this log and these options."""
    log.write_text(text)
    return Server("http://127.0.0.1:1", ("serve", "x", *argv), log, process)


AS_ASKED = sorted(set(RECORDED.glob("*.log")) - {SET_ASIDE})


@pytest.mark.parametrize("recorded", AS_ASKED, ids=lambda path: path.stem)
def test_servers_that_did_as_they_were_asked(
    recorded: Path, tmp_path: Path, process: Supervised
) -> None:
    text = recorded.read_text()
    launch.check_quantized(served(process, tmp_path / "log", text))
    launch.check_quantized(served(process, tmp_path / "log", text, "--linear-backend", "auto"))
    if "Kernel for " in text:
        asked = served(process, tmp_path / "log", text, "--linear-backend", "marlin")
        launch.check_quantized(asked)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        # vLLM 0.32.0, and 0.25.0's wording of the same
        (
            "WARNING 11-24 [__init__.py:386] --linear-backend=marlin has no kernel for this "
            "linear layer type; using automatic selection for that layer type.",
            "says '--linear-backend=marlin has no kernel for",
        ),
        (
            "WARNING 11-24 [__init__.py:394] --linear-backend=marlin was requested, but no marlin "
            "kernel exists for mixed-precision layers; falling back to normal kernel selection "
            "for this layer.",
            "says '--linear-backend=marlin was requested, but no",
        ),
        (
            "WARNING 11-24 [__init__.py:1149] VLLM_BATCH_INVARIANT overrides "
            "--linear-backend=marlin; using the emulation backend for deterministic execution.",
            "not used for every quantized layer",
        ),
        (
            "WARNING 11-24 [auto_awq.py:324] Layer 'm.0' is not supported by AutoAWQMarlin. "
            "Falling back to unoptimized AWQ kernels.",
            r"names is CPUWNA16LinearKernel \+ unoptimized AWQ kernels",
        ),
        (
            "INFO 11-24 [cpu.py:178] Cannot use AttentionBackendEnum.FLASH_ATTN backend on CPU.",
            "the attention backend asked for was not used",
        ),
        (
            "INFO 11-23 12:59:19 [base_loader.py:151] Quantizing 0 layers of types: ",
            "applied it to no layer",
        ),
    ],
)
def test_what_the_engine_set_aside_fails(
    line: str, words: str, tmp_path: Path, process: Supervised
) -> None:
    """The row would be another kernel, or the baseline, under the name of what was asked for."""
    log = (RECORDED / "vllm-0.32.0-cpu-int4-w4a16.log").read_text()
    server = served(process, tmp_path / "log", f"{log}{line}\n", "--linear-backend", "marlin")
    with pytest.raises(MeasurementError, match=words) as failure:
        launch.check_quantized(server)
    assert failure.value.fix


def test_a_kernel_asked_for_where_the_engine_chose_none_fails(
    tmp_path: Path, process: Supervised
) -> None:
    """An unquantized model has none, and vLLM does not so much as warn."""
    log = (RECORDED / "vllm-0.25.0-cuda-bf16.log").read_text()
    server = served(process, tmp_path / "log", log, "--linear-backend", "marlin")
    with pytest.raises(MeasurementError, match="names is none"):
        launch.check_quantized(server)


def test_the_engine_on_cpu_asked_for_a_kernel_and_an_attention_of_a_gpu(
    tmp_path: Path, process: Supervised
) -> None:
    """The log of a real server: it started, said so in passing, and served."""
    options = ServeOptions(linear_backend="marlin", attention_backend="FLASH_ATTN")
    argv = arguments.serve_argv(options)
    text = SET_ASIDE.read_text()
    with pytest.raises(MeasurementError, match="--linear-backend=marlin has no kernel"):
        launch.check_quantized(served(process, tmp_path / "log", text, *argv))
    calm = "".join(line for line in text.splitlines(True) if "--linear-backend" not in line)
    with pytest.raises(MeasurementError, match=r"Cannot use \S*FLASH_ATTN backend on CPU"):
        launch.check_quantized(served(process, tmp_path / "log", calm, *argv))


# -- GGUF --------------------------------------------------------------------------------------

PUT_BACK = "INFO [quantbench_gguf.py:79] GGUF of llama: the rows of 60 tensors were put back\n"
TRITON = "INFO [quantbench_gguf.py:81] Using GGUF Q4_1 by Triton for quantized weights\n"


def test_only_a_gguf_file_brings_our_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    assert "PYTHONPATH" not in launch.environment(ON_GPU, HUB)
    found = launch.environment(ON_GPU, GGUF)["PYTHONPATH"]
    assert found == f"{installed.PLUGIN}:/theirs"
    assert launch.public_environment(ON_GPU, GGUF)["PYTHONPATH"] == "bench/engine/plugin"


def test_a_gguf_file_that_was_loaded_without_our_plugin_is_refused(
    tmp_path: Path, process: Supervised
) -> None:
    log = tmp_path / "server.log"
    server = Server("http://127.0.0.1:1", (), log, process)
    log.write_text("INFO starting\n")
    launch.check_gguf(server, HUB)
    with pytest.raises(MeasurementError, match="its rows are in another order"):
        launch.check_gguf(server, GGUF)
    log.write_text(PUT_BACK)
    launch.check_gguf(server, GGUF)


def test_a_fallback_to_triton_is_said(
    tmp_path: Path, process: Supervised, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "server.log"
    log.write_text(PUT_BACK + TRITON)
    launch.check_gguf(Server("http://127.0.0.1:1", (), log, process), GGUF)
    assert "GGUF Q4_1 by Triton: the CUDA kernels" in capsys.readouterr().err
