"""GitHub's own limits, said before they end a job without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.config import Hardware
from bench.plan.forecast import Forecast
from bench.plan.jobs import Job

UPLOAD_MINUTES = 30  # that a job outlives its measurement, so that what was finished is uploaded
HOSTED_MINUTES = 6 * 60  # that a job may run on GitHub's own machines
OWN_MINUTES = 5 * 24 * 60  # and on others
QUEUE_MINUTES = 24 * 60  # that a job may wait for a machine of one's own
MOST_COMMITS = 1_000  # of a push that GitHub looks at one by one


def find(
    event: Mapping[str, Any], jobs: Sequence[Job], forecasts: Sequence[Forecast]
) -> Iterator[str]:
    """What GitHub will end, or has left out, of what is planned: one line each.

    Args:
        event: what started the run.
        forecasts: of the jobs, in their order.
    """
    if len(event.get("commits", ())) >= MOST_COMMITS:
        yield (
            f"a push of {MOST_COMMITS:,} commits or more: GitHub tells of no others, so what pull "
            "requests among those measured is measured again; push less at once"
        )
    needed: dict[str, tuple[Hardware, float]] = {}
    for job, one in zip(jobs, forecasts, strict=True):
        if job.needed:
            minutes = one.expected_minutes or (one.likely_minutes or (one.least_minutes or 0.0,))[0]
            before = needed.get(job.hardware.id, (job.hardware, 0.0))[1]
            needed[job.hardware.id] = (job.hardware, before + minutes)
    for hardware, minutes in needed.values():
        yield from _of_hardware(hardware, minutes)


def _of_hardware(hardware: Hardware, minutes: float) -> Iterator[str]:
    most = HOSTED_MINUTES if hardware.is_hosted else OWN_MINUTES
    if hardware.timeout_minutes + UPLOAD_MINUTES > most:
        yield (
            f"{hardware.id}: a job may take {hardware.timeout_minutes:,} minutes and "
            f"{UPLOAD_MINUTES} to upload, and GitHub ends it after {most:,}: what it had not "
            f"uploaded is lost; set timeout_minutes to {most - UPLOAD_MINUTES:,} or less"
        )
    if not hardware.is_hosted and minutes > QUEUE_MINUTES:
        yield (
            f"{hardware.id}: what is planned takes {minutes / 60:.0f} hours or more, and GitHub "
            f"ends a job that has waited {QUEUE_MINUTES // 60} hours for its runner: add runners, "
            "or measure fewer variants at once; the next run measures what is missing"
        )
