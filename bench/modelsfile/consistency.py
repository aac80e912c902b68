"""What a schema cannot say of models.toml: one table agreeing with another.

It is asked of the experiment as the run has it, by the functions that the run calls.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import get_args

from bench.config import (
    SHAPES,
    Decision,
    Experiment,
    Family,
    Hardware,
    QualityOptions,
    ServeOptions,
    Table,
    TaskOptions,
    Variant,
    slug,
)
from bench.demo import datasets
from bench.engine import arguments, installed, tasknames
from bench.errors import ConfigError
from bench.modelsfile.lines import KeyPath
from bench.records import store
from bench.records.pace import paces, prompts

Disagreement = tuple[KeyPath, str, str]  # where it stands, what it is, what to write

_MOST_PAIRS = 2000  # of variants with hardware: weeks of measuring, and a second of checking
_MOST_WORDS = 40  # that a fix lists or looks for the nearest of
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{d}{n}" for d in ("com", "lpt") for n in "123456789"
}


def disagreements(experiment: Experiment) -> Iterator[Disagreement]:
    """Everything that one table says and another contradicts."""
    variants, families, hardware = experiment.variant, experiment.family, experiment.hardware
    yield from _same_names("variant", "name", [variant.name for variant in variants])
    yield from _same_names("family", "name", [family.name for family in families])
    yield from _same_names("hardware", "id", [entry.id for entry in hardware])
    yield from _unknown_memory(hardware)
    yield from _margins(experiment.decision)
    yield from _baselines(families, variants)
    known_families = [family.name for family in families]
    known_hardware = [entry.id for entry in hardware]
    for i, variant in enumerate(variants):
        if variant.family not in known_families:
            fix = _nearest(variant.family, known_families, "add a [[family]] with this name")
            yield ("variant", i, "family"), f"unknown family {variant.family!r}", fix
        yield from _sources(i, variant)
        yield from _unknown_hardware(i, variant, known_hardware)
    yield from _words(experiment)
    yield from _tasks(experiment)
    if len([*islice(experiment.pairs(), _MOST_PAIRS + 1)]) > _MOST_PAIRS:
        message = f"{len(variants)} variants on {len(hardware)} kinds of hardware are too many"
        yield ("variant",), message, f"keep to {_MOST_PAIRS:,} pairs; use a second file"
        return
    place = {entry.id: h for h, entry in enumerate(hardware)}
    for i, variant in enumerate(variants):
        for known in place if variant.hardware is None else variant.hardware:
            if known in place:
                yield from _pair(experiment, i, place[known])


def unpublished(variants: Sequence[Variant], known: Sequence[str]) -> Iterator[Disagreement]:
    """Variants that reproduce a row which is not among the published ones."""
    for i, variant in enumerate(variants):
        if variant.reproduces is not None and variant.reproduces not in known:
            fix = _nearest(variant.reproduces, known, "remove this key, or add the row's file")
            yield ("variant", i, "reproduces"), f"no published row {variant.reproduces!r}", fix


def _nearest(word: str, known: Collection[str], otherwise: str) -> str:
    near = [] if len(known) > _MOST_WORDS else difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:_MOST_WORDS]) + (", …" if len(words) > _MOST_WORDS else "")


def _same_names(table: str, key: str, names: Sequence[str]) -> Iterator[Disagreement]:
    seen: dict[str, str] = {}
    for i, name in enumerate(names):
        identity = slug(name)
        if identity in seen:
            message = f"{name!r} is the same as {seen[identity]!r} (both become {identity!r})"
            yield (table, i, key), message, "give each a name of its own"
        if identity in _WINDOWS_DEVICES:
            yield (table, i, key), f"{name!r} is a device name on Windows", "choose another name"
        seen.setdefault(identity, name)


def _baselines(families: Sequence[Family], variants: Sequence[Variant]) -> Iterator[Disagreement]:
    family_of = {variant.name: variant.family for variant in variants}
    for i, family in enumerate(families):
        if family_of.get(family.baseline) != family.name:
            others = [name for name, other in family_of.items() if other == family.name]
            yield (
                ("family", i, "baseline"),
                f"{family.baseline!r} is not a variant of this family",
                f"use one of: {_listed(others) or 'a variant with this family'}",
            )


def _sources(i: int, variant: Variant) -> Iterator[Disagreement]:
    if (variant.repo is None) == (variant.bundled is None):
        both = "both repo and bundled" if variant.repo else "neither repo nor bundled"
        yield (
            ("variant", i, "repo"),
            f"has {both}",
            'name one source, such as repo = "Qwen/Qwen3-8B"',
        )
    for key in ("file", "revision"):
        if variant.repo is None and getattr(variant, key) is not None:
            yield ("variant", i, key), "needs a repo", "add repo, or remove this key"
    if variant.file and variant.tokenizer is None:
        fix = 'add tokenizer, the repository of the base model, such as "Qwen/Qwen3-8B"'
        yield ("variant", i, "file"), "needs a tokenizer: a GGUF file brings none to read", fix
    if variant.tokenizer and variant.file is None:
        fix = "add file, the GGUF file in repo, or remove this key: safetensors come with their own"
        yield ("variant", i, "tokenizer"), "is for a GGUF file, and none is named", fix
    if variant.tokenizer_revision and variant.tokenizer is None:
        fix = "add tokenizer, or remove this key"
        yield ("variant", i, "tokenizer_revision"), "needs a tokenizer", fix


def _unknown_hardware(i: int, variant: Variant, known: Sequence[str]) -> Iterator[Disagreement]:
    places: list[tuple[KeyPath, str]] = [
        *((("variant", i, "hardware", n), name) for n, name in enumerate(variant.hardware or ())),
        *((("variant", i, "on", name), name) for name in variant.on),
    ]
    for place, name in places:
        if name not in known:
            yield place, f"unknown hardware {name!r}", f"use one of: {_listed(known)}"


def _unknown_memory(hardware: Sequence[Hardware]) -> Iterator[Disagreement]:
    """Without it nothing can be said of what fits; on a CPU nothing is."""
    for i, entry in enumerate(hardware):
        if entry.engine == "cuda" and entry.gpu_memory_gib is None:
            fix = "add gpu_memory_gib, one GPU's memory, such as 44.5 (nvidia-smi's MiB / 1024)"
            yield ("hardware", i, "gpu_memory_gib"), 'missing, and engine = "cuda" needs it', fix


def _margins(decision: Decision) -> Iterator[Disagreement]:
    if {"recovery", "points"} <= decision.model_fields_set:
        fix = "keep recovery, a share of the baseline's score, or points"
        yield ("decision", "points"), "stands beside recovery, and a margin is one of the two", fix


def _words(experiment: Experiment) -> Iterator[Disagreement]:
    """Options and words that the engine of the hardware they are for does not know."""
    for path, serve, hardware in _serve_tables(experiment):
        if not serve.model_fields_set:
            continue
        if serve.load_format == "dummy" and (path[0], len(path)) != ("variant", 3):
            fix = "write it in the serve table of each variant that is to have them"
            yield (*path, "load_format"), "random weights are a variant's own choice", fix
        for build in sorted({entry.engine for entry in hardware}):
            for refusal in arguments.check(serve, build):
                yield (*path, refusal.key), refusal.message, refusal.fix


def _tasks(experiment: Experiment) -> Iterator[Disagreement]:
    """Tasks that lm-eval does not know, or that cannot be asked as they are."""
    for path, quality in _quality_tables(experiment):
        for i, name in enumerate(quality.tasks if "tasks" in quality.model_fields_set else ()):
            for refusal in tasknames.check(TaskOptions(name=name)):
                yield (*path, "tasks", i), refusal.message, refusal.fix
        for i, table in enumerate(quality.task):
            for refusal in tasknames.check(table):
                yield (*path, "task", i, refusal.key), refusal.message, refusal.fix


def _quality_tables(experiment: Experiment) -> Iterator[tuple[KeyPath, QualityOptions]]:
    """Every quality table as it is written."""
    yield ("quality",), experiment.quality
    for i, family in enumerate(experiment.family):
        if family.quality:
            yield ("family", i, "quality"), family.quality
    for i, variant in enumerate(experiment.variant):
        if variant.quality:
            yield ("variant", i, "quality"), variant.quality
        for name, changes in variant.on.items():
            if changes.quality:
                yield ("variant", i, "on", name, "quality"), changes.quality


def _serve_tables(
    experiment: Experiment,
) -> Iterator[tuple[KeyPath, ServeOptions, Sequence[Hardware]]]:
    """Every serve table as it is written, and the hardware it is for."""
    hardware = experiment.hardware
    yield ("serve",), experiment.serve, hardware
    for h, entry in enumerate(hardware):
        yield ("hardware", h, "serve"), entry.serve, [entry]
    by_id = {entry.id: entry for entry in hardware}
    for i, variant in enumerate(experiment.variant):
        its = [by_id[name] for name in variant.hardware or by_id if name in by_id]
        yield ("variant", i, "serve"), variant.serve, its
        for name, changes in variant.on.items():
            its = [by_id[name]] if name in by_id else []
            yield ("variant", i, "on", name, "serve"), changes.serve, its


# -- what a variant gets on one kind of hardware, all tables laid over each other ----------------


def _pair(experiment: Experiment, i: int, h: int) -> Iterator[Disagreement]:
    variant, hardware = experiment.variant[i], experiment.hardware[h]
    serve = experiment.serve_options(variant, hardware)
    places = set_at(experiment, i, h)
    if hardware.engine == "cuda" and serve.gpus > hardware.gpus:
        keys = ("tensor_parallel_size", "pipeline_parallel_size")
        place = _narrowest({"gpus": ("hardware", h, "gpus")} | places, "gpus", *keys)
        message = f"{variant.name!r} needs {serve.gpus} GPU(s), {hardware.id} has {hardware.gpus}"
        yield place, message, f"lower {' × '.join(keys)}, or correct the hardware's gpus"
    on_cpu = variant.is_gguf and hardware.engine == "cpu"
    if on_cpu and installed.gguf_versions("cpu")["vllm-gguf-plugin"] is None:
        fix = 'restrict the variant to GPUs, such as hardware = ["l40"]'
        message = f"{hardware.id} runs on the CPU engine, which cannot serve GGUF"
        yield ("variant", i, "file" if variant.file else "bundled"), message, fix
    if variant.bundled in SHAPES and serve.load_format != "dummy":
        fix = 'add load_format = "dummy" to its serve table'
        yield ("variant", i, "bundled"), "is a shape without weights", fix
    if serve.load_format == "dummy" and "quality" in variant.stages:
        fix = 'set stages = ["speed"], or remove load_format'
        yield places["load_format"], "random weights have no quality to measure", fix
    if serve.load_format == "dummy" and not variant.repo and variant.bundled not in SHAPES:
        fix = f"add repo, or bundled, one of: {_listed(SHAPES)}"
        yield places["load_format"], "random weights need a repo for their shapes", fix
    if "speed" in variant.stages:
        speed = experiment.speed_options(variant, hardware)
        if not paces(speed):
            place = _narrowest(places, "request_rates", "concurrency")
            yield place, "speed has no load", "name a request rate or a concurrency"
        wanted = speed.input_tokens + speed.output_tokens
        if wanted > (serve.max_model_len or wanted):
            yield (
                _narrowest(places, "max_model_len", "input_tokens", "output_tokens"),
                f"{variant.name!r} on {hardware.id}: {speed.input_tokens} + {speed.output_tokens} "
                f"tokens do not fit in max_model_len = {serve.max_model_len}",
                f"set max_model_len to {wanted} or more, or ask for fewer tokens",
            )
        requests = speed.repeats * sum(prompts(speed, pace) for pace in paces(speed))
        if requests > store.MAX_REQUESTS:
            yield (
                _narrowest(places, "prompts", "repeats", "request_rates", "concurrency"),
                f"{variant.name!r} on {hardware.id}: {requests:,} requests in one record",
                f"ask for {store.MAX_REQUESTS:,} or fewer: more are not taken from a runner",
            )
    if "quality" in variant.stages:
        quality = experiment.quality_options(variant, hardware)
        asked = [table.documents for table in quality.asked()]
        documents = max((count for count in asked if isinstance(count, int)), default=0)
        if documents > store.MAX_DOCUMENTS:
            yield (
                _narrowest(places, "documents", "task"),
                f"{documents:,} documents of a task in one record",
                f"ask for {store.MAX_DOCUMENTS:,} or fewer: more are not taken from a runner",
            )
        try:
            datasets.check(quality)
        except ConfigError as error:
            place = _narrowest(places, "data", "tasks", "num_fewshot")
            yield place, error.message, error.fix


def set_at(experiment: Experiment, i: int, h: int) -> dict[str, KeyPath]:
    """Where each key was set as it applies to a variant on a hardware: in its narrowest layer."""
    variant, hardware = experiment.variant[i], experiment.hardware[h]
    families = [family.name for family in experiment.family]
    known = variant.family in families  # else that is a problem of its own
    owners: Sequence[KeyPath] = (
        (),
        ("family", families.index(variant.family) if known else 0),
        ("hardware", h),
        ("variant", i),
        ("variant", i, "on", hardware.id),
    )
    tables: tuple[Table, ...] = get_args(Table)
    return {
        key: (*owner, table, key)
        for table in tables
        for owner, layer in zip(owners, experiment.layers(table, variant, hardware), strict=True)
        if layer
        for key in layer.model_fields_set
    }


def _narrowest(set_at: dict[str, KeyPath], *keys: str) -> KeyPath:
    """Where the one of `keys` stands that was set for the fewest: there it can be mended."""
    found = [set_at[key] for key in keys if key in set_at]
    return max(found, key=lambda path: (len(path), path[0]))  # file, family, hardware, variant, on
