"""Schema-valid records with their sidecars, made from a seed: for tests and benchmarks only.

`speed_record` and `quality_record` make one record each from a `Variant`, whose true latency and
accuracy are its fields, so that a test knows what the report must find. `write_demo` writes a
small varied set, `write_many` thousands. Equal arguments give equal bytes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import synthetic_parts as parts
from synthetic_parts import Machine, Variant

from bench.plan.jobs import Job
from bench.records import store
from bench.records.record import ModelFacts, Record, Sidecar, canonical_json

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ENGINE = "0.32.0"
SENT = ("input_tokens", "output_tokens", "prompts", "warmup_prompts")


L40 = Machine()
LAPTOP = Machine("laptop", "A laptop, no GPU", None, "Intel Core i7-1365U", None, None)

BF16 = Variant("Qwen3-8B BF16", baseline=True, tpot_ms=50, accuracy=0.64, text_loss=0.0)
FP8 = replace(
    BF16, name="Qwen3-8B FP8", baseline=False, tpot_ms=33, weights_gib=8.8, quantization="fp8",
    text_loss=0.001,
)  # fmt: skip
AWQ = replace(
    FP8, name="Qwen3-8B AWQ", tpot_ms=104, weights_gib=5.7, quantization="awq",
    weights="Qwen/Qwen3-8B-AWQ", kernel="TritonW4A16LinearKernel", accuracy=0.62, text_loss=0.02,
)  # fmt: skip
MARLIN = replace(AWQ, name="Qwen3-8B AWQ, Marlin", tpot_ms=25, kernel="MarlinLinearKernel")
SMALL = Variant("Qwen3-0.6B BF16", "Qwen3-0.6B", True, 40, 12, 0.45, 1.2)
BROKEN = Variant("Qwen3-0.6B INT2", "Qwen3-0.6B", False, 38, 10, 0.25, 0.3)
DEMO = (BF16, FP8, AWQ, MARLIN, SMALL, BROKEN)


def speed_record(
    variant: Variant,
    machine: Machine = L40,
    *,
    finished: datetime = START,
    seed: int = 0,
    rates: Sequence[float] = (10.0, math.inf),
    loops: Sequence[int] = (),
    repeats: int = 3,
    prompts: int = 24,
    lengths: tuple[int, int] = (512, 128),
    noise: float = 0.01,
    engine: str = ENGINE,
    throttled: bool | None = False,
    shared: bool | None = False,
) -> tuple[Record, list[bytes]]:
    """A speed record whose repeats differ by the relative `noise`; and its sidecars' bytes.

    Closed `loops` are as fast as no limit, and a fifth of their time is the front end's.
    """
    random = parts.generator("speed", variant.name, machine.id, seed)
    loads: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for rate, loop in [*((rate, None) for rate in rates), *((math.inf, n) for n in loops)]:
        made = [
            parts.repeat(
                random,
                variant,
                rate,
                number=i,
                prompts=prompts,
                noise=noise,
                finished=finished,
                lengths=lengths,
            )
            for i in range(repeats)
        ]
        if loop is not None:
            for repeat, row in made:
                row["concurrency"] = loop
                repeat["server"] = parts.server_times(repeat)
        rows += [row for _, row in made]
        loads.append(
            {
                "request_rate_rps": "inf" if math.isinf(rate) else rate,
                "concurrency": loop,
                "argv": ["vllm", "bench", "serve", "--request-rate", f"{rate:g}"],
                "repeats": [repeat for repeat, _ in made],
                "telemetry": parts.telemetry(machine, variant, throttled, shared),
            }
        )
    sidecar, data = store.pack_sidecar(rows)
    workload = {"input_tokens": lengths[0], "output_tokens": lengths[1], "prompts": prompts}
    speed = {
        "workload": {
            **workload,
            "warmup_prompts": 4,
            "warmup_seed": 999,
            "random_weights": variant.random_weights,
        },
        "loads": loads,
        "requests": sidecar.model_dump(mode="json"),
    }
    return parts.record(
        "speed", variant, machine, finished=finished, engine=engine, asked=workload, speed=speed
    ), [data]


def of_job(record: Record, job: Job) -> Record:
    """The record as one of a job: what it says was asked and served is what the job asks for."""
    spec, made = job.spec, record.engine
    assert made
    asked = {"version": spec["engine"]["version"], "build": spec["engine"]["build"]}
    served = {part: spec["model"].get(part) for part in ("repo", "file", "bundled", "revision")}
    update: dict[str, Any] = {
        **{"variant": job.variant.id, "hardware": job.hardware.id, **asdict(job.description)},
        **{"spec": spec, "key": job.key, "engine": made.model_copy(update=asked)},
        "model": ModelFacts(source="hub", **served),
    }
    if record.speed:
        workload = record.speed.workload.model_copy(
            update={name: spec["speed"][name] for name in SENT}
        )
        update["speed"] = record.speed.model_copy(update={"workload": workload})
    return record.model_copy(update=update)


def quality_record(
    variant: Variant,
    machine: Machine = L40,
    *,
    finished: datetime = START,
    seed: int = 0,
    tasks: Sequence[str] = ("hellaswag",),
    documents: int = 200,
    split: int = 10_042,
    document_seed: int = 1234,
    flips: float = 0.04,
    engine: str = ENGINE,
) -> tuple[Record, list[bytes]]:
    """A quality record; variants of one `document_seed` answer the same documents alike.

    A document is answered right when its difficulty is below the variant's accuracy; a share
    `flips` of documents is drawn anew for each variant.
    """
    made: list[tuple[dict[str, Any], Sidecar, bytes]] = []
    for task in tasks:
        rows = parts.answers(
            variant, task, seed=seed, documents=documents, document_seed=document_seed, flips=flips
        )
        parts.add_texts(rows, variant, task, document_seed)
        result = parts.task(task, rows, documents, split, document_seed)
        made.append((result, *store.pack_sidecar(rows)))
    quality = {
        "apply_chat_template": False,
        "requests": documents * parts.CHOICES * len(tasks),
        "duration_s": documents * parts.CHOICES / 90,
        "requests_per_s": 90.0,
        "tasks": [
            {**task, "samples": sidecar.model_dump(mode="json")} for task, sidecar, _ in made
        ],
    }
    asked = {"tasks": list(tasks), "documents": documents, "seed": document_seed}
    record = parts.record(
        "quality", variant, machine, finished=finished, engine=engine, asked=asked, quality=quality
    )
    return record, [data for _, _, data in made]


def failed_record(
    variant: Variant, machine: Machine = L40, *, stage: str = "speed", finished: datetime = START
) -> Record:
    """A record of a stage that came to nothing."""
    error = {"kind": "ServerError", "message": "the server died: out of memory"}
    return parts.record(
        stage,
        variant,
        machine,
        finished=finished,
        engine=ENGINE,
        asked={},
        status="failed",
        error=error,
    )


def write(
    root: Path,
    variants: Sequence[Variant] = DEMO,
    machine: Machine = L40,
    *,
    finished: datetime = START,
    seed: int = 0,
) -> list[Path]:
    """Both stages of every variant, measured a minute apart; the records' paths."""
    paths = []
    for number, variant in enumerate(variants):
        time = finished + timedelta(minutes=number)
        for record, sidecars in (
            speed_record(variant, machine, finished=time, seed=seed),
            quality_record(variant, machine, finished=time, seed=seed),
        ):
            paths.append(store.write(root, record, sidecars))
    return paths


def write_demo(root: Path, *, seed: int = 0) -> list[Path]:
    """Two machines, two families, one of each special case, and three weeks of history."""
    paths: list[Path] = []
    for week in range(3):
        paths += write(root, DEMO, finished=START + timedelta(weeks=week), seed=seed + week)
    paths += write(root, (SMALL, BROKEN), LAPTOP, seed=seed)
    later = START + timedelta(weeks=3)
    drawn = Variant("Llama-70B random", "Llama-70B", True, random_weights=True, weights_gib=37)
    record, sidecars = speed_record(drawn, finished=later, throttled=True, shared=True)
    paths.append(store.write(root, record, sidecars))
    paths.append(store.write(root, failed_record(FP8, finished=later)))
    return paths


def write_many(
    root: Path, records: int, *, seed: int = 0, runs: int = 10, prompts: int = 200
) -> None:
    """About `records` records on four machines, each stage of each variant measured `runs` times.

    The runs of one stage share a sidecar: only the newest run's is ever read, and making them is
    the slow part.
    """
    machines = [Machine(f"gpu-{i}", f"GPU {i}", f"Example GPU {i}") for i in range(4)]
    for number in range(math.ceil(records / (len(machines) * 2 * runs))):
        family = f"Family {number // 5}"
        variant = Variant(
            f"Variant {number}", family, number % 5 == 0,
            tpot_ms=20 + number % 5 * 7, accuracy=0.6 - number % 5 * 0.03,
            weights_gib=16 / (1 + number % 5),
        )  # fmt: skip
        for machine in machines:
            for record, sidecars in (
                speed_record(variant, machine, seed=seed, prompts=prompts),
                quality_record(variant, machine, seed=seed, documents=400),
            ):
                _write_runs(root, record, sidecars, runs)


def _write_runs(root: Path, record: Record, sidecars: list[bytes], runs: int) -> None:
    """The record once for each week, its mean latencies a little different each time."""
    random = parts.generator("runs", record.variant, record.hardware)
    store.write(root, record, sidecars)
    for run in range(1, runs):
        raw: dict[str, Any] = copy.deepcopy(record.model_dump(mode="json"))
        time = record.provenance.finished_at + timedelta(weeks=run)
        raw["provenance"]["started_at"] = raw["provenance"]["finished_at"] = time.isoformat()
        for load in raw["speed"]["loads"] if raw["speed"] else ():
            for repeat in load["repeats"]:
                factor = float(random.lognormal(0, 0.01))
                for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"):
                    repeat[name]["mean"] *= factor
        folder = root / record.hardware / record.variant
        name = f"{record.stage}-{time:%Y%m%dT%H%M%SZ}-{record.key[:8]}.json"
        (folder / name).write_text(canonical_json(raw))
