"""From a variant to a checkpoint on this machine, pinned, with only the files that are served."""

from __future__ import annotations

import contextlib
import difflib
import errno
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from bench import places
from bench.config import Variant, is_commit
from bench.errors import ConfigError, WeightsError
from bench.records.record import ModelFacts, ModelFile
from bench.weights import download, formats, hub
from bench.weights.checkpoint import Checkpoint
from bench.weights.gguf import PART, part_names

INDEX, CONFIG = "model.safetensors.index.json", "config.json"
# Configuration and tokenizer. No pickles, no Python: nothing that runs is ever downloaded.
_COMPANIONS = (
    "*.json",
    "*.jinja",
    "*.tiktoken",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
)

ReadIndex = Callable[[], Collection[str]]
Choice = Callable[[download.Files, ReadIndex], download.Files]


class FileError(WeightsError):
    """The repository is there, the file asked for is not."""


@dataclass(frozen=True)
class Source:
    """What a variant asks of one repository, and the keys that name it in models.toml."""

    repo: str
    revision: str | None
    choice: Choice
    key: Literal["repo", "tokenizer"]
    revision_key: Literal["revision", "tokenizer_revision"]


@dataclass(frozen=True)
class _Held:
    """The chosen files of one repository, in the cache."""

    folder: Path
    commit: str
    files: tuple[ModelFile, ...]
    license: str | None


Hold = Callable[[Source], _Held]
Answer = TypeVar("Answer")


def resolve(variant: Variant, cache: Path, progress: download.Progress | None = None) -> Checkpoint:
    """The variant's weights on this machine, downloaded as far as they are not there yet.

    Offline, and with pinned revisions also where the Hub does not answer, the cache will do. In a
    job it will not where the Hub does not answer: other jobs write to it, and the Hub alone says
    which hashes are right.

    Args:
        variant: one with a `repo`.
        cache: a Hugging Face cache folder, such as `hub.default_cache()`.
        progress: called about once a second while large files are downloaded.

    Raises:
        WeightsError: the Hub, the repository, its files or a download; see `hub.explain`.
        MachineError: too little free disk space.
    """
    return _with_hub_or_cache(sources(variant), partial(_checkpoint, variant), cache, progress)


def read_quantization(variant: Variant, cache: Path) -> dict[str, Any]:
    """What a variant's config.json says of quantization, without its weights; empty if nothing.

    Raises:
        WeightsError, MachineError: as `resolve`.
    """
    if variant.repo is None or variant.file:
        return {}
    source = Source(variant.repo, variant.revision, _choose_configuration, "repo", "revision")
    return _with_hub_or_cache(
        [source], lambda hold: _quantization(hold(source).folder) or {}, cache
    )


def _with_hub_or_cache(
    asked: Iterable[Source],
    act: Callable[[Hold], Answer],
    cache: Path,
    progress: download.Progress | None = None,
) -> Answer:
    """What `act` makes of files from the Hub, or from the cache where that will do."""
    offline = partial(_cached, cache=cache)
    if hub.is_offline():
        return act(offline)
    try:
        return act(partial(_download, cache=cache, progress=progress))
    except hub.UnreachableError as unreachable:
        if places.job_folder() or not all(is_commit(source.revision) for source in asked):
            raise
        try:
            return act(offline)
        except WeightsError:
            raise unreachable from None


def sources(variant: Variant) -> list[Source]:
    """What a variant asks of each repository it names.

    The tokenizer first: it is small, and its absence should not cost 40 GB.
    """
    return [
        Source(
            name,
            revision,
            _choice(variant, key, name),
            key,
            "revision" if key == "repo" else "tokenizer_revision",
        )
        for key, name, revision in reversed(variant.repositories())
    ]


def _choice(variant: Variant, key: Literal["repo", "tokenizer"], name: str) -> Choice:
    """The files that it takes; random weights need those of a tokenizer, which has the shapes."""
    if key == "tokenizer" or variant.serve.load_format == "dummy":
        return partial(choose_tokenizer, name)
    return partial(choose, name, variant.file)


def _checkpoint(variant: Variant, hold: Hold) -> Checkpoint:
    if variant.repo is None:
        raise ConfigError(f"{variant.name} has no repo", "only variants with a repo have weights")
    held = {source.key: hold(source) for source in sources(variant)}
    model, tokenizer = held["repo"], held.get("tokenizer")
    path = model.folder / variant.file if variant.file else model.folder
    facts = ModelFacts(
        source="random" if variant.serve.load_format == "dummy" else "hub",
        repo=variant.repo,
        revision=model.commit,
        file=variant.file,
        tokenizer=variant.tokenizer,
        tokenizer_revision=tokenizer.commit if tokenizer else None,
        files=model.files,
        quantization_config=formats.kept(_quantization(model.folder)),
        license=model.license,
    )
    return Checkpoint(path, tokenizer.folder if tokenizer else path, facts)


def _quantization(folder: Path) -> dict[str, Any] | None:
    return formats.find(*read_configuration(folder))[0]


def read_configuration(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A checkpoint's config.json, empty where it has none, and what lies beside it; see `formats`.

    Raises:
        WeightsError: one is not a JSON object.
    """
    found = {
        name: hub.load_json(folder / name)
        for name in (CONFIG, *formats.SIDECARS)
        if (folder / name).exists()
    }
    return found.pop(CONFIG, {}), found


def _download(source: Source, *, cache: Path, progress: download.Progress | None) -> _Held:
    found = hub.describe(source.repo, source.revision)
    if not is_commit(source.revision):  # notes the branch's commit, for offline runs
        with hub.asking(source.repo, source.revision), _if_it_can_be_written():
            hub.client().resolve_revision(source.repo, revision=source.revision, cache_dir=cache)
    wanted = source.choice(found.files, partial(remote_shards, found, cache))
    folder, files = download.fetch(found, wanted, cache, progress)
    return _Held(folder, found.commit, files, found.license)


@contextlib.contextmanager
def _if_it_can_be_written() -> Iterator[None]:
    """A cache that only reads, such as a shared volume, serves all the same."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise


def _cached(source: Source, *, cache: Path) -> _Held:
    with hub.asking(source.repo, source.revision):
        commit = (
            hub.client()
            .resolve_revision(
                source.repo, revision=source.revision, cache_dir=cache, local_files_only=True
            )
            .resolved
        )
    storage = download.storage_of(source.repo, cache)
    folder = storage / "snapshots" / commit
    here = download.local_files(folder)
    fix = "unset HF_HUB_OFFLINE to download it"
    if not here:
        raise WeightsError(f"{source.repo} at {commit} is not in the cache", fix)
    try:
        wanted = source.choice(here, lambda: _shards(folder / INDEX))
    except WeightsError as error:
        raise WeightsError(f"as far as it is in the cache, {error.message}", fix) from error
    with hub.asking(source.repo, commit):
        files = tuple(download.verify(folder / file.name, file, storage) for file in wanted)
    return _Held(folder, commit, files, license=None)


def remote_shards(found: hub.Repository, cache: Path) -> Collection[str]:
    """The files that a repository's safetensors index names."""
    return _shards(hub.fetch(found.name, found.commit, INDEX, cache))


def _shards(index: Path) -> Collection[str]:
    weight_map = hub.load_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{INDEX} has no weight_map", "choose another revision")
    return {str(file) for file in weight_map.values()}


# -- which files -------------------------------------------------------------------------------


def choose(
    repo: str, gguf: str | None, files: Iterable[hub.RemoteFile], read_index: ReadIndex
) -> download.Files:
    """The files that are served: one GGUF file, or one set of safetensors and its companions.

    Args:
        repo: the repository's name, for messages.
        gguf: the variant's `file`, if it has one.
        files: everything in the repository.
        read_index: gives the files that the safetensors index names; called if there is one.

    Raises:
        WeightsError: what is asked for is not there; near matches are named.
    """
    by_name = {file.name: file for file in files}
    if gguf is not None:
        return tuple(by_name[name] for name in _gguf_parts(repo, gguf, by_name))
    at_root = {name for name in by_name if "/" not in name}
    safetensors = {name for name in at_root if name.endswith(".safetensors")}
    if INDEX in at_root:
        weights = set(read_index())
        if not weights <= safetensors:
            missing = min(weights - safetensors)
            raise WeightsError(
                f"{repo} lacks {missing}, which its index names", "choose another revision"
            )
    elif "model.safetensors" in safetensors:
        weights = {"model.safetensors"}
    else:  # some repositories hold the same weights twice, once as "consolidated"
        weights = {name for name in safetensors if not name.startswith("consolidated")}
    if CONFIG not in at_root:
        raise _no_model(repo, by_name)
    if not weights:
        raise _no_weights(repo, by_name)
    return tuple(by_name[name] for name in sorted(weights | _companions(at_root)))


def choose_from(found: hub.Repository, gguf: str | None, cache: Path) -> download.Files:
    """`choose` for a repository on the Hub, fetching its index if it has one."""
    return choose(found.name, gguf, found.files, partial(remote_shards, found, cache))


def choose_tokenizer(
    repo: str, files: Iterable[hub.RemoteFile], read_index: ReadIndex | None = None
) -> download.Files:
    """Configuration and tokenizer without the weights, to be served with a GGUF file.

    Raises:
        WeightsError: the repository has no tokenizer.
    """
    del read_index  # it is for weights
    by_name = {file.name: file for file in files if "/" not in file.name}
    if not any(name.startswith("tokenizer") for name in by_name):
        raise WeightsError(f"{repo} has no tokenizer files", "name the base model's repository")
    return tuple(by_name[name] for name in sorted(_companions(by_name) - {INDEX}))


def _choose_configuration(files: Iterable[hub.RemoteFile], _: ReadIndex) -> download.Files:
    return tuple(file for file in files if file.name in (CONFIG, *formats.SIDECARS))


def _companions(names: Iterable[str]) -> set[str]:
    allowed = {name for name in names if any(fnmatch(name, glob) for glob in _COMPANIONS)}
    return {name for name in allowed if name == INDEX or not name.endswith(".index.json")}


def _gguf_parts(repo: str, gguf: str, names: Collection[str]) -> list[str]:
    split, parts = PART.search(gguf), part_names(gguf)
    if split and gguf in names and gguf != parts[0]:
        raise FileError(f"{gguf} is part {int(split[1])} of {int(split[2])}", f"name {parts[0]}")
    for part in parts:
        if part not in names:
            near = _nearest_ggufs(part, names)
            fix = f"did you mean {' or '.join(near)}?" if near else "it has no GGUF files at all"
            raise FileError(f"{repo} has no file {part}", fix)
    return parts


def _whole_ggufs(names: Iterable[str]) -> list[str]:
    """The GGUF files that can be named: models, and of a split one its first part."""
    found = []
    for name in sorted(names):
        split = PART.search(name)
        is_model = name.endswith(".gguf") and "mmproj" not in name.lower()
        if is_model and (split is None or int(split[1]) == 1):
            found.append(name)
    return found


def _nearest_ggufs(asked: str, names: Collection[str]) -> list[str]:
    """Files of the type asked for, if what is asked is one; else those with the nearest names."""
    ggufs = _whole_ggufs(names)
    word = re.escape(asked.removesuffix(".gguf"))
    same = [n for n in ggufs if re.search(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9_])", n, re.I)]
    return same[:3] or difflib.get_close_matches(asked, ggufs, n=3) or ggufs[:3]


def _no_model(repo: str, names: Collection[str]) -> WeightsError:
    """What a repository without config.json is instead."""
    if _whole_ggufs(names):
        return _no_weights(repo, names)
    if "adapter_config.json" in names:
        return WeightsError(
            f"{repo} is an adapter (LoRA), not a model",
            "merge it into the model that it was trained on, or name that one",
        )
    if "params.json" in names:
        return WeightsError(
            f"{repo} is in Mistral's own format (params.json, consolidated.safetensors)",
            "name a copy in the format of transformers: one that has config.json",
        )
    if "model_index.json" in names:
        return WeightsError(
            f"{repo} is a pipeline that makes pictures, not a language model", "name another"
        )
    if any(Path(name).suffix in _WEIGHTS for name in names):
        return WeightsError(f"{repo} has no config.json", "name the repository of a model")
    return _no_weights(repo, names)


def _no_weights(repo: str, names: Collection[str]) -> WeightsError:
    if ggufs := _whole_ggufs(names):
        usual = next((name for name in ggufs if "Q4_K_M" in name), ggufs[0])
        return WeightsError(
            f"{repo} holds GGUF files",
            f'name one: `bench add {repo}:{usual}`, or file = "{usual}" in models.toml',
        )
    at_root = {name for name in names if "/" not in name and name.endswith(".safetensors")}
    if at_root:
        listing = ", ".join(sorted(at_root)[:3])
        return WeightsError(
            f"{repo} has its weights under names that vLLM does not load ({listing})",
            "name a copy in the format of transformers: one that has model.safetensors",
        )
    others = sorted({Path(n).suffix for n in names} & _WEIGHTS - {".safetensors"})
    if others:
        return WeightsError(
            f"{repo} has no safetensors weights, only {' and '.join(others)} files, "
            "which can run code",
            "choose a repository that has",
        )
    return WeightsError(
        f"{repo} has no safetensors weights on this branch",
        "some keep one size on each branch: name one (`bench add --revision BRANCH`, or revision "
        "in models.toml), or choose another repository",
    )


_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5"}
