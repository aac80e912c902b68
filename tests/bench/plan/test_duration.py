"""How long a stage never measured may take, against what was published of one machine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from folders import PUBLISHED_MODELS, RECORDED
from plans import measured

from bench.config import Hardware, QualityOptions, ServeOptions, SpeedOptions, Variant
from bench.modelsfile.problems import load_experiment
from bench.plan import duration
from bench.plan.jobs import find_jobs
from bench.records.pace import Pace
from bench.records.record import ModelFacts, ModelFile, Record
from bench.weights import sizes

EXPERIMENT = load_experiment(PUBLISHED_MODELS)
L40 = next(entry for entry in EXPERIMENT.hardware if entry.id == "l40")
PUBLISHED = {
    row["id"]: row.get("quality") or {}
    for row in json.loads((RECORDED / "reference" / "l40-2025.json").read_text())["rows"]
}
MEASURED = [v for v in EXPERIMENT.variant if PUBLISHED.get(v.reproduces or "")]
REQUESTS = 4 * 400  # HellaSwag's endings


def known(variant: Variant) -> sizes.Sizes:
    return sizes.known()[sizes.key(variant)]


@pytest.mark.parametrize("variant", MEASURED, ids=lambda variant: variant.id)
def test_the_published_quality_stages_within_a_factor_of_two(variant: Variant) -> None:
    row = PUBLISHED[variant.reproduces or ""]
    part = duration.quality(
        EXPERIMENT.quality_options(variant, L40),
        known(variant),
        EXPERIMENT.serve_options(variant, L40),
        L40,
    )
    assert part
    nothing = duration.quality(
        QualityOptions(tasks=("hellaswag",), documents=1),
        known(variant),
        EXPERIMENT.serve_options(variant, L40),
        L40,
    )
    assert nothing
    asking_s = part.seconds - nothing.seconds
    published_s = REQUESTS / row["requests_per_s"]
    assert published_s / 2 < asking_s < published_s * 2


LOADED = [variant for variant in MEASURED if "load_s" in PUBLISHED[variant.reproduces or ""]]


@pytest.mark.parametrize("variant", LOADED, ids=lambda variant: variant.id)
def test_the_published_loads_within_a_factor_of_two(variant: Variant) -> None:
    published_s = PUBLISHED[variant.reproduces or ""]["load_s"]
    assert published_s / 2 < duration.load(known(variant)).seconds < published_s * 2
    assert "a guess" in duration.load(known(variant)).name


def hardware(name: str, **more: Any) -> Hardware:
    fields: dict[str, Any] = {"engine": "cuda", "runner": ("x",), "gpu_memory_gib": 44.5} | more
    return Hardware(id="gpu", name=name, **fields)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("NVIDIA L40, 46 GB", "l40"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100 pcie"),
        ("A100 40GB", "a100 40"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("NVIDIA RTX 6000 Ada Generation", "6000 ada"),
    ],
)
def test_a_gpu_is_known_by_its_name(name: str, gpu: str) -> None:
    assert duration.find_gpu(hardware(name)) == duration.GPUS[gpu]


def test_what_is_not_known_is_not_guessed() -> None:
    variant, options = MEASURED[0], ServeOptions()
    facts = known(variant)
    asked, loads = QualityOptions(tasks=("hellaswag",)), [(Pace(1.0),)]
    unknown = hardware("some accelerator")
    assert duration.find_gpu(unknown) is None
    assert duration.find_gpu(hardware("L40", engine="cpu")) is None
    assert duration.quality(asked, facts, options, unknown) is None
    assert duration.speed(SpeedOptions(), loads, facts, options, unknown) is None
    assert duration.quality(asked, replace(facts, shape=None), options, L40) is None
    assert (
        duration.speed(SpeedOptions(), [(Pace(1.0),)], replace(facts, shape=None), options, L40)
        is None
    )
    assert duration.quality(QualityOptions(tasks=("own",)), facts, options, L40) is None


def test_a_task_with_a_table_of_its_own_takes_its_time_too() -> None:
    """As often as asked, with its own examples; how long a thought is, nobody knows."""
    facts, options = known(MEASURED[0]), ServeOptions()

    def seconds(*tasks: str, **table: object) -> float | None:
        own = [{"name": "gsm8k", "num_fewshot": 0, "documents": 100, **table}] if table else []
        asked = QualityOptions.model_validate_json(json.dumps({"tasks": tasks, "task": own}))
        part = duration.quality(asked, facts, options, L40)
        return part.seconds if part else None

    alone, both = seconds("hellaswag"), seconds("hellaswag", seeds=1)
    often = seconds("hellaswag", seeds=3)
    assert alone and both and often and alone < both
    assert often - alone == pytest.approx(3 * (both - alone))
    assert seconds("hellaswag", num_fewshot=None) == seconds("hellaswag", num_fewshot=5)
    assert seconds("hellaswag", generation={"max_gen_toks": 9000}) == both
    short = seconds("hellaswag", generation={"max_gen_toks": 10})
    assert short and alone < short < both
    assert seconds("hellaswag", think_end_token="</think>") is None
    assert seconds("hellaswag", name="own") is None


def test_a_rate_that_is_kept_takes_its_time_and_one_that_is_not_takes_the_server_s() -> None:
    facts = known(MEASURED[0])

    def seconds(*rates: float, prompts: int = 200, sessions: int = 1) -> float:
        asked = SpeedOptions(prompts=prompts, repeats=3)
        paces = tuple(map(Pace, rates))
        part = duration.speed(asked, [paces] * sessions, facts, ServeOptions(), L40)
        assert part
        return part.seconds

    assert seconds(1.0) - seconds(2.0) == pytest.approx(3 * (200 - 100), rel=0.01)
    assert seconds(1e6) == pytest.approx(seconds(float("inf")), rel=0.01)
    assert seconds(float("inf"), prompts=400) > seconds(float("inf"))
    assert seconds(1.0, sessions=3) == pytest.approx(3 * seconds(1.0))


def test_a_closed_loop_is_as_long_as_its_requests_side_by_side() -> None:
    facts, asked = known(MEASURED[0]), SpeedOptions(prompts_each=8)

    def seconds(concurrency: int) -> float:
        loops = [(Pace(concurrency=concurrency),)]
        part = duration.speed(asked, loops, facts, ServeOptions(), L40)
        assert part
        return part.seconds

    assert seconds(1) < seconds(64) < 8 * seconds(1)


def loaded(variant: str, load_s: float, startup_s: float) -> Record:
    """A record whose server read 10 GB in `load_s`."""
    record = measured(find_jobs(EXPERIMENT, RECORDED / "none")[0])
    assert record.engine
    file = ModelFile(name="model.safetensors", size_bytes=10**10, sha256="0" * 64)
    other = ModelFile(name="tokenizer.json", size_bytes=10**9, sha256="0" * 64)
    return record.model_copy(
        update={
            "variant": variant,
            "model": ModelFacts(source="hub", repo="a/b", files=(file, other)),
            "engine": record.engine.model_copy(update={"load_s": load_s, "startup_s": startup_s}),
        }
    )


def test_earlier_records_of_the_machine_are_better_than_a_guess() -> None:
    facts = replace(known(MEASURED[0]), download_bytes=2 * 10**10)
    records = [loaded("a", 5.0, 60.0), loaded("b", 4.0, 64.0), loaded("c", 20.0, 70.0)]
    load = duration.load(facts, records)
    assert load.seconds == pytest.approx(10.0)
    assert "earlier" in load.name
    start = duration.start(ServeOptions(), records)
    assert start.seconds == pytest.approx(55.0)
    assert start.spread < duration.start(ServeOptions()).spread


def test_a_server_that_compiles_nothing_starts_sooner() -> None:
    eager = duration.start(ServeOptions(enforce_eager=True)).seconds
    assert eager < duration.start(ServeOptions()).seconds


def test_the_parameters_of_the_published_models() -> None:
    qwen, llama = known(MEASURED[0]).shape, known(MEASURED[-1]).shape
    assert qwen
    assert llama
    assert duration.parameters(qwen) == pytest.approx(8.19e9, rel=0.01)
    assert duration.parameters(llama) == pytest.approx(70.6e9, rel=0.01)


def test_parts_are_added_with_their_spread() -> None:
    parts = [duration.Part("a", 10.0, 2.0), duration.Part("b", 30.0, 1.5)]
    assert duration.bounds(parts) == (25.0, 65.0)
