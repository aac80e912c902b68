"""Picks and take-aways as a page shows them; what they say is decided in `takeaways`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from report import escape
from report.findings.finding import Evidence, Finding, Scope
from report.pages import pair_tests, tables

# What each kind of pick is for, in the order of the cards.
PICKS = {
    "fastest": "For the shortest wait",
    "throughput": "For the most output",
    "smallest": "For the least memory",
    "quality_per_gib": "For the most quality per gigabyte",
}
# What a reader must know before picking: the finding that says so, its words, the picks concerned.
_CAUTIONS = (
    ("chance", "answers no better than guessing", tuple(PICKS)),
    ("disturbed", "limited clocks or a shared GPU", ("fastest", "throughput")),
)
# These rest on sizes, which stand side by side on the compare page alone.
_ABOUT_SIZE = ("smallest", "fit")
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
    cautions = _cautions(found)
    scopes: dict[Scope, list[Finding]] = {}
    for finding in found:
        if finding.kind in PICKS:
            scopes.setdefault(finding.scope, []).append(finding)
    order = list(PICKS)
    return [
        Choice(
            _title(scope),
            tuple(_pick(f, cautions) for f in sorted(own, key=lambda f: order.index(f.kind))),
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


def _cautions(found: Iterable[Finding]) -> dict[tuple[str, str, str], set[str]]:
    """Which findings a reader must know of before picking a variant."""
    cautions: dict[tuple[str, str, str], set[str]] = {}
    for finding in found:
        about = {"chance": finding.evidence[:1], "disturbed": finding.evidence}
        for each in about.get(finding.kind, ()):
            where = (finding.scope.source, finding.scope.hardware, each.name)
            cautions.setdefault(where, set()).add(finding.kind)
    return cautions


def _pick(finding: Finding, cautions: Mapping[tuple[str, str, str], set[str]]) -> Shown:
    """A pick names its variant above, with those it ties with; its sentence goes on from there."""
    name = finding.evidence[0].name if finding.evidence else ""
    rest = finding.headline.removeprefix(name).strip()
    ties = finding.params.get("ties", ())
    title = " or ".join([name, *ties]) if len(ties) <= 1 else f"{name} or {len(ties)} others"
    shown = _shown(finding, PICKS[finding.kind], title, rest[:1].upper() + rest[1:])
    known = cautions.get((finding.scope.source, finding.scope.hardware, name), set())
    told = [words for kind, words, picks in _CAUTIONS if kind in known and finding.kind in picks]
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


def _target(finding: Finding, each: Evidence) -> tuple[str, str]:
    """Where the numbers of a piece of evidence stand, and what to call that."""
    if not each.anchor:  # a superseded or failed run has a record and no row
        return f"records/{each.record}", f"{each.name}, record"
    kind, hardware, variant = each.anchor.split("_")[:3]
    if finding.kind in _ABOUT_SIZE:
        row = pair_tests.identifier((finding.scope.source, hardware, variant))
        return f"compare.html#{row}", f"{each.name}, compare"
    page = "quality" if "quality" in kind else "speed"
    return f"{page}.html#{each.anchor}", f"{each.name}, {page}"
