"""What still has to be measured: of every variant × hardware × stage, how much evidence is missing.

Evidence adds up. Every record that asks the same (see `bench.records.identity`) counts on: a
session of speed for each load that it has, and for quality the documents that it has answers to.
So a changed option, load, task or engine version is measured anew, more sessions or documents are
measured beside those there are, and renaming nothing measures nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
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
from bench.plan import documents
from bench.records import store
from bench.records.identity import load_identity
from bench.records.pace import Pace, of_load, paces
from bench.records.record import spec_key
from bench.records.store import Found

_NOTHING = "not measured yet"


@dataclass(frozen=True)
class Description:
    """What a record says of itself beside what was measured: models.toml alone decides it."""

    variant_name: str
    family: str
    baseline: bool
    hardware_name: str
    price_per_hour_usd: float | None
    service_level: Mapping[str, float]
    decision: Mapping[str, float]
    reproduces: str | None


@dataclass(frozen=True)
class Job:
    """One stage of one variant on one kind of hardware, and the evidence that there is of it.

    Attributes:
        serve, speed, quality: the options that apply to the two, all layers laid over each other.
        spec: everything that decides what is measured, as JSON; `key` is its hash.
        description: what its record will say of itself.
        measured, asked: sessions of speed, of the load that has fewest, or documents of quality,
            of all tasks together; None where nobody knows yet how many documents there are.
        missing: of speed, the loads to measure by the number of the session.
        answered: of quality, by lm-eval's task, the documents not to be asked again.
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
    description: Description
    measured: int
    asked: int | None
    missing: Mapping[int, tuple[Pace, ...]]
    answered: Mapping[str, frozenset[int]]
    reason: str

    @property
    def needed(self) -> bool:
        """Whether it would run."""
        return self.reason != "current"

    @property
    def left(self) -> int | None:
        """How many sessions or documents it would measure; None where nobody knows yet."""
        if not self.needed:
            return 0
        if self.stage == "speed":
            return len(self.missing)
        return self.asked - self.measured if self.asked and self.answered else self.asked


@dataclass(frozen=True)
class _Evidence:
    """What was found of a job, and what is missing; the fields are a job's."""

    measured: int
    asked: int | None
    reason: str
    missing: Mapping[int, tuple[Pace, ...]] = field(default_factory=dict)
    answered: Mapping[str, frozenset[int]] = field(default_factory=dict)


def find_jobs(
    experiment: Experiment,
    results: Path,
    *,
    variants: Collection[str] = (),
    stages: Collection[str] = (),
    hardware: Collection[str] = (),
    force: bool = False,
    session: int | None = None,
    elsewhere: Path | None = None,
) -> list[Job]:
    """Every job of the experiment, restricted as asked, speed before quality, in the file's order.

    Args:
        variants: ids or names; all where empty. Likewise `stages` and `hardware` (ids).
        force: one more session also of what is current, and every document once more.
        session: of speed this one alone, whether or not more are asked for.
        elsewhere: records there count too.

    Raises:
        ConfigError: a name that models.toml does not have; a record that cannot be read.
    """
    names = {variant.name for variant in experiment.variant}
    _check_known("variant", variants, {variant.id for variant in experiment.variant}, names)
    _check_known("stage", stages, set(STAGES))
    _check_known("hardware", hardware, {entry.id for entry in experiment.hardware})
    roots = [root for root in (results, elsewhere) if root]
    return [
        job
        for variant, entry in experiment.pairs()
        if not variants or variant.name in variants or variant.id in variants
        if not hardware or entry.id in hardware
        for job in _jobs(
            experiment,
            variant,
            entry,
            [stage for stage in STAGES if stage in variant.stages and stage in (stages or STAGES)],
            roots,
            force,
            session,
        )
    ]


def _jobs(
    experiment: Experiment,
    variant: Variant,
    hardware: Hardware,
    stages: Sequence[Stage],
    roots: Sequence[Path],
    force: bool,
    session: int | None,
) -> Iterator[Job]:
    """The stages of a variant on a hardware, compared with the records there are."""
    serve = experiment.serve_options(variant, hardware)
    speed = experiment.speed_options(variant, hardware)
    quality = experiment.quality_options(variant, hardware)
    description = _describe(experiment, variant, hardware)
    for stage in stages:
        asked = _spec(variant, hardware, stage, serve, speed if stage == "speed" else quality)
        every = store.of_stage(roots, hardware.id, variant.id, stage)
        found = [(path, record) for path, record in every if record.status != "failed"]
        evidence = (
            _sessions(speed, asked, found, force, session)
            if stage == "speed"
            else _documents(quality, asked, found, force)
        )
        reason = evidence.reason
        if reason == _NOTHING:
            reason = "changed since measured" if found else "failed before" if every else reason
        yield Job(
            variant=variant,
            hardware=hardware,
            stage=stage,
            serve=serve,
            speed=speed,
            quality=quality,
            spec=asked,
            key=spec_key(asked),
            description=description,
            measured=evidence.measured,
            asked=evidence.asked,
            missing=evidence.missing,
            answered=evidence.answered,
            reason=reason,
        )


def _describe(experiment: Experiment, variant: Variant, hardware: Hardware) -> Description:
    family = next(entry for entry in experiment.family if entry.name == variant.family)
    return Description(
        variant_name=variant.name,
        family=family.name,
        baseline=family.baseline == variant.name,
        hardware_name=hardware.name,
        price_per_hour_usd=hardware.price_per_hour_usd,
        service_level=experiment.service_level.model_dump(),
        decision=experiment.decision.asked(),
        reproduces=variant.reproduces,
    )


def _sessions(
    options: SpeedOptions,
    spec: dict[str, Any],
    found: Sequence[Found],
    force: bool,
    session: int | None,
) -> _Evidence:
    """How many sessions each load has; a session measures all loads that lack its number."""
    had = {pace: sessions_of(spec, pace, found) for pace in paces(options)}
    missing: dict[int, tuple[Pace, ...]] = {}
    for pace, numbers in had.items():
        lacking = max(options.sessions - len(numbers), 1 if force else 0)
        free = (n for n in count(1) if n not in numbers)
        wanted = list(islice(free, lacking))
        if session is not None:
            wanted = [session] if force or session not in numbers else []
        for number in wanted:
            missing[number] = (*missing.get(number, ()), pace)
    least = min(map(len, had.values()))
    if not missing:
        reason = "current"
    elif least >= options.sessions:
        reason = "forced"
    elif not any(had.values()):
        reason = _NOTHING
    else:
        reason = f"{least} of {options.sessions} sessions"
        fewest = [pace for pace, numbers in had.items() if len(numbers) == least]
        if len(fewest) < len(had):
            reason += f" at {', '.join(map(_words, fewest))}"
    return _Evidence(least, options.sessions, reason, missing=missing)


def sessions_of(spec: dict[str, Any], pace: Pace, found: Sequence[Found]) -> list[int]:
    """The numbers of the sessions that a load was measured in, one for each record.

    Records from before sessions were counted sent the prompts of the first.
    """
    if not found:  # thousands of jobs have nothing yet, and need no identity
        return []
    identity = load_identity(spec, pace)
    return [
        record.session or 1
        for _, record in found
        if record.speed
        and any(of_load(load) == pace for load in record.speed.loads)
        and load_identity(record.spec, pace) == identity
    ]


def _words(pace: Pace) -> str:
    return "no limit" if pace.is_unthrottled else pace.full


def _documents(
    options: QualityOptions, spec: dict[str, Any], found: Sequence[Found], force: bool
) -> _Evidence:
    """How many of the wanted documents are answered."""
    by_name = documents.splits(options, spec, found)
    splits = {task: split for of_name in by_name.values() for task, split in of_name.items()}
    answered = {task: split.answered for task, split in splits.items()}
    measured = sum(len(split.wanted & split.answered) for split in splits.values())
    known = sum(len(split.wanted) for split in splits.values())
    unknown = [name for name, of_name in by_name.items() if not of_name]
    counts = [table.documents for table in options.asked() if table.name in unknown]
    asked = None if "all" in counts else known + sum(n for n in counts if isinstance(n, int))
    if not splits:
        return _Evidence(0, asked, _NOTHING)
    if unknown:
        reason = f"{', '.join(unknown)} not measured yet"
    elif any(split.missing for split in splits.values()):
        reason = f"{measured:,} of {asked:,} documents"
    elif force:
        return _Evidence(measured, asked, "forced")
    else:
        reason = "current"
    return _Evidence(measured, asked, reason, answered=answered)


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
    is_cpu_speed = hardware.engine == "cpu" and stage == "speed"
    if is_cpu_speed and (openmp := installed.openmp_version()):
        engine["openmp"] = openmp  # with another a CPU answers alike: quality counts on
    if variant.is_gguf:  # a mended plugin, or mend, measures these again and nothing else
        engine["gguf"] = installed.gguf_versions(hardware.engine)
    unsaid = {"sessions"}  # more of them are no other question
    if isinstance(options, SpeedOptions) and not options.concurrency:
        unsaid |= {"concurrency", "prompts_each"}  # as in records from before there were loops
    return {
        "stage": stage,
        "hardware": hardware.id,
        "engine": engine,
        "model": source,
        "serve": serve.model_dump(mode="json", exclude_none=True),
        stage: options.model_dump(mode="json", exclude=unsaid),
    }


def _check_known(
    kind: str, asked: Collection[str], ids: set[str], names: Collection[str] = ()
) -> None:
    for name in asked:
        if name not in ids and name not in names:
            listing = ", ".join(sorted(ids))
            raise ConfigError(f"unknown {kind} {name!r}", f"use one of: {listing}")
