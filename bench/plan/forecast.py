"""The plan as a person or a workflow reads it: what is missing, does it fit, how long."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.config import Experiment
from bench.plan import duration, fit, past
from bench.plan.commits import Repository, repositories
from bench.plan.jobs import Description, Job
from bench.plan.past import Experience, Past
from bench.records.table import Hashes
from bench.weights import sizes
from bench.weights.sizes import Sizes

_COLUMNS = {
    "variant": "variant",
    "hardware": "hardware",
    "stage": "stage",
    "state": "state",
    "measured": "evidence",
    "decisive": "to decide",
    "weights_gib": "weights,\nGiB",
    "fits": "fits",
    "max_context": "context,\ntokens",
    "max_concurrency": "at once,\nrequests",
    "download_gib": "download,\nGiB",
    "expected_minutes": "time,\nminutes",
}
_WORDS = ("variant", "hardware", "stage", "state", "measured", "fits")


@dataclass(frozen=True)
class Need:
    """How many sessions or documents a decision needs, all in all; `guessed` where nobody knows."""

    count: int
    guessed: bool


@dataclass(frozen=True)
class Forecast:
    """What is known of a job before it runs, as `bench plan --json` gives it; None is unknown.

    Attributes:
        description: what its record must say of itself.
        repositories: what is fetched from the Hub.
        state: what is missing, or "current".
        measured, asked: sessions of speed or documents of quality: those there are of those wanted.
        decisive: how many a decision needs, where that was worked out; `guessed` where nothing
            that was measured so far says it.
        deciding_minutes: what those still take beyond what is there, going by the last measurement.
        sessions: the numbers of those of speed that would be measured.
        expected_minutes: what is missing takes that long, going by the last such measurement
            (`measured_on`); where nothing is missing, what that took.
        least_minutes: of a stage never measured, what it cannot take less than.
        likely_minutes: of a stage never measured, the shortest and longest that it may take by
            what is known of its kind; see `duration`.
        time_basis: from what the time is known.
        weights_gib, fits, max_context, max_concurrency, download_gib: estimates; see `fit.Fit`.
        basis: from what they are known.
    """

    variant: str
    checkpoint: str | None
    description: Description
    repositories: tuple[Repository, ...]
    hardware: str
    stage: str
    needed: bool
    state: str
    measured: int
    asked: int | None
    decisive: int | None
    guessed: bool
    deciding_minutes: float | None
    sessions: tuple[int, ...]
    key: str
    expected_minutes: float | None
    least_minutes: float | None
    likely_minutes: tuple[float, float] | None
    time_basis: str
    measured_on: str | None
    weights_gib: float | None
    fits: bool | None
    max_context: int | None
    max_concurrency: float | None
    download_gib: float | None
    basis: str


def for_jobs(
    jobs: Sequence[Job],
    results: Path,
    needs: Mapping[tuple[str, str, str], Need] | None = None,
    kept: Path | None = None,
    hashes: Hashes | None = None,
) -> list[Forecast]:
    """One forecast per job, in their order.

    A variant's server starts once for each session, and quality is measured in one of speed's: the
    starts are in the first of its stages to run, so that the minutes can be added up.

    Args:
        needs: by hardware, variant and stage, what a decision needs.
        kept, hashes: where what records tell is kept, and by what (see `bench.records.table`).
    """
    checkpoints, records = sizes.known(), past.read(results, kept, hashes)
    newest = {(each.hardware, each.variant, each.stage): each for each in records}
    on: dict[str, list[Past]] = {}
    for record in records:
        on.setdefault(record.hardware, []).append(record)
    seen = {hardware: past.experience(own) for hardware, own in on.items()}
    anywhere = past.experience(records)
    started: set[tuple[str, str]] = set()
    found = []
    for job in jobs:
        server = (job.variant.id, job.hardware.id)
        starts = 0
        if job.needed and server not in started:
            started.add(server)
            starts = len(job.missing) or 1
        checkpoint = checkpoints.get(sizes.key(job.variant))
        key = (job.hardware.id, job.variant.id, job.stage)
        told = seen.get(job.hardware.id), anywhere
        found.append(
            _forecast(job, newest.get(key), *told, checkpoint, starts, (needs or {}).get(key))
        )
    return found


def memory(job: Job, checkpoint: Sizes | None) -> fit.Fit:
    """Whether a job fits, with its own server options, from what is known of its checkpoint."""
    return fit.for_variant(job.variant, job.hardware, job.serve, checkpoint)


def _forecast(
    job: Job,
    earlier: Past | None,
    here: Experience | None,
    anywhere: Experience,
    checkpoint: Sizes | None,
    starts: int,
    need: Need | None,
) -> Forecast:
    """A job's forecast, with so many of the server's starts, going by the last such record."""
    estimate = memory(job, checkpoint)
    expected_s = least_s = likely_s = None
    basis = "earlier records"
    if earlier:
        expected_s = _missing_s(job, earlier) + starts * earlier.start_s
    else:
        where = job.hardware.id if here else "any hardware"
        least_s, basis = _least_s(job, here or anywhere, where, starts)
        if parts := _parts(job, here or Experience(), checkpoint, starts):
            likely_s = duration.bounds(parts)
            basis = " + ".join(part.name for part in parts)
    return Forecast(
        variant=job.variant.id,
        checkpoint=sizes.key(job.variant) if job.variant.repo else job.variant.bundled,
        description=job.description,
        repositories=repositories(job.variant),
        hardware=job.hardware.id,
        stage=job.stage,
        needed=job.needed,
        state=job.reason,
        measured=job.measured,
        asked=job.asked,
        decisive=need.count if need else None,
        guessed=bool(need and need.guessed),
        deciding_minutes=_deciding_minutes(job, need, earlier) if need and earlier else None,
        sessions=tuple(sorted(job.missing)),
        key=job.key,
        expected_minutes=None if expected_s is None else round(expected_s / 60, 1),
        least_minutes=round(least_s / 60, 1) if least_s else None,
        likely_minutes=_minutes(likely_s) if likely_s else None,
        time_basis=basis,
        measured_on=f"{earlier.finished_at:%Y-%m-%d}" if earlier else None,
        weights_gib=_rounded(estimate.weights_gib),
        fits=estimate.fits,
        max_context=estimate.max_context,
        max_concurrency=_rounded(estimate.max_concurrency, 1),
        download_gib=_rounded(estimate.download_gib),
        basis=estimate.basis,
    )


def _parts(
    job: Job, here: Experience, checkpoint: Sizes | None, starts: int
) -> list[duration.Part]:
    """What a stage never measured will take, part by part; none where nothing can be said."""
    if checkpoint is None:
        return []
    if job.stage == "speed":
        sessions = job.missing.values()
        stage = duration.speed(job.speed, sessions, checkpoint, job.serve, job.hardware)
    else:
        stage = duration.quality(job.quality, checkpoint, job.serve, job.hardware)
    if stage is None:
        return []
    loading = [] if job.serve.load_format == "dummy" else [duration.load(checkpoint, here)]
    beginning = [*loading, duration.start(job.serve, here)] if starts else []
    return [*(replace(part, seconds=starts * part.seconds) for part in beginning), stage]


def _minutes(seconds: tuple[float, float]) -> tuple[float, float]:
    return round(seconds[0] / 60, 1), round(seconds[1] / 60, 1)


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _missing_s(job: Job, record: Past) -> float:
    """Seconds for what is missing of a job, going by a record; where nothing is, the record's."""
    if record.documents is not None:
        return job.left * _document_s(record) if job.left else record.took_s
    if not job.missing or not record.repeats_s:
        return record.took_s
    had = dict(record.repeats_s)
    mean_s = {pace: sum(each) / len(each) for pace, each in had.items()}
    longest_s = max(mean_s.values())  # for a load that it does not have
    wanted_s = sum(
        job.speed.repeats * mean_s.get(pace, longest_s)
        for paces in job.missing.values()
        for pace in paces
    )
    return record.took_s * wanted_s / sum(map(sum, had.values()))


def _deciding_minutes(job: Job, need: Need, record: Past) -> float:
    """Minutes of what a decision needs beyond what there is, going by a record."""
    more = max(0, need.count - job.measured)
    if record.documents is not None:
        seconds = more * _document_s(record)
    else:
        seconds = (record.took_s + record.start_s) * more
    return round(seconds / 60, 1)


def _least_s(job: Job, others: Experience, where: str, starts: int) -> tuple[float, str]:
    """Seconds that a stage never measured cannot take less than, and from what that is known.

    Requests sent at a rate take their number / rate. For the rest the quickest record stands: of
    the same questions, and of any server's start.
    """
    if job.stage == "speed":
        missing = (pace for paces in job.missing.values() for pace in paces)
        limited_s = sum(job.speed.prompts / pace.rate_rps for pace in missing)
        parts = {"requests / rate": job.speed.repeats * limited_s}
    else:
        asked = job.spec["quality"]
        known = others.asked.get(past.questions(asked), ()) if others.asked else ()
        same = [took_s for documents, took_s in known if documents <= past.wanted(asked)]
        parts = {f"the quickest such stage on {where}": min(same, default=0.0)}
    if starts:
        parts[f"the quickest server start on {where}"] = starts * others.quickest_start_s
    return sum(parts.values()), " + ".join(words for words, s in parts.items() if s) or "unknown"


def _document_s(record: Past) -> float:
    """What a document of the stage took."""
    assert record.documents
    return record.took_s / record.documents


def as_json(forecasts: Sequence[Forecast], indent: int = 2) -> str:
    """The forecasts as a program reads them; see `Forecast`."""
    return json.dumps([vars(one) for one in forecasts], indent=indent, default=vars)


def table(forecasts: Sequence[Forecast]) -> str:
    """The forecasts for a terminal, and lines that sum them up and say what is estimated."""
    columns = dict(_COLUMNS)
    if all(one.decisive is None for one in forecasts):
        del columns["decisive"]
    shown = [{text: _shown(one, name) for name, text in columns.items()} for one in forecasts]
    needed = [one for one in forecasts if one.needed]
    lines = [f"{len(needed)} of {len(forecasts)} stages to measure"]
    timed = [one.expected_minutes for one in needed if one.expected_minutes is not None]
    if timed:
        lines.append(f"about {sum(timed):.0f} minutes for the {len(timed)} measured before")
    likely = [one.likely_minutes for one in needed if one.likely_minutes is not None]
    if likely:
        shortest, longest = sum(low for low, _ in likely), sum(high for _, high in likely)
        bases = _bases(one for one in needed if one.likely_minutes is not None)
        lines.append(
            f"{shortest:.0f} to {longest:.0f} minutes for {len(likely)} never measured, without "
            f"downloads: {bases}"
        )
    bare = [one for one in needed if one.least_minutes is not None and not one.likely_minutes]
    least = [one.least_minutes for one in bare if one.least_minutes is not None]
    if least:
        bases = _bases(bare)
        lines.append(f"at least {sum(least):.0f} minutes for {len(least)} never measured: {bases}")
    lines += _deciding(forecasts)
    downloads = {one.checkpoint: one.download_gib for one in needed if one.download_gib}
    if downloads:
        lines.append(f"{sum(downloads.values()):.1f} GiB to download, each checkpoint once")
    sources = sorted({one.basis for one in forecasts} - {"unknown"})
    if sources:
        lines += [
            "context is the longest request that fits beside the weights; at once is how many of "
            "max_model_len fit",
            f"weights, fits, context and at once are estimates, {'; '.join(sources)}",
        ]
    words = [at for at, name in enumerate(columns) if name in _WORDS]  # whether a number or not
    text = tabulate(shown, headers="keys", missingval="unknown", disable_numparse=words)
    return f"{text}\n\n" + "\n".join(lines)


def uncompared(experiment: Experiment, jobs: Sequence[Job]) -> list[str]:
    """A line for what has no baseline on its hardware, if anything has none."""
    baselines = {family.name: family.baseline for family in experiment.family}
    there = {(variant.name, hardware.id) for variant, hardware in experiment.pairs()}
    alone = dict.fromkeys(
        f"{job.variant.id} on {job.hardware.id}"
        for job in jobs
        if (baselines[job.variant.family], job.hardware.id) not in there
    )
    told = f"to be compared with nothing, as the baseline is not measured there: {', '.join(alone)}"
    return [told] if alone else []


def _deciding(forecasts: Sequence[Forecast]) -> list[str]:
    """What the column of evidence that decides means, and what it would cost."""
    planned = [one for one in forecasts if one.decisive is not None]
    if not planned:
        return []
    lines = [
        "to decide is how many sessions or documents would most likely settle [decision]'s "
        "speed_difference and recovery"
    ]
    if any(one.guessed for one in planned):
        lines[0] += "; a guess where nothing measured says how far they scatter"
    known = [one.deciding_minutes for one in planned if one.deciding_minutes is not None]
    if known:
        lines.append(
            f"about {sum(known):.0f} minutes would bring the {len(known)} measured before that far"
        )
    return lines


def _bases(forecasts: Iterable[Forecast]) -> str:
    parts = (part for one in forecasts for part in one.time_basis.split(" + "))
    return ", ".join(dict.fromkeys(parts))


def _shown(one: Forecast, name: str) -> Any:
    if name == "fits":
        return {True: "yes", False: "no", None: None}[one.fits]
    if name == "decisive" and one.decisive is not None:
        return f"{one.decisive:,}{' (guess)' if one.guessed else ''}"
    if name == "measured":
        return f"{one.measured:,} of {'all' if one.asked is None else format(one.asked, ',')}"
    if name == "expected_minutes" and one.likely_minutes is not None:
        return "{:g} to {:g}".format(*one.likely_minutes)
    if name == "expected_minutes" and one.least_minutes is not None:
        return f"at least {one.least_minutes}"
    return getattr(one, name)
