"""What nobody has kept of a plan's checkpoints yet, asked of the Hub: their sizes and commits.

A pull request that adds a variant need not add to bench/weights/checkpoints.json, nor name a
commit. The repositories' names are a stranger's, held to the schema's pattern; the host is ours,
and no token that can do anything is at hand. All is answered in seconds, or it stays unknown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.config import Variant
from bench.errors import BenchError
from bench.plan import forecast
from bench.plan.commits import Repository
from bench.plan.forecast import Forecast
from bench.plan.jobs import Job
from bench.weights import contents, hub
from bench.weights.hub import UnreachableError
from bench.weights.sizes import Sizes

WITHIN_S = 30.0  # all answers together: the comment is to come within a minute
_MOST_NOTES = 10


@dataclass(frozen=True)
class Answer:
    """What the Hub says of a repository."""

    commit: str
    sizes: Sizes | None = None


def fill(
    forecasts: Sequence[Forecast], jobs: Sequence[Job], within_s: float | None = None
) -> tuple[list[Forecast], list[str]]:
    """The forecasts with the Hub's answer where a checkpoint to measure is not known.

    Args:
        forecasts: of these jobs, in their order.
        within_s: for all answers together; WITHIN_S by default.

    Returns:
        The forecasts, and a line for each repository of which something stays unknown, with the
        reason.
    """
    questions: dict[str, Callable[[], Answer]] = {}
    pairs = list(zip(forecasts, jobs, strict=True))
    for one, job in pairs:
        for each in one.repositories if job.needed else ():
            sized = each.key == "tokenizer" or one.download_gib is not None
            if not sized:
                questions[_name(each)] = _measured(job.variant, each)
            elif each.commit is None:
                questions.setdefault(_name(each), _dated(each))
    found, reasons = ask(questions, WITHIN_S if within_s is None else within_s)
    filled = [_filled(one, job, found) if job.needed else one for one, job in pairs]
    lines = [f"{name}: {reason}" for name, reason in reasons.items()]
    more = [f"and {len(lines) - _MOST_NOTES} more are unknown"] if len(lines) > _MOST_NOTES else []
    return filled, lines[:_MOST_NOTES] + more


def unpinned(forecasts: Sequence[Forecast]) -> list[str]:
    """The repositories to measure whose commit nobody knows."""
    every = (each for one in forecasts if one.needed for each in one.repositories)
    return list(dict.fromkeys(_name(each) for each in every if each.commit is None))


def _name(each: Repository) -> str:
    file = f":{each.file}" if each.file else ""
    return f"{each.name}{file}" + (f" at {each.revision}" if each.revision else "")


def _measured(variant: Variant, each: Repository) -> Callable[[], Answer]:
    def ask() -> Answer:
        found = hub.describe(each.name, each.revision)
        return Answer(found.commit, contents.read_hub(variant, hub.default_cache(), found).sizes)

    return ask


def _dated(each: Repository) -> Callable[[], Answer]:
    return lambda: Answer(hub.describe(each.name, each.revision).commit)


def _filled(one: Forecast, job: Job, found: Mapping[str, Answer]) -> Forecast:
    answers = [found.get(_name(each)) for each in one.repositories]
    dated = tuple(
        replace(each, commit=answer.commit if answer else each.commit)
        for each, answer in zip(one.repositories, answers, strict=True)
    )
    one = replace(one, repositories=dated)
    for answer in answers:
        if answer and answer.sizes:
            estimate = forecast.memory(job, answer.sizes)
            known = replace(one, fits=estimate.fits, download_gib=estimate.download_gib)
            one = replace(known, basis=estimate.basis)
    return one


def ask(
    questions: Mapping[str, Callable[[], Answer]], within_s: float
) -> tuple[dict[str, Answer], dict[str, str]]:
    """The Hub's answers that came in time, by name; and why there are none of the others."""
    found: dict[str, Answer] = {}
    reasons = dict.fromkeys(questions, f"the Hub did not answer within {within_s:g} s")

    def work() -> None:
        for name, question in questions.items():
            try:
                found[name] = question()
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
    return answered, {name: reasons[name] for name in questions if name not in answered}
