"""What a schema cannot say of models.toml: one table agreeing with another.

All of it works on the file as read, so that it is found together with what the schema refuses.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterator
from typing import Any, get_args

from pydantic import ValidationError

from bench import config
from bench.engine import arguments
from bench.errors import ConfigError
from bench.measure import tasks
from bench.modelsfile.lines import Path

Finding = tuple[Path, str, str]
Row = dict[str, Any]

_MOST_PAIRS = 2000  # of variants with hardware: weeks of measuring, and a second of checking
_MOST_WORDS = 40  # that a fix lists or looks for the nearest of
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{d}{n}" for d in ("com", "lpt") for n in "123456789"
}
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100


def findings(raw: Row) -> Iterator[Finding]:
    """Every disagreement: where it stands, what it is, what to write.

    Args:
        raw: the file as `tomllib` reads it; what the schema refuses in it is passed over.
    """
    variants, families, hardware = (_tables(raw, key) for key in ("variant", "family", "hardware"))
    yield from _duplicates(variants, "variant", "name")
    yield from _duplicates(families, "family", "name")
    yield from _duplicates(hardware, "hardware", "id")
    yield from _memory_problems(hardware)
    known_families = [_text(table.get("name")) for _, table in families]
    known_hardware = [_text(table.get("id")) for _, table in hardware]
    yield from _baseline_problems(families, variants)
    for i, table in variants:
        family = _text(table.get("family"))
        if family and family not in known_families:
            fix = _nearest(family, known_families, "add a [[family]] with this name")
            yield ("variant", i, "family"), f"unknown family {_short.repr(family)}", fix
        yield from _source_problems(i, table)
        yield from _hardware_problems(i, table, known_hardware)
    yield from _serve_problems(raw)
    yield from _pair_problems(raw)


def _tables(raw: Row, key: str) -> list[tuple[int, Row]]:
    rows = raw.get(key)
    if isinstance(rows, dict):  # [key] for [[key]]: refused, and still known to the other tables
        rows = [rows]
    rows = rows if isinstance(rows, list) else []
    return [(i, row) for i, row in enumerate(rows) if isinstance(row, dict)]


def _table(value: Any) -> Row:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _nearest(word: str, known: Collection[str], otherwise: str) -> str:
    if len(word) > 100 or len(known) > _MOST_WORDS:
        return otherwise
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def _listed(words: Collection[str]) -> str:
    shown = [word[:100] for word in words if word][:_MOST_WORDS]
    return ", ".join(shown) + (", …" if len(words) > _MOST_WORDS else "")


def _duplicates(rows: list[tuple[int, Row]], table: str, key: str) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for i, row in rows:
        value = _text(row.get(key))
        identity = config.slug(value)
        if not identity:
            continue
        shown = _short.repr(value)
        if identity in seen:
            other = _short.repr(seen[identity])
            message = f"{shown} is the same as {other} (both become {_short.repr(identity)})"
            yield (table, i, key), message, "give each a name of its own"
        if identity in _WINDOWS_DEVICES:
            yield (table, i, key), f"{shown} is a device name on Windows", "choose another name"
        seen.setdefault(identity, value)


def _baseline_problems(
    families: list[tuple[int, Row]], variants: list[tuple[int, Row]]
) -> Iterator[Finding]:
    family_of = {_text(t.get("name")): _text(t.get("family")) for _, t in variants}
    for i, table in families:
        baseline, name = _text(table.get("baseline")), _text(table.get("name"))
        if baseline and family_of.get(baseline) != name:
            others = [variant for variant, family in family_of.items() if family == name]
            yield (
                ("family", i, "baseline"),
                f"{_short.repr(baseline)} is not a variant of this family",
                f"use one of: {_listed(others) or 'a variant with this family'}",
            )


def _source_problems(i: int, table: Row) -> Iterator[Finding]:
    if ("repo" in table) == ("bundled" in table):
        both = "both repo and bundled" if "repo" in table else "neither repo nor bundled"
        yield (
            ("variant", i, "repo"),
            f"has {both}",
            'name one source, such as repo = "Qwen/Qwen3-8B"',
        )
    if "repo" not in table:
        for key in ("file", "revision"):
            if key in table:
                yield ("variant", i, key), "needs a repo", "add repo, or remove this key"
    if "file" in table and "tokenizer" not in table:
        fix = 'add tokenizer, the repository of the base model, such as "Qwen/Qwen3-8B"'
        yield ("variant", i, "file"), "needs a tokenizer: a GGUF file brings none to read", fix
    if "tokenizer" in table and "file" not in table:
        fix = "add file, the GGUF file in repo, or remove this key: safetensors come with their own"
        yield ("variant", i, "tokenizer"), "is for a GGUF file, and none is named", fix
    if "tokenizer_revision" in table and "tokenizer" not in table:
        fix = "add tokenizer, or remove this key"
        yield ("variant", i, "tokenizer_revision"), "needs a tokenizer", fix


def _hardware_problems(i: int, table: Row, known: Collection[str]) -> Iterator[Finding]:
    fix = f"use one of: {_listed(known)}"
    chosen = table.get("hardware")
    for n, name in enumerate(chosen if isinstance(chosen, list) else []):
        if name not in known:
            yield ("variant", i, "hardware", n), f"unknown hardware {_short.repr(name)}", fix
    for name in _table(table.get("on")):
        if name not in known:
            yield ("variant", i, "on", name), f"unknown hardware {_short.repr(name)}", fix


def _memory_problems(hardware: list[tuple[int, Row]]) -> Iterator[Finding]:
    """Without it nothing can be said of what fits; on a CPU nothing is."""
    for i, table in hardware:
        if table.get("engine") == "cuda" and "gpu_memory_gib" not in table:
            fix = "add gpu_memory_gib, one GPU's memory, such as 44.5 (nvidia-smi's MiB / 1024)"
            yield ("hardware", i, "gpu_memory_gib"), 'missing, and engine = "cuda" needs it', fix


def _serve_problems(raw: Row) -> Iterator[Finding]:
    """Options and words that the engine of the hardware they are for does not know."""
    builds = {_text(t.get("id")): t.get("engine") for _, t in _tables(raw, "hardware")}
    served: list[tuple[Path, Any, Any]] = [(("serve",), raw.get("serve"), builds)]
    for i, table in _tables(raw, "hardware"):
        served.append((("hardware", i, "serve"), table.get("serve"), [table.get("id")]))
    for i, table in _tables(raw, "variant"):
        served.append((("variant", i, "serve"), table.get("serve"), table.get("hardware", builds)))
        for name, changes in _table(table.get("on")).items():
            path: Path = ("variant", i, "on", name, "serve")
            served.append((path, _table(changes).get("serve"), [name]))
    for path, serve, hardware in served:
        if not isinstance(serve, dict) or not isinstance(hardware, (dict, list)):
            continue  # a problem of shape, already found
        if serve.get("load_format") == "dummy" and (path[0], len(path)) != ("variant", 3):
            fix = "write it in the serve table of each variant that is to have them"
            yield (*path, "load_format"), "random weights are a variant's own choice", fix
        words = {key: serve[key] for key in config.ServeOptions.model_fields if key in serve}
        for build in get_args(config.Engine):
            if any(builds.get(_text(name)) == build for name in hardware):
                for refusal in arguments.check(words, build):
                    yield (*path, refusal.key), refusal.message, refusal.fix


# -- what a variant gets on one kind of hardware, all tables laid over each other ----------------


def _pair_problems(raw: Row) -> Iterator[Finding]:
    variants = _tables(raw, "variant")
    hardware = [(h, table) for h, table in _tables(raw, "hardware") if _text(table.get("id"))]
    if len(variants) * len(hardware) > _MOST_PAIRS:
        message = f"{len(variants)} variants on {len(hardware)} kinds of hardware are too many"
        yield ("variant",), message, f"keep to {_MOST_PAIRS:,} pairs; use a second file"
        return
    for i, variant in variants:
        for h, machine in hardware:
            chosen = variant.get("hardware", [machine["id"]])
            if isinstance(chosen, list) and machine["id"] in chosen:
                yield from _pair(raw, i, variant, h, machine)


def _pair(raw: Row, i: int, variant: Row, h: int, machine: Row) -> Iterator[Finding]:
    layers: dict[Path, Row] = {
        (): raw,
        ("hardware", h): {"serve": machine.get("serve")},
        ("variant", i): variant,
        ("variant", i, "on", machine["id"]): _table(_table(variant.get("on")).get(machine["id"])),
    }
    stages = variant.get("stages", config.STAGES)
    stages = stages if isinstance(stages, (list, tuple)) else ()
    serve, places = _laid(config.ServeOptions, "serve", layers)
    if serve:
        yield from _gpu_problems(serve, places, variant, h, machine)
    shape = _text(variant.get("bundled")) in config.SHAPES
    if serve and shape and serve.load_format != "dummy":
        fix = 'add load_format = "dummy" to its serve table'
        yield ("variant", i, "bundled"), "is a shape without weights", fix
    if serve and serve.load_format == "dummy":
        yield from _random_weights_problems(places, stages, variant)
    if "speed" in stages:
        speed, more = _laid(config.SpeedOptions, "speed", layers)
        if serve and speed:
            yield from _length_problems(serve, speed, places | more, variant, machine)
    if "quality" in stages:
        quality, places = _laid(config.QualityOptions, "quality", layers)
        if quality and quality.data == "bundled":
            try:
                tasks.check_bundled(quality)
            except ConfigError as error:
                place = _last(places, "data", "tasks", "num_fewshot")
                yield place, error.message, error.fix


def _laid(
    model: type[config.AnyModel], name: str, layers: dict[Path, Row]
) -> tuple[config.AnyModel | None, dict[str, Path]]:
    """A table as it applies, None if any layer has a problem of shape; where each key was set."""
    merged: Row = {}
    places: dict[str, Path] = {}
    for path, layer in layers.items():
        table = _table(layer.get(name))
        merged |= table
        places |= {key: (*path, name, key) for key in table}
    try:
        return config.parse(model, merged), places
    except ValidationError:
        return None, places


def _last(places: dict[str, Path], *keys: str) -> Path:
    """Where the one of `keys` stands that was set for the fewest: there it can be mended."""
    found = [places[key] for key in keys if key in places]
    return max(found, key=lambda path: (len(path), path[0]))  # defaults, hardware, variant, on


def _gpu_problems(
    serve: config.ServeOptions, places: dict[str, Path], variant: Row, h: int, machine: Row
) -> Iterator[Finding]:
    gpus = machine.get("gpus", config.Hardware.model_fields["gpus"].default)
    wanted = (serve.tensor_parallel_size or 1) * (serve.pipeline_parallel_size or 1)
    if machine.get("engine") != "cuda" or not isinstance(gpus, int) or wanted <= gpus:
        return
    keys = ("tensor_parallel_size", "pipeline_parallel_size")
    place: Path = _last(places | {"gpus": ("hardware", h, "gpus")}, "gpus", *keys)
    message = (
        f"{_short.repr(variant.get('name'))} needs {wanted} GPU(s), {machine['id']} has {gpus}"
    )
    yield place, message, f"lower {' × '.join(keys)}, or correct the hardware's gpus"


def _random_weights_problems(
    places: dict[str, Path], stages: Collection[Any], variant: Row
) -> Iterator[Finding]:
    if "quality" in stages:
        fix = 'set stages = ["speed"], or remove load_format'
        yield places["load_format"], "random weights have no quality to measure", fix
    if "repo" not in variant and _text(variant.get("bundled")) not in config.SHAPES:
        fix = f"add repo, or bundled, one of: {_listed(config.SHAPES)}"
        yield places["load_format"], "random weights need a repo for their shapes", fix


def _length_problems(
    serve: config.ServeOptions,
    speed: config.SpeedOptions,
    places: dict[str, Path],
    variant: Row,
    machine: Row,
) -> Iterator[Finding]:
    wanted = speed.input_tokens + speed.output_tokens
    if serve.max_model_len is None or wanted <= serve.max_model_len:
        return
    yield (
        _last(places, "max_model_len", "input_tokens", "output_tokens"),
        f"{_short.repr(variant.get('name'))} on {machine['id']}: {speed.input_tokens} + "
        f"{speed.output_tokens} tokens do not fit in max_model_len = {serve.max_model_len}",
        f"set max_model_len to {wanted} or more, or ask for fewer tokens",
    )
