"""Picks and take-aways as a page shows them; what they say is decided in `takeaways`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from report import escape, tables
from report.finding import Finding, Scope

# What each kind of pick is for, in the order of the cards.
PICKS = {
    "fastest": "For the shortest wait",
    "throughput": "For the most output",
    "smallest": "For the least memory",
    "quality_per_gib": "For the most quality per gigabyte",
}
_TONES = {"shown": "sure", "likely": "likely", "one run": "warn"}
_MOST_SCOPES = 4
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


def _collapsed(found: Iterable[Finding]) -> set[tuple[str, str, str]]:
    """The variants that a finding says answer no better than guessing."""
    return {
        (finding.scope.source, finding.scope.hardware, finding.evidence[0].name)
        for finding in found
        if finding.kind == "chance" and finding.evidence
    }


def choices(found: Sequence[Finding], most: int = _MOST_SCOPES) -> list[Choice]:
    """The picks of each scope, measured ones before published, at most `most` scopes."""
    scopes: dict[Scope, list[Finding]] = {}
    for finding in found:
        if finding.kind in PICKS:
            scopes.setdefault(finding.scope, []).append(finding)
    order, collapsed = list(PICKS), _collapsed(found)
    return [
        Choice(
            _title(scope),
            tuple(_pick(f, collapsed) for f in sorted(own, key=lambda f: order.index(f.kind))),
        )
        for scope, own in list(scopes.items())[:most]
    ]


def listed(
    found: Iterable[Finding], source: str, most: int = _MOST_FINDINGS, *, picks: bool = False
) -> list[Shown]:
    """The take-aways of one source in their order, without the picks unless asked for."""
    chosen = [f for f in found if f.scope.source == source and (picks or f.kind not in PICKS)]
    return [_shown(finding) for finding in chosen[:most]]


def html(name: str, value: Sequence[Shown] | Choice) -> escape.Markdown:
    """Picks or findings as a raw HTML block."""
    return escape.html_block(tables.fragment(f"{name}.html.j2", value=value))


def _title(scope: Scope) -> str:
    published = ", published elsewhere" if scope.source == "published" else ""
    return f"{scope.family or 'All'} on {scope.hardware_name}{published}"


def _pick(finding: Finding, collapsed: set[tuple[str, str, str]]) -> Shown:
    """A pick names its variant above; its sentence goes on from there."""
    name = finding.evidence[0].name if finding.evidence else ""
    rest = finding.headline.removeprefix(name).strip()
    shown = _shown(finding, PICKS[finding.kind], name, rest[:1].upper() + rest[1:])
    bad = (finding.scope.source, finding.scope.hardware, name) in collapsed
    return replace(shown, caution="answers no better than guessing" if bad else "")


def _shown(finding: Finding, label: str = "", name: str = "", claim: str = "") -> Shown:
    rows = {
        f"{_page(e.anchor)}.html#{e.anchor}": f"{e.name}, {_page(e.anchor)}"
        for e in finding.evidence
    }
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


def _page(anchor: str) -> str:
    return "quality" if "quality" in anchor.partition("_")[0] else "speed"
