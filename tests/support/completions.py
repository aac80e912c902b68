"""A server that speaks /v1/completions: what it answers is known, what it was asked is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import local_server

EACH = -0.5  # the log-probability of every token


@dataclass
class Asked:
    """The bodies of the requests so far, and the texts whose log-probabilities were asked."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    texts: list[list[int]] = field(default_factory=list)

    @property
    def prompts(self) -> list[list[int]]:
        """Every prompt's tokens."""
        return [prompt for body in self.bodies for prompt in body["prompt"]]


@contextmanager
def serving(
    text: Callable[[dict[str, Any]], str] = lambda _: " #### 3",
    logprob: Callable[[list[int], int], float] = lambda *_: EACH,
) -> Iterator[tuple[str, Asked]]:
    """Its address, and what it was asked.

    Args:
        text: what is generated for a request's body.
        logprob: of a token of a prompt, by its place there.
    """
    asked = Asked()

    class Handler(local_server.Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "prompt_logprobs" in body:
                tokens = body["prompt"]
                asked.texts.append(tokens)
                given = [{str(token): {"logprob": EACH, "rank": 1}} for token in tokens[1:]]
                choice = {"prompt_token_ids": tokens, "prompt_logprobs": [None, *given]}
                self.answer([choice])
                return
            asked.bodies.append(body)
            choices = []
            for index, prompt in enumerate(body["prompt"]):
                logprobs = [logprob(prompt, place) for place in range(len(prompt))] + [EACH]
                top = [{"x": value} for value in logprobs]
                told = {"token_logprobs": logprobs, "top_logprobs": top}
                choices.append({"index": index, "text": text(body), "logprobs": told})
            self.answer(choices)

        def answer(self, choices: list[dict[str, Any]]) -> None:
            answer = json.dumps({"choices": choices}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with local_server.serving(Handler) as url:
        yield url, asked
