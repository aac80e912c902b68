"""What a variant and its baseline expect of the same documents' own text.

Of all tasks together: a text is read for what the model makes of it, whatever was asked about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from report.rows.answers import Text
from report.rows.results import Results
from report.rows.rows import QualityRow
from report.stats import probabilities
from report.stats.divergence import kl_lower_bound
from report.stats.probabilities import Change


@dataclass(frozen=True, slots=True)
class OwnText:
    """A variant against its baseline, nats per token, over the texts that both read.

    `logprob` is the change in the log-probability of the texts' tokens. `divergence` is at least
    that from the baseline's expectations, at some places of each text; it is never negative, so it
    has an interval and no test.
    """

    documents: int
    logprob: Change
    divergence: Change

    @property
    def tells(self) -> bool:
        """Whether the interval of the change leaves out none."""
        return self.logprob.outcome in ("higher", "lower")


def own_text(
    results: Results, variant: Iterable[QualityRow], baseline: Iterable[QualityRow]
) -> OwnText | None:
    """What changed in the texts that both read; None for fewer than two.

    Args:
        variant, baseline: each one's rows, of all its tasks.
    """
    one, other = _texts(results, variant), _texts(results, baseline)
    same = [(one[sha256], other[sha256]) for sha256 in sorted(one.keys() & other.keys())]
    pairs = [(a, b) for a, b in same if a.tokens == b.tokens and a.top.keys() == b.top.keys()]
    logprob = probabilities.compare_logprobs(
        [a.logprob for a, _ in pairs], [b.logprob for _, b in pairs], [a.tokens for a, _ in pairs]
    )
    divergence = probabilities.mean_divergence(
        [_divergence(a, b) for a, b in pairs], [len(a.top) for a, _ in pairs]
    )
    return OwnText(len(pairs), logprob, divergence) if logprob and divergence else None


def _texts(results: Results, rows: Iterable[QualityRow]) -> dict[str, Text]:
    """A variant's texts by what they are."""
    asked = {(row.records, row.task) for row in rows if row.source == "measured"}
    answered = (results.answers(records, task) for records, task in sorted(asked))
    return {text.sha256: text for answers in answered for text in answers.texts if text}


def _divergence(variant: Text, baseline: Text) -> float:
    """Its sum over the places."""
    tops = ((baseline.top[place], variant.top[place]) for place in sorted(variant.top))
    return math.fsum(kl_lower_bound(expected, other) for expected, other in tops)
