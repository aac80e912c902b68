"""Verdicts on sessions: against scipy's tests, the moments they rest on, what must not matter."""

import math
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from report.stats import sessions, simultaneous
from report.stats.sessions import Comparison, Sessions, Spread
from report.stats.verdict import Interval

TIMES = st.floats(0.1, 1e4)
AIM = simultaneous.AIMED_AT
FAMILY = ("base", "fp8", "int8", "int4")


def measured(sizes: Sequence[int] = (3, 3, 3, 3)) -> st.SearchStrategy[dict[str, Sessions]]:
    """Three metrics of a family."""
    of_variant = [st.lists(TIMES, min_size=n, max_size=n) for n in sizes]
    one = st.tuples(*of_variant).map(lambda lists: dict(zip(FAMILY, lists, strict=True)))
    return st.fixed_dictionaries({"ttft": one, "tpot": one, "throughput": one})


def compare(metrics: Mapping[str, Sessions], baseline: str | None = "base") -> list[Comparison]:
    family = list(next(iter(metrics.values())))
    pools = {metric: sessions.pool(values) for metric, values in metrics.items()}
    return list(sessions.compare_family(pools, sessions.find_spread(metrics), family, baseline))


def evenly(*centres: float, apart: float = 0.02, count: int = 3) -> dict[str, list[float]]:
    """Variants whose sessions lie exactly as far apart as one another's."""
    steps = np.linspace(-apart, apart, count)
    return {
        name: [float(c * math.exp(step)) for step in steps]
        for name, c in zip(FAMILY, centres, strict=False)
    }


def ends_of(comparison: Comparison) -> Interval:
    assert comparison.interval is not None
    return comparison.interval


def test_equal_spreads_are_scipys_tukey() -> None:
    values = evenly(10.0, 10.5, 9.0, 10.1)
    found = compare({"tpot": values}, baseline=None)
    expected = scipy_stats.tukey_hsd(*(np.log(each) for each in values.values()))
    ends = expected.confidence_interval(1 - AIM)
    low, high = np.asarray(ends.low), np.asarray(ends.high)
    assert len(found) == 6
    for each in found:
        i, j = FAMILY.index(each.variant), FAMILY.index(each.baseline)
        interval = ends_of(each)
        assert math.log(interval.low) == pytest.approx(low[i, j], rel=1e-4)
        assert math.log(interval.high) == pytest.approx(high[i, j], rel=1e-4)
        p = min(1, expected.pvalue[i, j] * 0.05 / AIM)
        assert each.p == pytest.approx(p, rel=1e-3, abs=1e-6)


def test_two_variants_are_the_pooled_t_test() -> None:
    values = evenly(10.0, 10.5)
    (found,) = compare({"tpot": values})
    expected = scipy_stats.ttest_ind(np.log(values["fp8"]), np.log(values["base"]))
    assert found.p == pytest.approx(expected.pvalue * 0.05 / AIM, rel=1e-4)
    ends = expected.confidence_interval(1 - AIM)
    interval = ends_of(found)
    assert (math.log(interval.low), math.log(interval.high)) == pytest.approx(tuple(ends), rel=1e-4)


def test_a_family_of_three_is_scipys_dunnett_but_for_the_other_pair() -> None:
    values = evenly(10.0, 10.5, 9.0)
    pair = compare({"tpot": values})[0]
    logs = {name: np.log(each) for name, each in values.items()}
    expected = scipy_stats.dunnett(
        logs["fp8"], logs["int8"], control=logs["base"], rng=np.random.default_rng(0)
    ).confidence_interval(1 - AIM)
    half = math.log(ends_of(pair).high / ends_of(pair).low) / 2
    dunnetts = float(np.ravel(expected.high)[0] - np.ravel(expected.low)[0]) / 2
    assert 1 < half / dunnetts < 1.02


def test_metrics_are_corrected_for_one_another() -> None:
    base = [1.0, -1.0, 0.0]
    other = [1.0, 1.0, -2.0]  # orthogonal to it: the metrics have nothing in common
    same = [0.0, 0.0, 0.0]

    def variants(steps: Sequence[float]) -> dict[str, list[float]]:
        return {name: [math.exp(0.02 * step) for step in steps] for name in FAMILY[:2]}

    spread = sessions.find_spread({"ttft": variants(base), "tpot": variants(other)})
    assert spread.likeness == 0.0
    two = compare({"ttft": variants(base), "tpot": variants(other)})
    width = scipy_stats.t.ppf(1 - AIM / 2 / 2, 4)  # two variants of three sessions
    pooled = sessions.pool(variants(base)).variance
    assert math.log(ends_of(two[0]).high) == pytest.approx(width * math.sqrt(pooled * 2 / 3))
    alike = compare({"ttft": variants(base), "tpot": variants(base)})
    alone = compare({"ttft": variants(base)})
    assert ends_of(alike[0]).high == pytest.approx(ends_of(alone[0]).high)
    unmeasured = compare({"ttft": variants(base), "tpot": variants(same)})
    assert ends_of(unmeasured[0]).high == pytest.approx(ends_of(alone[0]).high)


def test_likeness_is_the_squared_correlation_about_each_variants_mean() -> None:
    random = np.random.default_rng(1)
    shared = random.normal(size=(4, 40)) * 0.02
    own = random.normal(size=(2, 4, 40)) * 0.02
    one, other = np.exp(shared + own[0]), np.exp(-(shared + own[1]))
    metrics = {
        metric: dict(zip(FAMILY, np.asarray(each).tolist(), strict=True))
        for metric, each in {"ttft": one, "throughput": other}.items()
    }
    centred = [np.log(each) - np.log(each).mean(axis=1, keepdims=True) for each in (one, other)]
    r = np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1]
    degrees = 4 * 39
    expected = (r**2 - 1 / degrees) / (1 - 1 / degrees)
    assert sessions.find_spread(metrics).likeness == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (2, 3, 5, 8)])
def test_chance_varies_a_relative_spread_as_a_beta_variable(sizes: tuple[int, ...]) -> None:
    """Vᵢ = 2 (ν − dᵢ)/((ν + 2) Dᵢ), the variance of s²ᵢ/s² where all spreads are equal."""
    own = np.array(sizes) - 1
    total = own.sum()
    for d in own:
        share = scipy_stats.beta(d / 2, (total - d) / 2)  # of the sum of squares
        expected = float(share.var()) * (total / d) ** 2
        assert 2 * (total - d) / ((total + 2) * d) == pytest.approx(expected)


def test_a_spread_is_moderated_as_by_smyth() -> None:
    """s̃² = (d₀ s₀² + D s²)/(d₀ + D), Smyth (2004), with the pooled variance as s₀²."""
    values = {
        name: [math.exp(scale * step) for step in (-0.01, 0.0, 0.01)]
        for name, scale in zip(FAMILY, (6.0, 1.0, 1.0, 1.0), strict=True)
    }
    spread = sessions.find_spread({"tpot": values})
    pooled = sessions.pool(values).variance
    for name, scale in zip(FAMILY, (6.0, 1.0, 1.0, 1.0), strict=True):
        weight, degrees = spread.weight[name], spread.degrees[name]
        assert degrees == pytest.approx(2.0)
        prior = degrees * (1 - weight) / weight
        variance = (0.01 * scale) ** 2
        moderated = (prior * pooled + degrees * variance) / (prior + degrees)
        assert spread.relative[name] * pooled == pytest.approx(moderated)
    # By hand: r = 36/39·4 and 1/39·4; Σ d (r − 1)² = 2 (2.6923² + 3 · 0.8974²) = 19.329; by chance
    # 2 (8 − 2)/(8 + 2) · 4 = 4.8; f = 0.6 of 4.8/19.329 is taken off.
    assert spread.weight["base"] == pytest.approx(1 - 0.6 * 4.8 / 19.329, abs=1e-4)


def test_two_sessions_favour_a_variants_own_spread_more() -> None:
    values = {
        name: [math.exp(-scale * 0.01), math.exp(scale * 0.01)]
        for name, scale in zip(FAMILY, (6.0, 1.0, 1.0, 1.0), strict=True)
    }
    spread = sessions.find_spread({"tpot": values})
    # By hand: r = 36/39·4 and 1/39·4; Σ d (r − 1)² = 2.6923² + 3 · 0.8974² = 9.664; by chance
    # 2 (4 − 1)/(4 + 2) · 4 = 4; half of 4/9.664 is taken off.
    assert spread.weight["base"] == pytest.approx(1 - 0.5 * 4 / 9.6645, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(measured(), st.floats(0.1, 10))
def test_sessions_so_many_times_as_far_apart_have_intervals_as_many_times_as_wide(
    metrics: dict[str, Sessions], times: float
) -> None:
    def stretch(numbers: Sequence[float | None]) -> list[float]:
        logs = np.log(np.array(numbers, dtype=float))
        stretched: list[float] = np.exp(logs.mean() + times * (logs - logs.mean())).tolist()
        return stretched

    stretched = {
        metric: {variant: stretch(each) for variant, each in values.items()}
        for metric, values in metrics.items()
    }
    for one, other in zip(compare(metrics), compare(stretched), strict=True):
        assert other.ratio == pytest.approx(one.ratio, rel=1e-6)
        if one.interval is None or other.interval is None or one.interval.high > 1e100:
            continue
        width, wider = (math.log(each.high / each.low) for each in (one.interval, other.interval))
        if wider < 600:  # beyond, the ends stay within the range of numbers
            assert wider == pytest.approx(times * width, rel=1e-3, abs=1e-6)


def test_equal_spreads_are_not_moderated() -> None:
    spread = sessions.find_spread({"ttft": evenly(1, 2, 3, 4), "tpot": evenly(5, 6, 7, 8)})
    assert set(spread.relative.values()) == {1.0}
    assert set(spread.weight.values()) == {0.0}


def test_a_noisy_variant_gets_wide_intervals_and_steady_ones_narrow_ones() -> None:
    random = np.random.default_rng(2)
    scale = np.array([0.01, 0.01, 0.01, 0.08])
    metrics = {
        metric: {
            name: np.exp(random.normal(0, s, 5)).tolist()
            for name, s in zip(FAMILY, scale, strict=True)
        }
        for metric in ("ttft", "tpot", "throughput")
    }
    spread = sessions.find_spread(metrics)
    assert spread.relative["int4"] > 2.5
    assert spread.relative["base"] < 0.4
    found = {(c.variant, c.baseline): c for c in compare(metrics) if c.metric == "tpot"}
    wide, narrow = (ends_of(found[name, "base"]) for name in ("int4", "fp8"))
    assert math.log(wide.high / wide.low) > 2 * math.log(narrow.high / narrow.low)


@settings(max_examples=50, deadline=None)
@given(measured(), st.sampled_from(FAMILY))
def test_the_verdict_is_what_the_interval_and_its_p_say(
    metrics: dict[str, Sessions], baseline: str
) -> None:
    for each in compare(metrics, baseline):
        if each.interval is None:
            assert (each.outcome, each.p) == ("unknown", None)
            continue
        assert each.p is not None
        assert (each.p < 0.05) == (1 not in each.interval) == (each.outcome in ("higher", "lower"))
        assert each.interval.low <= each.ratio <= each.interval.high
        told = each.speed(higher_is_faster=True), each.speed(higher_is_faster=False)
        assert told in {
            ("faster", "slower"), ("slower", "faster"),
            ("no difference found", "no difference found"),
        }  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(measured((3, 2, 4, 3)), st.permutations(range(4)), st.floats(0.01, 100))
def test_order_and_units_do_not_matter(
    metrics: dict[str, Sessions], order: list[int], unit: float
) -> None:
    def turn(values: Sessions) -> Sessions:
        return {
            FAMILY[n]: [unit * x for x in reversed(values[FAMILY[n]]) if x is not None]
            for n in order
        }

    there = {(c.metric, c.variant, c.baseline): c for c in compare(metrics)}
    for found in compare({metric: turn(metrics[metric]) for metric in reversed(list(metrics))}):
        same = (found.metric, found.variant, found.baseline) in there
        back = found if same else found.invert()
        each = there[back.metric, back.variant, back.baseline]
        assert each.ratio == pytest.approx(back.ratio, rel=1e-6)
        assert (each.interval is None) == (back.interval is None)
        if each.interval is not None and back.interval is not None:
            assert each.interval.low == pytest.approx(back.interval.low, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(measured())
def test_swapping_the_two_inverts(metrics: dict[str, Sessions]) -> None:
    for each in compare(metrics):
        back = each.invert()
        assert (back.variant, back.baseline) == (each.baseline, each.variant)
        assert back.ratio == pytest.approx(1 / each.ratio)
        mirrored = {"higher": "lower", "lower": "higher"}
        assert back.outcome == mirrored.get(each.outcome, each.outcome)
        assert back.p == each.p
        assert back.invert().ratio == pytest.approx(each.ratio)


def test_two_variants_swapped_give_the_same_interval() -> None:
    values = {"base": [10.0, 10.4, 9.9], "fp8": [8.0, 8.1, 8.9]}
    (there,), (back,) = compare({"tpot": values}, "base"), compare({"tpot": values}, "fp8")
    assert there.invert().ratio == pytest.approx(back.ratio)
    assert ends_of(there.invert()).low == pytest.approx(ends_of(back).low)


def test_pairs_come_baseline_first_then_in_the_order_of_the_family() -> None:
    found = compare({"tpot": evenly(1, 2, 3, 4)}, "int8")
    pairs = [(each.variant, each.baseline) for each in found]
    assert pairs == [
        ("base", "int8"), ("fp8", "int8"), ("int4", "int8"),
        ("base", "fp8"), ("base", "int4"), ("fp8", "int4"),
    ]  # fmt: skip


def test_one_session_is_described_and_never_judged() -> None:
    values: Sessions = {"base": [10.0, 10.2, 9.9], "fp8": [5.0], "int8": [9.0, 9.1]}
    found = {(c.variant, c.baseline): c for c in compare({"tpot": values})}
    assert found["fp8", "base"].ratio == pytest.approx(5 / (10 * 10.2 * 9.9) ** (1 / 3))
    assert found["fp8", "base"].outcome == found["fp8", "int8"].outcome == "unknown"
    assert found["fp8", "base"].sessions == (1, 3)
    assert found["int8", "base"].outcome == "lower"
    single = sessions.describe(sessions.pool(values), sessions.find_spread({"t": values}))["fp8"]
    assert (single.value, single.interval, single.n) == (5.0, None, 1)
    assert all(c.outcome == "unknown" for c in compare({"tpot": {"base": [1.0], "fp8": [2.0]}}))


def test_a_baseline_of_one_session_leaves_the_other_pairs_to_be_judged() -> None:
    values: Sessions = {**evenly(1, 1.5, 2), "base": [1.0]}
    found = {(c.variant, c.baseline): c for c in compare({"tpot": values})}
    assert found["fp8", "base"].interval is None
    others = {name: each for name, each in values.items() if name != "base"}
    (alone,) = compare({"tpot": others}, baseline=None)
    assert ends_of(found["fp8", "int8"]) == ends_of(alone)


def test_sessions_exactly_alike_are_no_certainty() -> None:
    values = {"base": [10.0] * 3, "fp8": [5.0] * 3}
    (found,) = compare({"throughput": values})
    assert (found.ratio, found.interval, found.p) == (0.5, None, None)
    pool, spread = sessions.pool(values), sessions.find_spread({"throughput": values})
    assert pool.variance == 0
    described = sessions.describe(pool, spread)["fp8"]
    assert described.interval is None
    one_of_two = compare({"throughput": values, "tpot": evenly(1, 2)})
    assert [each.outcome for each in one_of_two] == ["unknown", "higher"]


def test_a_variant_exactly_alike_borrows_the_others_spread() -> None:
    metrics = {"tpot": {"base": [10.0, 10.1, 9.9], "fp8": [10.0] * 3, "int8": [9.0, 9.2, 9.3]}}
    found = {(c.variant, c.baseline): c for c in compare(metrics)}
    assert ends_of(found["fp8", "base"]).high > 1.01


def test_other_families_of_the_machine_lend_their_spread() -> None:
    random = np.random.default_rng(3)

    def runs(count: int) -> dict[str, list[float]]:
        return {f"other {n}": np.exp(random.normal(5, 0.01, 3)).tolist() for n in range(count)}

    family = evenly(10.0, 10.5, apart=0.01)
    pools = {"tpot": sessions.pool({**family, **runs(10)})}
    alone = compare({"tpot": family})[0]
    spread = sessions.find_spread({"tpot": {**family, **runs(10)}})
    (among,) = sessions.compare_family(pools, spread, ["base", "fp8"], "base")
    assert math.log(ends_of(among).high / ends_of(among).low) < math.log(
        ends_of(alone).high / ends_of(alone).low
    )
    assert pools["tpot"].degrees == 24


def test_missing_numbers_are_left_out() -> None:
    ttft: Sessions = {"base": [1.0, None, 1.1, 1.2], "fp8": [2.0, 2.1, 2.2, None]}
    tpot: Sessions = {"base": [5.0, 5.1, 5.2, None], "fp8": [None, 7.0, None, None]}
    pool = sessions.pool(ttft)
    assert dict(pool.counts) == {"base": 3, "fp8": 3}
    assert pool.means["base"] == pytest.approx(scipy_stats.gmean([1.0, 1.1, 1.2]))
    found = compare({"ttft": ttft, "tpot": tpot})
    assert [each.outcome for each in found] == ["higher", "unknown"]
    assert sessions.pool({"base": [None, None]}).means == {}
    assert compare({"ttft": {"base": [None], "fp8": [1.0, 2.0]}}) == []


def test_what_is_not_measured_is_not_described() -> None:
    pool, spread = sessions.pool(evenly(1, 2)), sessions.find_spread({"tpot": evenly(1, 2)})
    assert "int4" not in sessions.describe(pool, spread)
    assert sessions.compare_alone("itl", pool, spread, "int4", "base") is None


def test_a_described_ratio_has_an_ordinary_interval() -> None:
    values = evenly(10.0, 10.5, 12.0)
    spread = sessions.find_spread({"tpot": values})
    found = sessions.compare_alone("p99", sessions.pool(values), spread, "fp8", "base")
    assert found is not None and found.p is None
    error = math.sqrt(sessions.pool(values).variance * 2 / 3)
    reach = scipy_stats.t.ppf(0.975, 6) * error
    assert math.log(ends_of(found).high / found.ratio) == pytest.approx(reach)
    judged = compare({"tpot": values})[0]
    assert ends_of(found).high < ends_of(judged).high
    alone: Sessions = {"base": [1.0, 1.1], "fp8": [1.0]}
    single = sessions.compare_alone("p99", sessions.pool(alone), spread, "fp8", "base")
    assert single is not None and single.interval is None


def test_a_value_is_the_geometric_mean_with_the_pooled_spread() -> None:
    values = evenly(10.0, 10.5, 12.0)
    pool, spread = sessions.pool(values), sessions.find_spread({"tpot": values})
    found = sessions.describe(pool, spread)["fp8"]
    assert found.interval is not None
    assert found.value == pytest.approx(scipy_stats.gmean(values["fp8"]))
    reach = scipy_stats.t.ppf(0.975, 6) * math.sqrt(pool.variance / 3)
    assert math.log(found.interval.high / found.value) == pytest.approx(reach)
    assert found.n == 3


@pytest.mark.parametrize("noisy", [1.0, 4.0])
def test_values_are_covered(noisy: float) -> None:
    random = np.random.default_rng(4)
    scale = 0.05 * np.array([noisy, 1, 1, 1])
    covered = total = 0
    for _ in range(500):
        logs = random.normal(size=(3, 4, 3)) * scale[:, None]
        metrics = {
            metric: dict(zip(FAMILY, np.exp(each).tolist(), strict=True))
            for metric, each in zip(("ttft", "tpot", "throughput"), logs, strict=True)
        }
        spread = sessions.find_spread(metrics)
        for values in metrics.values():
            described = sessions.describe(sessions.pool(values), spread)["base"]
            assert described.interval is not None
            covered += 1.0 in described.interval
            total += 1
    assert 0.92 < covered / total < 0.985


def test_odd_numbers_are_refused() -> None:
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive numbers"):
            sessions.pool({"base": [1.0, wrong]})
    with pytest.raises(ValueError, match="the same sessions"):
        sessions.find_spread({"ttft": {"base": [1.0, 1.1, 1.2]}, "tpot": {"base": [1.0, 1.3]}})


def test_nothing_at_all() -> None:
    empty = sessions.find_spread({})
    assert empty == Spread({}, {}, {}, 0.0)
    assert sessions.compare_family({}, empty, FAMILY, "base") == ()
    assert compare({"tpot": {}}) == []


def test_a_huge_spread_has_a_wide_but_finite_interval() -> None:
    values = {"base": [1e-150, 1e150], "fp8": [1e-140, 1e145]}
    (found,) = compare({"tpot": values})
    assert 0 <= ends_of(found).low < 1 < ends_of(found).high
    assert found.outcome == "no difference found"


def test_all_orders_of_a_familys_sessions_agree() -> None:
    values = {"base": [10.0, 10.4, 9.9], "fp8": [8.0, 8.1, 8.9]}
    found = {
        compare({"tpot": {"base": list(base), "fp8": values["fp8"]}})[0].interval
        for base in permutations(values["base"])
    }
    assert len({round(ends.low, 12) for ends in found if ends}) == 1


def test_the_widths_are_those_of_the_family() -> None:
    """The product's intervals are critical value times standard error, nothing else."""
    values = evenly(10.0, 10.5, 9.0, 10.1)
    found = compare({"tpot": values})
    within = simultaneous.within_family([math.sqrt(0.5)] * 3)
    (width,) = simultaneous.critical_values(within, (8.0,), AIM)
    error = math.sqrt(sessions.pool(values).variance * 2 / 3)
    for each in found:
        factor = 1.0 if each.baseline == "base" else simultaneous.OTHER_PAIRS
        reach = math.log(ends_of(each).high / each.ratio)
        assert reach == pytest.approx(factor * width * error, rel=1e-6)
