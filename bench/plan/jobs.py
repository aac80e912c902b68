"""What still has to be measured: every variant × hardware × stage without a current record.

A record is current when its key, the hash of everything asked for, is the key of the spec today.
So a changed option, load, seed, task or engine version measures again, and renaming nothing does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import (
    STAGES,
    Experiment,
    Hardware,
    QualityOptions,
    ServeOptions,
    SpeedOptions,
    Stage,
    Variant,
)
from bench.engine import installed
from bench.errors import ConfigError
from bench.records import store
from bench.records.record import spec_key


@dataclass(frozen=True)
class Job:
    """One stage of one variant on one kind of hardware.

    Attributes:
        serve, speed, quality: the options that apply to the two, all layers laid over each other.
        spec: everything that decides what is measured, as JSON; `key` is its hash.
        current: the record that makes it unnecessary, if there is one.
        reason: why it would run, or "current".
    """

    variant: Variant
    hardware: Hardware
    stage: Stage
    serve: ServeOptions
    speed: SpeedOptions
    quality: QualityOptions
    spec: dict[str, Any]
    key: str
    current: Path | None
    reason: str

    @property
    def needed(self) -> bool:
        """Whether it would run."""
        return self.reason != "current"


def find_jobs(
    experiment: Experiment,
    results: Path,
    *,
    variants: Collection[str] = (),
    stages: Collection[str] = (),
    hardware: Collection[str] = (),
    force: bool = False,
) -> list[Job]:
    """Every job of the experiment, restricted as asked, in the order they would run.

    Args:
        variants: ids or names; all where empty. Likewise `stages` and `hardware` (ids).
        force: measure again also what is current.

    Raises:
        ConfigError: a name that models.toml does not have.
    """
    names = {variant.name for variant in experiment.variant}
    _check_known("variant", variants, {variant.id for variant in experiment.variant}, names)
    _check_known("stage", stages, set(STAGES))
    _check_known("hardware", hardware, {entry.id for entry in experiment.hardware})
    return [
        _job(experiment, variant, entry, stage, results, force)
        for variant, entry in experiment.pairs()
        if not variants or variant.name in variants or variant.id in variants
        if not hardware or entry.id in hardware
        for stage in STAGES
        if stage in variant.stages and (not stages or stage in stages)
    ]


def _job(
    experiment: Experiment,
    variant: Variant,
    hardware: Hardware,
    stage: Stage,
    results: Path,
    force: bool,
) -> Job:
    """One job, compared with the records there are."""
    serve = experiment.serve_options(variant, hardware)
    speed = experiment.speed_options(variant, hardware)
    quality = experiment.quality_options(variant, hardware)
    asked = _spec(variant, hardware, stage, serve, speed if stage == "speed" else quality)
    key = spec_key(asked)
    current = store.current(results, hardware.id, variant.id, stage, key)
    if current is None:
        older = store.has_any(results, hardware.id, variant.id, stage)
        reason = "changed since measured, or failed" if older else "not measured yet"
    else:
        reason = "forced" if force else "current"
    return Job(variant, hardware, stage, serve, speed, quality, asked, key, current, reason)


def _spec(
    variant: Variant,
    hardware: Hardware,
    stage: Stage,
    serve: ServeOptions,
    options: SpeedOptions | QualityOptions,
) -> dict[str, Any]:
    """What is asked, as plain JSON: model, engine, server options, the stage's options."""
    source = variant.model_dump(
        mode="json",
        include={"repo", "bundled", "file", "revision", "tokenizer", "tokenizer_revision"},
        exclude_none=True,
    )
    engine: dict[str, Any] = {
        "name": "vllm",
        "build": hardware.engine,
        "version": installed.version(hardware.engine),
    }
    if variant.is_gguf:  # a mended plugin, or mend, measures these again and nothing else
        engine["gguf"] = installed.gguf_versions(hardware.engine)
    return {
        "stage": stage,
        "hardware": hardware.id,
        "engine": engine,
        "model": source,
        "serve": serve.model_dump(mode="json", exclude_none=True),
        stage: options.model_dump(mode="json"),
    }


def _check_known(
    kind: str, asked: Collection[str], ids: set[str], names: Collection[str] = ()
) -> None:
    for name in asked:
        if name not in ids and name not in names:
            listing = ", ".join(sorted(ids))
            raise ConfigError(f"unknown {kind} {name!r}", f"use one of: {listing}")
