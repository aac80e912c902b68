"""The sessions of a run, in rounds over all variants: what is measured with each start of a server.

A session has a number, from 1, and so has a round: in round n every variant that lacks its nth
session gets it. The order within a round is drawn anew for each from the seed of [speed], so that
what drifts with time falls on all variants alike; it is that of a hash, and what is measured
already leaves the order of the rest as it was. Quality is measured in a variant's first session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.config import Hardware, Variant
from bench.plan.jobs import Job
from bench.records.pace import Pace


@dataclass(frozen=True)
class Session:
    """One start of one variant's server.

    Attributes:
        number: of the session and of its round.
        jobs: what is measured, speed before quality.
        paces: the loads of speed, those that lack this session.
    """

    number: int
    jobs: tuple[Job, ...]
    paces: tuple[Pace, ...] = ()

    @property
    def variant(self) -> Variant:
        """Whose server it is."""
        return self.jobs[0].variant

    @property
    def hardware(self) -> Hardware:
        """Where it runs."""
        return self.jobs[0].hardware


def in_rounds(jobs: Sequence[Job]) -> list[Session]:
    """Every session that the jobs still need, in the order in which they run.

    Args:
        jobs: those of one variant on one kind of hardware stand together, speed first.
    """
    found = [
        session
        for _, group in groupby(jobs, lambda job: (job.hardware.id, job.variant.id))
        for session in _of_one_server([job for job in group if job.needed])
    ]
    return sorted(found, key=_place)


def _of_one_server(needed: list[Job]) -> list[Session]:
    """The sessions of a variant on a hardware; quality is part of the first."""
    if not needed:
        return []
    speed = [job for job in needed if job.stage == "speed"]
    quality = tuple(job for job in needed if job.stage == "quality")
    numbered = [(n, job, paces) for job in speed for n, paces in sorted(job.missing.items())]
    if not numbered:
        return [Session(1, quality)]
    return [
        Session(number, (job, *(quality if place == 0 else ())), paces)
        for place, (number, job, paces) in enumerate(numbered)
    ]


def _place(session: Session) -> tuple[int, str]:
    job = session.jobs[0]
    drawn = f"{job.speed.seed} {session.number} {job.hardware.id} {job.variant.id}"
    return session.number, hashlib.sha256(drawn.encode()).hexdigest()
