"""Take-aways about speed: who is fastest, what a precision saves, what kernels and loads hide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, groupby

from report import rates, stats
from report.differences.pair import SIZES, Difference
from report.findings.finding import (
    Certainty,
    Facts,
    Finding,
    Scope,
    asked_order,
    at_load,
    baseline_of,
    certainty_of,
    compared,
    evidence,
    usual_rate,
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
        params = {
            "best": _names(yes),
            "fastest": yes[0]["variant_name"] if len(yes) > 1 and not _ties(facts, yes) else "",
            "outside": _names(named["no"]),
            "unsure": _names(named["unsure"]),
            "carried": _carried(judged),
            "load": rates.load(here[0]["request_rate_rps"]),
            "ttft": here[0]["limit_ttft_p90_ms"],
            "tpot": here[0]["limit_tpot_p90_ms"],
        }
        certainty: Certainty = "one run" if any(r["repeats"] < 2 for r in here) else "interval"
        if not yes and certainty == "interval" and named["unsure"]:
            certainty = "noise"
        yield compared("service_level", 10, scope, certainty, params, *here)


def fastest(facts: Facts) -> Iterator[Finding]:
    """The pick for latency: the shortest time from request to last token, at the usual load."""
    for scope, (rows, _) in facts.scopes.items():
        here = _with(at_load(rows, usual_rate(rows)), "e2e_mean_ms") if rows else []
        if len(here) < 2:
            continue
        ranked = sorted(here, key=_by("e2e_mean_ms"))
        best, base = ranked[0], baseline_of(here)
        tests = {
            name: facts.test(best, rates.name(best["request_rate_rps"]), metric)
            for name, metric in _TESTED.items()
        }
        params = {
            "best": best["variant_name"],
            "value": best["e2e_mean_ms"],
            "ties": _names(_ties(facts, ranked)),
            "baseline": base["variant_name"] if base else "",
            "load": rates.load(best["request_rate_rps"]),
            **{name: test.verdict if test else None for name, test in tests.items()},
        }
        yield compared("fastest", 11, scope, _pick(facts, ranked), params, *ranked)


def throughput(facts: Facts) -> Iterator[Finding]:
    """The pick for throughput, at the highest load that two variants share."""
    for scope, (rows, _) in facts.scopes.items():
        offered = [row["request_rate_rps"] for row in rows]
        shared = [rate for rate in offered if offered.count(rate) > 1]
        here = _with(at_load(rows, max(shared)), "output_throughput_tps") if shared else []
        if len(here) < 2:
            continue
        ranked = sorted(here, key=_by("output_throughput_tps", -1))
        best, base = ranked[0], baseline_of(here)
        test = facts.test(best, rates.name(best["request_rate_rps"]), "output_throughput_tps")
        cap = _cap(best)
        params = {
            "best": best["variant_name"],
            "value": best["output_throughput_tps"],
            "ties": _names(_ties(facts, ranked, "output_throughput_tps")),
            "baseline": base["variant_name"] if base else "",
            "change": test.verdict if test else None,
            "cap": cap if best["output_throughput_tps"] >= _NEARLY_ALL * cap else None,
            "load": rates.load(best["request_rate_rps"]),
        }
        sure = _pick(facts, ranked, "output_throughput_tps")
        yield compared("throughput", 12, scope, sure, params, *ranked)


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
        params = {
            "best": best["variant_name"],
            "other": other["variant_name"],
            "most": abs(math.log(gained)) < abs(math.log(tpot)) / 2,
            "cap": _cap(best),
            "reached": reached,
            "throughput": gained,
            "tpot": tpot,
            "load": rates.load(best["request_rate_rps"]),
            "unthrottled": any(math.isinf(row["request_rate_rps"]) for row in rows),
        }
        yield compared("load_cap", 25, scope, certainty_of(told), params, best, other)


_TESTED = {
    "tpot": "tpot_mean_ms",
    "ttft": "ttft_mean_ms",
    "e2e": "e2e_mean_ms",
    "throughput": "output_throughput_tps",
}


def _saving(
    facts: Facts, scope: Scope, family: Sequence[Row], loads: Sequence[Row], tasks: Sequence[Row]
) -> Finding | None:
    rate = usual_rate(family) if family else math.inf
    load = next((row for row in loads if row["request_rate_rps"] == rate), None)
    speed = {
        name: facts.test(load, rates.name(rate), metric) if load else None
        for name, metric in _TESTED.items()
    }
    gaps = facts.gaps(tasks)
    by_task = [(task, list(own)) for task, own in groupby(gaps, key=lambda gap: gap.series)]
    telling = [_telling(own) for _, own in by_task]
    tpot = speed["tpot"]
    rows = [row for row in (load, *tasks) if row is not None]
    sizes = [facts.test(rows[0], "", size) for size in SIZES] if rows else []
    weights = next((test for test in sizes if test is not None), None)
    first = tpot or weights
    if first is None:
        return None
    params = {
        "name": first.a.name,
        "baseline": first.b.name,
        "load": rates.load(load["request_rate_rps"]) if load else "",
        "by_task": by_task,
        "telling": telling,
        "weights": weights.verdict.estimate if weights else None,
        "size": weights.metric if weights else "",
        **{name: test.verdict if test else None for name, test in speed.items()},
    }
    mind = dict.fromkeys(text for test in (tpot, *gaps) if test for text in test.caveats)
    certainty: Certainty = certainty_of(tpot.verdict) if tpot else "fact"
    rests_on = {test.a.anchor for test in telling}
    shown = evidence(*(row for row in rows if row is load or row["anchor"] in rests_on))
    return Finding("saving", 20, scope, certainty, params, shown, tuple(mind))


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
    params = {
        "slow": slow["variant_name"],
        "fast": fast["variant_name"],
        "slow_kernel": slow["kernel"],
        "fast_kernel": fast["kernel"],
        "baseline": base["variant_name"] if base else "",
        "ratio": ratio,
        "slow_base": slow_base,
        "fast_base": fast_base,
        "e2e": e2e.verdict if e2e else None,
        "decides": decides,
        "told": certainty != "noise",
        "load": rates.load(fast["request_rate_rps"]),
    }
    shown = [row for row in (slow, fast, base) if row is not None]
    return compared("kernel", 21, scope, certainty, params, *shown)


def _weakest(verdicts: Sequence[stats.Verdict]) -> Certainty:
    sure = {certainty_of(verdict) for verdict in verdicts}
    return "noise" if "noise" in sure else "one run" if "one run" in sure else "shown"


def _pick(facts: Facts, ranked: Sequence[Row], metric: str = "e2e_mean_ms") -> Certainty:
    """How sure it is that the first is the best: it against each other one."""
    return _weakest([facts.between(row, ranked[0], metric) for row in ranked[1:]])


def _ties(facts: Facts, ranked: Sequence[Row], metric: str = "e2e_mean_ms") -> list[Row]:
    """Those that a test cannot tell from the first."""
    return [row for row in ranked[1:] if facts.between(row, ranked[0], metric).outcome == "noise"]


def _carried(rows: Sequence[Row]) -> list[tuple[str, float | None]]:
    """The highest rate that each variant keeps within the service level, best first."""
    names = {(row["source"], row["hardware"], row["variant"]): row["variant_name"] for row in rows}
    kept = [(names[key], each.highest) for key, each in carried(rows).items()]
    return sorted(kept, key=lambda each: (-(each[1] or 0.0), each[0]))


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
