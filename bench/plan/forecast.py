"""The plan as a person or a workflow reads it: what would run, why, does it fit, how long."""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.config import Experiment, ServeOptions
from bench.measure import dryrun
from bench.plan import fit
from bench.plan.jobs import Job
from bench.records import store
from bench.records.record import Record
from bench.weights import sizes

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
    of a stage never measured, `least_minutes` is what it cannot take less than. `time_basis` says
    from what. A variant's server starts once: its start is in the first of its stages to run, so
    that the rows can be added up. The memory figures are estimates, and `basis` says from what.
    """
    checkpoints, records = sizes.known(), _finished(results)
    started: set[tuple[str, str]] = set()
    found = []
    for job in jobs:
        server = (job.variant.id, job.hardware.id)
        starts = job.needed and server not in started
        if starts:
            started.add(server)
        found.append(_row(job, _time(job, records, starts=starts), checkpoints))
    return found


def _row(job: Job, time: dict[str, Any], checkpoints: dict[str, sizes.Sizes]) -> dict[str, Any]:
    estimate = memory(job, checkpoints.get(sizes.key(job.variant)))
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
        **time,
        "weights_gib": _rounded(estimate.weights_gib),
        "fits": estimate.fits,
        "max_context": estimate.max_context,
        "max_concurrency": _rounded(estimate.max_concurrency, 1),
        "download_gib": _rounded(estimate.download_gib),
        "basis": estimate.basis,
    }


def memory(job: Job, checkpoint: sizes.Sizes | None) -> fit.Fit:
    """Whether a job fits, with its own server options, from what is known of its checkpoint."""
    options = ServeOptions.model_validate_json(json.dumps(job.spec["serve"]))
    return fit.for_variant(job.variant, job.hardware, options, checkpoint)


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _finished(results: Path) -> list[Record]:
    """Every finished record, the newest last."""
    found = [record for _, record in store.records(results) if record.status == "ok"]
    return sorted(found, key=lambda record: record.provenance.finished_at)


def _time(job: Job, records: list[Record], *, starts: bool) -> dict[str, Any]:
    """How long a job may take, with the server's start if it is the one that starts it."""
    here = [record for record in records if record.hardware == job.hardware.id]
    earlier = [r for r in here if (r.variant, r.stage) == (job.variant.id, job.stage)]
    expected = least = None
    if earlier:
        expected = _took_s(earlier[-1]) + (_start_s(earlier[-1]) if starts else 0.0)
        basis = "earlier records"
    else:
        others, where = (here, job.hardware.id) if here else (records, "any hardware")
        least, basis = _least_s(job, others, where, starts=starts)
    return {
        "expected_minutes": None if expected is None else round(expected / 60, 1),
        "least_minutes": None if not least else round(least / 60, 1),
        "time_basis": basis,
        "measured_on": f"{earlier[-1].provenance.finished_at:%Y-%m-%d}" if earlier else None,
    }


def _least_s(job: Job, others: list[Record], where: str, *, starts: bool) -> tuple[float, str]:
    """Seconds that a stage never measured cannot take less than, and from what that is known.

    Requests sent at a rate take their number / rate. For the rest the quickest record stands: of
    the same questions, and of any server's start.
    """
    asked = job.spec[job.stage]
    if job.stage == "speed":
        limited = sum(asked["prompts"] / float(rate) for rate in asked["request_rates"])
        parts = {"requests / rate": asked["repeats"] * limited}
    else:
        same = [_took_s(record) for record in others if _asks_no_more(record, asked)]
        parts = {f"the quickest such stage on {where}": min(same, default=0.0)}
    if starts:
        every = [_start_s(record) for record in others]
        parts[f"the quickest server start on {where}"] = min(every, default=0.0)
    return sum(parts.values()), " + ".join(words for words, s in parts.items() if s) or "unknown"


def _asks_no_more(record: Record, asked: dict[str, Any]) -> bool:
    """Whether a record is of the same questions put the same way, and of no more of them."""
    told = record.spec["quality"] if record.stage == "quality" else {}
    same = ("tasks", "num_fewshot", "apply_chat_template")
    return all(told.get(key) == asked[key] for key in same) and _count(told) <= _count(asked)


def _count(quality: dict[str, Any]) -> float:
    documents = quality["documents"]
    return math.inf if documents == "all" else float(documents)


def _took_s(record: Record) -> float:
    return (record.provenance.finished_at - record.provenance.started_at).total_seconds()


def _start_s(record: Record) -> float:
    return record.engine.startup_s if record.engine else 0.0


def command_lines(experiment: Experiment, jobs: list[Job]) -> str:
    """What each variant's jobs would run, for a shell; see `dryrun.script`."""
    blocks = []
    for (variant, hardware), group in groupby(jobs, lambda job: (job.variant, job.hardware)):
        stages = [job.stage for job in group]
        title = f"# {variant.name} on {hardware.name}: {', '.join(stages)}"
        blocks.append(f"{title}\n{dryrun.script(experiment, variant, hardware, stages)}")
    return "\n\n".join(blocks)


def table(plan_rows: list[dict[str, Any]]) -> str:
    """The rows for a terminal, and lines that sum them up and say what is estimated."""
    shown = [{text: _shown(row, key) for key, text in _HEADERS.items()} for row in plan_rows]
    needed = [row for row in plan_rows if row["needed"]]
    lines = [f"{len(needed)} of {len(plan_rows)} stages to measure"]
    timed = [row["expected_minutes"] for row in needed if row["expected_minutes"] is not None]
    if timed:
        lines.append(f"about {sum(timed):.0f} minutes for the {len(timed)} measured before")
    least = [row for row in needed if row["least_minutes"] is not None]
    if least:
        minutes = sum(row["least_minutes"] for row in least)
        parts = (part for row in least for part in row["time_basis"].split(" + "))
        bases = ", ".join(dict.fromkeys(parts))
        lines.append(f"at least {minutes:.0f} minutes for {len(least)} never measured: {bases}")
    downloads = {row["checkpoint"]: row["download_gib"] for row in needed if row["download_gib"]}
    if downloads:
        lines.append(f"{sum(downloads.values()):.1f} GiB to download, each checkpoint once")
    sources = sorted({row["basis"] for row in plan_rows} - {"unknown"})
    if sources:
        lines.append(f"weights, fit and context are estimates, {'; '.join(sources)}")
    return tabulate(shown, headers="keys", missingval="unknown") + "\n\n" + "\n".join(lines)


def _shown(row: dict[str, Any], key: str) -> Any:
    if key == "fits":
        return {True: "yes", False: "no", None: None}[row[key]]
    if key == "expected_minutes" and row["least_minutes"] is not None:
        return f"at least {row['least_minutes']}"
    return row[key]
