"""What still has to be measured: every variant × hardware × stage without a current record.

A record is current when its key, the hash of everything asked for, is the key of the spec today.
So a changed option, load, seed, task or engine version measures again, and renaming nothing does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import STAGES, Experiment, Hardware, Stage, Variant
from bench.engine import installed
from bench.errors import ConfigError
from bench.records import store
from bench.records.record import spec_key


@dataclass(frozen=True)
class Job:
    """One stage of one variant on one kind of hardware.

    Attributes:
        spec: everything that decides what is measured; `key` is its hash.
        current: the record that makes it unnecessary, if there is one.
        reason: why it would run, or "current".
    """

    variant: Variant
    hardware: Hardware
    stage: Stage
    spec: dict[str, Any]
    key: str
    current: Path | None
    reason: str

    @property
    def needed(self) -> bool:
        """Whether it would run."""
        return self.reason != "current"


def jobs(
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
        variants: names or ids; all where empty. A name with commas may come in its parts, as
            splitting a list at its commas leaves it. Likewise `stages` and `hardware` (ids).
        force: measure again also what is current.

    Raises:
        ConfigError: a name that models.toml does not have, or not together.
    """
    variants = _joined(variants, [variant.name for variant in experiment.variant])
    ids = {variant.id for variant in experiment.variant}
    _check_known("variant", variants, ids, {variant.name for variant in experiment.variant})
    _check_known("stage", stages, set(STAGES))
    _check_known("hardware", hardware, {entry.id for entry in experiment.hardware})
    return [
        job(experiment, variant, entry, stage, results, force)
        for variant, entry in experiment.pairs()
        if not variants or variant.name in variants or variant.id in variants
        if not hardware or entry.id in hardware
        for stage in STAGES
        if stage in variant.stages and (not stages or stage in stages)
    ]


def job(
    experiment: Experiment,
    variant: Variant,
    hardware: Hardware,
    stage: Stage,
    results: Path,
    force: bool = False,
) -> Job:
    """One job, compared with the records there are."""
    asked = spec(experiment, variant, hardware, stage)
    key = spec_key(asked)
    current = store.current(results, hardware.id, variant.id, stage, key)
    if current is None:
        folder = results / hardware.id / variant.id
        older = any(folder.glob(f"{stage}-*.json"))
        reason = "changed since measured, or failed" if older else "not measured yet"
    else:
        reason = "forced" if force else "current"
    return Job(variant, hardware, stage, asked, key, current, reason)


def spec(
    experiment: Experiment, variant: Variant, hardware: Hardware, stage: Stage
) -> dict[str, Any]:
    """What is asked, as plain JSON: model, engine, server options, the stage's options."""
    source = variant.model_dump(
        mode="json",
        include={"repo", "bundled", "file", "revision", "tokenizer", "tokenizer_revision"},
        exclude_none=True,
    )
    serve = experiment.serve_options(variant, hardware)
    staged = experiment.speed_options if stage == "speed" else experiment.quality_options
    return {
        "stage": stage,
        "hardware": hardware.id,
        "engine": {
            "name": "vllm",
            "build": hardware.engine,
            "version": installed.version(hardware.engine),
        },
        "model": source,
        "serve": serve.model_dump(mode="json", exclude_none=True),
        stage: staged(variant, hardware).model_dump(mode="json"),
    }


def matrix(planned: list[Job]) -> list[dict[str, Any]]:
    """The Actions matrix: one entry per variant and hardware that has something to do."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for item in planned:
        if item.needed:
            entry = entries.setdefault(
                (item.variant.id, item.hardware.id),
                {
                    "variant": item.variant.id,
                    "hardware": item.hardware.id,
                    "runner": list(item.hardware.runner),
                    "timeout_minutes": item.hardware.timeout_minutes,
                    "stages": [],
                    "keys": [],
                },
            )
            entry["stages"].append(item.stage)
            entry["keys"].append(item.key)
    return list(entries.values())


def _joined(asked: Collection[str], names: Collection[str]) -> list[str]:
    """What was asked for, with names put together again that a split at commas took apart."""
    whole = {_parts(name): name for name in names}
    parts = [part for text in asked for part in _parts(text)]
    found = []
    while parts:
        most = next((n for n in range(len(parts), 0, -1) if tuple(parts[:n]) in whole), 1)
        found.append(whole.get(tuple(parts[:most]), parts[0]))
        del parts[:most]
    return found


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _check_known(
    kind: str, asked: Collection[str], ids: set[str], names: Collection[str] = ()
) -> None:
    for name in asked:
        if name not in ids and name not in names:
            listing = ", ".join(sorted(ids))
            raise ConfigError(f"unknown {kind} {name!r}", f"use one of: {listing}")
