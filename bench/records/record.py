"""The result record: one stage of one variant on one machine, once. Never edited afterwards.

The record is the only thing that passes from measuring to reporting, so everything a reader may
ask about a number is in it: what was asked (`spec`), what was served (`model`, `engine`), what
came out (`speed` or `quality`), on what (`environment`) and by which run (`provenance`). Units are
in the names. It carries no host name, user, path, UUID or secret, and no text of a data set.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=80)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """What every part of the record shares: frozen, closed, no coercion."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)


class Sidecar(Part):
    """Raw numbers beside the record: gzipped JSON, named by the hash of its bytes."""

    file: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\.json\.gz$")]
    sha256: Sha256
    size_bytes: Count
    rows: Count


class ModelFile(Part):
    """One file of the checkpoint as it was served."""

    name: str
    size_bytes: Count
    sha256: Sha256


class ModelFacts(Part):
    """What was served, pinned."""

    source: Literal["hub", "bundled", "random"]
    repo: str | None = None
    revision: Commit | None = None
    file: str | None = None
    tokenizer: str | None = None
    tokenizer_revision: Commit | None = None
    bundled: str | None = None
    derivation: str = ""
    files: tuple[ModelFile, ...] = ()
    quantization_config: dict[str, Any] | None = None
    license: str | None = None
    parameters: Count | None = None


class EngineFacts(Part):
    """The engine and what it said it did. None means it did not say: unknown, not zero."""

    name: Literal["vllm"] = "vllm"
    version: str
    build: Literal["cpu", "cuda"]
    lm_eval_version: str
    lock_sha256: Sha256
    image_digest: str | None = None
    argv: tuple[str, ...]
    environment: dict[str, str] = {}
    quantization: str | None = None
    linear_kernel: str | None = None
    attention_backend: str | None = None
    kv_cache_tokens: Count | None = None
    kv_cache_gib: Finite | None = None
    max_concurrency: Finite | None = None
    weights_gib: Finite | None = None
    load_s: Finite | None = None
    compile_s: Finite | None = None
    graph_capture_s: Finite | None = None
    graph_memory_gib: Finite | None = None
    engine_init_s: Finite | None = None
    startup_s: Finite


class Summary(Part):
    """One latency over the requests of one repeat, in milliseconds."""

    mean: Finite
    median: Finite
    std: Finite
    p50: Finite
    p90: Finite
    p99: Finite


# NVML's bits, by the words that records have for them: what holds the clocks below what was asked.
THROTTLE_REASONS = {
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "power brake",
}


class Clocks(Part):
    """One reading of the accelerator."""

    sm_mhz: Count | None = None
    memory_mhz: Count | None = None
    temperature_c: Finite | None = None
    throttle_reasons: tuple[str, ...] = ()


class Telemetry(Part):
    """What the machine did meanwhile. None means not measurable here."""

    source: Literal["nvml", "psutil"]
    samples: Count
    interval_s: Finite
    peak_memory_gib: Finite | None = None
    memory_kind: Literal["gpu", "process group rss"]
    mean_power_w: Finite | None = None
    peak_power_w: Finite | None = None
    energy_j: Finite | None = None
    energy_per_output_token_j: Finite | None = None
    start: Clocks | None = None
    during: Clocks | None = None
    end: Clocks | None = None
    throttled: bool | None = None
    shared: bool | None = None


class ServerTimes(Part):
    """What the server counted of a repeat's requests, by its own clock, without its front end.

    Means over the requests: waiting for a place in a batch, reading the prompt, and from the first
    token to the last. `iterations` are the engine's steps, and how many tokens each had on average.
    """

    queue_ms: Finite | None = None
    prefill_ms: Finite | None = None
    decode_ms: Finite | None = None
    iterations: Count | None = None
    tokens_per_iteration: Finite | None = None


class Repeat(Part):
    """One run of the workload under one load with one seed."""

    seed: Count
    started_at: AwareDatetime
    duration_s: Finite
    asked: Count
    completed: Count
    failed: Count
    input_tokens: Count
    output_tokens: Count
    server_input_tokens: Count
    server_output_tokens: Count
    prefix_cache_queries: Count | None = None
    prefix_cache_hits: Count | None = None
    request_throughput_rps: Finite
    output_throughput_tps: Finite
    total_throughput_tps: Finite
    ttft_ms: Summary
    tpot_ms: Summary
    itl_ms: Summary
    e2e_ms: Summary
    server: ServerTimes | None = None


class Load(Part):
    """The workload at one request rate; "inf" is as fast as the server takes them.

    With a `concurrency` it is a closed loop: so many are under way at once, and the rate is "inf".
    """

    request_rate_rps: Finite | Literal["inf"]
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    argv: tuple[str, ...]
    repeats: tuple[Repeat, ...]
    telemetry: Telemetry | None = None


class Workload(Part):
    """What was sent: vLLM's random data set, greedy decoding, end-of-sequence ignored."""

    dataset: Literal["random"] = "random"
    input_tokens: Count
    output_tokens: Count
    prompts: Count
    temperature: Finite = 0.0
    ignore_eos: bool = True
    warmup_prompts: Count
    warmup_seed: Count
    prefix_caching: bool = False
    random_weights: bool = False


class SpeedResult(Part):
    """Every load with every repeat; per-request latencies are in the sidecar.

    The sidecar is a list with one entry per repeat, in the order of `loads` and their repeats:
    {"request_rate_rps", "seed", "ttft_ms": [prompts], "tpot_ms": [prompts], "e2e_ms": [prompts]},
    and of a closed loop {"concurrency"}.
    """

    workload: Workload
    loads: tuple[Load, ...]
    requests: Sidecar


class Metric(Part):
    """One metric of one task, with lm-eval's own standard error.

    `name` has the filter of the answers after a comma, where it is not the plain one. `unit` is a
    share from 0 to 1, a perplexity, bits per byte, or a score of the task's own. `aggregation` says
    how `value` comes from the sidecar's numbers: their "mean", that of all of them where a document
    has several; "perplexity", e to the minus mean; "weighted perplexity", e to the minus sum of
    each document's first by the sum of its second; "bits per byte", the same without e, in bits.
    `by_seed` has the value with each of the task's sampling seeds, of which `value` is the mean.
    None where lm-eval did not say, or in a record from before it was asked.
    """

    name: str
    value: Finite
    stderr: Finite | None
    higher_is_better: bool | None = None
    unit: Literal["share", "perplexity", "bits per byte", "score"] | None = None
    aggregation: Literal["mean", "perplexity", "weighted perplexity", "bits per byte"] | None = None
    by_seed: tuple[Finite, ...] = ()


class TaskResult(Part):
    """One lm-eval task over the chosen documents.

    `asked` is the name in models.toml that brought it, of a group or a tag where it is not its own;
    `generation` is how lm-eval had answers written. Each document was asked once with each of
    `sampling_seeds`, and a value is the mean over them; without any, it was asked once. `texts` is
    how many documents' own text the model read as well; None where that could not be had, or in a
    record from before it was.
    """

    name: str
    version: str
    config_sha256: Sha256
    dataset: str
    dataset_revision: str | None
    dataset_sha256: Sha256 | None = None
    num_fewshot: Count
    documents_original: Count
    documents_effective: Count
    selection: Literal["random", "first", "all"]
    selection_seed: Count | None
    documents_sha256: Sha256
    choices: Count | None = None
    asked: str | None = None
    output_type: (
        Literal["loglikelihood", "loglikelihood_rolling", "multiple_choice", "generate_until"]
        | None
    ) = None
    apply_chat_template: bool | None = None
    generation: dict[str, Any] | None = None
    sampling_seeds: tuple[Count, ...] = ()
    texts: Count | None = None
    metrics: tuple[Metric, ...]
    samples: Sidecar


class GroupMetric(Metric):
    """One metric of a group: the mean of its tasks', each weighing as many as its documents or one.

    Over the documents of this record alone.
    """

    weight_by_size: bool


class GroupResult(Part):
    """A group of tasks, as lm-eval folds it; one without metrics only lists them."""

    name: str
    version: str
    tasks: tuple[str, ...]
    metrics: tuple[GroupMetric, ...]


class SpecialTokens(Part):
    """The ids of the tokens that the tokenizer put around each prompt by itself."""

    before: tuple[Count, ...]
    after: tuple[Count, ...]


class Fidelity(Part):
    """What the model expects at every token of one fixed text, to compare variants without labels.

    The sidecar has one row per position: {"paragraph": int, "token": id, "logprob": of that token,
    "top": {token id: log-probability} of the most likely ones}.
    """

    text_sha256: Sha256
    positions: Count
    top: Count
    mean_logprob: Finite
    logprobs: Sidecar


class QualityResult(Part):
    """All tasks of the stage.

    Each task's sidecar is a list with one row per document, in the order of their index:
    {"doc": index, "hash": sha256 of the document, "target": index of the right choice (or "targets"
    of several), "loglikelihoods": [choices], "bytes": [choices], and each metric by its name: a
    number, or a list of them where a document has several (instructions, or a log-likelihood and
    the words it is of)}. Where there are several sampling seeds, a metric is the mean over them and
    "by_seed" has the metric's values with each. Some have "text", what the model expects of the
    document's question with its right answer: {"sha256": the first 16 digits of that of its tokens'
    ids, "tokens": those that have others before them, "logprob": their sum in nats, "top": by the
    place of a token, {label: log-probability} of the likeliest there}. A label is drawn anew for
    each place and stands for a dozen tokens or more. `special_tokens` is None in records from
    before prompts had them. `apply_chat_template` is of any task.
    """

    client: Literal["local-completions"] = "local-completions"
    apply_chat_template: bool
    requests: Count
    duration_s: Finite
    requests_per_s: Finite
    tasks: tuple[TaskResult, ...]
    groups: tuple[GroupResult, ...] = ()
    special_tokens: SpecialTokens | None = None
    fidelity: Fidelity | None = None
    telemetry: Telemetry | None = None


class Environment(Part):
    """What machine and what software; nothing that names the owner."""

    os: str
    kernel: str
    python: str
    cpu_model: str
    cpu_count: Count
    memory_gib: Finite
    gpu_name: str | None = None
    gpu_count: Count = 0
    gpu_memory_gib: Finite | None = None
    gpu_power_limit_w: Finite | None = None
    driver: str | None = None
    cuda: str | None = None
    packages: dict[str, str]


class Provenance(Part):
    """Which run made this record."""

    tool_version: str
    commit: Commit | None
    dirty: bool | None
    workflow: str | None = None
    run_id: str | None = None
    run_attempt: Count | None = None
    started_at: AwareDatetime
    finished_at: AwareDatetime


class Failure(Part):
    """Why a stage has no, or only part of a, result."""

    kind: str
    message: str


class Record(Part):
    """One stage of one variant on one machine, once: of speed, one session of its server.

    `session` numbers those of speed from 1, as another session sends other prompts; it is None for
    quality, and in records from before sessions were counted, which sent the prompts of the first.
    `decision` has `recovery` or `points`, the margin of quality, and `speed_difference`.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    key: Sha256
    stage: Literal["speed", "quality"]
    status: Literal["ok", "partial", "failed"]
    session: Annotated[int, Field(ge=1, le=100_000)] | None = None
    error: Failure | None = None
    variant: Slug
    variant_name: str
    family: str
    baseline: bool
    hardware: Slug
    hardware_name: str
    price_per_hour_usd: Finite | None = None
    service_level: dict[str, Finite] = {}
    decision: dict[str, Finite] = {}
    reproduces: str | None = None
    spec: dict[str, Any]
    model: ModelFacts | None = None
    engine: EngineFacts | None = None
    speed: SpeedResult | None = None
    quality: QualityResult | None = None
    environment: Environment
    provenance: Provenance


def canonical_json(value: Any) -> str:
    """Sorted keys, two spaces, final newline, no NaN: equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def spec_key(spec: dict[str, Any]) -> str:
    """The identity of what was asked: SHA-256 of the canonical JSON of the spec."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()
