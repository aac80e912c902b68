"""Take-aways as a page shows them; what they say is decided in `findings`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from report import escape
from report.findings.finding import Certainty, Evidence, Finding
from report.pages import compare, tables
from report.rows.rows import HistoryRow, RunRow, Source, SpeedRow

_TONES: dict[Certainty, str] = {
    "shown": "sure", "likely": "likely", "interval": "likely", "one run": "warn", "measured": "warn"
}  # fmt: skip
_MOST_FINDINGS = 5
_MOST_LINKS = 6


@dataclass(frozen=True, slots=True)
class Shown:
    """One finding with where its rows are."""

    claim: str
    because: str
    certainty: str
    tone: str
    where: str
    links: tuple[tuple[str, str], ...]
    more: int


def listed(found: Iterable[Finding], source: Source, most: int = _MOST_FINDINGS) -> list[Shown]:
    """The take-aways of one source in their order."""
    return [_shown(each) for each in found if each.scope.source == source][:most]


def html(value: Sequence[Shown], *, brief: bool = False) -> escape.Markdown:
    """Findings as a raw HTML block; how they are known is left out where it is to be brief."""
    return escape.html_block(tables.fragment("findings.html.j2", value=value, brief=brief))


def _shown(finding: Finding) -> Shown:
    rows = dict(_target(finding, each) for each in finding.evidence)
    return Shown(
        f"{finding.headline}.",
        finding.detail,
        finding.certainty_text,
        _TONES.get(finding.certainty, ""),
        finding.scope.hardware_name,
        tuple((text, href) for href, text in list(rows.items())[:_MOST_LINKS]),
        max(0, len(rows) - _MOST_LINKS),
    )


def _target(finding: Finding, row: Evidence) -> tuple[str, str]:
    """Where the numbers of a piece of evidence stand, and what to call that."""
    name = row.variant_name
    if isinstance(row, RunRow | HistoryRow):  # superseded or failed: a record and no row
        return f"records/{row.record}", f"{name}, record"
    if finding.about_size:
        return f"compare.html#{compare.identifier(row.who)}", f"{name}, compare"
    page = "speed" if isinstance(row, SpeedRow) else "quality"
    return f"{page}.html#{row.anchor}", f"{name}, {page}"
