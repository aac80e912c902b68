"""A small experiment, changes of it, and records of its jobs."""

from __future__ import annotations

import tomllib
from datetime import timedelta

import synthetic
from models_texts import LAYERS

from bench import config
from bench.config import Experiment
from bench.plan.jobs import Job
from bench.records.record import Record

EXPERIMENT = config.parse(Experiment, tomllib.loads(LAYERS))


def changed(text: str, old: str, new: str) -> Experiment:
    assert text.count(old) == 1
    return config.parse(Experiment, tomllib.loads(text.replace(old, new)))


def measured(
    job: Job, *, status: str = "ok", minutes: int = 0, session: int | None = None
) -> Record:
    """A record of the job, which took half an hour; of a split of two documents."""
    record, _ = (
        synthetic.speed_record(
            synthetic.BF16, prompts=2, repeats=job.speed.repeats, loops=job.speed.concurrency
        )
        if job.stage == "speed"
        else synthetic.quality_record(synthetic.BF16, documents=2, split=2)
    )
    finished = synthetic.START + timedelta(minutes=minutes)
    times = {"started_at": finished - timedelta(minutes=30), "finished_at": finished}
    return record.model_copy(
        update={
            "key": job.key,
            "spec": job.spec,
            "status": status,
            "session": session,
            "variant": job.variant.id,
            "hardware": job.hardware.id,
            "provenance": record.provenance.model_copy(update=times),
        }
    )
