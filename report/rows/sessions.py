"""The sessions behind a speed row: pooled, described, and ready to be judged by machine.

A record is one session of a server. Those of one variant on one machine under one load are one row;
how far sessions lie apart is learned from all variants of the machine. Three metrics are judged
(`judged`), everything else is described.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from report import rates, stats
from report.rows import loads
from report.rows.rows import LATENCIES, Metric, Place, Result, SpeedRow, Workload
from report.stats import sessions
from report.stats.sessions import Comparison, Pool, Spread

Measure = tuple[Metric, Workload]  # what a pool is of


@dataclass(frozen=True)
class Machine:
    """All measured speed rows of one machine, each variant once under each load."""

    rows: Sequence[SpeedRow]

    @cached_property
    def judged(self) -> Mapping[str, tuple[Measure, ...]]:
        """By family, its three metrics that carry verdicts."""
        families: dict[str, list[SpeedRow]] = {}
        for row in self.rows:
            families.setdefault(row.family, []).append(row)
        return {family: judged(own) for family, own in families.items()}

    @cached_property
    def spread(self) -> Spread:
        """How the variants' spreads compare, over all metrics that are judged."""
        asked = dict.fromkeys(each for own in self.judged.values() for each in own)
        return sessions.find_spread({name(each): self._values(each) for each in asked})

    @cached_property
    def pools(self) -> Mapping[Measure, Pool]:
        """Every metric under every load."""
        measures = dict.fromkeys(
            (metric, load)
            for load, rows in self._loads.items()
            for row in rows
            for metric in row.by_session
        )
        return {measure: sessions.pool(self._values(measure)) for measure in measures}

    def compare(self, a: SpeedRow, b: SpeedRow, metric: Metric) -> Comparison | None:
        """Two of a family under one load, if the metric is judged; None if it is not."""
        if a.family != b.family:
            return None
        found, measure = self.comparisons(a.family), (metric, a.workload)
        if (a.variant, b.variant, measure) in found:
            return found[a.variant, b.variant, measure]
        turned = found.get((b.variant, a.variant, measure))
        return turned.invert() if turned else None

    def comparisons(self, family: str) -> Mapping[tuple[str, str, Measure], Comparison]:
        """What is judged: by variant, the one it is set against, and metric; each pair once."""
        if family not in self._compared:
            self._compared[family] = self._compare(family)
        return self._compared[family]

    @cached_property
    def _compared(self) -> dict[str, Mapping[tuple[str, str, Measure], Comparison]]:
        """By family, those that were asked for so far."""
        return {}

    def _compare(self, family: str) -> Mapping[tuple[str, str, Measure], Comparison]:
        own = [row for row in self.rows if row.family == family]
        names = {name(each): each for each in self.judged[family]}
        metrics = {text: self.pools[each] for text, each in names.items()}
        variants = sorted({row.variant for row in own})
        compared = sessions.compare_family(metrics, self.spread, variants, find_baseline(own))
        return {(each.variant, each.baseline, names[each.metric]): each for each in compared}

    def describe(self, row: SpeedRow) -> SpeedRow:
        """A row whose metrics have the intervals that the machine's sessions give them."""
        told = {
            metric: known[row.variant]
            for metric in row.by_session
            if row.variant in (known := self._described[metric, row.workload])
        }
        return replace(row, metrics={**row.metrics, **told})

    @cached_property
    def _described(self) -> Mapping[Measure, Mapping[str, stats.Estimate]]:
        """By variant, every metric under every load."""
        return {
            measure: sessions.describe(pool, self.spread) for measure, pool in self.pools.items()
        }

    @cached_property
    def _records(self) -> Mapping[str, tuple[str, ...]]:
        """By variant, the records of all its loads: the sessions every metric is told for."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            found.setdefault(row.variant, set()).update(row.records)
        return {variant: tuple(sorted(records)) for variant, records in found.items()}

    @cached_property
    def _loads(self) -> Mapping[Workload, Sequence[SpeedRow]]:
        found: dict[Workload, list[SpeedRow]] = {}
        for row in self.rows:
            found.setdefault(row.workload, []).append(row)
        return found

    def _values(self, measure: Measure) -> dict[str, list[float | None]]:
        """Every session of every variant; None where it did not measure that load or metric."""
        metric, workload = measure
        values = {}
        for row in self._loads[workload]:
            if metric in row.by_session:
                every, own = self._records[row.variant], row.by_session[metric]
                if row.records != every:
                    known = dict(zip(row.records, own, strict=True))
                    own = tuple(known.get(record) for record in every)
                values[row.variant] = [_positive(value) for value in own]
        return values


def machines(rows: Iterable[SpeedRow]) -> dict[Place, Machine]:
    """The measured rows by the machine whose sessions are compared with one another."""
    places: dict[Place, list[SpeedRow]] = {}
    for row in rows:
        if row.source == "measured":
            places.setdefault(row.place, []).append(row)
    return {place: Machine(tuple(own)) for place, own in places.items()}


def judged(rows: Sequence[SpeedRow]) -> tuple[Measure, ...]:
    """Time to the first and per further token at the usual load, output at the highest one."""
    if not rows:
        return ()
    usual, highest = loads.at_usual(rows)[0], loads.at_most(rows)[0]
    return (
        (Metric.TTFT_MEAN, usual.workload),
        (Metric.TPOT_MEAN, usual.workload),
        (Metric.OUTPUT, highest.workload),
    )


def pool(rows: Sequence[SpeedRow]) -> SpeedRow:
    """The sessions of one variant under one load as one row: what the newest one says, and all.

    Args:
        rows: one session each, of one machine, the oldest first.
    """
    newest = rows[-1]
    known = dict.fromkeys(metric for row in rows for metric in row.metrics)
    by_session = {
        metric: tuple(row.metrics[metric].value if metric in row.metrics else None for row in rows)
        for metric in known
    }
    own_ms = _mean(row.server_tpot_ms for row in rows)
    seen_ms = _mean(row.client_tpot_ms for row in rows)
    return replace(
        newest,
        records=tuple(row.record for row in rows),
        status="partial" if any(row.status == "partial" for row in rows) else "ok",
        sessions=len(rows),
        server_queue_ms=_mean(row.server_queue_ms for row in rows),
        server_prefill_ms=_mean(row.server_prefill_ms for row in rows),
        server_tpot_ms=own_ms,
        client_tpot_ms=seen_ms,
        tokens_per_iteration=_mean(row.tokens_per_iteration for row in rows),
        front_end_share=1 - own_ms / seen_ms if own_ms and seen_ms else None,
        repeats=sum(row.repeats for row in rows),
        metrics={metric: _plain(values) for metric, values in by_session.items()},
        by_session=by_session,
        peak_memory_gib=_most(row.peak_memory_gib for row in rows),
        mean_power_w=_mean(row.mean_power_w for row in rows),
        energy_per_output_token_j=_mean(row.energy_per_output_token_j for row in rows),
        throttled=_any(row.throttled for row in rows),
        throttle_reasons=tuple(sorted({why for row in rows for why in row.throttle_reasons})),
        shared=_any(row.shared for row in rows),
    )


def find_baseline(rows: Iterable[Result]) -> str | None:
    """The id of the baseline among rows of one family on one machine; the newest if it changed."""
    marked = [(row.finished_at or "", row.variant) for row in rows if row.is_baseline]
    return max(marked)[1] if marked else None


def name(measure: Measure) -> str:
    """What the statistics call a metric under a load."""
    metric, (pace, tokens_in, tokens_out) = measure
    return f"{metric} at {rates.load(pace)}, {tokens_in} tokens in, {tokens_out} out"


def higher_is_faster(metric: Metric) -> bool:
    """Whether more of it is faster: a rate, not a time."""
    return metric not in LATENCIES


def _plain(values: Sequence[float | None]) -> stats.Estimate:
    """The mean of the sessions, until the machine's spread gives it an interval."""
    known = [value for value in values if value is not None]
    return stats.Estimate(sum(known) / len(known), None, None, len(known))


def _positive(value: float | None) -> float | None:
    """A speed whose logarithm exists: no request within the limits is no rate to pool."""
    return value if value is not None and value > 0 else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _any(values: Iterable[bool | None]) -> bool | None:
    known = [value for value in values if value is not None]
    return any(known) if known else None
