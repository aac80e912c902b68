"""The take-aways: what the results say, how sure that is, and the rows it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from report import rules_memory, rules_notes, rules_quality, rules_speed
from report.compare import differences
from report.finding import Facts, Finding, gather
from report.load import Results
from report.pairs import Difference

RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    rules_notes.mixed_machines,
    rules_notes.disturbed,
    rules_notes.failed,
    rules_notes.random_weights,
    rules_speed.service_level,
    rules_speed.fastest,
    rules_speed.throughput,
    rules_memory.smallest,
    rules_memory.quality_per_gib,
    rules_speed.saving,
    rules_speed.kernel,
    rules_quality.chance,
    rules_quality.quality_noise,
    rules_quality.quality_change,
    rules_quality.families,
    rules_speed.load_cap,
    rules_memory.fit,
    rules_notes.drift,
    rules_notes.unrepeated,
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
