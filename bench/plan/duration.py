"""How long a stage that was never measured here will take: reckoned, with how far it may be off.

Three things decide: the weights are read from a disk, then each prompt costs two operations a
parameter and token, and each step of an answer reads all weights once. What is known of the disk,
the GPU and the tasks is knowledge of the kind and not of the machine, so each part has a spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.config import Hardware, QualityOptions, ServeOptions, SpeedOptions, TaskOptions
from bench.engine import tasknames
from bench.plan import fit
from bench.plan.past import Experience
from bench.records.pace import Pace, prompts
from bench.weights.sizes import Shape, Sizes


@dataclass(frozen=True)
class Gpu:
    """NVIDIA's own figures for one GPU: bytes and dense 16-bit operations a second."""

    bandwidth: float
    operations: float


# By what a name holds; of several the longest. From NVIDIA's data sheets, without sparsity.
GPUS = {
    name: Gpu(gigabytes * 1e9, teraflops * 1e12)
    for name, gigabytes, teraflops in (
        ("t4", 320, 65), ("v100", 900, 125), ("a10", 600, 125), ("a10g", 600, 70),
        ("a30", 933, 165), ("a40", 696, 150), ("a100", 2039, 312), ("a100 40", 1555, 312),
        ("a6000", 768, 155), ("6000 ada", 960, 182), ("l4", 300, 121), ("l40", 864, 181),
        ("l40s", 864, 362), ("h100", 3350, 989), ("h100 pcie", 2000, 756), ("h200", 4800, 989),
        ("gh200", 4000, 989), ("b200", 8000, 2250), ("3090", 936, 71), ("4090", 1008, 165),
        ("5090", 1792, 210),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What a task asks.

    Attributes:
        requests: for each document.
        tokens: of a request, in the mean over all documents, without examples.
        answer_tokens: that the model writes.
        documents: in the split that lm-eval evaluates.
        first_tokens: of a request of the first documents, where those are of another kind.
    """

    requests: int
    tokens: int
    answer_tokens: int
    documents: int
    first_tokens: int | None = None


# HellaSwag's are counted in the data set: it begins with captions of videos, half as long as the
# instructions that follow. The others are round figures.
TASKS = {
    "hellaswag": Task(4, 90, 0, 10_042, first_tokens=45),
    "arc_easy": Task(4, 40, 0, 2_376),
    "arc_challenge": Task(4, 45, 0, 1_172),
    "piqa": Task(2, 45, 0, 1_838),
    "winogrande": Task(2, 30, 0, 1_267),
    "boolq": Task(2, 150, 0, 3_270),
    "openbookqa": Task(4, 20, 0, 500),
    "mmlu": Task(4, 110, 0, 14_042),
    "gsm8k": Task(1, 100, 150, 1_319),
    "gsm8k_cot_llama": Task(1, 150, 150, 1_319),
    "ifeval": Task(1, 60, 400, 541),
}


@dataclass(frozen=True)
class Part:
    """One part of the time; it may be a `spread` times shorter or longer."""

    name: str
    seconds: float
    spread: float


# A machine's volume, most of them over a network; a local NVMe disk is ten times as fast.
_DISK_BYTES_PER_S, _DISK_SPREAD = 0.3e9, 2.5
_PROCESSES_S = 45.0  # four Python processes import torch and vLLM one after the other
_COMPILE_S = 60.0  # torch.compile and the capture of CUDA graphs, the first time
_OPERATIONS_SHARE = 0.55  # of the data sheet's that a server reaches on prompts
_BANDWIDTH_SHARE = 0.7  # likewise, on answers
_FP8_GAIN = 1.4  # where weights and activations are in 8 bits, and the tensor cores have them
_REQUEST_S = 0.01  # that a request takes whatever the model: HTTP, tokens, the scheduler
_STAGE_S = 40.0  # before and after: lm-eval's documents, the fixed text, warm-up
_REPEAT_S = 5.0


def find_gpu(hardware: Hardware) -> Gpu | None:
    """The GPU that a hardware's name or id holds, or None if it is not known here."""
    text = f"{hardware.name} {hardware.id}".lower().replace("-", " ")
    words = f" {text.replace(',', ' ')} "
    found = [name for name in GPUS if f" {name} " in words or f" {name}gb" in words]
    return GPUS[max(found, key=len)] if found and hardware.engine == "cuda" else None


def load(sizes: Sizes, seen: Experience = Experience()) -> Part:  # noqa: B008 - it is frozen
    """Reading the weights: at the speed that this hardware's records saw, else at a disk's usual.

    Args:
        seen: on the same hardware.
    """
    if seen.bytes_per_s:
        seconds = sizes.download_bytes / seen.bytes_per_s
        return Part("weights at the speed of earlier loads", seconds, 1.5)
    seconds = sizes.download_bytes / _DISK_BYTES_PER_S
    return Part("weights at a disk's usual speed, a guess", seconds, _DISK_SPREAD)


def start(options: ServeOptions, seen: Experience = Experience()) -> Part:  # noqa: B008
    """A server's start but for the weights: as earlier ones on this hardware, else the usual."""
    if seen.start_s:
        return Part("start as earlier ones", seen.start_s, 1.3)
    compiling = 0.0 if options.enforce_eager else _COMPILE_S
    return Part("start and compilation as usual", _PROCESSES_S + compiling, 1.6)


def quality(
    asked: QualityOptions, sizes: Sizes, options: ServeOptions, hardware: Hardware
) -> Part | None:
    """A quality stage, or None where the GPU, the model or a task is not known."""
    gpu, shape = find_gpu(hardware), sizes.shape
    tables = asked.asked()
    if gpu is None or shape is None or not all(_is_known(table) for table in tables):
        return None
    seconds = _STAGE_S
    for table in tables:
        task = TASKS[table.name]
        given = table.documents if isinstance(table.documents, int) else task.documents
        requests = min(given, task.documents) * task.requests * table.seeds
        each = task.first_tokens if table.selection == "first" and given < 1000 else None
        tokens = (each or task.tokens) * (1 + _examples(table))
        answer_tokens = min(task.answer_tokens, table.generation.max_gen_toks or math.inf)
        together = min(asked.concurrency, options.max_num_seqs or asked.concurrency)
        seconds += requests * seconds_per_request(
            tokens, int(answer_tokens), together, sizes, options, hardware
        )
    return Part("requests by the GPU's data sheet", seconds, 2.0)


def _is_known(table: TaskOptions) -> bool:
    """Whether it is known what a task asks; nobody knows how long a thought is."""
    return table.name in TASKS and table.think_end_token is None


def _examples(table: TaskOptions) -> int:
    """How many stand before each question: the task's own where no other number is said."""
    if table.num_fewshot is not None:
        return table.num_fewshot
    own = tasknames.known().get(table.name)
    return (own.shots if own else None) or 0


def speed(
    asked: SpeedOptions,
    sessions: Iterable[Sequence[Pace]],
    sizes: Sizes,
    options: ServeOptions,
    hardware: Hardware,
) -> Part | None:
    """A speed stage, or None where the GPU or the model is not known.

    Args:
        sessions: of each the loads.
    """
    if find_gpu(hardware) is None or sizes.shape is None:
        return None
    most = options.max_num_seqs or 256

    def each_s(together: float) -> float:
        count = int(min(most, together))
        lengths = asked.input_tokens, asked.output_tokens
        return seconds_per_request(*lengths, count, sizes, options, hardware)

    alone = each_s(1)
    seconds = 0.0
    for paces in sessions:
        seconds += _STAGE_S
        for pace in paces:
            count = prompts(asked, pace)
            each = each_s(min(count, pace.concurrency))
            busy = max(count / pace.rate_rps, count * each) + alone
            seconds += asked.repeats * (busy + asked.warmup_prompts * each + alone + _REPEAT_S)
    return Part("requests by their rate and the GPU's data sheet", seconds, 1.5)


def seconds_per_request(
    tokens: int,
    answer_tokens: int,
    together: int,
    sizes: Sizes,
    options: ServeOptions,
    hardware: Hardware,
) -> float:
    """The time that one request adds, where so many are under way together.

    A prompt costs two operations for each parameter and token, or the reading of all weights if
    that takes longer. GGUF's layers are unpacked to 16 bits for every batch of prompts: written
    and read again. Each further token is one reading of the weights, shared by those together.
    """
    gpu, shape = find_gpu(hardware), sizes.shape
    assert gpu
    assert shape
    gpus, count = options.gpus, parameters(shape)
    operations = gpu.operations * gpus * _OPERATIONS_SHARE
    bandwidth = gpu.bandwidth * gpus * _BANDWIDTH_SHARE
    if "FP8" in f"{sizes.format} {options.quantization}".upper():
        operations *= _FP8_GAIN
    weights = fit.weights_bytes(sizes, options) or sizes.weights_bytes
    batch = max(min(together, _BATCH_TOKENS // max(tokens, 1)), 1)
    reading = weights / bandwidth
    if sizes.quantization == "gguf":
        reading += 2 * 2 * count / bandwidth
        prompt = 2 * count * tokens / operations + reading / batch
    else:
        prompt = max(2 * count * tokens / operations, reading / batch)
    answer = answer_tokens * (weights / bandwidth / max(together, 1) + 2 * count / operations)
    return prompt + answer + _REQUEST_S / max(together, 1)


_BATCH_TOKENS = 2048  # of prompts that a server computes together, at the least


def parameters(shape: Shape) -> int:
    """The parameters of a dense model of these dimensions, its query as wide as its hidden size."""
    attention = 2 * shape.hidden + 2 * shape.kv_heads * shape.head_dim
    layer = shape.hidden * (attention + 3 * shape.intermediate)
    return shape.layers * layer + 2 * shape.vocabulary * shape.hidden


def bounds(parts: Sequence[Part]) -> tuple[float, float]:
    """The shortest and the longest that the parts may take together, in seconds."""
    return sum(p.seconds / p.spread for p in parts), sum(p.seconds * p.spread for p in parts)
