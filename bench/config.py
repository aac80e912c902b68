"""models.toml as pydantic models: strict, frozen, and closed, so the schema is the allow-list.

Whatever is not a field here cannot be said in models.toml. In particular no server option exists
that runs code, opens a port, or reads or writes a place of the author's choosing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

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
Positive = Annotated[int, Field(gt=0, le=10_000_000)]
FiniteFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# JSON has no infinity; vLLM's own word for an unthrottled run is "inf".
Rate = Annotated[
    float, Field(gt=0), PlainSerializer(lambda rate: "inf" if rate == float("inf") else rate)
]


class Model(BaseModel):
    """What every model here shares; `merged` lays the set fields of another over this one."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

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
    quantization: Word | None = None
    linear_backend: Word | None = None
    attention_backend: Word | None = None
    moe_backend: Word | None = None
    load_format: Literal["auto", "safetensors", "gguf", "dummy"] | None = None
    kv_cache_dtype: Word | None = None
    max_model_len: Positive | None = None
    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Positive | None = None
    block_size: Positive | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    cpu_offload_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    enforce_eager: bool | None = None
    tensor_parallel_size: Positive | None = None
    pipeline_parallel_size: Positive | None = None
    enable_expert_parallel: bool | None = None
    distributed_executor_backend: Literal["mp", "ray"] | None = None

    @property
    def gpus(self) -> int:
        """How many GPUs one server runs on, over all nodes."""
        return (self.tensor_parallel_size or 1) * (self.pipeline_parallel_size or 1)


class SpeedOptions(Model):
    """One workload of `vllm bench serve` on its random data set, at each request rate."""

    input_tokens: Positive = 512
    output_tokens: Annotated[int, Field(ge=2, le=100_000)] = 128
    prompts: Positive = 200
    request_rates: Annotated[tuple[Rate, ...], Field(min_length=1, max_length=32), _DISTINCT] = (
        10.0,
        float("inf"),
    )
    repeats: Annotated[int, Field(ge=3, le=100)] = 3
    warmup_prompts: Positive = 10
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class QualityOptions(Model):
    """lm-eval tasks and which of their documents: the same for every variant."""

    tasks: Annotated[tuple[Task, ...], Field(min_length=1, max_length=32), _DISTINCT] = (
        "hellaswag",
    )
    num_fewshot: Annotated[int, Field(ge=0, le=64)] = 0
    documents: Annotated[int, Field(gt=0, le=10_000_000)] | Literal["all"] = 400
    selection: Literal["random", "first"] = "random"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1234
    apply_chat_template: bool = False
    concurrency: Annotated[int, Field(gt=0, le=1024)] = 16
    data: Literal["hub", "bundled"] = "hub"


class ServiceLevel(Model):
    """What a user would accept; the report counts a load as sustained within these."""

    ttft_p90_ms: FiniteFloat = 500.0
    tpot_p90_ms: FiniteFloat = 50.0


class Hardware(Model):
    """One kind of machine: which runner, which engine build, what it costs."""

    id: Id
    name: Name
    engine: Build
    runner: Annotated[tuple[Runner, ...], Field(min_length=1, max_length=8)]
    gpus: Annotated[int, Field(ge=0, le=1024)] = 1  # over all nodes
    nodes: Annotated[int, Field(gt=0, le=128)] = 1
    gpu_memory_gib: FiniteFloat | None = None
    price_per_hour_usd: FiniteFloat | None = None
    timeout_minutes: Annotated[int, Field(gt=0, le=7200)] = 360
    serve: ServeOptions = ServeOptions()


class Family(Model):
    """Variants of one model; every difference is taken against the baseline."""

    name: Name
    baseline: Name


class Overrides(Model):
    """What a variant does differently on one kind of hardware."""

    serve: ServeOptions = ServeOptions()
    speed: SpeedOptions | None = None
    quality: QualityOptions | None = None


class Variant(Model):
    """One checkpoint served one way: a row of every table in the report."""

    name: Name
    family: Name
    repo: Repo | None = None
    bundled: Bundled | None = None
    file: GgufFile | None = None
    revision: Revision | None = None
    tokenizer: Repo | None = None
    tokenizer_revision: Revision | None = None
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=2), _DISTINCT] = STAGES
    hardware: Annotated[tuple[Id, ...], Field(min_length=1), _DISTINCT] | None = None
    serve: ServeOptions = ServeOptions()
    speed: SpeedOptions | None = None
    quality: QualityOptions | None = None
    on: dict[Id, Overrides] = {}
    reproduces: Id | None = None
    note: Text = ""

    @property
    def id(self) -> str:
        """The name as a slug: safe in file names and URLs."""
        return slug(self.name)

    @property
    def is_gguf(self) -> bool:
        """Whether a GGUF file is served."""
        return self.file is not None or self.bundled in GGUF

    def runs_on(self, hardware: Hardware) -> bool:
        """Whether it is to be measured on this hardware."""
        return self.hardware is None or hardware.id in self.hardware


class Experiment(Model):
    """The whole of models.toml."""

    serve: ServeOptions = ServeOptions()
    speed: SpeedOptions = SpeedOptions()
    quality: QualityOptions = QualityOptions()
    service_level: ServiceLevel = ServiceLevel()
    hardware: Annotated[tuple[Hardware, ...], Field(min_length=1)]
    family: Annotated[tuple[Family, ...], Field(min_length=1)]
    variant: Annotated[tuple[Variant, ...], Field(min_length=1)]

    def pairs(self) -> Iterator[tuple[Variant, Hardware]]:
        """Every variant with every hardware it is to be measured on, in the file's order."""
        for hardware in self.hardware:
            for variant in self.variant:
                if variant.runs_on(hardware):
                    yield variant, hardware

    def with_repeats(self, repeats: int) -> Experiment:
        """This experiment with so many repeats of every load, whatever its tables say."""
        override = SpeedOptions(repeats=repeats)
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

        The file's, the hardware's, the variant's, and the variant's on this hardware; a later one
        wins, key by key.
        """
        on = variant.on.get(hardware.id)
        return tuple(getattr(owner, table, None) for owner in (self, hardware, variant, on))

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


def slug(name: str) -> str:
    """Lower-case letters, digits and single hyphens: safe on every file system and in URLs."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
