"""Take-aways about speed: who is fastest, what a precision saves, what kernels and loads hide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, groupby

from bench.records.pace import Pace
from report import numbers, rates, stats
from report.differences.pair import Difference
from report.findings import words
from report.findings.finding import (
    Certainty,
    Finding,
    Place,
    asked_order,
    baseline_of,
    certainty_of,
    certainty_text,
    compared,
    evidence,
    with_caveats,
)
from report.rows import loads
from report.rows.rows import LATENCIES, Metric, QualityRow, Result, SpeedRow

# A limited load hides differences once the best variant delivers this share of what is asked.
_NEARLY_ALL = 0.75
_WIDE = 1.05  # from here on two single runs are said to differ, as single runs


def service_level(here: Place) -> Iterator[Finding]:
    """Who keeps the service level at the highest rate that anybody keeps it at."""
    judged = [
        row
        for row in here.speed
        if row.sustained != "unknown" and math.isfinite(row.request_rate_rps)
    ]
    if not judged:
        return
    kept = [row.request_rate_rps for row in judged if row.sustained == "yes"]
    pace = Pace(max(kept)) if kept else loads.usual_pace(judged)
    rows, load = loads.at_pace(judged, pace), rates.load(pace)
    yes = _ranked([row for row in rows if row.sustained == "yes"], Metric.E2E_MEAN)
    outside = [row.variant_name for row in rows if row.sustained == "no"]
    unsure = [row.variant_name for row in rows if row.sustained == "unsure"]
    headline = "No variant is sure to keep within the service level"
    if yes:
        names = words.names([row.variant_name for row in yes])
        if len(yes) == len(rows) > 2:
            names = f"All {len(yes)} variants of {here.scope.family}"
        keep = "keeps" if len(yes) == 1 else "keep"
        headline = f"{names} {keep} within the service level at {load}"
    detail = (
        f"Service level: TTFT p90 at most {numbers.number(rows[0].limit_ttft_p90_ms)} ms, TPOT"
        f" p90 at most {numbers.number(rows[0].limit_tpot_p90_ms)} ms."
    )
    if outside:
        detail += f" Not within it at {load}: {words.names(outside)}."
    if unsure:
        detail += f" Their intervals straddle the limit: {words.names(unsure)}."
    detail += f" Highest rate kept: {_kept(judged)}."
    certainty: Certainty = "one run" if any(r.sessions < 2 for r in rows) else "interval"
    if not yes and certainty == "interval" and unsure:
        certainty = "undecided"
    yield compared("service_level", 10, here.scope, certainty, headline, detail, *rows)


def fastest(here: Place) -> Iterator[Finding]:
    """Who takes the least time per token, at the usual load."""
    ranked = _ranked(loads.at_usual(here.speed), Metric.TPOT_MEAN)
    if len(ranked) < 2:
        return
    best, (ties, sure) = ranked[0], _rivals(here, ranked, Metric.TPOT_MEAN)
    value, load = (
        numbers.number(best.metrics[Metric.TPOT_MEAN].value),
        rates.load(best.pace),
    )
    headline = f"{best.variant_name} takes the least time per token at {load}: {value} ms"
    tpot, ttft, _, output = _against_baseline(here, best)
    detail = ""
    if tpot is not None:
        detail = (
            f"Against {tpot.b.variant_name}: time per output token {_effect(tpot)}, time to the"
            f" first {_effect(ttft)}, output {_effect(output)}."
        )
    headline += words.tied(ties, tested=sure == "noise")
    yield compared("fastest", 11, here.scope, sure, headline, detail, *ranked)


def throughput(here: Place) -> Iterator[Finding]:
    """Who gives the most output, at the highest load that two variants share."""
    ranked = _ranked(loads.at_highest_shared(here.speed), Metric.OUTPUT)
    if len(ranked) < 2:
        return
    best, (ties, sure) = ranked[0], _rivals(here, ranked, Metric.OUTPUT)
    value, load = best.metrics[Metric.OUTPUT].value, rates.load(best.pace)
    headline = (
        f"{best.variant_name} gives the most output at {load}: {numbers.number(value, 4)} tokens/s"
        f"{words.tied(ties, tested=sure == 'noise')}"
    )
    *_, test = _against_baseline(here, best)
    detail = f"Against {test.b.variant_name}: {words.effect(test.verdict)}." if test else ""
    if value >= _NEARLY_ALL * _cap(best):
        asked = numbers.number(_cap(best), 4)
        detail += f" This load asks for {asked} tokens/s, so more could not be seen."
    yield compared("throughput", 12, here.scope, sure, headline, detail.strip(), *ranked)


def energy(here: Place) -> Iterator[Finding]:
    """Who takes the least energy per token, at the highest load that two variants share."""
    known = [
        (row.energy_per_output_token_j, row.variant, row)
        for row in loads.at_highest_shared(here.speed)
        if row.energy_per_output_token_j
    ]
    if len(known) < 2:
        return
    joules, _, best = min(known, key=lambda each: each[:2])
    base = baseline_of([row for _, _, row in known])
    headline = (
        f"{best.variant_name} takes the least energy: {numbers.number(joules)} J per output token"
        f" at {rates.load(best.pace)}"
    )
    shown, detail = [best], ""
    if base is not None and base is not best and base.energy_per_output_token_j:
        saved = numbers.change(joules / base.energy_per_output_token_j)
        detail = f"{saved} against {base.variant_name}."
        shown.append(base)
    yield compared("energy", 15, here.scope, "measured", headline, detail, *shown)


def crossover(here: Place) -> Iterator[Finding]:
    """Variants that are faster than their baseline under one load and slower under another."""
    for tpot, output in _both(here):
        one, other = _side(tpot), _side(output)
        if {one, other} != {"faster", "slower"}:
            continue
        name, base = tpot.a.variant_name, tpot.b.variant_name
        headline = (
            f"{name} is {one} than {base} with few requests, {other} with many:"
            f" time per token {words.effect(tpot.verdict)}, output {words.effect(output.verdict)}"
        )
        detail = (
            f"Time per token at {_load(tpot)}{words.ends(tpot.verdict)}; output at"
            f" {_load(output)}{words.ends(output.verdict)}."
        )
        sure = _weakest([tpot.verdict, output.verdict])
        yield compared("crossover", 17, here.scope, sure, headline, detail, tpot.a, tpot.b)


def slower(here: Place) -> Iterator[Finding]:
    """Variants that cost speed under every load: what they save is memory alone."""
    for tpot, output in _both(here):
        if _side(tpot) != "slower" or _side(output) != "slower":
            continue
        name, base = tpot.a.variant_name, tpot.b.variant_name
        headline = (
            f"{name} is slower than {base} throughout: time per token"
            f" {words.effect(tpot.verdict)}, output {words.effect(output.verdict)}"
        )
        weights = here.verdicts.memory(tpot.a)
        size = words.size(weights) if weights else ""
        detail = f"What it saves: {size}." if size.startswith(numbers.MINUS) else ""
        kept = here.verdicts.decision(tpot.a.who)
        if kept is not None and kept.decision.outcome == "loses":
            detail += " It loses quality too."
        sure = _weakest([tpot.verdict, output.verdict])
        yield compared("slower", 18, here.scope, sure, headline, detail.strip(), tpot.a, tpot.b)


def saving(here: Place) -> Iterator[Finding]:
    """What each variant saves in memory and time against its baseline, and costs in quality."""
    pace = loads.usual_pace(here.speed) if here.speed else Pace()
    usual = {row.variant: row for row in reversed(here.speed) if row.pace == pace}
    for variant in dict.fromkeys(row.variant for row in (*here.speed, *here.quality)):
        tasks = [row for row in here.quality if row.variant == variant]
        yield from _saving(here, usual.get(variant), sorted(tasks, key=asked_order))


def kernel(here: Place) -> Iterator[Finding]:
    """Where the same weights run at different speeds: the kernel, not the bit-width, decides."""
    rows = _ranked(loads.at_usual(here.speed), Metric.TPOT_MEAN)
    for one, other in combinations(sorted(rows, key=lambda row: row.variant), 2):
        if _same_weights(one, other) and _other_kernel(one, other):
            fast, slow = _ranked([one, other], Metric.TPOT_MEAN)
            yield _kernel(here, fast, slow, baseline_of(rows))


def load_cap(here: Place) -> Iterator[Finding]:
    """Where the offered load, not the variant, sets the throughput."""
    rows = [row for row in loads.at_usual(here.speed) if Metric.TPOT_MEAN in row.metrics]
    ranked = _ranked(rows, Metric.OUTPUT)
    if len(ranked) < 2 or math.isinf(_cap(ranked[0])):
        return
    best, other = ranked[0], baseline_of(ranked[1:]) or ranked[-1]
    gained, tpot = (
        best.metrics[metric].value / other.metrics[metric].value
        for metric in (Metric.OUTPUT, Metric.TPOT_MEAN)
    )
    told = here.verdicts.between_speeds(best, other, Metric.TPOT_MEAN).verdict
    reached = best.metrics[Metric.OUTPUT].value / _cap(best)
    if reached < _NEARLY_ALL or abs(math.log(tpot)) <= abs(math.log(gained)):
        return
    # What cannot be told from noise cannot be hidden either.
    if told.outcome == "noise":
        return
    cap = numbers.number(_cap(best), 4)
    most = abs(math.log(gained)) < abs(math.log(tpot)) / 2
    headline = (
        f"Output at {rates.load(best.pace)} cannot exceed {cap} tokens/s, whatever the variant"
    )
    detail = (
        f"{best.variant_name} reaches {numbers.share(reached, 0)} % of that, which hides"
        f" {'most' if most else 'part'} of the difference: against {other.variant_name} its output"
        f" is {numbers.change(gained)} while its time per output token is {numbers.change(tpot)}"
        f" ({certainty_text(certainty_of(told), here.scope.source)})."
    )
    if any(row.pace.is_unthrottled for row in here.speed):
        detail += " The unthrottled load shows what each can give."
    yield compared("load_cap", 25, here.scope, "arithmetic", headline, detail, best, other)


def _saving(here: Place, load: SpeedRow | None, tasks: Sequence[QualityRow]) -> Iterator[Finding]:
    tpot, ttft, e2e, output = _against_baseline(here, load) if load else (None,) * 4
    gaps = here.gaps(tasks)
    by_task = [(task, list(own)) for task, own in groupby(gaps, key=lambda gap: gap.series)]
    telling = [_telling(own) for _, own in by_task]
    rows: list[Result] = [*([load] if load else []), *tasks]
    weights = here.verdicts.memory(rows[0]) if rows else None
    first = tpot or weights
    if first is None:
        return
    told, detail = [], ""
    if weights and weights.verdict.estimate:
        told.append(words.size(weights))
    if tpot and load:
        told.append(f"{words.effect(tpot.verdict)} time per output token")
        detail = (
            f"At {rates.load(load.pace)}: TTFT {_effect(ttft)}, end to end"
            f" {_effect(e2e)}, output {_effect(output)}."
        )
    told += [f"{words.gap(each)} on {each.series}" for each in telling]
    for task, own in by_task:
        detail += f" On {task}: {'; '.join(map(words.tested, own))}."
    mind = dict.fromkeys(text for test in (tpot, *gaps) if test for text in test.caveats)
    rests_on = {test.a.anchor for test in telling}
    yield Finding(
        "saving", 20, here.scope, certainty_of(tpot.verdict) if tpot else "fact",
        f"{first.a.variant_name} against {first.b.variant_name}: {', '.join(told)}",
        with_caveats(detail.strip(), mind),
        evidence(*(row for row in rows if row is load or row.anchor in rests_on)),
    )  # fmt: skip


def _telling(tests: Sequence[Difference]) -> Difference:
    """The metric of a task that says most: the largest difference shown, or else the first."""
    shown = [test for test in tests if test.verdict.significant]
    return max(shown or tests[:1], key=lambda test: abs(test.verdict.estimate or 0.0))


def _kernel(here: Place, fast: SpeedRow, slow: SpeedRow, base: SpeedRow | None) -> Finding:
    ratio = here.verdicts.between_speeds(slow, fast, Metric.TPOT_MEAN).verdict
    against = [here.verdicts.speed(row, Metric.TPOT_MEAN) for row in (slow, fast)]
    slow_base, fast_base = (test.verdict if test else None for test in against)
    e2e = here.verdicts.speed(slow, Metric.E2E_MEAN)
    verdicts = [v for v in (ratio, slow_base, fast_base) if v is not None]
    certainty = _weakest(verdicts)
    crosses = (
        slow_base is not None
        and fast_base is not None
        and (slow_base.estimate or 1) > 1 > (fast_base.estimate or 1)
    )
    decides = crosses and certainty != "noise"
    if not decides:
        certainty = certainty_of(ratio)
    one, other = slow.variant_name, fast.variant_name
    named = base.variant_name if base else ""
    if decides:
        headline = (
            f"The kernel, not the bit-width, decides: on the same weights {one} takes"
            f" {words.factor(slow_base)} the time per output token of {named}, {other}"
            f" {words.factor(fast_base)}"
        )
    elif certainty != "noise":
        headline = (
            f"Same weights, other kernel: {one} takes {words.factor(ratio)} the time per output"
            f" token of {other}"
        )
    else:
        headline = f"Same weights, other kernel: no difference found between {one} and {other}"
    detail = f"{words.factor(ratio)} between the two at {rates.load(fast.pace)}{words.ends(ratio)}"
    if e2e:
        detail += f"; end to end {one} takes {words.factor(e2e.verdict)} of {named}"
    detail += f". Kernels: {slow.served.kernel} and {fast.served.kernel}."
    shown = [row for row in (slow, fast, base) if row is not None]
    return compared("kernel", 21, here.scope, certainty, headline, detail, *shown)


def _both(here: Place) -> Iterator[tuple[Difference, Difference]]:
    """For each variant, time per token at the usual load and output at the highest, if not one."""
    highest = {row.variant: row for row in loads.at_highest_shared(here.speed)}
    for row in loads.at_usual(here.speed):
        busiest = highest.get(row.variant)
        if busiest is None or busiest.pace == row.pace:
            continue
        tpot = here.verdicts.speed(row, Metric.TPOT_MEAN)
        output = here.verdicts.speed(busiest, Metric.OUTPUT)
        if tpot is not None and output is not None:
            yield tpot, output


def _side(test: Difference) -> str:
    """faster or slower, where a test shows it, or a run of each says so by a wide margin."""
    verdict = test.verdict
    if verdict.outcome == "unknown" and verdict.estimate:
        if abs(math.log(verdict.estimate)) < math.log(_WIDE):
            return "unknown"
        less = verdict.estimate < 1
        return "faster" if less == (test.metric in LATENCIES) else "slower"
    return stats.speed(verdict, higher_is_faster=test.metric not in LATENCIES)


def _load(test: Difference) -> str:
    return rates.load(test.a.pace) if isinstance(test.a, SpeedRow) else ""


def _weakest(verdicts: Sequence[stats.Verdict]) -> Certainty:
    sure = {certainty_of(verdict) for verdict in verdicts}
    weakest: tuple[Certainty, ...] = ("noise", "one run", "interval")
    return next((each for each in weakest if each in sure), "shown")


def _rivals(here: Place, ranked: Sequence[SpeedRow], metric: Metric) -> tuple[list[str], Certainty]:
    """Those that nothing tells from the first, and how sure it is that this is the best.

    Where there is no interval only an equal value ties. Nobody ties whom another of them beats.
    """

    def test(a: SpeedRow, b: SpeedRow) -> stats.Verdict:
        return here.verdicts.between_speeds(a, b, metric).verdict

    worse = "higher" if metric in LATENCIES else "lower"
    first, *rest = ranked
    tests = [test(row, first) for row in rest]
    near = [
        row
        for row, told in zip(rest, tests, strict=True)
        if told.outcome == "noise" or (told.outcome == "unknown" and told.estimate == 1)
    ]
    ties = [
        row.variant_name
        for row in near
        if not any(test(row, other).outcome == worse for other in near if other is not row)
    ]
    return ties, _weakest(tests)


def _against_baseline(here: Place, row: SpeedRow) -> list[Difference | None]:
    """TPOT, TTFT, end to end and output of a row's variant against its baseline's."""
    metrics = (Metric.TPOT_MEAN, Metric.TTFT_MEAN, Metric.E2E_MEAN, Metric.OUTPUT)
    return [here.verdicts.speed(row, metric) for metric in metrics]


def _effect(test: Difference | None) -> str:
    return words.effect(test.verdict if test else None)


def _kept(rows: Sequence[SpeedRow]) -> str:
    """The highest rate that each variant keeps within the service level, best first."""
    named = {row.who: row.variant_name for row in rows}
    kept = [(named[who], each.highest) for who, each in loads.kept(rows).items()]
    kept.sort(key=lambda each: (-(each[1] or 0.0), each[0]))
    return ", ".join(
        f"{name} {'none of those tried' if rate is None else rates.short(Pace(rate))}"
        for name, rate in kept
    )


def _cap(row: SpeedRow) -> float:
    """The output tokens per second that the requests ask for: no variant can exceed it."""
    return row.request_rate_rps * row.output_tokens


def _same_weights(one: SpeedRow, other: SpeedRow) -> bool:
    weights = one.served.weights
    same = weights is not None and weights == other.served.weights
    return same and _method(one) == _method(other)


def _method(row: SpeedRow) -> str | None:
    """The quantization without the kernel that vLLM puts into its name: awq_marlin is awq."""
    method = row.served.quantization
    return None if method is None else method.removesuffix("_marlin")


def _other_kernel(one: SpeedRow, other: SpeedRow) -> bool:
    """Whether the two are known to have run different kernels."""
    kernels = {one.served.kernel, other.served.kernel}
    return len(kernels) == 2 and None not in kernels


def _ranked(rows: Iterable[SpeedRow], metric: Metric) -> list[SpeedRow]:
    """Those that know a metric, the best first: the least of a time, the most of a rate."""
    sign = 1 if metric in LATENCIES else -1
    known = [row for row in rows if metric in row.metrics]
    return sorted(known, key=lambda row: (sign * row.metrics[metric].value, row.variant))
