"""The parts of synthetic records as plain JSON values; `synthetic.py` puts them together."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from bench.config import ServiceLevel, slug
from bench.records.record import Record, spec_key

CHOICES = 4
TEXTS = 64  # documents whose own text is read
HASH = "0" * 64
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Variant:
    """What is true of a synthetic variant; `weights` equal in two means the same checkpoint."""

    name: str
    family: str = "Qwen3-8B"
    baseline: bool = False
    ttft_ms: float = 100.0
    tpot_ms: float = 40.0
    accuracy: float = 0.6
    weights_gib: float = 15.0
    weights: str = ""
    kernel: str | None = None
    quantization: str | None = None
    random_weights: bool = False
    reproduces: str | None = None
    text_loss: float | None = None  # nats per token of the documents' own text; None: not read


@dataclass(frozen=True)
class Machine:
    """A hardware entry and the machine that answered for it."""

    id: str = "l40"
    name: str = "NVIDIA L40"
    gpu_name: str | None = "NVIDIA L40"
    cpu_model: str = "AMD EPYC 9354"
    gpu_memory_gib: float | None = 44.99
    price_per_hour_usd: float | None = 0.8


def generator(*words: str | int) -> np.random.Generator:
    """Random numbers of their own for what the words name."""
    return np.random.default_rng([ord(letter) for word in words for letter in str(word)])


def repeat(
    random: np.random.Generator,
    variant: Variant,
    rate: float,
    *,
    number: int,
    prompts: int,
    noise: float,
    finished: datetime,
    lengths: tuple[int, int] = (512, 128),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One repeat and its sidecar row; unthrottled load waits longer and decodes slower.

    Args:
        lengths: tokens of each prompt, and of each answer.
    """
    given, answered = lengths
    crowded = 3.0 if math.isinf(rate) else 1.0
    day = random.lognormal(0, noise)
    ttft = variant.ttft_ms * crowded**2 * day * random.lognormal(0, 0.3, prompts)
    tpot = variant.tpot_ms * crowded * day * random.lognormal(0, 0.08, prompts)
    e2e = ttft + (answered - 1) * tpot
    most_tps = 60_000 / variant.tpot_ms  # what the machine can give, however fast requests come
    arrivals = 0.0 if math.isinf(rate) else prompts / rate
    duration = max(arrivals + variant.tpot_ms / 50, prompts * answered / most_tps) * day
    seed = 100 + number
    measured = {
        "seed": seed,
        "started_at": finished.isoformat(),
        "duration_s": duration,
        "asked": prompts,
        "completed": prompts,
        "failed": 0,
        "input_tokens": prompts * given,
        "output_tokens": prompts * answered,
        "server_input_tokens": prompts * given,
        "server_output_tokens": prompts * answered,
        "prefix_cache_queries": prompts * given,
        "prefix_cache_hits": 0,
        "request_throughput_rps": prompts / duration,
        "output_throughput_tps": prompts * answered / duration,
        "total_throughput_tps": prompts * (given + answered) / duration,
        "ttft_ms": _summary(ttft),
        "tpot_ms": _summary(tpot),
        "itl_ms": _summary(tpot * random.lognormal(0, 0.2, prompts)),
        "e2e_ms": _summary(e2e),
    }
    lists = {"ttft_ms": ttft, "tpot_ms": tpot, "e2e_ms": e2e}
    row = {name: [round(float(v), 3) for v in values] for name, values in lists.items()}
    return measured, {"request_rate_rps": "inf" if math.isinf(rate) else rate, "seed": seed, **row}


def server_times(repeat: dict[str, Any]) -> dict[str, Any]:
    """What the server counted of a repeat, four fifths of whose time per token are its own."""
    return {
        "queue_ms": 1.5,
        "prefill_ms": repeat["ttft_ms"]["mean"] / 2,
        "decode_ms": repeat["tpot_ms"]["mean"] * 127 * 0.8,
        "iterations": 1000,
        "tokens_per_iteration": repeat["output_tokens"] / 1000,
    }


def _summary(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    p50, p90, p99 = (float(value) for value in np.percentile(values, [50, 90, 99]))
    mean, std = float(values.mean()), float(values.std())
    return {"mean": mean, "median": p50, "std": std, "p50": p50, "p90": p90, "p99": p99}


def telemetry(
    machine: Machine, variant: Variant, throttled: bool | None, shared: bool | None
) -> dict[str, Any]:
    """What NVML, or without a GPU psutil, would have said."""
    on_gpu = machine.gpu_name is not None
    return {
        "source": "nvml" if on_gpu else "psutil",
        "samples": 40,
        "interval_s": 0.5,
        "peak_memory_gib": variant.weights_gib * 1.2 + 2,
        "memory_kind": "gpu" if on_gpu else "process group rss",
        "mean_power_w": 250.0 if on_gpu else None,
        "energy_per_output_token_j": variant.tpot_ms / 100 if on_gpu else None,
        "throttled": throttled if on_gpu else None,
        "shared": shared if on_gpu else None,
    }


def answers(
    variant: Variant, task: str, *, seed: int, documents: int, document_seed: int, flips: float
) -> list[dict[str, Any]]:
    """One sidecar row per document, its outcome following from its log-likelihoods."""
    shared = generator("documents", task, document_seed)
    difficulty, target = shared.random(documents), shared.integers(CHOICES, size=documents)
    lengths = shared.integers(20, 120, size=(documents, CHOICES))
    own = generator("answers", task, variant.name, seed)
    anew = own.random(documents) < flips
    right = np.where(anew, own.random(documents), difficulty) < variant.accuracy
    likelihoods = -1.5 * lengths - own.random((documents, CHOICES))
    everyone = np.arange(documents)
    chosen = np.where(right, target, (target + 1) % CHOICES)
    likelihoods[everyone, chosen] = likelihoods.max(axis=1) + 0.5
    normed = (likelihoods / lengths).argmax(axis=1)
    return [
        {
            "doc": int(i),
            "hash": f"{document_seed:032x}{i:032x}",
            "target": int(target[i]),
            "loglikelihoods": [round(float(v), 4) for v in likelihoods[i]],
            "bytes": [int(v) for v in lengths[i]],
            "acc": int(right[i]),
            "acc_norm": int(normed[i] == target[i]),
        }
        for i in everyone
    ]


def add_texts(rows: list[dict[str, Any]], variant: Variant, task: str, document_seed: int) -> None:
    """Gives the first documents what a variant expects of their text."""
    if variant.text_loss is None:
        return
    shared, own = generator("texts", task, document_seed), generator("texts", task, variant.name)
    logits = np.log([0.6, 0.2, 0.1, 0.1])
    for row in rows[:TEXTS]:
        tokens = int(shared.integers(20, 120))
        expected = -2.5 * tokens + shared.normal(0, 5)
        moved = -variant.text_loss * tokens + own.normal(0, 0.02 * math.sqrt(tokens))
        top = {}
        for place in range(0, 16, 4):
            shifted = logits + own.normal(0, math.sqrt(2 * abs(variant.text_loss)) + 0.01, 4)
            normed = shifted - np.log(np.exp(shifted).sum())
            top[str(place)] = {str(n): round(float(normed[n]), 4) for n in range(3)}
        text = {"sha256": row["hash"][-16:], "tokens": tokens, "top": top}
        row["text"] = {**text, "logprob": round(expected + moved, 4)}


def task(
    name: str, rows: list[dict[str, Any]], documents: int, split: int, seed: int
) -> dict[str, Any]:
    """A task's result over those rows, less its sidecar."""

    def metric(key: str) -> dict[str, Any]:
        rate = sum(row[key] for row in rows) / documents
        return {
            "name": key,
            "value": rate,
            "stderr": math.sqrt(rate * (1 - rate) / (documents - 1)),
        }

    return {
        "name": name,
        "version": "1.0",
        "config_sha256": HASH,
        "dataset": name,
        "dataset_revision": None,
        "num_fewshot": 0,
        "documents_original": split,
        "documents_effective": documents,
        "selection": "random",
        "selection_seed": seed,
        "documents_sha256": hashlib.sha256(
            "\n".join(f"{row['doc']} {row['hash']}" for row in rows).encode()
        ).hexdigest(),
        "choices": CHOICES,
        "texts": sum("text" in row for row in rows) or None,
        "metrics": [metric("acc"), metric("acc_norm")],
    }


def record(
    stage: str,
    variant: Variant,
    machine: Machine,
    *,
    finished: datetime,
    engine: str,
    asked: dict[str, Any],
    **result: Any,
) -> Record:
    """A record of one stage around its result."""
    spec = {"stage": stage, "variant": variant.name, "hardware": machine.id, stage: asked}
    raw = {
        "schema_version": 1,
        "key": spec_key(spec),
        "stage": stage,
        "status": "ok",
        "variant": slug(variant.name),
        "variant_name": variant.name,
        "family": variant.family,
        "baseline": variant.baseline,
        "hardware": machine.id,
        "hardware_name": machine.name,
        "price_per_hour_usd": machine.price_per_hour_usd,
        "service_level": ServiceLevel().model_dump(),
        "reproduces": variant.reproduces,
        "spec": spec,
        "model": _model(variant),
        "engine": _engine(variant, machine, engine),
        "environment": _environment(machine),
        "provenance": {
            "tool_version": "0.1.0",
            "commit": "1" * 40,
            "dirty": False,
            "started_at": (finished - timedelta(minutes=5)).isoformat(),
            "finished_at": finished.isoformat(),
        },
        **result,
    }
    return Record.model_validate_json(json.dumps(raw))


def _model(variant: Variant) -> dict[str, Any]:
    size = int(variant.weights_gib * 2**30)
    return {
        "source": "random" if variant.random_weights else "hub",
        "repo": variant.weights or f"example/{slug(variant.name)}",
        "revision": "a" * 40,
        "files": [{"name": "model.safetensors", "size_bytes": size, "sha256": HASH}],
        "license": "apache-2.0",
    }


def _engine(variant: Variant, machine: Machine, version: str) -> dict[str, Any]:
    room = (machine.gpu_memory_gib or 16.0) - variant.weights_gib
    return {
        "version": version,
        "build": "cuda" if machine.gpu_name else "cpu",
        "lm_eval_version": "0.4.13",
        "lock_sha256": HASH,
        "argv": ["vllm", "serve", variant.weights or f"example/{slug(variant.name)}"],
        "quantization": variant.quantization,
        "linear_kernel": variant.kernel,
        # On CPU vLLM does not say what the weights take.
        "weights_gib": variant.weights_gib if machine.gpu_name else None,
        "kv_cache_tokens": int(max(room, 0.5) * 7000),
        "load_s": variant.weights_gib * 4,
        "startup_s": variant.weights_gib * 4 + 30,
    }


def _environment(machine: Machine) -> dict[str, Any]:
    return {
        "os": "Debian GNU/Linux 12",
        "kernel": "6.1.0",
        "python": "3.11.2",
        "cpu_model": machine.cpu_model,
        "cpu_count": 16,
        "memory_gib": 64.0,
        "gpu_name": machine.gpu_name,
        "gpu_count": 1 if machine.gpu_name else 0,
        "gpu_memory_gib": machine.gpu_memory_gib,
        "packages": {"vllm": "0.32.0", "lm-eval": "0.4.13"},
    }
