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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from bench.config import Experiment, Variant
from bench.errors import ConfigError, WeightsError
from bench.modelsfile import lines as toml_lines
from bench.modelsfile import problems
from bench.weights import hub, snapshot


@dataclass(frozen=True)
class Added:
    """What `add` wrote."""

    text: str
    name: str
    family: str
    new_family: bool
    license: str | None
    download_gib: float


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
    name: str | None = None,
    family: str | None = None,
    tokenizer: str | None = None,
    hardware: tuple[str, ...] = (),
) -> Added:
    """Writes the table of a Hub model at the end of models.toml, with a family if it needs one.

    Args:
        repo, file: the repository, and the GGUF file in it if that is what is to be served.
        name: by default the repository's own, or the file's.
        family: by default that of a variant from the same repository or from the model that this
            one was quantized from, or one named after that model.
        tokenizer: by default the family's, as far as this machine may read it.
        hardware: ids to restrict the variant to.

    Raises:
        ConfigError: the file has problems already, or would have with this table.
        WeightsError: the Hub, or a repository that cannot be served; see `bench.weights.hub`.
    """
    experiment = problems.load_experiment(path)
    found = hub.describe(repo)
    files = snapshot.choose_from(found, file, cache)
    config = {} if file else hub.load_json(hub.fetch(repo, found.commit, "config.json", cache))
    quantized = bool(file or config.get("quantization_config"))
    name = name or Path(file or repo).name.removesuffix(".gguf")
    family = family or _family(experiment, found, quantized=quantized)
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
    if found_problems := problems.find_problems(text):
        listing = "\n".join(f"  {path}:{problem}" for problem in found_problems)
        raise ConfigError(f"{path} is unchanged: with this table it would have\n{listing}")
    _write(path, text)
    size = sum(part.size_bytes for part in files)
    return Added(
        tables.strip("\n") + "\n",
        name,
        family,
        new_family,
        found.license,
        size / 2**30,
    )


def pin(path: Path) -> list[Pinned]:
    """Writes the commit that each repository's revision is today; commits stay as they are.

    Raises:
        ConfigError: the file has problems, or a table is written so that no line can be added.
        WeightsError: a repository or revision is not there; see `bench.weights.hub`.
    """
    experiment = problems.load_experiment(path)
    text = path.read_bytes().decode()
    lines, rows = toml_lines.key_lines(text), text.splitlines(keepends=True)
    wanted = tomllib.loads(text)
    unpinned = [
        (lines[("variant", i, asked.revision_key if asked.revision else asked.key)], i, asked)
        for i, variant in enumerate(experiment.variant)
        for asked in snapshot.sources(variant)
        if not hub.is_commit(asked.revision)
    ]
    pinned = []
    for line, i, asked in sorted(unpinned, key=lambda row: -row[0]):  # lines above keep their place
        commit = hub.describe(asked.repo, asked.revision).commit
        _pin_row(rows, line - 1, asked, commit)
        wanted["variant"][i][asked.revision_key] = commit
        name = experiment.variant[i].name
        pinned.append(Pinned(name, asked.revision_key, asked.revision, commit))
    text = "".join(rows)
    if _parsed(text) != wanted:
        listing = ", ".join(f"{p.name}: {p.key} = {json.dumps(p.after)}" for p in pinned)
        raise ConfigError(f"{path} is unchanged: its layout has no line for this", listing)
    if pinned:
        _write(path, text)
    return pinned[::-1]


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
    for variant in experiment.variant:
        if variant.repo is not None and variant.repo in (found.name, found.base_model):
            return variant.family
    base = found.base_model if quantized and found.base_model else found.name
    return re.sub(r"[^A-Za-z0-9 .,_+()-]", "-", base.rpartition("/")[2])[:80].strip()


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
