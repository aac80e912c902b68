"""Picks and take-aways as a page shows them; what they say is decided in `takeaways`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from report import escape
from report.findings.finding import Evidence, Finding, Pick, Scope
from report.pages import compare, tables
from report.rows.rows import HistoryRow, RunRow, Source, SpeedRow

_TONES = {"shown": "sure", "likely": "likely", "interval": "likely", "one run": "warn"}
_MOST_SCOPES = 6
_MOST_FINDINGS = 12
_MOST_LINKS = 6


@dataclass(frozen=True, slots=True)
class Shown:
    """One finding with where its rows are; `label` and `name` are a pick's."""

    label: str
    name: str
    claim: str
    because: str
    certainty: str
    tone: str
    links: tuple[tuple[str, str], ...]
    more: int
    caution: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The picks within one family on one machine."""

    title: str
    picks: tuple[Shown, ...]


def choices(found: Sequence[Finding], most: int = _MOST_SCOPES) -> list[Choice]:
    """The picks of each scope, measured ones before published, at most `most` scopes."""
    cautions = [finding for finding in found if finding.caution]
    scopes: dict[Scope, list[Shown]] = {}
    for finding in found:
        if finding.pick:
            scopes.setdefault(finding.scope, []).append(_pick(finding, finding.pick, cautions))
    return [Choice(_title(scope), tuple(own)) for scope, own in list(scopes.items())[:most]]


def listed(
    found: Iterable[Finding], source: Source, most: int = _MOST_FINDINGS, *, picks: bool = False
) -> list[Shown]:
    """The take-aways of one source in their order, without the picks unless asked for."""
    chosen = [f for f in found if f.scope.source == source and (picks or not f.pick)]
    return [_shown(finding) for finding in chosen[:most]]


def html(name: str, value: Sequence[Shown] | Choice) -> escape.Markdown:
    """Picks or findings as a raw HTML block."""
    return escape.html_block(tables.fragment(f"{name}.html.j2", value=value))


def _title(scope: Scope) -> str:
    published = ", published elsewhere" if scope.source == "published" else ""
    return f"{scope.family or 'All'} on {scope.hardware_name}{published}"


def _pick(finding: Finding, pick: Pick, cautions: Iterable[Finding]) -> Shown:
    """A pick names its variant above, with those it ties with; its sentence goes on from there."""
    name, *ties = pick.names
    title = " or ".join(pick.names) if len(ties) <= 1 else f"{name} or {len(ties)} others"
    place = (finding.scope.source, finding.scope.hardware)
    known = [
        other.caution
        for other in cautions
        if other.caution
        and (other.scope.source, other.scope.hardware) == place
        and name in other.caution.variants
        and pick.of_speed >= other.caution.of_speed
    ]
    told = dict.fromkeys(each.words for each in sorted(known, key=lambda each: each.of_speed))
    shown = _shown(finding, pick.purpose, title, pick.claim[:1].upper() + pick.claim[1:])
    return replace(shown, caution="; ".join(told))


def _shown(finding: Finding, label: str = "", name: str = "", claim: str = "") -> Shown:
    rows = dict(_target(finding, each) for each in finding.evidence)
    return Shown(
        label,
        name,
        f"{claim or finding.headline}.",
        finding.detail,
        finding.certainty_text,
        _TONES.get(finding.certainty, ""),
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
