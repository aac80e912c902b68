"""What the Hub says of a models.toml: every problem that a download would meet."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.config import Experiment
from bench.engine import compatibility
from bench.errors import WeightsError
from bench.modelsfile import lines as toml_lines
from bench.modelsfile.consistency import Disagreement, set_at
from bench.modelsfile.problems import Problem, dotted
from bench.weights import gguf, hub, snapshot
from bench.weights.contents import Contents, read_hub


def check(experiment: Experiment, text: str, cache: Path) -> list[Problem]:
    """Every problem that a download or a server's start would meet, without the weights.

    Args:
        experiment: a models.toml that is valid in itself.
        text: the same file, for its lines.
        cache: where the few small files that have to be read are kept.

    Raises:
        UnreachableError: the Hub does not answer, so nothing can be said.
    """
    lines = toml_lines.key_lines(text)
    problems: dict[Problem, None] = {}
    for i in range(len(experiment.variant)):
        for path, message, fix in refusals(experiment, i, cache):
            line = toml_lines.line_of(lines, path)
            problems[Problem(line, dotted(path), message, fix)] = None
    return sorted(problems, key=lambda problem: problem.line)


def refusals(
    experiment: Experiment, i: int, cache: Path, *, licensed: bool = True
) -> Iterator[Disagreement]:
    """Why a variant cannot be measured, by what the Hub says of its checkpoint and tokenizer.

    Args:
        licensed: whether its repository has to state a licence.
    """
    variant, is_sound = experiment.variant[i], True
    for source in snapshot.sources(variant):
        for key, error in _refused(source, cache, licensed):
            is_sound = is_sound and source.key == "tokenizer"
            yield ("variant", i, key), error.message, error.fix
    if variant.repo is None or not is_sound:
        return
    try:
        contents = read_hub(variant, cache)
        if contents.gguf and variant.file:
            gguf.check_header(contents.gguf, variant.file)
    except hub.UnreachableError:
        raise
    except WeightsError as error:
        key = "file" if variant.file else "repo"
        yield ("variant", i, key), error.message, error.fix
    else:
        yield from dict.fromkeys(_incompatible(experiment, i, contents))


def _incompatible(experiment: Experiment, i: int, contents: Contents) -> Iterator[Disagreement]:
    """Why the engine would not serve the checkpoint so, on each hardware it is meant for."""
    variant = experiment.variant[i]
    for h, hardware in enumerate(experiment.hardware):
        if variant.runs_on(hardware):
            places = set_at(experiment, i, h, "serve")
            options = experiment.serve_options(variant, hardware)
            for refusal in compatibility.check(contents, options, hardware.engine):
                place = places.get(refusal.key, ("variant", i, refusal.key))
                yield place, refusal.message, refusal.fix


def _refused(
    source: snapshot.Source, cache: Path, licensed: bool
) -> Iterator[tuple[str, WeightsError]]:
    """The key that is wrong, and why; what is not wrong is not there."""
    try:
        _check(source, cache, licensed)
    except hub.UnreachableError:
        raise
    except hub.RevisionError as error:
        yield source.revision_key, error
    except snapshot.FileError as error:
        yield "file", error
    except WeightsError as error:
        yield source.key, error


def _check(source: snapshot.Source, cache: Path, licensed: bool) -> None:
    found = hub.describe(source.repo, source.revision)
    hub.check_access(found)
    source.choice(found.files, partial(snapshot.remote_shards, found, cache))
    if licensed and source.key == "repo" and found.license is None:
        raise WeightsError(f"{found.name} states no licence", "ask its owner, or choose another")
