"""`bench add` and `bench pin`: models.toml edited in place, every other byte left as it is.

Both edit lines, because tomlkit moves tables that stand between others of the same array and puts
new keys below a table's trailing comments. The result is parsed again and must say exactly what
was meant, and nothing else; otherwise the file is not touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from bench.config import Experiment, Variant, is_commit
from bench.errors import ConfigError, WeightsError
from bench.modelsfile import lines as toml_lines
from bench.modelsfile import online, problems
from bench.weights import hub, sizes, snapshot
from bench.weights.contents import read_hub
from bench.weights.formats import Format
from bench.weights.sizes import Sizes


@dataclass(frozen=True)
class Added:
    """What `add` wrote.

    Attributes:
        checkpoint: what its sizes are kept by; see `sizes.key`.
        base: what a quantized model that heads a new family was made from.
    """

    text: str
    name: str
    family: str
    new_family: bool
    license: str | None
    checkpoint: str
    sizes: Sizes
    format: Format
    base: str | None


@dataclass(frozen=True)
class Pinned:
    """One revision that `pin` wrote; `key` is the one it stands under."""

    name: str
    key: str
    before: str | None
    after: str


def add(
    path: Path,
    repo: str,
    file: str | None = None,
    *,
    cache: Path,
    revision: str | None = None,
    name: str | None = None,
    family: str | None = None,
    tokenizer: str | None = None,
    hardware: tuple[str, ...] = (),
) -> Added:
    """Writes the table of a Hub model at the end of models.toml, with a family if it needs one.

    Args:
        repo, file: the repository, and the GGUF file in it if that is what is to be served.
        revision: a branch, tag or commit; the default branch where it is None. Its commit of today
            is written.
        name: by default the repository's own, or the file's.
        family: by default that of a variant from the same repository or from the model that this
            one was quantized from, or one named after that model.
        tokenizer: by default the family's, as far as this machine may read it.
        hardware: ids to restrict the variant to.

    Raises:
        ConfigError: the file has problems already, or would have with this table.
        WeightsError: the Hub, or what cannot be served; see `bench.modelsfile.online`.
    """
    experiment = problems.load_experiment(path)
    found = hub.describe(repo, revision)
    there = [v for v in experiment.variant if (v.repo, v.file) == (repo, file)]
    if revision:  # another branch is another checkpoint
        there = [v for v in there if v.revision in (None, revision, found.commit)]
    if there:
        raise _there_already(there, found.commit, name)
    asked = Variant.model_construct(
        name="new", family="new", repo=repo, file=file, revision=revision
    )
    contents = read_hub(asked, cache, found)
    if name is None:
        name = Path(file or repo).name.removesuffix(".gguf")
        if revision and not is_commit(revision):
            name += f" {revision}"
    family = family or _family(experiment, found, quantized=contents.format.method is not None)
    tables = ""
    if new_family := family not in {known.name for known in experiment.family}:
        tables += "\n" + _table("family", {"name": family, "baseline": name})
    keys: dict[str, Any] = {"name": name, "family": family, "repo": repo}
    keys |= {"file": file} if file else {}
    keys |= {"revision": found.commit}
    if file:
        keys["tokenizer"] = tokenizer or _tokenizer(experiment, found, family)
        keys["tokenizer_revision"] = hub.describe(keys["tokenizer"]).commit
    keys |= {"hardware": list(hardware)} if hardware else {}
    tables += "\n" + _table("variant", keys)
    before = path.read_bytes().decode()
    text = before + tables if before.endswith("\n") else f"{before}\n{tables}"
    if "\r\n" in before:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    with_it, found_problems = problems.check(text)
    if with_it is None or found_problems:
        listing = "\n".join(f"  {path}:{problem}" for problem in found_problems)
        raise ConfigError(f"{path} is unchanged: with this table it would have\n{listing}")
    for _, message, fix in online.refusals(
        with_it, len(with_it.variant) - 1, cache, licensed=False
    ):
        raise WeightsError(f"{path} is unchanged: {message}", fix)
    _write(path, text)
    assert contents.sizes
    return Added(
        tables.strip("\n") + "\n",
        name,
        family,
        new_family,
        found.license,
        sizes.key(with_it.variant[-1]),
        contents.sizes,
        contents.format,
        found.base_model if new_family and contents.format.method else None,
    )


def _there_already(there: Sequence[Variant], commit: str, name: str | None) -> ConfigError:
    """What a second row of a checkpoint would have to differ in, as tables to choose from."""
    first = there[0]
    tables = []
    for suffix, serve in _OTHER_WAYS:
        keys = {"name": name or f"{first.name}, {suffix}"[:80], "family": first.family}
        keys |= {"repo": str(first.repo)} | ({"file": first.file} if first.file else {})
        keys |= {"revision": first.revision or commit}
        keys |= {"tokenizer": first.tokenizer} if first.tokenizer else {}
        tables.append(f"{_table('variant', keys)}serve    = {serve}\n")
    names = ", ".join(repr(variant.name) for variant in there)
    return ConfigError(
        f"{first.repo}{f':{first.file}' if first.file else ''} is there already: {names}",
        "a second row of it is served another way; write one of these, and change what it asks "
        "for:\n\n" + "\n".join(tables),
    )


# What a second row of a checkpoint is for: another kernel, KV cache or context.
_OTHER_WAYS = (
    ("Marlin", '{ linear_backend = "marlin" }'),
    ("FP8 KV cache", '{ kv_cache_dtype = "fp8" }'),
    ("8K context", "{ max_model_len = 8192 }"),
)


def pin(path: Path) -> tuple[list[Pinned], list[WeightsError]]:
    """Writes the commit that each repository's revision is today; commits stay as they are.

    Returns:
        What was written, and why the others could not be: a repository or revision that is not
        there stays as it is and holds up no other.

    Raises:
        ConfigError: the file has problems, or a table is written so that no line can be added.
        UnreachableError: the Hub does not answer; nothing is written.
    """
    experiment = problems.load_experiment(path)
    text = path.read_bytes().decode()
    lines, rows = toml_lines.key_lines(text), text.splitlines(keepends=True)
    wanted = tomllib.loads(text)
    unpinned = [
        (lines[("variant", i, asked.revision_key if asked.revision else asked.key)], i, asked)
        for i, variant in enumerate(experiment.variant)
        for asked in snapshot.sources(variant)
        if not is_commit(asked.revision)
    ]
    pinned, failed = [], []
    for line, i, asked in sorted(unpinned, key=lambda row: -row[0]):  # lines above keep their place
        name = experiment.variant[i].name
        try:
            commit = hub.describe(asked.repo, asked.revision).commit
        except hub.UnreachableError:
            raise
        except WeightsError as error:
            failed.append(WeightsError(f"{name}: not pinned: {error.message}", error.fix))
            continue
        _pin_row(rows, line - 1, asked, commit)
        wanted["variant"][i][asked.revision_key] = commit
        pinned.append(Pinned(name, asked.revision_key, asked.revision, commit))
    text = "".join(rows)
    if _parsed(text) != wanted:
        listing = ", ".join(f"{p.name}: {p.key} = {json.dumps(p.after)}" for p in pinned)
        raise ConfigError(f"{path} is unchanged: its layout has no line for this", listing)
    if pinned:
        _write(path, text)
    return pinned[::-1], failed[::-1]


def _pin_row(rows: list[str], at: int, asked: snapshot.Source, commit: str) -> None:
    """Replaces the revision on its line, or adds one below the repository's, aligned with it."""
    row, key = rows[at], asked.revision_key
    if given := re.match(rf"(\s*{key}\s*=\s*)(\"[^\"]*\"|'[^']*')", row):
        rows[at] = f'{given[1]}"{commit}"{row[given.end() :]}'
    elif given := re.match(rf"(\s*)({asked.key}\s*)=", row):
        end = "\r\n" if row.endswith("\r\n") else "\n"
        rows[at] = row if row.endswith("\n") else row + end
        rows.insert(at + 1, f'{given[1]}{key:<{len(given[2]) - 1}} = "{commit}"{end}')


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _table(kind: str, keys: dict[str, Any]) -> str:
    width = max(map(len, keys))
    rows = [f"{key:<{width}} = {tomlkit.item(value).as_string()}" for key, value in keys.items()]
    return "\n".join([f"[[{kind}]]", *rows, ""])


def _write(path: Path, text: str) -> None:
    """All or nothing: a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".models-")
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode())
    shutil.copymode(path, temporary)
    Path(temporary).replace(path)


# -- what the Hub says of its kin ----------------------------------------------------------------


def _family(experiment: Experiment, found: hub.Repository, *, quantized: bool) -> str:
    """Of the model whose variant this is; an unquantized fine-tune is its own."""
    known = {v.repo.lower(): v.family for v in experiment.variant if v.repo}
    line = [found.name, *([found.base_model] if found.base_model else [])]
    if quantized and found.base_model:
        line += _ancestors(found.base_model)
    for repo in line:
        if family := known.get(repo.lower()):
            return family
    base = found.base_model if quantized and found.base_model else found.name
    if quantized and not found.base_model and (family := _namesake(found.name, known)):
        return family
    return re.sub(r"[^A-Za-z0-9 .,_+()-]", "-", base.rpartition("/")[2])[:80].strip()


def _ancestors(repo: str) -> list[str]:
    """What a model was made from, and that in turn: many quantize a copy of the original."""
    line: list[str] = []
    for _ in range(_MOST_ANCESTORS):
        try:
            base = hub.describe(line[-1] if line else repo).base_model
        except hub.UnreachableError:
            raise
        except WeightsError:
            break  # gated or gone
        if base is None or base in line:
            break
        line.append(base)
    return line


def _namesake(repo: str, known: Mapping[str, str]) -> str | None:
    """The family of the model with the longest name that this one's begins with."""
    ours = _letters(repo)
    named = {_letters(other): family for other, family in known.items()}
    begins = [other for other in named if other and ours.startswith(other)]
    return named[max(begins, key=len)] if begins else None


def _letters(repo: str) -> str:
    return re.sub(r"[^a-z0-9]", "", repo.rpartition("/")[2].lower())


_MOST_ANCESTORS = 3


def _tokenizer(experiment: Experiment, found: hub.Repository, family: str) -> str:
    """A repository with this model's tokenizer that this machine may read."""
    kin: list[Variant] = [v for v in experiment.variant if v.family == family]
    named = [v.tokenizer for v in kin if v.tokenizer]
    whole = [v.repo for v in kin if v.repo and not v.file]
    for repo in dict.fromkeys([*named, *whole, found.base_model, found.name]):
        try:
            if repo is not None:
                candidate = hub.describe(repo)
                snapshot.choose_tokenizer(repo, candidate.files)
                hub.check_access(candidate)
                return repo
        except hub.UnreachableError:
            raise
        except WeightsError:
            continue  # gated, gone, or without a tokenizer: the next one may do
    raise WeightsError(
        f"no tokenizer can be read for {found.name}", "name a repository with --tokenizer"
    )
