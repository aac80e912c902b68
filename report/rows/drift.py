"""How far the same thing lies apart when it is measured twice, in server sessions of their own.

The repeats of one record share a session: its memory layout, its neighbours, its clocks. What
changes from one session to the next shows only where the very same thing was measured again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from report import stats
from report.rows.rows import HistoryRow, Metric, SpeedRow

Place = tuple[str, str, str]  # hardware, machine, load


@dataclass(frozen=True)
class Again:
    """One metric at one load of consecutive records of the same variant, key and machine.

    `verdict` is of the later against the earlier, corrected over all that the machine repeated.
    """

    verdict: stats.Verdict
    old: HistoryRow
    new: HistoryRow


@dataclass(frozen=True)
class Drift:
    """Everything that was measured again, and the floors that follow from it."""

    repeated: tuple[Again, ...]
    floors: Mapping[Place, Mapping[str, float]]

    def floor(self, a: SpeedRow, b: SpeedRow, metric: Metric) -> float | None:
        """The ratio that two speed rows must exceed; None where nothing was measured twice.

        That of their machine, load and metric, or the load's widest where the metric has none.
        Two records of one thing have no floor: they are the check itself.
        """
        if (a.source, a.hardware, a.machine) != (b.source, b.hardware, b.machine):
            return None
        if (a.variant, a.key) == (b.variant, b.key):
            return None
        floors = self.floors.get((a.hardware, a.machine, a.series), {})
        return floors.get(metric, max(floors.values(), default=None))


def of(history: Iterable[HistoryRow]) -> Drift:
    """The drift that the history shows, in whatever order its rows come."""
    rows = [row for row in history if row.stage == "speed" and row.value is not None]
    rows.sort(key=lambda row: (*_same(row), row.finished_at or "", row.record))
    by_machine: dict[tuple[str, str], list[Again]] = {}
    for _, group in groupby(rows, key=_same):
        for old, new in pairwise(group):
            again = Again(stats.ratio(new.value, old.value), old, new)
            by_machine.setdefault((new.hardware, new.machine), []).append(again)
    repeated = [again for own in by_machine.values() for again in _corrected(own)]
    places: dict[Place, dict[str, list[stats.Verdict]]] = {}
    for again in repeated:
        row = again.new
        metrics = places.setdefault((row.hardware, row.machine, row.series), {})
        metrics.setdefault(row.metric, []).append(again.verdict)
    return Drift(tuple(repeated), {place: _floors(seen) for place, seen in places.items()})


def _same(row: HistoryRow) -> tuple[str, ...]:
    """What two records of the very same thing share."""
    return row.hardware, row.machine, row.variant, row.key or "", row.series, row.metric


def _corrected(own: Sequence[Again]) -> list[Again]:
    verdicts = stats.correct([again.verdict for again in own])
    return [Again(v, again.old, again.new) for v, again in zip(verdicts, own, strict=True)]


def _floors(seen: Mapping[str, Sequence[stats.Verdict]]) -> dict[str, float]:
    known = {metric: stats.noise_floor(verdicts) for metric, verdicts in seen.items()}
    return {metric: floor for metric, floor in known.items() if floor is not None}
