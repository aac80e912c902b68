"""What a checkpoint on the Hub holds, read from its headers and small files, a few MB.

All that the rest of the program wants to know before a download, in one reading: `bench add` and
`bench validate --online` hold it against the engine, `bench pin` keeps its sizes for the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.config import Variant
from bench.errors import WeightsError
from bench.weights import formats, headers, hub, sizes, snapshot
from bench.weights.formats import Format
from bench.weights.sizes import Sizes


@dataclass(frozen=True)
class Contents:
    """A checkpoint as it describes itself.

    Attributes:
        architectures: the classes of the model, as config.json names them; none of a GGUF file.
        heads: attention heads, None where nothing says.
        context: the longest sequence in tokens, likewise.
        sizes: None where only its configuration was asked for.
        gguf: the header, of a GGUF file.
    """

    repo: str
    format: Format
    architectures: tuple[str, ...]
    heads: int | None
    context: int | None
    sizes: Sizes | None
    gguf: headers.Gguf | None = None


def read_hub(variant: Variant, cache: Path, found: hub.Repository | None = None) -> Contents:
    """The contents of a variant's checkpoint, by requests for headers and small files alone.

    Args:
        variant: one with a `repo`.
        found: the repository at the variant's revision, if it was asked about already.

    Raises:
        WeightsError: as `snapshot.resolve`, whose choice of files this shares; or a header
            cannot be read.
    """
    repo = str(variant.repo)
    found = found or hub.describe(repo, variant.revision)
    at = f"at {found.commit[:8]}"
    present = {file.name for file in found.files}
    weightless = variant.serve.load_format == "dummy" and not any(
        name.endswith(".safetensors") for name in present
    )
    wanted = snapshot.choose_from(found, variant.file, cache) if not weightless else ()
    if variant.file:
        head = hub.read_head(repo, found.commit, wanted[0].name, headers.GGUF_BYTES)
        total = sum(file.size_bytes for file in wanted)
        return _of_gguf(repo, head, total, f"its GGUF header {at}")
    config = hub.load_json(hub.fetch(repo, found.commit, "config.json", cache))
    sidecars = {
        name: hub.load_json(hub.fetch(repo, found.commit, name, cache))
        for name in formats.SIDECARS
        if name in present
    }
    if weightless:
        return _of_config(repo, config, formats.read(config, sidecars), None)
    tensors: dict[str, headers.Tensor] = {}
    for file in wanted:
        if file.name.endswith(".safetensors"):
            read = partial(hub.read_head, repo, found.commit, file.name)
            tensors |= headers.safetensors(f"{repo}: {file.name}", read)
    form = formats.read(config, sidecars, tensors)
    total = sum(file.size_bytes for file in wanted)
    measured = sizes.from_tensors(
        tensors, config, total, f"its safetensors headers {at}", form=form
    )
    return _of_config(repo, config, form, measured)


def keep_from_hub(variants: Iterable[Variant], cache: Path) -> list[WeightsError]:
    """Keeps in the project the sizes of these variants' checkpoints, as far as they can be read.

    Bundled ones are not on the Hub, and random weights need no checkpoint that could be asked.

    Returns:
        Why the others could not.
    """
    found: dict[str, Sizes] = {}
    failed = []
    for variant in variants:
        if not variant.repo or variant.serve.load_format == "dummy":
            continue
        try:
            contents = read_hub(variant, cache)
        except hub.UnreachableError:
            sizes.keep(found, sizes.kept())
            raise
        except WeightsError as error:
            failed.append(WeightsError(f"{variant.name}: {error.message}", error.fix))
            continue
        if contents.sizes:
            found[sizes.key(variant)] = contents.sizes
    sizes.keep(found, sizes.kept())
    return failed


def _of_config(
    repo: str, config: Mapping[str, Any], form: Format, measured: Sizes | None
) -> Contents:
    named = config.get("architectures")
    heads = sizes.text_of(config).get("num_attention_heads")
    return Contents(
        repo,
        form,
        tuple(name for name in named if isinstance(name, str)) if isinstance(named, list) else (),
        heads if sizes.is_size(heads) else None,
        sizes.context_of(config),
        measured,
    )


def _of_gguf(repo: str, head: bytes, total: int, basis: str) -> Contents:
    header = headers.gguf(head, total)
    measured = sizes.from_gguf(head, total, basis)
    prefix = f"{header.values.get('general.architecture')}."
    heads = header.values.get(f"{prefix}attention.head_count")
    context = header.values.get(f"{prefix}context_length")
    return Contents(
        repo,
        formats.of_gguf(header),
        (),
        heads if sizes.is_size(heads) else None,
        context if sizes.is_size(context) else None,
        measured,
        header,
    )
