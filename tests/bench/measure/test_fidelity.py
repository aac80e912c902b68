"""Log-probabilities of the fixed text: what is kept, and every way in which there are none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import local_server
import pytest

from bench.errors import MeasurementError
from bench.measure import fidelity, prompts
from bench.records import store

FIRST = {"7": {"logprob": -0.5, "rank": 1}, "9": {"logprob": -3.0, "rank": 21}}


@contextmanager
def answering(status: int, body: bytes, length: int | None = None) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(local_server.Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

    with local_server.serving(Handler) as url:
        yield url


def choice(**changes: Any) -> bytes:
    """vLLM's answer for a prompt of the tokens 5 and 9; None leaves a key out."""
    given = {"prompt_token_ids": [5, 9], "prompt_logprobs": [None, FIRST], **changes}
    kept = {key: value for key, value in given.items() if value is not None}
    return json.dumps({"choices": [{"text": "", **kept}]}).encode()


def test_the_own_token_is_kept_and_the_most_likely_ones() -> None:
    with answering(200, choice()) as url:
        result, data = fidelity.measure(url, "model")
    paragraphs = len(fidelity.TEXT.read_text(encoding="utf-8").strip().split("\n\n"))
    assert (result.positions, result.mean_logprob, result.top) == (paragraphs, -3.0, 20)
    rows = [
        {"paragraph": number, "token": 9, "logprob": -3.0, "top": {"7": -0.5}}
        for number in range(paragraphs)
    ]
    assert store.pack_sidecar(rows)[1] == data


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"error": "prompt_logprobs is not supported"}', "400 Bad Request"),
        (200, b"<html>", "Invalid JSON"),
        (200, b'{"choices": []}', "choices"),
        (200, choice(prompt_logprobs=None), "prompt_logprobs: Field required"),
        (
            200,
            b'{"choices": [{"prompt_token_ids": [1], "prompt_logprobs": null}]}',
            "Input should be a valid array",
        ),
        (200, choice(prompt_token_ids=None), "prompt_token_ids: Field required"),
        (200, choice(prompt_token_ids=[5]), "argument 2 is longer than argument 1"),
        (200, choice(prompt_token_ids=[5, 8]), "KeyError: '8'"),
        (200, choice(prompt_logprobs=[None, {"9": {"rank": 1}}]), "9.logprob: Field required"),
        (200, choice(prompt_logprobs=[None, None]), "none at any position"),
        (200, choice(prompt_token_ids=[], prompt_logprobs=[]), "none at any position"),
    ],
)
def test_a_server_that_gives_none(status: int, body: bytes, said: str) -> None:
    with (
        answering(status, body) as url,
        pytest.raises(MeasurementError, match="gave no log-probabilities of a prompt") as none,
    ):
        fidelity.measure(url, "model")
    assert said in none.value.message
    assert "\n" not in none.value.message
    assert "prompt_logprobs" in none.value.fix


def test_a_server_that_is_cut_off_or_away() -> None:
    with (
        answering(200, choice(), length=10_000) as url,
        pytest.raises(MeasurementError, match="without sending complete message"),
    ):
        fidelity.measure(url, "model")
    with pytest.raises(MeasurementError, match="Connection refused"):
        fidelity.measure(url, "model")


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_model_that_computes_no_numbers(bad: float) -> None:
    body = choice(prompt_logprobs=[None, {"9": {"logprob": bad, "rank": 1}}])
    with (
        answering(200, body) as url,
        pytest.raises(MeasurementError, match="log-probabilities that are not finite"),
    ):
        fidelity.measure(url, "model")


NAN = b'{"error":{"message":"Out of range float values are not JSON compliant: nan","code":400}}'


@pytest.mark.parametrize("ask", [fidelity.measure, fidelity.check_numbers])
def test_what_vllm_answers_for_nan_is_put_into_words(ask: Callable[[str, str], Any]) -> None:
    with (
        answering(400, NAN) as url,
        pytest.raises(prompts.AbsurdError, match="neither its answers nor its speed mean") as nan,
    ):
        ask(url, "model")
    assert nan.value.message.endswith("(vLLM answers: not JSON compliant: nan)")


def test_whatever_else_a_first_prompt_meets_is_left_to_the_stage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with answering(200, b"{}") as url:
        fidelity.check_numbers(url, "model")
    assert capsys.readouterr().err == ""
    with answering(400, b"too long") as url:
        fidelity.check_numbers(url, "model")
    assert "a first prompt was not answered: " in capsys.readouterr().err


def rows(early: float, late: float, tokens: int = 60) -> list[dict[str, Any]]:
    """Two paragraphs; their first four tokens are nobody's to expect."""
    expected = [-9.0] * 4 + [early] * 44 + [late] * (tokens - 48)
    return [{"paragraph": p, "logprob": value} for p in (0, 1) for value in expected[:tokens]]


@pytest.mark.parametrize(
    ("early", "late"),
    [(-2.95, -2.98), (-3.32, -3.38), (-5.60, -4.84), (-15.10, -13.39), (-10.34, -10.30)],
    ids=["BF16", "4 bits", "3 bits", "2 bits", "no attention"],
)
def test_coarse_rounding_is_no_absurdity(early: float, late: float) -> None:
    """As measured of SmolLM2-135M, rounded to nearest in groups of 64."""
    fidelity.check_context(rows(early, late))


def test_rows_in_another_order_are_one() -> None:
    """As measured of SmolLM2-135M with the rows of a GGUF file as they are stored."""
    with pytest.raises(prompts.AbsurdError, match=r"less the more .* -3.56 .* -4.55 further on"):
        fidelity.check_context(rows(-3.56, -4.55))
    fidelity.check_context(rows(-3.56, -4.55, tokens=48))  # too short to tell
