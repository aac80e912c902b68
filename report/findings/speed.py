"""Take-aways about speed: who is fastest, what a precision saves, what kernels and loads hide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, groupby

from report import numbers, rates, stats
from report.differences.pair import SIZES, Difference
from report.findings import words
from report.findings.finding import (
    Certainty,
    Facts,
    Finding,
    Pick,
    Scope,
    asked_order,
    at_load,
    baseline_of,
    certainty_of,
    compared,
    evidence,
    usual_rate,
    with_caveats,
)
from report.rows.rows import Row
from report.rows.service_level import carried

# A limited load hides differences once the best variant delivers this share of what is asked.
_NEARLY_ALL = 0.75


def service_level(facts: Facts) -> Iterator[Finding]:
    """Who keeps the service level at the highest rate that anybody keeps it at."""
    for scope, (rows, _) in facts.scopes.items():
        judged = [row for row in rows if row["sustained"] != "unknown"]
        if not judged:
            continue
        kept = [row["request_rate_rps"] for row in judged if row["sustained"] == "yes"]
        rate = max(kept) if kept else usual_rate(judged)
        here = at_load(judged, rate)
        named = {
            answer: [row for row in here if row["sustained"] == answer]
            for answer in ("yes", "no", "unsure")
        }
        yes = sorted(named["yes"], key=_by("e2e_mean_ms"))
        load = rates.load(rate)
        headline = "No variant is sure to keep within the service level"
        if yes:
            headline = (
                f"{words.names(_names(yes))} {'keeps' if len(yes) == 1 else 'keep'} within the"
                f" service level at {load}"
            )
            if len(yes) > 1 and not _ties(facts, yes):
                headline += f", {yes[0]['variant_name']} the fastest of them"
        ttft, tpot = (here[0][f"limit_{name}_p90_ms"] for name in ("ttft", "tpot"))
        detail = (
            f"Service level: TTFT p90 at most {numbers.number(ttft)} ms, TPOT p90 at most"
            f" {numbers.number(tpot)} ms."
        )
        if named["no"]:
            detail += f" Not within it at {load}: {words.names(_names(named['no']))}."
        if named["unsure"]:
            unsure = words.names(_names(named["unsure"]))
            detail += f" Their intervals straddle the limit: {unsure}."
        detail += f" Highest rate kept: {_carried(judged)}."
        certainty: Certainty = "one run" if any(r["repeats"] < 2 for r in here) else "interval"
        if not yes and certainty == "interval" and named["unsure"]:
            certainty = "noise"
        yield compared("service_level", 10, scope, certainty, headline, detail, *here)


def fastest(facts: Facts) -> Iterator[Finding]:
    """The pick for latency: the shortest time from request to last token, at the usual load."""
    for scope, (rows, _) in facts.scopes.items():
        here = _with(at_load(rows, usual_rate(rows)), "e2e_mean_ms") if rows else []
        if len(here) < 2:
            continue
        ranked = sorted(here, key=_by("e2e_mean_ms"))
        best, ties = ranked[0], _names(_ties(facts, ranked))
        name, value = best["variant_name"], numbers.number(best["e2e_mean_ms"], 4)
        claim = (
            f"answers fastest at {rates.load(best['request_rate_rps'])}: {value} ms end to end"
            f"{words.tied(ties)}"
        )
        tpot, _, e2e, output = _against_baseline(facts, best)
        detail = ""
        if tpot is not None:
            detail = (
                f"Against {tpot.b.name}: time per output token {words.effect(tpot.verdict)},"
                f" end to end {_effect(e2e)}, output {_effect(output)}."
            )
        yield compared(
            "fastest", 11, scope, _pick(facts, ranked), f"{name} {claim}", detail, *ranked,
            pick=Pick("For the shortest wait", (name, *ties), claim, of_speed=True),
        )  # fmt: skip


def throughput(facts: Facts) -> Iterator[Finding]:
    """The pick for throughput, at the highest load that two variants share."""
    for scope, (rows, _) in facts.scopes.items():
        offered = [row["request_rate_rps"] for row in rows]
        shared = [rate for rate in offered if offered.count(rate) > 1]
        here = _with(at_load(rows, max(shared)), "output_throughput_tps") if shared else []
        if len(here) < 2:
            continue
        ranked = sorted(here, key=_by("output_throughput_tps", -1))
        best, ties = ranked[0], _names(_ties(facts, ranked, "output_throughput_tps"))
        name, value = best["variant_name"], best["output_throughput_tps"]
        load = rates.load(best["request_rate_rps"])
        claim = (
            f"gives the most output at {load}: {numbers.number(value, 4)} tokens/s"
            f"{words.tied(ties)}"
        )
        *_, test = _against_baseline(facts, best)
        detail = f"Against {test.b.name}: {words.effect(test.verdict)}." if test else ""
        if value >= _NEARLY_ALL * _cap(best):
            asked = numbers.number(_cap(best), 4)
            detail += f" This load asks for {asked} tokens/s, so more could not be seen."
        yield compared(
            "throughput", 12, scope, _pick(facts, ranked, "output_throughput_tps"),
            f"{name} {claim}", detail.strip(), *ranked,
            pick=Pick("For the most output", (name, *ties), claim, of_speed=True),
        )  # fmt: skip


def saving(facts: Facts) -> Iterator[Finding]:
    """What each variant saves in memory and time against its baseline, and costs in quality."""
    for scope, (speed, quality) in facts.scopes.items():
        for variant in dict.fromkeys(row["variant"] for row in speed + quality):
            loads = [row for row in speed if row["variant"] == variant]
            tasks = sorted((row for row in quality if row["variant"] == variant), key=asked_order)
            made = _saving(facts, scope, speed, loads, tasks)
            if made is not None:
                yield made


def kernel(facts: Facts) -> Iterator[Finding]:
    """Where the same weights run at different speeds: the kernel, not the bit-width, decides."""
    for scope, (rows, _) in facts.scopes.items():
        here = _with(at_load(rows, usual_rate(rows)), "tpot_mean_ms") if rows else []
        base = baseline_of(here)
        for pair in combinations(sorted(here, key=lambda row: str(row["variant"])), 2):
            one, other = pair
            same = one["weights"] == other["weights"] and _method(one) == _method(other)
            if same and one["weights"] is not None and _differ(one, other):
                yield _kernel(facts, scope, sorted(pair, key=_by("tpot_mean_ms")), base)


def load_cap(facts: Facts) -> Iterator[Finding]:
    """Where the offered load, not the variant, sets the throughput."""
    for scope, (rows, _) in facts.scopes.items():
        here = at_load(rows, usual_rate(rows)) if rows else []
        here = _with(_with(here, "output_throughput_tps"), "tpot_mean_ms")
        if len(here) < 2 or math.isinf(_cap(here[0])):
            continue
        ranked = sorted(here, key=_by("output_throughput_tps", -1))
        best, other = ranked[0], baseline_of(ranked[1:]) or ranked[-1]
        gained = best["output_throughput_tps"] / other["output_throughput_tps"]
        told = facts.between(best, other, "tpot_mean_ms")
        tpot = best["tpot_mean_ms"] / other["tpot_mean_ms"]
        reached = best["output_throughput_tps"] / _cap(best)
        if reached < _NEARLY_ALL or abs(math.log(tpot)) <= abs(math.log(gained)):
            continue
        # What cannot be told from noise cannot be hidden either.
        if told.outcome == "noise":
            continue
        cap = numbers.number(_cap(best), 4)
        most = abs(math.log(gained)) < abs(math.log(tpot)) / 2
        headline = (
            f"Output at {rates.load(best['request_rate_rps'])} cannot exceed {cap} tokens/s, which"
            f" hides {'most' if most else 'part'} of the difference"
        )
        detail = (
            f"{best['variant_name']} reaches {numbers.share(reached, 0)} % of that. Against"
            f" {other['variant_name']} its output is {numbers.change(gained)} while its time per"
            f" output token is {numbers.change(tpot)}."
        )
        if any(math.isinf(row["request_rate_rps"]) for row in rows):
            detail += " The unthrottled load shows what each can give."
        yield compared("load_cap", 25, scope, certainty_of(told), headline, detail, best, other)


def _saving(
    facts: Facts, scope: Scope, family: Sequence[Row], loads: Sequence[Row], tasks: Sequence[Row]
) -> Finding | None:
    rate = usual_rate(family) if family else math.inf
    load = next((row for row in loads if row["request_rate_rps"] == rate), None)
    tpot, ttft, e2e, output = _against_baseline(facts, load) if load else (None,) * 4
    gaps = facts.gaps(tasks)
    by_task = [(task, list(own)) for task, own in groupby(gaps, key=lambda gap: gap.series)]
    telling = [_telling(own) for _, own in by_task]
    rows = [row for row in (load, *tasks) if row is not None]
    sizes = [facts.test(rows[0], "", size) for size in SIZES] if rows else []
    weights = next((test for test in sizes if test is not None), None)
    first = tpot or weights
    if first is None:
        return None
    told, detail = [], ""
    if weights and weights.verdict.estimate:
        held = "memory for weights" if weights.metric == "weights_gib" else "weights on disk"
        told.append(f"{numbers.change(weights.verdict.estimate)} {held}")
    if tpot:
        told.append(f"{words.effect(tpot.verdict)} time per output token")
        detail = (
            f"At {rates.load(rate)}: TTFT {_effect(ttft)}, end to end {_effect(e2e)}, output"
            f" {_effect(output)}."
        )
    told += [f"{words.gap(each)} on {each.series}" for each in telling]
    for task, own in by_task:
        detail += f" On {task}: {'; '.join(map(words.tested, own))}."
    mind = dict.fromkeys(text for test in (tpot, *gaps) if test for text in test.caveats)
    rests_on = {test.a.anchor for test in telling}
    return Finding(
        "saving", 20, scope, certainty_of(tpot.verdict) if tpot else "fact",
        f"{first.a.name} against {first.b.name}: {', '.join(told)}",
        with_caveats(detail.strip(), mind),
        evidence(*(row for row in rows if row is load or row["anchor"] in rests_on)),
    )  # fmt: skip


def _telling(tests: Sequence[Difference]) -> Difference:
    """The metric of a task that says most: the largest difference shown, or else the first."""
    shown = [test for test in tests if test.verdict.significant]
    return max(shown or tests[:1], key=lambda test: abs(test.verdict.estimate or 0.0))


def _kernel(facts: Facts, scope: Scope, pair: Sequence[Row], base: Row | None) -> Finding:
    fast, slow = pair
    rate = rates.name(fast["request_rate_rps"])
    ratio = facts.between(slow, fast, "tpot_mean_ms")
    against = [facts.test(row, rate, "tpot_mean_ms") for row in (slow, fast)]
    slow_base, fast_base = (test.verdict if test else None for test in against)
    e2e = facts.test(slow, rate, "e2e_mean_ms")
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
    one, other = slow["variant_name"], fast["variant_name"]
    named = base["variant_name"] if base else ""
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
        headline = f"Same weights, other kernel: {one} and {other} cannot be told apart"
    detail = (
        f"{words.factor(ratio)} between the two at {rates.load(fast['request_rate_rps'])}"
        f"{words.ends(ratio)}"
    )
    if e2e:
        detail += f"; end to end {one} takes {words.factor(e2e.verdict)} of {named}"
    detail += f". Kernels: {slow['kernel']} and {fast['kernel']}."
    shown = [row for row in (slow, fast, base) if row is not None]
    return compared("kernel", 21, scope, certainty, headline, detail, *shown)


def _weakest(verdicts: Sequence[stats.Verdict]) -> Certainty:
    sure = {certainty_of(verdict) for verdict in verdicts}
    return "noise" if "noise" in sure else "one run" if "one run" in sure else "shown"


def _pick(facts: Facts, ranked: Sequence[Row], metric: str = "e2e_mean_ms") -> Certainty:
    """How sure it is that the first is the best: it against each other one."""
    return _weakest([facts.between(row, ranked[0], metric) for row in ranked[1:]])


def _ties(facts: Facts, ranked: Sequence[Row], metric: str = "e2e_mean_ms") -> list[Row]:
    """Those that a test cannot tell from the first."""
    return [row for row in ranked[1:] if facts.between(row, ranked[0], metric).outcome == "noise"]


def _against_baseline(facts: Facts, row: Row) -> list[Difference | None]:
    """TPOT, TTFT, end to end and output of a row's variant against its baseline's."""
    series = rates.name(row["request_rate_rps"])
    metrics = ("tpot_mean_ms", "ttft_mean_ms", "e2e_mean_ms", "output_throughput_tps")
    return [facts.test(row, series, metric) for metric in metrics]


def _effect(test: Difference | None) -> str:
    return words.effect(test.verdict if test else None)


def _carried(rows: Sequence[Row]) -> str:
    """The highest rate that each variant keeps within the service level, best first."""
    named = {(row["source"], row["hardware"], row["variant"]): row["variant_name"] for row in rows}
    kept = [(named[key], each.highest) for key, each in carried(rows).items()]
    kept.sort(key=lambda each: (-(each[1] or 0.0), each[0]))
    return ", ".join(
        f"{name} {'none of those tried' if rate is None else rates.short(rate)}"
        for name, rate in kept
    )


def _cap(row: Row) -> float:
    """The output tokens per second that the requests ask for: no variant can exceed it."""
    return float(row["request_rate_rps"]) * int(row["output_tokens"])


def _method(row: Row) -> str | None:
    """The quantization without the kernel that vLLM puts into its name: awq_marlin is awq."""
    method = row["quantization"]
    return None if method is None else str(method).removesuffix("_marlin")


def _differ(one: Row, other: Row) -> bool:
    """Whether the two are known to have run different kernels."""
    return None not in (one["kernel"], other["kernel"]) and one["kernel"] != other["kernel"]


def _with(rows: Sequence[Row], metric: str) -> list[Row]:
    return [row for row in rows if row[metric] is not None]


def _by(metric: str, sign: int = 1) -> Callable[[Row], tuple[float, str]]:
    return lambda row: (sign * row[metric], row["variant"])


def _names(rows: Sequence[Row]) -> list[str]:
    return [row["variant_name"] for row in rows]
