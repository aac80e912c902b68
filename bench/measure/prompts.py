"""What a server expects at every token of a prompt: vLLM's prompt log-probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx2
from pydantic import BaseModel, ValidationError

from bench.engine.server import ask, first_line
from bench.errors import MeasurementError

# What vLLM answers, with status 400, where a log-probability is not a number.
_NOT_A_NUMBER = re.compile(r"not JSON compliant(: (?:nan|-?inf))?")


class AbsurdError(MeasurementError):
    """The server answers, and its model does not compute what its weights say."""


@dataclass(frozen=True)
class Place:
    """One token of a prompt, and what was expected there.

    Attributes:
        token: its id.
        logprob: its log-probability, in nats.
        top: those of the likeliest tokens, by id as JSON has it.
    """

    token: int
    logprob: float
    top: Mapping[str, float]


class _Logprob(BaseModel):
    logprob: float
    rank: int


class _Choice(BaseModel):
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[str, _Logprob] | None]


class _Answer(BaseModel):
    choices: tuple[_Choice]


def expected(url: str, served_name: str, prompt: str | Sequence[int], top: int) -> list[Place]:
    """Every token of the prompt but those that nothing stands before.

    Args:
        url: the server's.
        served_name: of the model there.
        prompt: a text, or token ids.
        top: how many of the likeliest tokens.

    Raises:
        AbsurdError: a log-probability is not a number.
        MeasurementError: the server gave none of the prompt, or died.
    """
    body = {
        "model": served_name,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": top,
        "return_token_ids": True,
    }
    try:
        [choice] = _Answer.model_validate_json(complete(url, body)).choices
        pairs = zip(choice.prompt_token_ids, choice.prompt_logprobs, strict=True)
        return [_place(token, seen, top) for token, seen in pairs if seen]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise no_logprobs(f"{where}: {first['msg']}") from error
    except (httpx2.HTTPError, LookupError, ValueError) as error:
        raise no_logprobs(f"{type(error).__name__}: {first_line(error)}") from error


def complete(url: str, body: Mapping[str, object]) -> str:
    """The server's answer to a completion.

    Raises:
        AbsurdError: vLLM says that a number in it is none.
        httpx2.HTTPError: any other failure.
    """
    try:
        return ask(f"{url}/v1/completions", 600, body)
    except httpx2.HTTPStatusError as error:
        if found := _NOT_A_NUMBER.search(error.response.text):
            raise _not_a_number(f"vLLM answers: {found[0]}") from error
        raise


def no_logprobs(reason: str) -> MeasurementError:
    """That the server told nothing of a prompt, and why."""
    return MeasurementError(
        f"the server gave no log-probabilities of a prompt: {reason}",
        "vLLM gives them (prompt_logprobs) where max_model_len holds the prompt",
    )


def _place(token: int, seen: dict[str, _Logprob], top: int) -> Place:
    """The prompt's own token, which vLLM adds where it is not among the likeliest, and those."""
    logprobs = {name: one.logprob for name, one in seen.items()}
    if not all(map(math.isfinite, logprobs.values())):
        raise _not_a_number("the server gives log-probabilities that are not finite")
    likeliest = {name: logprobs[name] for name, one in seen.items() if one.rank <= top}
    return Place(token, logprobs[str(token)], likeliest)


def _not_a_number(seen: str) -> AbsurdError:
    return AbsurdError(
        f"the model computes NaN or infinity, so neither its answers nor its speed mean anything "
        f"({seen})",
        "choose another dtype, bfloat16 for float16, or another quantization",
    )
