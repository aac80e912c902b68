"""Sizes that nobody has kept yet, asked of the Hub for a review: in seconds, or they stay unknown.

A pull request that adds a variant need not add to bench/weights/checkpoints.json. The
repositories' names are a stranger's, held to the schema's pattern; the host is ours, and no token
that can do anything is at hand. What comes back goes into the comment and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config import Variant
from bench.errors import BenchError
from bench.plan import forecast
from bench.plan.jobs import Job
from bench.weights import hub, sizes
from bench.weights.hub import UnreachableError
from bench.weights.sizes import Sizes

WITHIN_S = 30.0  # all answers together: the comment is to come within a minute
_MOST_NOTES = 10


def fill(
    rows: Sequence[dict[str, Any]], jobs: Sequence[Job], within_s: float = WITHIN_S
) -> list[str]:
    """Adds the Hub's answer to the rows to measure whose checkpoint is not known.

    Args:
        rows: of `outlook.rows` for these jobs, in their order.
        within_s: for all answers together.

    Returns:
        A line for each checkpoint that stays unknown, and why.
    """
    pairs = [
        (row, job)
        for row, job in zip(rows, jobs, strict=True)
        if job.needed and job.variant.repo and row["download_gib"] is None
    ]
    found, reasons = ask({row["checkpoint"]: job.variant for row, job in pairs}, within_s)
    for row, job in pairs:
        estimate = forecast.memory(job, found.get(row["checkpoint"]))
        row.update(fits=estimate.fits, download_gib=estimate.download_gib, basis=estimate.basis)
    lines = [f"{name}: {reason}" for name, reason in reasons.items()]
    more = [f"and {len(lines) - _MOST_NOTES} more are unknown"] if len(lines) > _MOST_NOTES else []
    return lines[:_MOST_NOTES] + more


def ask(
    variants: Mapping[str, Variant], within_s: float
) -> tuple[dict[str, Sizes], dict[str, str]]:
    """What the Hub says of each checkpoint in time; and why it says nothing of the others."""
    found: dict[str, Sizes] = {}
    reasons = dict.fromkeys(variants, f"the Hub did not answer within {within_s:g} s")

    def work() -> None:
        for name, variant in variants.items():
            try:
                found[name] = sizes.read_hub(variant, hub.default_cache())
            except UnreachableError as error:
                reasons.update(dict.fromkeys(reasons.keys() - found, error.message))
                return  # nor will it answer for the others
            except BenchError as error:
                reasons[name] = error.message

    # A daemon: one that still waits for an answer does not keep the program from ending.
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(within_s)
    answered = dict(found)
    return answered, {name: reasons[name] for name in variants if name not in answered}
