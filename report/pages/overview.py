"""What the overview shows, and the data page's list of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from report import numbers
from report.charts import pictures
from report.findings.finding import Finding
from report.pages import takeaway_lists
from report.pages.tables import Cell, Column, Row, Table, text
from report.rows.published import Reference

Frame = dict[str, Any]
NEWEST = 12


def facts(runs: Sequence[Frame], fast: Sequence[Frame], good: Sequence[Frame]) -> Frame:
    """The counts every page may mention."""
    done = [row for row in runs if row["current"]]
    return {
        "records": len(runs),
        "variants": len({row["variant"] for row in done}),
        "machines": len({row["hardware"] for row in done}),
        "failed": sum(row["status"] == "failed" for row in runs),
        "newest": max((row["finished_at"] for row in runs), default=None),
        "published": len(
            {row["variant"] for row in (*fast, *good) if row["source"] == "published"}
        ),
        "tasks": sorted({row["task"] for row in good}),
    }


def context(
    runs: Sequence[Frame],
    fast: Sequence[Frame],
    good: Sequence[Frame],
    found: Sequence[Finding],
) -> dict[str, Any]:
    """The overview's picks, findings, picture, coverage and newest results."""
    return {
        "choices": takeaway_lists.choices(found),
        "measured": takeaway_lists.listed(found, "measured"),
        "published": takeaway_lists.listed(found, "published"),
        "count": len(found),
        "pictures": pictures.trade_offs(fast, good),
        "coverage": _coverage(runs),
        "newest": _newest(runs),
    }


def _current(runs: Sequence[Frame]) -> dict[tuple[str, str], dict[str, Frame]]:
    """The current runs by hardware and variant, then by stage."""
    current: dict[tuple[str, str], dict[str, Frame]] = {}
    for row in runs:
        if row["current"]:
            current.setdefault((row["hardware"], row["variant"]), {})[row["stage"]] = row
    return current


def _coverage(runs: Sequence[Frame]) -> Table:
    """What was measured on what: a row per variant and machine."""
    columns = (
        Column("variant", "Variant", numeric=False),
        Column("family", "Family", numeric=False),
        Column("machine", "Measured on", numeric=False),
        Column("speed", "Speed", numeric=False),
        Column("quality", "Quality", numeric=False),
    )
    body = []
    for stages in _current(runs).values():
        row = next(iter(stages.values()))
        body.append(
            Row(
                Cell(
                    row["variant_name"],
                    href=f"variants/{row['variant']}.html",
                    tag="random weights" if row["random_weights"] else "",
                ),
                [
                    Cell(row["family"], tag="baseline" if row["is_baseline"] else ""),
                    Cell(row["hardware_name"], note=row["machine"]),
                    *(_stage(stages.get(stage)) for stage in ("speed", "quality")),
                ],
            )
        )
    return Table("coverage", "What was measured, on what", columns, body, quiet=True)


def published(reference: Reference) -> Table:
    """What one publication served, row by row; other pages link here."""
    columns = (
        Column("variant", "Variant", numeric=False),
        Column("repo", "Repository", numeric=False),
        Column("file", "File", numeric=False),
        Column("serve", "Served with", numeric=False),
    )
    body = [
        Row(
            Cell(row.name),
            [Cell(row.repo), Cell(row.file or ""), Cell(row.serve or "no further options")],
            id=f"published-{row.id}",
            published=True,
        )
        for row in reference.rows
    ]
    caption = f"What was served, vLLM {reference.engine_version}"
    return Table(f"published-{reference.id}", caption, columns, body)


def _stage(row: Frame | None) -> Cell:
    if row is None:
        return Cell("not measured", tone="unknown")
    partial = "partial" if row["status"] == "partial" else ""
    return Cell(numbers.date(row["finished_at"]), href=f"records/{row['record']}", note=partial)


def _newest(runs: Sequence[Frame]) -> Table:
    columns = (
        Column("variant", "Variant", numeric=False),
        Column("finished", "Finished", "UTC", numeric=False),
        Column("stage", "Stage", numeric=False),
        Column("machine", "Measured on", numeric=False),
        Column("status", "Status", numeric=False),
        Column("record", "Record", numeric=False),
    )
    latest = sorted(runs, key=lambda row: (row["finished_at"], row["record"]), reverse=True)
    body = [
        Row(
            Cell(row["variant_name"], href=f"variants/{row['variant']}.html"),
            [
                Cell(numbers.moment(row["finished_at"])),
                text(row["stage"]),
                text(row["hardware_name"]),
                Cell(row["status"], note=row["error"] or ""),
                Cell("JSON", href=f"records/{row['record']}"),
            ],
        )
        for row in latest[:NEWEST]
    ]
    return Table("newest", "Newest results", columns, body, quiet=True)


def files(runs: Sequence[Frame]) -> Table:
    """Where each current result's files are."""
    columns = (
        Column("variant", "Variant", numeric=False),
        Column("machine", "Measured on", numeric=False),
        Column("speed", "Speed record", numeric=False),
        Column("quality", "Quality record", numeric=False),
        Column("card", "Model card", numeric=False),
        Column("badge", "Badge", numeric=False),
    )
    body = []
    for (hardware, variant), stages in _current(runs).items():
        row = next(iter(stages.values()))
        where = f"{hardware}/{variant}"
        scored = "quality" in stages and not row["random_weights"]
        card = (
            Cell("YAML", href=f"data/model-cards/{where}.yml")
            if scored
            else Cell("none", tone="unknown")
        )
        body.append(
            Row(
                Cell(row["variant_name"], href=f"variants/{variant}.html"),
                [
                    Cell(row["hardware_name"]),
                    *(_stage(stages.get(stage)) for stage in ("speed", "quality")),
                    card,
                    Cell("JSON", href=f"data/badges/{where}.json"),
                ],
            )
        )
    return Table(
        "files", "The newest record of each stage, and what is made from it", columns, body
    )
