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
from bench.plan import duration, past
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


# Of GPUs with GDDR memory: the width of its bus in bits, and the Gbit a second of each line.
BUSES = {
    "t4": (256, 10), "a10": (384, 12.5), "a10g": (384, 12.5), "a40": (384, 14.5),
    "a6000": (384, 16), "6000 ada": (384, 20), "l4": (192, 12.5), "l40": (384, 18),
    "l40s": (384, 18), "3090": (384, 19.5), "4090": (384, 21), "5090": (512, 28),
}  # fmt: skip


@pytest.mark.parametrize("gpu", BUSES)
def test_a_bandwidth_is_that_of_the_memorys_bus(gpu: str) -> None:
    lines, gigabits = BUSES[gpu]
    assert duration.GPUS[gpu].bandwidth == lines * gigabits / 8 * 1e9


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
    seen = past.experience(map(past.of, records))
    load = duration.load(facts, seen)
    assert load.seconds == pytest.approx(10.0)
    assert "earlier" in load.name
    start = duration.start(ServeOptions(), seen)
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


# -- reckoned by hand: of an L40's data sheet 0.55 of the operations and 0.7 of the bandwidth ------

OPERATIONS, BANDWIDTH = 0.55 * 181e12, 0.7 * 864e9
SHAPE = sizes.Shape(32, 8, 128, 4096, 14_336, 128_256, 8192)
PARAMETERS = 32 * 4096 * (2 * 4096 + 2 * 8 * 128 + 3 * 14_336) + 2 * 128_256 * 4096
WEIGHTS = 15 * 10**9
FACTS = sizes.Sizes(WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS, None, SHAPE, "test")


def each_s(
    tokens: int, answer: int, together: int, facts: sizes.Sizes = FACTS, **more: Any
) -> float:
    options = ServeOptions(**more)
    return duration.seconds_per_request(tokens, answer, together, facts, options, L40)


def test_the_parameters_are_those_of_its_matrices() -> None:
    assert duration.parameters(SHAPE) == PARAMETERS


@pytest.mark.parametrize("together", [1, 7, 64])
@pytest.mark.parametrize(
    ("tokens", "batch"), [(1, 2048), (40, 51), (1024, 2), (5000, 1), (0, 2048)]
)
def test_a_prompt_costs_two_operations_a_parameter_or_the_reading_of_the_weights(
    tokens: int, batch: int, together: int
) -> None:
    computing = 2 * PARAMETERS * tokens / OPERATIONS
    reading = WEIGHTS / BANDWIDTH / min(batch, together)
    assert each_s(tokens, 0, together) == pytest.approx(max(computing, reading) + 0.01 / together)


@pytest.mark.parametrize("together", [1, 7, 64])
def test_a_token_of_an_answer_costs_a_reading_that_those_together_share(together: int) -> None:
    more = each_s(1024, 150, together) - each_s(1024, 50, together)
    reading = WEIGHTS / BANDWIDTH / together
    assert more == pytest.approx(100 * (reading + 2 * PARAMETERS / OPERATIONS))


def test_of_nothing_at_once_is_reckoned_as_of_one() -> None:
    assert each_s(100, 50, 0) == each_s(100, 50, 1)


def test_two_gpus_take_half_the_time_and_8_bits_1_4_of_the_operations() -> None:
    front = 0.01
    plain = each_s(4096, 10, 1) - front
    assert each_s(4096, 10, 1, tensor_parallel_size=2) - front == pytest.approx(plain / 2)
    prompt = each_s(4096, 0, 1) - front
    for facts, more in (
        (replace(FACTS, format="fp8 blocks"), {}),
        (FACTS, {"quantization": "fp8"}),
    ):
        quicker = each_s(4096, 0, 1, facts, **more) - front
        assert quicker == pytest.approx(prompt / 1.4)


def test_a_gguf_is_unpacked_to_16_bits_for_each_batch_of_prompts() -> None:
    packed = replace(FACTS, quantization="gguf")
    for together, batch in ((1, 1), (64, 20)):
        unpacking = (WEIGHTS + 2 * 2 * PARAMETERS) / BANDWIDTH / batch
        computing = 2 * PARAMETERS * 100 / OPERATIONS
        found = each_s(100, 0, together, packed)
        assert found == pytest.approx(computing + unpacking + 0.01 / together)


def test_a_stage_of_quality_is_its_requests_and_40_seconds() -> None:
    def seconds(options: ServeOptions | None = None, **asked: Any) -> float:
        text = json.dumps({"tasks": ["hellaswag"], "concurrency": 8, **asked})
        part = duration.quality(
            QualityOptions.model_validate_json(text), FACTS, options or ServeOptions(), L40
        )
        assert part
        assert part.spread == 2
        return part.seconds

    assert seconds(documents=50) == pytest.approx(40 + 50 * 4 * each_s(90, 0, 8))
    assert seconds(documents="all") == pytest.approx(40 + 10_042 * 4 * each_s(90, 0, 8))
    assert seconds(documents=20_000) == seconds(documents="all")
    first = seconds(documents=50, selection="first")
    assert first == pytest.approx(40 + 50 * 4 * each_s(45, 0, 8))
    many = seconds(documents=1000, selection="first")
    assert many == pytest.approx(40 + 1000 * 4 * each_s(90, 0, 8))
    shots = seconds(documents=50, num_fewshot=5)
    assert shots == pytest.approx(40 + 50 * 4 * each_s(90 * 6, 0, 8))
    fewer = seconds(ServeOptions(max_num_seqs=2), documents=50)
    assert fewer == pytest.approx(40 + 50 * 4 * each_s(90, 0, 2))
    more = seconds(ServeOptions(max_num_seqs=99), documents=50)
    assert more == seconds(documents=50)
    both = seconds(documents=50, tasks=["hellaswag", "piqa"])
    assert both == pytest.approx(seconds(documents=50) + 50 * 2 * each_s(45, 0, 8))


def test_a_stage_of_speed_is_its_loads_and_40_seconds_for_each_session() -> None:
    asked = SpeedOptions(
        input_tokens=512, output_tokens=100, prompts=60, prompts_each=3, repeats=2, warmup_prompts=4
    )

    def seconds(*paces: Pace, options: ServeOptions | None = None) -> float:
        part = duration.speed(asked, [paces, paces], FACTS, options or ServeOptions(), L40)
        assert part
        assert part.spread == 1.5
        return part.seconds

    def reckoned(count: int, rate: float, together: int) -> float:
        each, alone = each_s(512, 100, together), each_s(512, 100, 1)
        busy = max(count / rate, count * each) + alone
        return 2 * (busy + 4 * each + alone + 5)

    loop, slow, free = Pace(concurrency=5), Pace(0.01), Pace(float("inf"))
    assert seconds(slow) == pytest.approx(2 * (40 + reckoned(60, 0.01, 60)))
    assert seconds(free) == pytest.approx(2 * (40 + reckoned(60, float("inf"), 60)))
    assert seconds(loop) == pytest.approx(2 * (40 + reckoned(15, float("inf"), 5)))
    assert seconds(slow, loop) == pytest.approx(seconds(slow) + seconds(loop) - 2 * 40)
    few = ServeOptions(max_num_seqs=3)
    assert seconds(free, options=few) == pytest.approx(2 * (40 + reckoned(60, float("inf"), 3)))
    asked = asked.model_copy(update={"prompts": 400})
    assert seconds(free) == pytest.approx(2 * (40 + reckoned(400, float("inf"), 256)))


@pytest.mark.parametrize("name", duration.TASKS)
def test_a_task_asks_for_a_choice_or_for_one_answer(name: str) -> None:
    task = duration.TASKS[name]
    assert task.requests > 1 if task.answer_tokens == 0 else task.requests == 1
    assert task.answer_tokens >= 0
    assert 0 < (task.first_tokens or task.tokens) <= task.tokens
    assert task.documents > 0


def test_a_start_is_a_compilation_and_a_load_a_disk_s() -> None:
    assert duration.start(ServeOptions()) == duration.Part(
        "start and compilation as usual", 105, 1.6
    )
    assert duration.start(ServeOptions(enforce_eager=True)).seconds == 45
    loading = duration.load(FACTS)
    assert (loading.seconds, loading.spread) == (WEIGHTS / 0.3e9, 2.5)
    seen = past.Experience(bytes_per_s=1e9, start_s=33.0)
    again = duration.load(FACTS, seen), duration.start(ServeOptions(), seen)
    assert [(part.seconds, part.spread) for part in again] == [(15.0, 1.5), (33.0, 1.3)]


def test_parts_are_added_with_their_spread() -> None:
    parts = [duration.Part("a", 10.0, 2.0), duration.Part("b", 30.0, 1.5)]
    assert duration.bounds(parts) == (25.0, 65.0)
