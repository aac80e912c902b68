"""Whether the engine can serve a checkpoint as it is asked to, before anything is downloaded.

A checkpoint says how it was quantized, models.toml how to serve it, and the table beside the locks
what the pinned engine has (`locks/dump_arguments.py`). A server that starts finds out as well,
after 40 GB and on a machine that costs money.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.config import Build, ServeOptions
from bench.engine import arguments, installed
from bench.engine.arguments import Refusal
from bench.weights import formats
from bench.weights.contents import Contents

_ANOTHER = "choose a checkpoint in another format: FP8, AWQ, GPTQ, compressed-tensors or GGUF"
# Which engine would serve what vLLM does not have.
_ELSEWHERE = {
    "mlx": "mlx-lm, on a Mac, serves it",
    "exl2": "ExLlamaV2 (TabbyAPI) serves it",
    "exl3": "ExLlamaV3 (TabbyAPI) serves it",
    "hqq": "transformers with hqq loads it",
    "aqlm": "transformers with aqlm loads it",
    "bitsandbytes": "transformers with bitsandbytes loads it",
    "eetq": "transformers with eetq loads it",
    "quanto": "transformers with optimum-quanto loads it",
    "torchao": "transformers with torchao loads it",
    "vptq": "transformers with vptq loads it",
    "spqr": "transformers with spqr_quant loads it",
    "higgs": "transformers with flute loads it",
    "bitnet": "bitnet.cpp serves it",
}


def check(
    contents: Contents, options: ServeOptions, build: Build, version: str | None = None
) -> list[Refusal]:
    """Why a build of the engine would not serve a checkpoint so.

    Args:
        options: what `Experiment.serve_options` gives for the variant on the hardware.
        version: of the engine; by default that of the one that would run.

    Returns:
        With `repo` or `file` as key where the checkpoint is the reason, else the option's.
    """
    version = version or installed.version(build)
    known = arguments.table(build, version)
    if known is None:
        return []  # a version of the user's choosing: it will say itself
    name = f"vLLM {version} ({build})"
    return [
        *_format(contents, options, known, name),
        *_model(contents, known, name),
        *_options(contents, options, name),
    ]


def _format(
    contents: Contents, options: ServeOptions, known: arguments.Table, name: str
) -> Iterator[Refusal]:
    form, asked = contents.format, options.quantization
    if form.doubt:
        fix = "choose another revision or repository: what it holds cannot be told"
        yield Refusal("repo", f"{contents.repo} contradicts itself: {form.doubt}", fix)
        return
    if form.method is None:
        if asked and asked not in known.online and asked in known.words:
            yield Refusal(
                "quantization",
                f"{asked!r} reads a checkpoint that is quantized already, and {contents.repo} is "
                f"in {form.name}",
                f"remove it, or quantize while loading, with one of: {', '.join(known.online)}",
            )
        return
    if form.method == "gguf":
        return  # which files may be measured is checked by their architecture
    method = known.methods.get(form.method)
    if method is None:
        where = _ELSEWHERE.get(form.method.partition(" ")[0])
        yield Refusal(
            "repo",
            f"{contents.repo} is quantized, and {form.place} does not say with what method"
            if form.method == "unknown"
            else f"{contents.repo} is quantized with {form.method} ({form.place}), which {name} "
            "does not have",
            f"{where}; {_ANOTHER}" if where else _ANOTHER,
        )
        return
    if asked and (asked not in method.words or asked == "gguf"):
        words = [word for word in method.words if word != "gguf"]
        yield Refusal(
            "quantization",
            f"{contents.repo} is quantized with {form.method} ({form.name}), and not with {asked}",
            f"remove it: vLLM takes what the checkpoint says; or use one of: {', '.join(words)}",
        )
    if asked is None and not formats.is_read_unasked(form.place):
        yield Refusal(
            "repo",
            f"{contents.repo} says only in {form.place} that it is quantized with {form.method}, "
            "and vLLM does not look there by itself",
            f'add serve = {{ quantization = "{form.method}" }}',
        )


def _model(contents: Contents, known: arguments.Table, name: str) -> Iterator[Refusal]:
    for architecture in contents.architectures:
        if architecture in known.pooling:
            yield Refusal(
                "repo",
                f"{contents.repo} is a {architecture}, which answers with vectors or labels and "
                "writes no text",
                "name a model that generates",
            )
        elif last := known.dropped.get(architecture):
            yield Refusal(
                "repo",
                f"{contents.repo} is a {architecture}, which vLLM had up to {last} and {name} has "
                "not",
                "name another model",
            )


def _options(contents: Contents, options: ServeOptions, name: str) -> Iterator[Refusal]:
    length, limit = options.max_model_len, contents.context
    if length and limit and length > limit:
        yield Refusal(
            "max_model_len",
            f"{length} tokens are more than the {limit} of {contents.repo}, and {name} does not "
            "start then",
            f"set it to {limit} or less",
        )
    parts, heads = options.tensor_parallel_size or 1, contents.heads
    if heads and heads % parts:
        fits = [n for n in range(1, 17) if heads % n == 0]
        yield Refusal(
            "tensor_parallel_size",
            f"the {heads} attention heads of {contents.repo} cannot be shared by {parts} GPUs",
            f"use one of: {', '.join(map(str, fits))}",
        )
