"""What a model expects at every token of one fixed text, to compare variants without labels.

A benchmark's accuracy changes only when an answer flips. The probabilities a model gives to the
next token change with every rounding, so their divergence from the baseline's shows what
quantization did long before an answer does. The text is this project's own.
"""

from __future__ import annotations

import hashlib
import json
import math
import urllib.request
from pathlib import Path
from typing import Any

from bench import store
from bench.errors import MeasurementError
from bench.record import Fidelity
from bench.server import DIRECT, UNANSWERED
from bench.speed import Target

TEXT = Path(__file__).with_name("fixed_text.txt")
TOP = 20  # the most vLLM gives by default (--max-logprobs)


def measure(target: Target) -> tuple[Fidelity, bytes]:
    """Asks for the most likely tokens at every position of the text, a paragraph a request.

    Returns:
        The result and the bytes of its sidecar, one row per position (the first token of each
        paragraph has nothing before it and is left out).

    Raises:
        MeasurementError: the server did not give log-probabilities of the prompt.
    """
    text = TEXT.read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = []
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        rows += [{"paragraph": number, **position} for position in _ask(target, paragraph)]
    sidecar, data = store.pack_sidecar(rows)
    mean = sum(row["logprob"] for row in rows) / len(rows)
    result = Fidelity(
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        positions=len(rows),
        top=TOP,
        mean_logprob=mean,
        logprobs=sidecar,
    )
    return result, data


def _ask(target: Target, paragraph: str) -> list[dict[str, Any]]:
    body = {
        "model": target.served_name,
        "prompt": paragraph,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": TOP,
        "return_token_ids": True,
    }
    request = urllib.request.Request(  # noqa: S310
        f"{target.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with DIRECT.open(request, timeout=600) as answer:
            choice = json.load(answer)["choices"][0]
    except UNANSWERED as error:
        raise MeasurementError(
            f"log-probabilities of the fixed text: {error}",
            "max_model_len must hold a paragraph of about 100 tokens",
        ) from error
    pairs = zip(choice["prompt_token_ids"], choice["prompt_logprobs"], strict=True)
    return [_row(token, position) for token, position in pairs if position]


def _row(token: int, position: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The text's own token, which vLLM adds where it is not among the most likely, and those."""
    logprobs = {name: float(one["logprob"]) for name, one in position.items()}
    if not all(map(math.isfinite, logprobs.values())):
        raise MeasurementError(
            "the server gave log-probabilities that are not finite",
            "the model computes NaN or infinity: check its dtype and its quantization",
        )
    top = {name: logprobs[name] for name, one in position.items() if one["rank"] <= TOP}
    return {"token": token, "logprob": logprobs[str(token)], "top": top}
