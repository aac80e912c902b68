"""What a model expects at every token of one fixed text, to compare variants without labels.

A benchmark's accuracy changes only when an answer flips. The probabilities a model gives to the
next token change with every rounding, so their divergence from the baseline's shows what
quantization did long before an answer does. The text is this project's own.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel, ValidationError

from bench.engine.server import ask, first_line
from bench.errors import MeasurementError
from bench.records import store
from bench.records.record import Fidelity

TEXT = Path(__file__).with_name("fixed_text.txt")
TOP = 20  # the most vLLM gives by default (--max-logprobs)


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
        told = ask(f"{url}/v1/completions", 600, body)
        [choice] = _Answer.model_validate_json(told).choices
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
        raise MeasurementError(
            "the server gave log-probabilities that are not finite",
            "the model computes NaN or infinity: check its dtype and its quantization",
        )
    top = {name: logprobs[name] for name, one in position.items() if one.rank <= TOP}
    return {"token": token, "logprob": logprobs[str(token)], "top": top}
