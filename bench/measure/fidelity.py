"""What a model expects at every token of one fixed text, to compare variants without labels.

A benchmark's accuracy changes only when an answer flips. The probabilities a model gives to the
next token change with every rounding, so their divergence from the baseline's shows what
quantization did long before an answer does. The text is this project's own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from bench.engine.server import first_line
from bench.measure import prompts
from bench.measure.prompts import AbsurdError
from bench.progress import say
from bench.records import store
from bench.records.record import Fidelity

TEXT = Path(__file__).with_name("fixed_text.txt")
TOP = 20  # the most vLLM gives by default (--max-logprobs)
# Tokens after so many others of their paragraph: the first have too little to go by.
_EARLY, _LATE = range(4, 16), range(48, 10_000)
_MOST_LOST = 0.5  # nats per token, from the early ones to the late


def measure(url: str, served_name: str) -> tuple[Fidelity, bytes]:
    """Asks for the most likely tokens at every position of the text, a paragraph a request.

    Args:
        url: the server's.
        served_name: of the model there.

    Returns:
        The result and the bytes of its sidecar, one row per position (the first token of each
        paragraph has nothing before it and is left out).

    Raises:
        AbsurdError: they are not numbers, or get worse the more of the text was read.
        MeasurementError: the server did not give log-probabilities of the prompt, or died.
    """
    text = TEXT.read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = []
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        rows += [
            {"paragraph": number, "token": at.token, "logprob": at.logprob, "top": at.top}
            for at in prompts.expected(url, served_name, paragraph, TOP)
        ]
    if not rows:
        raise prompts.no_logprobs("none at any position")
    check_context(rows)
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


def check_numbers(url: str, served_name: str) -> None:
    """Raises AbsurdError if the model computes NaN.

    Then neither its answers mean anything, nor how fast it gives them. Whatever else a server
    refuses, the stage itself will meet.
    """
    body: dict[str, object] = {
        "model": served_name,
        "prompt": "The ferry left the harbour",
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 1,
    }
    try:
        prompts.complete(url, body)
    except httpx2.HTTPError as error:
        say(f"a first prompt was not answered: {first_line(error)}")


def check_context(rows: list[dict[str, Any]]) -> None:
    """Raises AbsurdError if tokens that follow much text are expected less than the first ones.

    Rounding, however coarse, harms both alike. Attention that looks at the wrong places does the
    more harm the more there is to look at: weights in another order than the engine takes them
    for, another rotation. (SmolLM2-135M: BF16 -0.03 nats, INT8 0.03, INT4 0.27, rounded to 3 bits
    0.76, to 2 bits 1.7; a GGUF file whose rows were not put back -0.99.)
    """
    found: dict[range, list[float]] = {_EARLY: [], _LATE: []}
    place = Counter[int]()
    for row in rows:
        for span, values in found.items():
            if place[row["paragraph"]] in span:
                values.append(row["logprob"])
        place[row["paragraph"]] += 1
    if not all(found.values()):
        return  # another text
    early, late = (sum(values) / len(values) for values in found.values())
    if late < early - _MOST_LOST:
        raise AbsurdError(
            f"the model expects the fixed text less the more of it it has read: {early:.2f} nats "
            f"per token near the start of a paragraph, {late:.2f} further on. Rounding does not do "
            "that: its weights are in another order than the engine takes them for, or positions "
            "are counted otherwise",
            "serve the checkpoint by an engine and a configuration that know its layout",
        )
