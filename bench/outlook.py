"""The plan as a person or a workflow reads it: what would run, why, does it fit, how long."""

from __future__ import annotations

import json
import shlex
from itertools import groupby
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench import dryrun, fit, sizes, store
from bench.config import Experiment, ServeOptions
from bench.plan import Job
from bench.record import Record

_HEADERS = {
    "variant": "variant",
    "hardware": "hardware",
    "stage": "stage",
    "state": "state",
    "weights_gib": "weights GiB",
    "fits": "fits",
    "max_context": "context",
    "max_concurrency": "at once",
    "download_gib": "download GiB",
    "expected_minutes": "minutes",
}


def rows(jobs: list[Job], results: Path) -> list[dict[str, Any]]:
    """One row per job, in the order they would run; None is unknown.

    `expected_minutes` is what the stage took last time, whatever its options were (`measured_on`);
    the memory figures are estimates, and `basis` says from what.
    """
    checkpoints = sizes.known()
    return [_row(job, results, checkpoints) for job in jobs]


def _row(job: Job, results: Path, checkpoints: dict[str, sizes.Sizes]) -> dict[str, Any]:
    earlier = _earlier(results, job)
    options = ServeOptions.model_validate_json(json.dumps(job.spec["serve"]))
    known = checkpoints.get(sizes.key(job.variant))
    estimate = fit.for_variant(job.variant, job.hardware, options, known)
    return {
        "variant": job.variant.id,
        "checkpoint": sizes.key(job.variant) if job.variant.repo else job.variant.bundled,
        "variant_name": job.variant.name,
        "hardware": job.hardware.id,
        "stage": job.stage,
        "needed": job.needed,
        "state": job.reason,
        "key": job.key,
        "reproduces": job.variant.reproduces,
        "expected_minutes": None if earlier is None else round(_minutes(earlier), 1),
        "measured_on": None if earlier is None else f"{earlier.provenance.finished_at:%Y-%m-%d}",
        "weights_gib": _rounded(estimate.weights_gib),
        "fits": estimate.fits,
        "max_context": estimate.max_context,
        "max_concurrency": _rounded(estimate.max_concurrency, 1),
        "download_gib": _rounded(estimate.download_gib),
        "basis": estimate.basis,
    }


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _earlier(results: Path, job: Job) -> Record | None:
    """The newest finished record of this stage, whatever its options were."""
    folder = results / job.hardware.id / job.variant.id
    for path in sorted(folder.glob(f"{job.stage}-*.json"), reverse=True):
        record = store.read(path)
        if record.status == "ok":
            return record
    return None


def _minutes(record: Record) -> float:
    """The stage's own time and the server's start."""
    took = record.provenance.finished_at - record.provenance.started_at
    startup_s = record.engine.startup_s if record.engine else 0.0
    return (took.total_seconds() + startup_s) / 60


def command_lines(experiment: Experiment, jobs: list[Job]) -> str:
    """What each variant's jobs would run, for a shell; see `dryrun.commands`."""
    blocks = []
    for (variant, hardware), group in groupby(jobs, lambda job: (job.variant, job.hardware)):
        stages = [job.stage for job in group]
        lines = dryrun.commands(experiment, variant, hardware, stages)
        title = f"# {variant.name} on {hardware.name}: {', '.join(stages)}"
        blocks.append("\n".join([title, *(shlex.join(line) for line in lines)]))
    return "\n\n".join(blocks)


def table(plan_rows: list[dict[str, Any]]) -> str:
    """The rows for a terminal, and lines that sum them up and say what is estimated."""
    words = {True: "yes", False: "no", None: None}
    shown = [
        {text: row[key] if key != "fits" else words[row[key]] for key, text in _HEADERS.items()}
        for row in plan_rows
    ]
    needed = [row for row in plan_rows if row["needed"]]
    lines = [f"{len(needed)} of {len(plan_rows)} stages to measure"]
    timed = [row["expected_minutes"] for row in needed if row["expected_minutes"] is not None]
    if timed:
        lines.append(f"about {sum(timed):.0f} minutes for the {len(timed)} measured before")
    downloads = {row["checkpoint"]: row["download_gib"] for row in needed if row["download_gib"]}
    if downloads:
        lines.append(f"{sum(downloads.values()):.1f} GiB to download, each checkpoint once")
    sources = sorted({row["basis"] for row in plan_rows} - {"unknown"})
    if sources:
        lines.append(f"weights, fit and context are estimates, {'; '.join(sources)}")
    return tabulate(shown, headers="keys", missingval="unknown") + "\n\n" + "\n".join(lines)
