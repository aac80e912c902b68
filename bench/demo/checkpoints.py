"""Makes the demo's checkpoints out of one GGUF file.

Runs inside the engine environment, which has torch, transformers and compressed_tensors and
nothing of this package: `python checkpoints.py --gguf FILE --name bf16 --out DIR`, then
`python checkpoints.py --from DIR --name int8-w8a8 int4-w4a16 --out DIR8 DIR4`. Several at once
because imports take ten times as long as rounding. The same input gives the same bytes. Every
checkpoint carries a `checkpoint.json` that says what it was made from and how.
"""

# The engine's packages are not where mypy runs.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressed_tensors.quantization import QuantizationScheme
    from torch import Tensor

BF16 = "bf16"
GROUP_SIZE = 64  # the usual 128 does not divide this model's hidden size, 576 = 9 x 64
PRESETS = {"int8-w8a8": "W8A8", "int4-w4a16": "W4A16", "int4-awq-format": "W4A16_ASYM"}
AWQ_FORMAT = "int4-awq-format"
DESCRIPTIONS = {
    BF16: "dequantized from GGUF by transformers, stored in bfloat16",
    "int8-w8a8": "round-to-nearest; INT8 weights, symmetric, one scale per output channel;"
    " INT8 activations, dynamic, one scale per token; compressed-tensors int-quantized",
    "int4-w4a16": "round-to-nearest; INT4 weights, symmetric, one scale per"
    f" {GROUP_SIZE} inputs; compressed-tensors pack-quantized",
    AWQ_FORMAT: "round-to-nearest, without AWQ's activation-aware search; UINT4 weights, one scale"
    f" and zero point per {GROUP_SIZE} inputs; AutoAWQ GEMM layout",
}
AWQ_COLUMN_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of the eight columns that share one int32
CONFIG, WEIGHTS, PROVENANCE = "config.json", "model.safetensors", "checkpoint.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the checkpoint folders asked for, in their order, and returns the exit status."""
    args = parse_arguments(argv)
    # Before the imports that read them: progress is printed here, and nothing is looked up.
    os.environ["TQDM_DISABLE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    from safetensors import SafetensorError

    base = args.base or args.out[0]
    for name, out in zip(args.name, args.out, strict=True):
        try:
            make_checkpoint(name, out, args.gguf, base)
        except (OSError, SafetensorError) as error:
            print(f"checkpoints.py: cannot make {out}: {error}", file=sys.stderr)
            return 1
    return 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; ends the process with status 2 where it makes no sense."""
    parser = argparse.ArgumentParser(description="Make the demo's checkpoints.")
    parser.add_argument("--name", required=True, nargs="+", choices=DESCRIPTIONS)
    parser.add_argument("--out", required=True, nargs="+", type=Path, help="a folder for each name")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", type=Path, help="the file to dequantize: bf16 comes first")
    source.add_argument("--from", dest="base", type=Path, help="the bf16 folder to quantize")
    args = parser.parse_args(argv)
    if BF16 in args.name[1:] or (args.name[0] == BF16) != (args.gguf is not None):
        parser.error("bf16 is made with --gguf and comes first; without it give --from")
    if len(args.out) != len(args.name):
        parser.error("give one --out folder for each --name")
    needed = args.gguf or args.base / WEIGHTS
    if not needed.is_file():
        parser.error(f"{needed} is not a file")
    for out in args.out:
        if out.exists():
            parser.error(f"{out} exists: remove it to make it again")
    return args


def make_checkpoint(name: str, out: Path, gguf: Path, base: Path) -> None:
    """Makes one checkpoint folder: bf16 from `gguf`, any other from the bf16 folder `base`."""
    started = time.monotonic()
    print(f"{name}: {DESCRIPTIONS[name]}", flush=True)
    with staged(out) as folder:
        if name == BF16:
            dequantize_gguf(gguf, folder)
        else:
            quantize_checkpoint(base, folder, name)
    mib = (out / WEIGHTS).stat().st_size / 2**20
    print(f"{name}: {mib:.0f} MiB of weights in {time.monotonic() - started:.1f} s", flush=True)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Gives a folder beside `out` that becomes `out` only if the body succeeds."""
    partial = out.with_name(f".{out.name}.partial")
    if partial.exists():  # left by a process that was killed
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def dequantize_gguf(gguf: Path, folder: Path) -> None:
    """Writes model and tokenizer of a GGUF file as an ordinary bfloat16 checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print("  reading the tokenizer", flush=True)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    print("  dequantizing the weights", flush=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    print("  writing", flush=True)
    model.save_pretrained(folder)
    write_provenance(folder, BF16, {"file": gguf.name, "sha256": sha256(gguf)})


def quantize_checkpoint(base: Path, folder: Path, name: str) -> None:
    """Writes a checkpoint whose decoder projections are quantized and whose rest is `base`'s.

    Embeddings (tied to the output head in this model) and norms stay in bfloat16.
    """
    from safetensors.torch import load_file, save_file

    scheme = make_scheme(name)
    print("  rounding the weights", flush=True)
    tensors: dict[str, Tensor] = {}
    for key, value in load_file(base / WEIGHTS).items():
        module = key.removesuffix(".weight")
        if module.endswith("_proj"):
            encoded = quantize_weight(value, scheme, awq=name == AWQ_FORMAT)
            tensors |= {f"{module}.{part}": tensor for part, tensor in encoded.items()}
        else:
            tensors[key] = value
    print("  writing", flush=True)
    shutil.copytree(base, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(WEIGHTS))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((base / CONFIG).read_text())
    write_json(folder / CONFIG, config | {"quantization_config": describe_scheme(scheme, name)})
    origin = json.loads((base / PROVENANCE).read_text())
    write_provenance(folder, name, origin | {"weights_sha256": sha256(base / WEIGHTS)})


def make_scheme(name: str) -> QuantizationScheme:
    """Gives compressed-tensors' preset for `name`, with this model's group size and its format."""
    import torch
    from compressed_tensors.compressors.format import infer_module_format
    from compressed_tensors.quantization import preset_name_to_scheme

    scheme = preset_name_to_scheme(PRESETS[name], targets=["Linear"])
    if scheme.weights.group_size is not None:
        scheme.weights.group_size = GROUP_SIZE
    scheme.format = infer_module_format(torch.nn.Linear, scheme)
    return scheme


def quantize_weight(weight: Tensor, scheme: QuantizationScheme, awq: bool) -> dict[str, Tensor]:
    """Rounds one (outputs, inputs) matrix to nearest and returns its stored tensors by name.

    Scales are rounded to bfloat16 before the weights are divided by them, so that the stored
    integers are the nearest for the scales that the engine will use.
    """
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    exact = weight.float()
    groups = exact.unflatten(1, (-1, scheme.weights.group_size or weight.shape[1]))
    scale, zero_point = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)
    scale = scale.to(torch.bfloat16).float()
    if awq:
        codes = quantize(exact, scale, zero_point, scheme.weights, dtype=torch.int8)
        stored = {
            "qweight": pack_awq(codes),
            "qzeros": pack_awq(zero_point),
            "scales": scale.t().contiguous(),
        }
    else:
        compressor = BaseCompressor.get_value_from_registry(scheme.format)
        state = {"weight": exact, "weight_scale": scale, "weight_zero_point": zero_point}
        stored = compressor.compress(state, scheme)
    return {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for name, tensor in stored.items()
    }


def pack_awq(codes: Tensor) -> Tensor:
    """Packs (outputs, n) int8 codes in -8..7 into AutoAWQ's (n, outputs / 8) int32."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    eights = codes.t().unflatten(1, (-1, 8))
    return pack_to_int32(eights[..., list(AWQ_COLUMN_ORDER)].flatten(1), num_bits=4)


def describe_scheme(scheme: QuantizationScheme, name: str) -> dict[str, Any]:
    """Gives the `quantization_config` that tells the engine how the weights are stored."""
    from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus

    if name == AWQ_FORMAT:  # transformers' AwqConfig would add GPTQ's settings, untrue here
        return {
            "quant_method": "awq",
            "version": "gemm",
            "bits": scheme.weights.num_bits,
            "group_size": GROUP_SIZE,
            "zero_point": True,
            "modules_to_not_convert": ["lm_head"],
        }
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        format=scheme.format,
        quantization_status=QuantizationStatus.COMPRESSED,
        ignore=["lm_head"],
    )
    return dict(config.model_dump(mode="json"))


def write_provenance(folder: Path, name: str, made_from: dict[str, Any]) -> None:
    """Writes what the checkpoint is, what it was made from and by which versions."""
    tools = ("torch", "transformers", "gguf", "compressed-tensors", "safetensors")
    provenance = {
        "name": name,
        "method": DESCRIPTIONS[name],
        "made_from": made_from,
        "versions": {tool: version(tool) for tool in tools},
    }
    write_json(folder / PROVENANCE, provenance)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON with sorted keys, two spaces and a final newline."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Gives the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
