"""What the Hub says of a models.toml: every problem that a download would meet."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.config import Experiment, Variant
from bench.errors import WeightsError
from bench.modelsfile import lines as toml_lines
from bench.modelsfile.problems import Problem
from bench.weights import gguf, headers, hub, snapshot

_GGUF_BYTES = 4096  # its architecture is the first thing that a file states


def check(experiment: Experiment, text: str, cache: Path) -> list[Problem]:
    """Every problem that a download would meet, by line, without downloading the weights.

    Args:
        experiment: a models.toml that is valid in itself.
        text: the same file, for its lines.
        cache: where the few small files that have to be read are kept.

    Raises:
        UnreachableError: the Hub does not answer, so nothing can be said.
    """
    lines = toml_lines.key_lines(text)
    problems = []
    for i, variant in enumerate(experiment.variant):
        for key, message, fix in _refusals(variant, cache):
            line = toml_lines.line_of(lines, ("variant", i, key))
            problems.append(Problem(line, f"variant[{i}].{key}", message, fix))
    return sorted(problems, key=lambda problem: problem.line)


def _refusals(variant: Variant, cache: Path) -> Iterator[tuple[str, str, str]]:
    """The variant's key, what is wrong with it, and what to do."""
    for source in snapshot.sources(variant):
        try:
            _check(source, cache)
        except hub.UnreachableError:
            raise
        except hub.RevisionError as error:
            yield source.revision_key, error.message, error.fix
        except snapshot.FileError as error:
            yield "file", error.message, error.fix
        except WeightsError as error:
            yield source.key, error.message, error.fix


def _check(source: snapshot.Source, cache: Path) -> None:
    found = hub.describe(source.repo, source.revision)
    hub.check_access(found)
    chosen = source.choice(found.files, partial(snapshot.remote_shards, found, cache))
    if source.key == "tokenizer":
        return
    if chosen[0].name.endswith(".gguf"):
        head = hub.read_head(found.name, found.commit, chosen[0].name, _GGUF_BYTES)
        try:
            gguf.check_architecture(headers.gguf(head, chosen[0].size_bytes), chosen[0].name)
        except WeightsError as error:
            raise snapshot.FileError(error.message, error.fix) from error
    if "config.json" in {file.name for file in chosen}:
        hub.load_json(hub.fetch(found.name, found.commit, "config.json", cache))
    if found.license is None:
        raise WeightsError(f"{found.name} states no licence", "ask its owner, or choose another")
