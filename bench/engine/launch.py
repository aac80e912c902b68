"""How a variant is served: the command line, its environment, and what the server says it did."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Mapping

from bench import places
from bench.config import ServeOptions
from bench.engine import arguments, installed
from bench.engine import facts as server_facts
from bench.engine.installed import Engine
from bench.engine.server import Server, kept
from bench.errors import MeasurementError
from bench.progress import say
from bench.records.record import EngineFacts
from bench.weights.checkpoint import Checkpoint

# What this program's caller set reaches the server too, and changes what runs and how fast. These
# names with these values are recorded: numbers anywhere but where they are a secret or an address,
# words only where they are vLLM's own, and never a slash.
_INHERITED = (
    (r"VLLM_[A-Z0-9_]+", r"-?\d{1,9}(\.\d{1,9})?"),
    (r"(OMP|MKL)_NUM_THREADS", r"\d{1,4}(,\d{1,4})*"),
    (r"VLLM_[A-Z0-9_]+_(BACKEND|BIND|KERNELS?|LAYOUT|DTYPE|PRECISION)", r"[\w,|:.-]{1,200}"),
)
_PRIVATE = re.compile(r"_(KEY|TOKEN|SECRET|PASSWORD|PORT|IP|HOST)$")
# What vLLM logs where it goes on without what was asked for: words, what that means, the fix. An
# attention backend on CUDA, and a MoE backend, it refuses to start without.
_SET_ASIDE = (
    (
        r"Quantizing 0 layers",
        "the engine accepted the quantization and applied it to no layer",
        "choose a method that this version of vLLM has for this kind of model",
    ),
    (
        # 0.32 "=X has no kernel for this linear layer type"; 0.25 "=X was requested, but no X
        # kernel exists"; "VLLM_BATCH_INVARIANT overrides --linear-backend=X". Each is a warning.
        r"WARNING .*?(--linear-backend=.*)",
        "the linear backend asked for was not used for every quantized layer",
        "choose one that has a kernel for this quantization on this hardware, or leave it out",
    ),
    (
        r"Cannot use \S+ backend on CPU",
        "the attention backend asked for was not used",
        "leave attention_backend out: the CPU engine has one only",
    ),
)
_CPU_KV_CACHE_GIB = "2"  # taken from main memory; the demo's loads need a tenth of it
_RESERVED = "VLLM_CPU_NUM_OF_RESERVED_CPU"
_FEW_CORES = 2
_COMPILED = "compiled"
_CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
# PyTorch would compile its headers ahead of the few kernels of its own, 8 s at a server's first
# prompt, and keep them with the temporary files, whatever folder its caches have.
_HEADERS = "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"
_OPENMP = re.compile(r"lib[gi]?omp")


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


def environment(engine: Engine, checkpoint: Checkpoint) -> dict[str, str]:
    """What is set for the server; all of it is in the record."""
    common = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    common |= _compiled(engine) | downloaded_code()
    if checkpoint.is_gguf:  # where vLLM finds our plugin; what else the caller has there stays
        folders = (str(installed.PLUGIN), os.environ.get("PYTHONPATH"))
        common["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    if engine.build == "cpu":
        found = {"VLLM_CPU_KVCACHE_SPACE": _CPU_KV_CACHE_GIB, **_threads(engine)}
        return {**common, **found, **({} if _HEADERS in os.environ else {_HEADERS: "0"})}
    return {**common, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # CUDA counts GPUs as NVML does


def _compiled(engine: Engine) -> dict[str, str]:
    """Where kernels stay that were compiled once for this engine, so that a server starts sooner.

    A server's folder for temporary files, where they would be, goes with it. In a workflow they go
    with the job: what one job compiled another shall not run. What the caller has set stays.
    """
    job = places.job_folder()
    kept = job / _COMPILED if job else places.cached(_COMPILED)
    folder = kept / f"{engine.build}-{engine.lock_sha256[:12]}"
    return {name: str(folder / part) for name, part in _CACHES.items() if name not in os.environ}


def downloaded_code() -> dict[str, str]:
    """In a job, its own folder for code that Hugging Face's libraries download and import.

    They append that folder to the modules' path: from a shared one, what an earlier job left would
    be run wherever a library tries to import what is not installed.
    """
    job = places.job_folder()
    return {"HF_MODULES_CACHE": str(job / "modules")} if job else {}


def _threads(engine: Engine) -> dict[str, str]:
    """How vLLM's makers advise to run its CPU build: with Intel's OpenMP, on every core.

    vLLM keeps one core for its front end. Of two that is half of the machine, and the front end
    sleeps while the model computes. What the caller has set stays as it is.
    """
    found = {}
    if _RESERVED not in os.environ and len(os.sched_getaffinity(0)) <= _FEW_CORES:
        found[_RESERVED] = "0"
    library, before = engine.openmp_library(), os.environ.get("LD_PRELOAD", "")
    if library and not _OPENMP.search(before):
        found["LD_PRELOAD"] = os.pathsep.join(filter(None, (str(library), before)))
    return found


def inherited(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of this program's own environment variables that change what the server does.

    Nothing that names a place, a machine or a person, and no secret.
    """
    return {
        name: value
        for name, value in sorted(kept(variables).items())
        if not _PRIVATE.search(name)
        and any(re.fullmatch(n, name) and re.fullmatch(v, value) for n, v in _INHERITED)
    }


def check_quantized(server: Server) -> None:
    """Raises MeasurementError if the engine set aside the quantization or a kernel asked for.

    vLLM says so in its log only and serves the model all the same: a method that it has no layer
    for leaves the model unquantized, and a kernel that it has not is replaced by another. The row
    would be the baseline, or the other kernel, under the wrong name.
    """
    log = server.read_log()
    for words, what, fix in _SET_ASIDE:
        if found := re.search(words, log):
            said = found[found.lastindex or 0]
            raise MeasurementError(f"{what} (the engine's log says {said!r})", fix)
    backend = dict(itertools.pairwise(server.argv)).get("--linear-backend", "auto")
    kernel = server_facts.parse_log(log).linear_kernel
    if backend != "auto" and (kernel is None or "unoptimized" in kernel):
        raise MeasurementError(
            f"the linear backend {backend!r} was asked for; the kernel that the engine's log "
            f"names is {kernel or 'none'}",
            "choose one that has a kernel for every layer of this checkpoint, or leave it out",
        )


def check_gguf(server: Server, checkpoint: Checkpoint) -> None:
    """Raises MeasurementError unless our plugin loaded the GGUF file that is served.

    Without it vLLM takes the rows of attention as they are stored, and answers worse without a
    word. Its log also says which kernels the weights get.
    """
    if not checkpoint.is_gguf:
        return
    log = server.read_log()
    if not re.search(r"GGUF of \w+: the rows of \d+ tensors were put back", log):
        raise MeasurementError(
            "the GGUF file was loaded without this project's plugin: its rows are in another order",
            "let VLLM_PLUGINS, if it is set, name gguf and quantbench_gguf",
        )
    kernel = server_facts.parse_log(log).linear_kernel or ""
    if "Triton" in kernel:
        say(
            f"{kernel}: the CUDA kernels of vllm-gguf-plugin do not load here; Triton's give the "
            "same answers 7 to 150 times slower"
        )


def max_model_len(server: Server) -> int:
    """The longest sequence the server takes, in tokens, as it says itself."""
    return int(json.loads(server.get("/v1/models"))["data"][0]["max_model_len"])


def facts(engine: Engine, server: Server, checkpoint: Checkpoint) -> EngineFacts:
    """What the server did: its API and `/metrics` first, its log second, unknown stays unknown."""
    said = server_facts.combine(
        server_facts.parse_log(server.read_log()),
        server_facts.from_metrics(server.get("/metrics")),
    )
    return EngineFacts(
        version=engine.version,
        build=engine.build,
        lm_eval_version=engine.lm_eval_version,
        lock_sha256=engine.lock_sha256,
        image_digest=engine.image_digest,
        argv=("vllm", *checkpoint.public(server.argv[3:])),
        environment={**inherited(os.environ), **public_environment(engine, checkpoint)},
        startup_s=round(server.startup_s, 3),
        **dataclasses.asdict(said),
    )


def public_environment(engine: Engine, checkpoint: Checkpoint) -> dict[str, str]:
    """What is set for the server, without places of this machine."""
    found, of_the_job = environment(engine, checkpoint), downloaded_code()
    found = {name: value for name, value in found.items() if name not in of_the_job}
    if "PYTHONPATH" in found:
        found["PYTHONPATH"] = "bench/engine/plugin"  # as it is in a checkout of this repository
    if "LD_PRELOAD" in found:
        found["LD_PRELOAD"] = installed.OPENMP  # as it is in the engine's environment
    kept = {name: f"{_COMPILED}/{part}" for name, part in _CACHES.items() if name in found}
    return found | kept
