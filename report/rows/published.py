"""Results published elsewhere: shown beside ours, never mixed with them.

Only summaries were published, of one run: a latency has no interval, and an accuracy can only be
compared unpaired. One file is one publication about one machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError

from bench.config import Id, ServiceLevel
from bench.errors import ConfigError
from bench.records.pace import Pace
from report import rates, stats
from report.rows.measured import sustained
from report.rows.rows import Metric, QualityRow, Served, SpeedRow, Stage, anchor, unit_of

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Month = Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Workload(_Part):
    """What all published speed rows sent, and when."""

    date: Month
    input_tokens: Count
    output_tokens: Count
    prompts: Count
    request_rate_rps: Positive
    serve: str


class Benchmark(_Part):
    """What all published quality rows were asked, and when."""

    date: Month
    task: str
    metric: str
    num_fewshot: Annotated[int, Field(ge=0)]
    documents: Count
    choices: Count
    selection: Literal["first"]
    serve: str


class Speed(_Part):
    """Means and 90th percentiles of one run."""

    output_throughput_tps: Positive
    ttft_mean_ms: Positive
    ttft_p90_ms: Positive
    tpot_mean_ms: Positive
    tpot_p90_ms: Positive
    e2e_mean_ms: Positive
    e2e_p90_ms: Positive


class Quality(_Part):
    """One task's value, and what the server printed while loading for it."""

    value: Annotated[float, Field(ge=0, le=1)]
    requests_per_s: Positive
    weights_gib: Positive | None = None
    load_s: Positive | None = None
    kv_cache_tokens: Count | None = None
    kv_cache_gib: Positive | None = None


class Published(_Part):
    """One variant as published; models.toml's `reproduces` names its id."""

    id: Id
    name: str
    family: str
    baseline: bool = False
    repo: str
    file: str | None = None
    serve: str = ""
    quantization: str | None = None
    kernel: str | None = None
    speed: Speed | None = None
    quality: Quality | None = None


class Reference(_Part):
    """One publication: its source, its machine, its rows."""

    schema_version: Literal[1]
    id: Id
    title: str
    source: str
    url: HttpUrl | None = None
    note: str
    hardware: Id
    hardware_name: str
    gpu_memory_gib: Positive | None = None
    engine: str
    engine_version: str
    speed: Workload
    quality: Benchmark
    rows: Annotated[tuple[Published, ...], Field(min_length=1)]


def read_all(folder: Path) -> tuple[Reference, ...]:
    """Every publication in a folder, by id.

    Raises:
        ConfigError: a file is not a reference; the message names the key.
    """
    return tuple(sorted(map(read, sorted(folder.glob("*.json"))), key=lambda each: each.id))


def read(path: Path) -> Reference:
    """One publication; see `read_all` for what it raises."""
    try:
        return Reference.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}", "mend the file") from error


def common_level(ours: Sequence[SpeedRow]) -> ServiceLevel:
    """The service level of our own speed rows where they share one, else the default one."""
    levels = {(row.limit_ttft_p90_ms, row.limit_tpot_p90_ms) for row in ours}
    ttft, tpot = levels.pop() if len(levels) == 1 else (None, None)
    if ttft is None or tpot is None:
        return ServiceLevel()
    return ServiceLevel(ttft_p90_ms=ttft, tpot_p90_ms=tpot)


def speed_rows(reference: Reference, level: ServiceLevel) -> Iterator[SpeedRow]:
    """Published speeds, of one run each; judged by `level`, as their publication names none."""
    load = reference.speed
    limits = level.ttft_p90_ms, level.tpot_p90_ms
    for each in reference.rows:
        if each.speed is None:
            continue
        means = {name: stats.mean([value]) for name, value in each.speed.model_dump().items()}
        metrics = {Metric(name): value for name, value in means.items() if value is not None}
        yield SpeedRow(
            **_result(reference, each, load.date),
            anchor=_anchor("speed", reference, each, rates.name(Pace(load.request_rate_rps))),
            input_tokens=load.input_tokens,
            output_tokens=load.output_tokens,
            prompts=load.prompts,
            request_rate_rps=load.request_rate_rps,
            repeats=1,
            metrics=metrics,
            limit_ttft_p90_ms=limits[0],
            limit_tpot_p90_ms=limits[1],
            sustained=sustained(metrics, *limits),
        )


def quality_rows(reference: Reference) -> Iterator[QualityRow]:
    """Published accuracies with the interval their number of documents gives them."""
    asked = reference.quality
    for each in reference.rows:
        if each.quality is None:
            continue
        seen = each.quality
        value = stats.Estimate(seen.value, None, None, asked.documents)
        unit = unit_of(asked.metric)
        if unit == "share":
            value = stats.proportion(round(seen.value * asked.documents), asked.documents) or value
        yield QualityRow(
            **_result(reference, each, asked.date),
            anchor=_anchor("quality", reference, each, asked.task, asked.metric),
            task=asked.task,
            metric=asked.metric,
            value=value,
            unit=unit,
            higher_is_better=unit != "perplexity",
            counted=unit == "share",
            stderr=value.standard_error,
            n=asked.documents,
            chance=1 / asked.choices,
            selection=asked.selection,
            num_fewshot=asked.num_fewshot,
            requests_per_s=seen.requests_per_s,
        )


def _anchor(stage: Stage, reference: Reference, each: Published, *rest: str) -> str:
    return anchor(stage, "published", reference.hardware, each.id, *rest)


def _result(reference: Reference, each: Published, date: str) -> dict[str, Any]:
    """What all rows of a published variant share; what was not published is None."""
    quality = each.quality
    return {
        "source": "published",
        "records": (f"reference/{reference.id}.json#{each.id}",),
        "hardware": reference.hardware,
        "hardware_name": reference.hardware_name,
        "variant": each.id,
        "variant_name": each.name,
        "family": each.family,
        "is_baseline": each.baseline,
        "machine": reference.hardware_name,
        "engine_version": reference.engine_version,
        "date": date,
        "status": "ok",
        "served": Served(
            quantization=each.quantization,
            kernel=each.kernel,
            weights=f"hub:{each.repo}@/{each.file or ''}",
            weights_gib=quality.weights_gib if quality else None,
            kv_cache_tokens=quality.kv_cache_tokens if quality else None,
            kv_cache_gib=quality.kv_cache_gib if quality else None,
            load_s=quality.load_s if quality else None,
            gpu_memory_gib=reference.gpu_memory_gib,
        ),
    }
