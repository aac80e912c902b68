"""What a model expects at every token of one fixed text, to compare variants without labels.

A benchmark's accuracy changes only when an answer flips. The probabilities a model gives to the
next token change with every rounding, so their divergence from the baseline's shows what
quantization did long before an answer does. The text is this project's own.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel, ValidationError

from bench.engine.server import ask, first_line
from bench.errors import MeasurementError
from bench.progress import say
from bench.records import store
from bench.records.record import Fidelity

TEXT = Path(__file__).with_name("fixed_text.txt")
TOP = 20  # the most vLLM gives by default (--max-logprobs)
# What vLLM answers, with status 400, where a log-probability is not a number.
_NOT_A_NUMBER = re.compile(r"not JSON compliant(: (?:nan|-?inf))?")
# Tokens after so many others of their paragraph: the first have too little to go by.
_EARLY, _LATE = range(4, 16), range(48, 10_000)
_MOST_LOST = 0.5  # nats per token, from the early ones to the late


class AbsurdError(MeasurementError):
    """The server answers, and its model does not compute what its weights say."""


class _Logprob(BaseModel):
    logprob: float
    rank: int


class _Choice(BaseModel):
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[str, _Logprob] | None]


class _Answer(BaseModel):
    choices: tuple[_Choice]


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
            {"paragraph": number, **position} for position in _ask(url, served_name, paragraph)
        ]
    if not rows:
        raise _no_logprobs("none at any position")
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
    body = {
        "model": served_name,
        "prompt": "The ferry left the harbour",
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 1,
    }
    try:
        _complete(url, body)
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


def _complete(url: str, body: dict[str, Any]) -> str:
    try:
        return ask(f"{url}/v1/completions", 600, body)
    except httpx2.HTTPStatusError as error:
        if found := _NOT_A_NUMBER.search(error.response.text):
            raise _not_a_number(f"vLLM answers: {found[0]}") from error
        raise


def _not_a_number(seen: str) -> AbsurdError:
    return AbsurdError(
        f"the model computes NaN or infinity, so neither its answers nor its speed mean anything "
        f"({seen})",
        "choose another dtype, bfloat16 for float16, or another quantization",
    )


def _ask(url: str, served_name: str, paragraph: str) -> list[dict[str, Any]]:
    body = {
        "model": served_name,
        "prompt": paragraph,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": TOP,
        "return_token_ids": True,
    }
    try:
        [choice] = _Answer.model_validate_json(_complete(url, body)).choices
        pairs = zip(choice.prompt_token_ids, choice.prompt_logprobs, strict=True)
        return [_row(token, position) for token, position in pairs if position]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _no_logprobs(f"{where}: {first['msg']}") from error
    except (httpx2.HTTPError, LookupError, ValueError) as error:
        raise _no_logprobs(f"{type(error).__name__}: {first_line(error)}") from error


def _no_logprobs(reason: str) -> MeasurementError:
    return MeasurementError(
        f"the server gave no log-probabilities of the fixed text: {reason}",
        "vLLM gives them (prompt_logprobs) where max_model_len holds a paragraph of 100 tokens",
    )


def _row(token: int, position: dict[str, _Logprob]) -> dict[str, Any]:
    """The text's own token, which vLLM adds where it is not among the most likely, and those."""
    logprobs = {name: one.logprob for name, one in position.items()}
    if not all(map(math.isfinite, logprobs.values())):
        raise _not_a_number("the server gives log-probabilities that are not finite")
    top = {name: logprobs[name] for name, one in position.items() if one.rank <= TOP}
    return {"token": token, "logprob": logprobs[str(token)], "top": top}
