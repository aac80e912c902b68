"""The take-aways: what the results say, how sure that is, and the rows it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from report.differences.compare import differences
from report.differences.pair import Difference
from report.findings import memory, notes, quality, speed
from report.findings.finding import Facts, Finding, gather
from report.rows.load import Results

RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    notes.mixed_machines,
    notes.disturbed,
    notes.failed,
    notes.random_weights,
    speed.service_level,
    speed.fastest,
    speed.throughput,
    memory.smallest,
    memory.quality_per_gib,
    speed.saving,
    speed.kernel,
    quality.chance,
    quality.quality_noise,
    quality.quality_change,
    quality.families,
    speed.load_cap,
    memory.fit,
    notes.drift,
    notes.unrepeated,
)


def findings(results: Results, tests: Sequence[Difference] | None = None) -> list[Finding]:
    """All findings, measured before published, those first that matter most to a reader.

    `tests` are the results' `differences`, where they are at hand already.
    """
    facts = gather(results, differences(results) if tests is None else tests)
    found = [finding for rule in RULES for finding in rule(facts)]
    return sorted(found, key=_order)


def _order(finding: Finding) -> tuple[bool, int, str, str, str]:
    scope = finding.scope
    published = scope.source != "measured"
    return published, finding.rank, scope.hardware, scope.family, finding.headline
