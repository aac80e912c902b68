"""What a model expects of the evaluated documents' own text: kept as numbers, without the text.

A benchmark's accuracy changes only when an answer flips. The probabilities that a model gives to a
text's tokens change with every rounding, so they show what quantization did long before. Of each
document the log-probability of its whole text is kept, and at some of its places how probable the
likeliest tokens are. Tokens have labels there, drawn anew for every place, that a dozen tokens or
more share: they tell whether two models mean the same token and not which it is.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.measure import prompts

DOCUMENTS = 128  # of all tasks together
TOKENS = 512  # of a text, from its start
PLACES = 16  # of each text
TOP = 6  # tokens at a place: with their sum of 0.9 and more, the rest is one outcome
_LABELS = 4096
_AT_ONCE = 8
_DIGITS = 4  # of a log-probability: rounding below what batches of another size change


@dataclass(frozen=True)
class Text:
    """What is kept of a document's text.

    Attributes:
        sha256: of its tokens: what is compared must have the same.
        tokens: that have others before them.
        logprob: nats, the sum over them.
        top: by the place of a token, log-probabilities of the likeliest by label.
    """

    sha256: str
    tokens: int
    logprob: float
    top: Mapping[int, Mapping[str, float]]

    def row(self) -> dict[str, object]:
        """It in a document's row of the sidecar."""
        top = {str(place): dict(told) for place, told in self.top.items()}
        kept = {"sha256": self.sha256, "tokens": self.tokens}
        return {**kept, "logprob": round(self.logprob, _DIGITS), "top": top}


def measure(
    url: str, served_name: str, texts: Sequence[Sequence[int]], longest: int
) -> list[Text | None]:
    """Asks for each text's log-probabilities; several texts at a time.

    Args:
        url: the server's.
        served_name: of the model there.
        texts: each its token ids; what is too long is left out at its end.
        longest: tokens that the server takes.

    Returns:
        In their order; None for a text of fewer than two tokens.

    Raises:
        MeasurementError: the server gave none, or none that are numbers.
    """

    def ask(tokens: Sequence[int]) -> Text | None:
        tokens = tokens[: min(TOKENS, longest - 1)]  # the server adds one
        if len(tokens) < 2:
            return None
        return _text(tokens, prompts.expected(url, served_name, tokens, TOP))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, texts))


def _text(tokens: Sequence[int], places: Sequence[prompts.Place]) -> Text:
    if not places:
        raise prompts.no_logprobs("none at any position")
    sha256 = hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()
    chosen = random.Random(sha256).sample(range(len(places)), min(PLACES, len(places)))  # noqa: S311
    return Text(
        sha256[:16],
        len(places),
        math.fsum(place.logprob for place in places),
        {index: _labelled(f"{sha256} {index}", places[index].top) for index in sorted(chosen)},
    )


def _labelled(salt: str, top: Mapping[str, float]) -> dict[str, float]:
    """The log-probabilities by label; of tokens that share one, that of any of them."""
    found: dict[str, float] = {}
    for token, logprob in top.items():
        digest = hashlib.sha256(f"{salt} {token}".encode()).digest()
        label = str(int.from_bytes(digest[:4]) % _LABELS)
        shares = math.exp(found[label]) if label in found else 0.0
        found[label] = min(0.0, round(math.log(shares + math.exp(logprob)), _DIGITS))
    return found
