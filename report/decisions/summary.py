"""One variant against its baseline: speed, memory and quality, and the sentence that says so.

The page, the comment of a pull request, the job summary and `bench compare` all say this sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from report import numbers, rates
from report.differences.families import Quality, Verdicts, sized
from report.differences.pair import Difference
from report.rows import sessions
from report.rows.rows import Metric, QualityRow, Result, SpeedRow, leading_metric
from report.stats import Estimate, Interval


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """What is known of a variant on a machine, and how that compares with its baseline.

    `usual` and `highest` are its rows at the load that latency is judged at, and at that of
    throughput; `scores` has its leading metric of each task. The differences are None for the
    baseline, and where either lacks the number.
    """

    row: Result
    usual: SpeedRow | None
    highest: SpeedRow | None
    scores: tuple[QualityRow, ...]
    ttft: Difference | None
    tpot: Difference | None
    output: Difference | None
    memory: Difference | None
    quality: Quality | None
    unpaired: tuple[Difference, ...]

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.row.variant_name

    @property
    def is_random(self) -> bool:
        """Whether its weights are random numbers, whose quality nobody can measure."""
        return self.row.served.random_weights

    @property
    def outcome(self) -> str:
        """keeps, loses, undecided, or unknown: whether it keeps its baseline's quality."""
        if self.row.is_baseline:
            return "keeps"
        if self.quality is not None:
            return self.quality.decision.outcome
        if any(each.verdict.outcome == "lower" for each in self.unpaired):
            return "loses"
        return "undecided" if self.unpaired else "unknown"

    @property
    def weights_gib(self) -> float | None:
        """The weights in memory, or on disk where the engine tells no memory."""
        return self.row.served.weights_gib or self.row.served.checkpoint_gib

    @property
    def weights_on_disk(self) -> bool:
        """Whether `weights_gib` is the size of the files."""
        served = self.row.served
        return not served.weights_gib and served.checkpoint_gib is not None

    @property
    def kv_cache_tokens(self) -> int | None:
        """How many tokens fit in the KV cache beside the weights."""
        return self.row.served.kv_cache_tokens

    @property
    def usd_per_million(self) -> float | None:
        """US dollars for a million output tokens at the highest load."""
        return self.highest.usd_per_million_output_tokens if self.highest else None

    @property
    def sentence(self) -> str:
        """It all in one sentence, without the final stop."""
        if self.row.is_baseline:
            return f"{self.name}: {', '.join(_own(self))}"
        told = [_speed(self.tpot, "time per token"), _speed(self.output, "output")]
        if self.memory is not None and self.memory.verdict.estimate:
            told.append(f"{_amount(self.memory.verdict.estimate)} memory")
        told.append(quality_text(self))
        return f"{self.name}: {', '.join(each for each in told if each)}"


def summaries(
    verdicts: Verdicts, speed: Sequence[SpeedRow], quality: Sequence[QualityRow]
) -> tuple[VariantSummary, ...]:
    """Every variant among rows of one family on one machine, the baseline first."""
    judged = dict(sessions.judged(speed))
    rows = {row.variant: row for row in sized([*quality, *speed])}
    made = []
    for variant, row in rows.items():
        loads = {each.workload: each for each in speed if each.variant == variant}
        usual = loads.get(judged[Metric.TPOT_MEAN]) if judged else None
        highest = loads.get(judged[Metric.OUTPUT]) if judged else None
        scores = _leading([each for each in quality if each.variant == variant])
        against = [verdicts.quality(each) for each in scores]
        made.append(
            VariantSummary(
                row,
                usual,
                highest,
                scores,
                ttft=verdicts.speed(usual, Metric.TTFT_MEAN) if usual else None,
                tpot=verdicts.speed(usual, Metric.TPOT_MEAN) if usual else None,
                output=verdicts.speed(highest, Metric.OUTPUT) if highest else None,
                memory=verdicts.memory(row),
                quality=verdicts.decision(row.who),
                unpaired=tuple(each for each in against if each and each.unpaired),
            )
        )
    return tuple(sorted(made, key=lambda each: (not each.row.is_baseline, each.name)))


def quality_text(of: VariantSummary) -> str:
    """The decision on quality, with the recovery it rests on."""
    if of.is_random:
        return "random weights, no quality"
    if of.quality is None:
        told = {"loses": "loses quality (unpaired test)", "undecided": "quality undecided"}
        return told.get(of.outcome, "quality not measured")
    return _decided(of.quality)


def _decided(quality: Quality) -> str:
    kept, decision, least = quality.kept, quality.decision, quality.least
    if kept is None or kept.interval is None:
        return "quality not measured on the same documents"
    base = quality.tasks[0].b.variant_name
    seen = retention(kept.estimate, kept.interval, in_points=quality.in_points)
    needs = f"; {found}" if (found := quality.needs()) else ""
    level = f"at least {100 * least:g} % of {base}'s quality"
    if quality.in_points:
        level = f"{base}'s quality within {numbers.share(-least, 1)} points"
    told = {"keeps": f"keeps {level} ({seen})", "loses": f"loses quality ({seen})"}
    return told.get(decision.outcome, f"quality undecided ({seen}{needs})")


def retention(value: float, ends: Interval, *, in_points: bool) -> str:
    """What was kept, with its interval: 99.2 %, 98.1 to 100.4."""
    if in_points:
        low, high = numbers.points(ends.low, 1), numbers.points(ends.high, 1)
        return f"{numbers.points(value, 1)} points, {low} to {high}"
    low, high = numbers.share(ends.low, 1), numbers.share(ends.high, 1)
    return f"{numbers.share(value, 1)} %, {low} to {high}"


def _speed(found: Difference | None, what: str) -> str:
    """A ratio as less or more of something, with its interval; nothing where there is none."""
    if found is None or found.verdict.estimate is None:
        return ""
    verdict, ratio = found.verdict, found.verdict.estimate
    if verdict.outcome == "noise":
        return f"no difference found in {what}"
    told = f"{_amount(ratio)} {what}"
    ends = verdict.interval
    if ends is None:
        published = found.a.source == "published"
        return f"{told} ({'one run' if published else 'one session'})"
    low, high = (numbers.change(end) for end in (ends.low, ends.high))
    return f"{told} ({low} to {high})"


def _amount(ratio: float) -> str:
    """A ratio in words: 34 % less, 12 % more, 2.1 times the, as much."""
    if ratio >= 2:
        return f"{numbers.number(ratio, 2)} times the"
    percent = f"{abs(100 * (ratio - 1)):.0f}"
    if percent == "0":
        return "as much"
    return f"{percent} % {'less' if ratio < 1 else 'more'}"


def _own(of: VariantSummary) -> list[str]:
    """A baseline's own numbers."""
    told = ["the baseline"]
    if of.usual and (tpot := of.usual.metrics.get(Metric.TPOT_MEAN)):
        load = rates.load(of.usual.pace)
        told.append(f"{_value(tpot)} ms per token at {load}")
    if of.highest and (output := of.highest.metrics.get(Metric.OUTPUT)):
        told.append(f"{_value(output)} tokens/s at most")
    if of.weights_gib:
        told.append(f"{numbers.number(of.weights_gib)} GiB of weights")
    told += [
        f"{numbers.share(row.value.value, 1)} % on {row.task}"
        if row.unit == "share"
        else f"{row.metric} {numbers.score(row.unit)(row.value.value)} on {row.task}"
        for row in of.scores
    ]
    return told


def _value(estimate: Estimate) -> str:
    return numbers.number(estimate.value)


def _leading(rows: Sequence[QualityRow]) -> tuple[QualityRow, ...]:
    tasks: dict[str, list[QualityRow]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(row)
    first = {task: leading_metric(row.metric for row in own) for task, own in tasks.items()}
    return tuple(row for row in rows if row.metric == first[row.task])
