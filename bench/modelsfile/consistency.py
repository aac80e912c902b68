"""What a schema cannot say of models.toml: one table agreeing with another.

It is asked of the experiment as the run has it, by the functions that the run calls.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import islice

from bench.config import (
    SHAPES,
    STAGES,
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
_NAMED_GGUF = re.compile(r"[._-]gguf$", re.IGNORECASE)
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
    """Baselines that are not there, or that are not measured where or in what others are."""
    members: dict[str, dict[str, int]] = {}
    for i, variant in enumerate(variants):
        members.setdefault(variant.family, {})[variant.name] = i
    for f, family in enumerate(families):
        its = members.get(family.name, {})
        if family.baseline in its:
            yield from _incomparable(variants, its[family.baseline], its.values())
            continue
        known = _listed([json.dumps(name) for name in its])  # quoted, as a name may hold commas
        none = f"add a [[variant]] with family = {json.dumps(family.name)}, and name it here"
        yield (
            ("family", f, "baseline"),
            f"{family.baseline!r} is not a variant of this family",
            _nearest(family.baseline, its, f"use one of: {known}" if its else none),
        )


def _incomparable(
    variants: Sequence[Variant], b: int, its: Collection[int]
) -> Iterator[Disagreement]:
    """What of a family can never be compared with its baseline."""
    baseline = variants[b]
    for stage in STAGES:
        others = [variants[i].name for i in its if stage in variants[i].stages]
        if others and stage not in baseline.stages:
            message = f"is without {stage}, which {others[0]!r} is to be compared by"
            yield ("variant", b, "stages"), message, f'add "{stage}": this is their baseline'
    there = {*(baseline.hardware or ())}
    for i in its:
        here = variants[i].hardware
        if there and here and there.isdisjoint(here):
            message = f"its baseline, {baseline.name!r}, is measured on none of these"
            fix = "measure both on one of them, or give the variant a [[family]] of its own"
            yield ("variant", i, "hardware"), message, fix


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
    if variant.repo and variant.file is None and _NAMED_GGUF.search(variant.repo):
        model = _NAMED_GGUF.sub("", variant.repo.partition("/")[2])
        message = f"{variant.repo} is a repository of GGUF files, and none is named"
        yield ("variant", i, "repo"), message, f'add the one to serve: file = "{model}-Q4_K_M.gguf"'
    elif variant.tokenizer and variant.file is None:
        fix = "add file, the GGUF file in repo, or remove this key: safetensors come with their own"
        yield ("variant", i, "tokenizer"), "is for a GGUF file, and none is named", fix
    if variant.file and variant.tokenizer is None:
        fix = 'add tokenizer, the repository of the base model, such as "Qwen/Qwen3-8B"'
        yield ("variant", i, "file"), "needs a tokenizer: a GGUF file brings none to read", fix
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
    places = partial(set_at, experiment, i, h)  # of tables; seldom asked
    if hardware.engine == "cuda" and serve.gpus > hardware.gpus:
        keys = ("tensor_parallel_size", "pipeline_parallel_size")
        place = _narrowest({"gpus": ("hardware", h, "gpus")} | places("serve"), "gpus", *keys)
        message = f"{variant.name!r} needs {serve.gpus} GPU(s), {hardware.id} has {hardware.gpus}"
        yield place, message, f"lower {' × '.join(keys)}, or correct the hardware's gpus"
    on_cpu = variant.is_gguf and hardware.engine == "cpu"
    if on_cpu and installed.gguf_versions("cpu")["vllm-gguf-plugin"] is None:
        message = f"{hardware.id} runs on the CPU engine, which cannot serve GGUF"
        place = ("variant", i, "file" if variant.file else "bundled")
        yield place, message, _on_gpus(experiment, variant)
    if variant.bundled in SHAPES and serve.load_format != "dummy":
        fix = 'add load_format = "dummy" to its serve table'
        yield ("variant", i, "bundled"), "is a shape without weights", fix
    if serve.load_format == "dummy" and "quality" in variant.stages:
        fix = 'set stages = ["speed"], or remove load_format'
        yield places("serve")["load_format"], "random weights have no quality to measure", fix
    if serve.load_format == "dummy" and not variant.repo and variant.bundled not in SHAPES:
        fix = f"add repo, or bundled, one of: {_listed(SHAPES)}"
        yield places("serve")["load_format"], "random weights need a repo for their shapes", fix
    if "speed" in variant.stages:
        speed = experiment.speed_options(variant, hardware)
        loads = ("request_rates", "concurrency")
        if not paces(speed):
            place = _narrowest(places("speed"), *loads)
            yield place, "speed has no load", "name a request rate or a concurrency"
        lengths = ("input_tokens", "output_tokens")
        wanted = speed.input_tokens + speed.output_tokens
        if wanted > (serve.max_model_len or wanted):
            yield (
                _narrowest(places("serve", "speed"), "max_model_len", *lengths),
                f"{variant.name!r} on {hardware.id}: {speed.input_tokens} + {speed.output_tokens} "
                f"tokens do not fit in max_model_len = {serve.max_model_len}",
                f"set max_model_len to {wanted} or more, or ask for fewer tokens",
            )
        requests = speed.repeats * sum(prompts(speed, pace) for pace in paces(speed))
        if requests > store.MAX_REQUESTS:
            yield (
                _narrowest(places("speed"), "prompts", "prompts_each", "repeats", *loads),
                f"{variant.name!r} on {hardware.id}: {requests:,} requests in one record",
                f"ask for {store.MAX_REQUESTS:,} or fewer: more are not taken from a runner",
            )
    if "quality" in variant.stages:
        quality = experiment.quality_options(variant, hardware)
        asked = [table.documents for table in quality.asked()]
        documents = max((count for count in asked if isinstance(count, int)), default=0)
        if documents > store.MAX_DOCUMENTS:
            yield (
                _narrowest(places("quality"), "documents", "task"),
                f"{documents:,} documents of a task in one record",
                f"ask for {store.MAX_DOCUMENTS:,} or fewer: more are not taken from a runner",
            )
        try:
            datasets.check(quality)
        except ConfigError as error:
            place = _narrowest(places("quality"), "data", "tasks", "num_fewshot")
            yield place, error.message, error.fix


def _on_gpus(experiment: Experiment, variant: Variant) -> str:
    """What keeps a variant from CPUs: the GPUs it is meant for already, else all."""
    gpus = [entry for entry in experiment.hardware if entry.engine == "cuda"]
    meant = [entry.id for entry in gpus if variant.runs_on(entry)] or [each.id for each in gpus]
    if not meant:
        return 'remove the variant, or add a [[hardware]] with engine = "cuda"'
    return f"restrict the variant to GPUs: hardware = {json.dumps(meant)}"


def set_at(experiment: Experiment, i: int, h: int, *tables: Table) -> dict[str, KeyPath]:
    """Where each key was set as it applies to a variant on a hardware: in its narrowest layer.

    Args:
        tables: that have no key of the same name.
    """
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
