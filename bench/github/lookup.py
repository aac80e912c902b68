"""Sizes that nobody has kept yet, asked of the Hub for a review: in seconds, or they stay unknown.

A pull request that adds a variant need not add to bench/weights/checkpoints.json. The
repositories' names are a stranger's, held to the schema's pattern; the host is ours, and no token
that can do anything is at hand. What comes back goes into the comment and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.config import Variant
from bench.errors import BenchError
from bench.plan import forecast
from bench.plan.forecast import Forecast
from bench.plan.jobs import Job
from bench.weights import contents, hub, sizes
from bench.weights.hub import UnreachableError
from bench.weights.sizes import Sizes

WITHIN_S = 30.0  # all answers together: the comment is to come within a minute
_MOST_NOTES = 10


def fill(
    forecasts: Sequence[Forecast], jobs: Sequence[Job], within_s: float = WITHIN_S
) -> tuple[list[Forecast], list[str]]:
    """The forecasts with the Hub's answer where a checkpoint to measure is not known.

    Args:
        forecasts: of these jobs, in their order.
        within_s: for all answers together.

    Returns:
        The forecasts, and a line for each checkpoint that stays unknown, with the reason.
    """
    pairs = list(zip(forecasts, jobs, strict=True))
    unknown = {
        sizes.key(job.variant): job.variant
        for one, job in pairs
        if job.needed and job.variant.repo and one.download_gib is None
    }
    found, reasons = ask(unknown, within_s)
    filled = []
    for one, job in pairs:
        if job.needed and (checkpoint := found.get(sizes.key(job.variant))):
            estimate = forecast.memory(job, checkpoint)
            known = replace(one, fits=estimate.fits, download_gib=estimate.download_gib)
            filled.append(replace(known, basis=estimate.basis))
        else:
            filled.append(one)
    lines = [f"{name}: {reason}" for name, reason in reasons.items()]
    more = [f"and {len(lines) - _MOST_NOTES} more are unknown"] if len(lines) > _MOST_NOTES else []
    return filled, lines[:_MOST_NOTES] + more


def ask(
    variants: Mapping[str, Variant], within_s: float
) -> tuple[dict[str, Sizes], dict[str, str]]:
    """What the Hub says of each checkpoint in time; and why it says nothing of the others."""
    found: dict[str, Sizes] = {}
    reasons = dict.fromkeys(variants, f"the Hub did not answer within {within_s:g} s")

    def work() -> None:
        for name, variant in variants.items():
            try:
                if measured := contents.read_hub(variant, hub.default_cache()).sizes:
                    found[name] = measured
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
