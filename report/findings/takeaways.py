"""The take-aways: what the results say, how sure that is, and the rows it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from report.differences.families import Verdicts
from report.findings import memory, notes, quality, speed
from report.findings.finding import Finding, Place, families, machines
from report.rows.results import Results

Rule = Callable[[Place], Iterator[Finding]]
FOR_EACH_MACHINE: tuple[Rule, ...] = (
    notes.mixed_machines,
    notes.disturbed,
    notes.random_weights,
    quality.families,
    memory.fit,
    notes.one_session,
)
FOR_EACH_FAMILY: tuple[Rule, ...] = (
    speed.service_level,
    speed.fastest,
    speed.throughput,
    memory.smallest,
    speed.energy,
    quality.kept,
    speed.crossover,
    speed.slower,
    speed.saving,
    speed.kernel,
    quality.chance,
    quality.below_chance,
    quality.sensitive,
    quality.own_text,
    quality.quality_noise,
    quality.quality_change,
    speed.load_cap,
)
ONCE: tuple[Callable[[Results], Iterator[Finding]], ...] = (notes.failed, notes.session_spread)


def findings(verdicts: Verdicts) -> list[Finding]:
    """All findings, measured before published, those first that matter most to a reader."""
    found = [finding for rule in ONCE for finding in rule(verdicts.results)]
    for rules, places in (
        (FOR_EACH_MACHINE, machines(verdicts)),
        (FOR_EACH_FAMILY, families(verdicts)),
    ):
        found += [finding for rule in rules for here in places for finding in rule(here)]
    return sorted(found, key=_order)


def _order(finding: Finding) -> tuple[bool, int, str, str, str]:
    scope = finding.scope
    published = scope.source != "measured"
    return published, finding.rank, scope.hardware, scope.family, finding.headline
