"""What was measured, asked and kept: the facts on the overview, data and methodology pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from bench.records.record import Record
from report import numbers
from report.pages import cells
from report.pages.tables import Cell, Column, Row, Table
from report.rows.published import Reference
from report.rows.results import Results
from report.rows.rows import QualityRow, Result, RunRow, Stage

NEWEST = 6
_SHORT = 40  # characters that fit a cell
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Counts:
    """What every page may say of how much there is."""

    records: int
    variants: int
    machines: int
    failed: int
    newest: str | None
    published: int
    left_out: int
    is_demo: bool


def counts(results: Results) -> Counts:
    """How much there is."""
    runs, rows = results.runs, (*results.speed, *results.quality)
    done = [run for run in runs if run.current]
    return Counts(
        records=len(runs),
        variants=len({run.variant for run in done}),
        machines=len({run.hardware for run in done}),
        failed=sum(run.status == "failed" for run in runs),
        newest=max((run.finished_at or "" for run in runs), default=None),
        published=len({row.variant for row in rows if row.source == "published"}),
        left_out=len(results.left_out),
        is_demo=bool(done) and all(_is_demo(results.record(run.record)) for run in done),
    )


def _is_demo(record: Record) -> bool:
    """Whether it is of the model that comes with the program, or of random weights."""
    return record.model is not None and record.model.source != "hub"


def _current(runs: Sequence[RunRow]) -> list[dict[Stage, RunRow]]:
    """The current runs of each variant on each machine, by stage."""
    current: dict[tuple[str, str], dict[Stage, RunRow]] = {}
    for run in runs:
        if run.current:
            current.setdefault((run.hardware, run.variant), {})[run.stage] = run
    return list(current.values())


def coverage(runs: Sequence[RunRow]) -> Table:
    """What was measured on what: a row per variant and machine."""
    columns = (
        cells.VARIANT,
        Column("family", "Family", numeric=False),
        Column("machine", "Measured on", numeric=False),
        Column("speed", "Speed", numeric=False),
        Column("quality", "Quality", numeric=False),
    )
    body = []
    for stages in _current(runs):
        row = next(iter(stages.values()))
        body.append(
            Row(
                Cell(
                    row.variant_name,
                    href=row.variant_page,
                    tag="random weights" if row.random_weights else "",
                ),
                [
                    Cell(row.family, tag="baseline" if row.is_baseline else ""),
                    Cell(row.hardware_name, title=row.machine),
                    *(_stage(stages.get(stage)) for stage in STAGES),
                ],
            )
        )
    return Table("coverage", "What was measured, on what", columns, body, quiet=True)


def published(reference: Reference) -> Table:
    """What one publication served, row by row; other pages link here."""
    columns = (
        cells.VARIANT,
        Column("repo", "Repository", numeric=False),
        Column("file", "File", numeric=False),
        Column("serve", "Served with", numeric=False),
    )
    body = [
        Row(
            Cell(row.name),
            [Cell(row.repo), Cell(row.file or ""), _options(row.serve)],
            id=f"published-{row.id}",
            published=True,
        )
        for row in reference.rows
    ]
    caption = f"What was served, vLLM {reference.engine_version}"
    return Table(f"published-{reference.id}", caption, columns, body)


def _options(text: str) -> Cell:
    """What was added to `vllm serve`: in the cell where it is short."""
    if not text:
        return Cell("no further options")
    return Cell(text) if len(text) < _SHORT else Cell("options", more=text)


def _stage(row: RunRow | None) -> Cell:
    if row is None:
        return Cell("not measured", tone="unknown")
    partial = "partial" if row.status == "partial" else ""
    return Cell(numbers.date(row.finished_at), href=f"records/{row.record}", note=partial)


def newest(runs: Sequence[RunRow]) -> Table:
    """The records that finished last, failed ones too."""
    columns = (
        cells.VARIANT,
        Column("finished", "Finished", "UTC", numeric=False),
        Column("stage", "Stage", numeric=False),
        Column("machine", "Measured on", numeric=False),
        Column("status", "Status", numeric=False),
        Column("record", "Record", numeric=False),
    )
    latest = sorted(runs, key=lambda row: (row.finished_at or "", row.record), reverse=True)
    body = [
        Row(
            Cell(row.variant_name, href=row.variant_page),
            [
                Cell(numbers.moment(row.finished_at)),
                cells.text(row.stage),
                cells.text(row.hardware_name),
                Cell(row.status, more=row.error or ""),
                Cell("JSON", href=f"records/{row.record}"),
            ],
        )
        for row in latest[:NEWEST]
    ]
    return Table("newest", "Newest results", columns, body, quiet=True)


def files(runs: Sequence[RunRow]) -> Table:
    """Where each current result's files are."""
    columns = (
        cells.VARIANT,
        Column("machine", "Measured on", numeric=False),
        Column("speed", "Speed record", numeric=False),
        Column("quality", "Quality record", numeric=False),
        Column("card", "Model card", numeric=False),
        Column("badge", "Badge", numeric=False),
    )
    body = []
    for stages in _current(runs):
        row = next(iter(stages.values()))
        where = f"{row.hardware}/{row.variant}"
        scored = "quality" in stages and not row.random_weights
        card = (
            Cell("YAML", href=f"data/model-cards/{where}.yml")
            if scored
            else Cell("none", tone="unknown")
        )
        body.append(
            Row(
                Cell(row.variant_name, href=row.variant_page),
                [
                    Cell(row.hardware_name),
                    *(_stage(stages.get(stage)) for stage in STAGES),
                    card,
                    Cell("JSON", href=f"data/badges/{where}.json"),
                ],
            )
        )
    return Table(
        "files", "The newest record of each stage, and what is made from it", columns, body
    )


def left_out(results: Results) -> list[str]:
    """The records that cannot be shown, each with the reason, one line per record."""
    return [f"{each.record}: {each.reason}" for each in results.left_out]


def served(rows: Sequence[Result]) -> list[str]:
    """By which versions of vLLM each machine's results were served, one line per machine."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(_place(row), set()).add(row.engine_version or numbers.UNKNOWN)
    return [f"{place}: vLLM {', '.join(sorted(seen))}" for place, seen in sorted(found.items())]


def asked(rows: Sequence[QualityRow]) -> list[str]:
    """What each machine's variants were asked; more than one entry where they differ."""
    found: dict[str, set[str]] = {}
    chosen = {"first": "the first of the split", "random": "drawn by a seed"}
    for row in rows:
        how = chosen.get(row.selection or "", "selection unknown")
        shots = f"{numbers.whole(row.num_fewshot)}-shot{cells.settings(row)}"
        kind = f"{numbers.whole(row.n)} documents, {how}, {shots}"
        found.setdefault(f"{row.task} on {_place(row)}", set()).add(kind)
    return [f"{place}: {'; or '.join(sorted(seen))}" for place, seen in sorted(found.items())]


def _place(row: Result) -> str:
    elsewhere = ", published elsewhere" if row.source == "published" else ""
    return f"{row.hardware_name}{elsewhere}"
