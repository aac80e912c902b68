"""The take-aways: what the results say, how sure that is, and the rows it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from report.differences.families import Verdicts
from report.findings import memory, notes, quality, speed
from report.findings.finding import Certainty, Finding, Place, families, machines
from report.rows.results import Results
from report.rows.rows import QualityRow, SpeedRow, is_toy

Rule = Callable[[Place], Iterator[Finding]]
FOR_EACH_MACHINE: tuple[Rule, ...] = (
    notes.mixed_machines,
    notes.disturbed,
    notes.random_weights,
    quality.families,
    notes.one_session,
)
FOR_EACH_FAMILY: tuple[Rule, ...] = (
    speed.service_level,
    speed.fastest,
    speed.throughput,
    memory.smallest,
    memory.fit,
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

_MOST_TELLING = 25  # a rank above says how the others came to be
# What a test tells comes first, then what is known otherwise, then what is not judged.
_WEIGHTS: dict[Certainty, int] = {
    "shown": 0, "likely": 0,
    "interval": 1, "noise": 1, "undecided": 1, "fact": 1,
    "one run": 2, "measured": 2, "arithmetic": 2,
}  # fmt: skip


def findings(verdicts: Verdicts) -> list[Finding]:
    """All findings, measured before published, those first that matter most to a reader."""
    found = [finding for rule in ONCE for finding in rule(verdicts.results)]
    for rules, places in (
        (FOR_EACH_MACHINE, machines(verdicts)),
        (FOR_EACH_FAMILY, families(verdicts)),
    ):
        found += [finding for rule in rules for here in places for finding in rule(here)]
    return sorted(found, key=_order)


def _order(finding: Finding) -> tuple[bool, bool, bool, int, int, str, str, str]:
    """Measured first, and what frames the others last; between them real models, then what was
    judged, then what changes a decision most."""
    scope = finding.scope
    rows = [row for row in finding.evidence if isinstance(row, SpeedRow | QualityRow)]
    about_toys = bool(rows) and is_toy(rows)
    place = (scope.hardware, scope.family, finding.headline)
    weight = _WEIGHTS[finding.certainty]
    frames = finding.rank > _MOST_TELLING
    return scope.source != "measured", frames, about_toys, weight, finding.rank, *place
