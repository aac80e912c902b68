"""Which tests are judged together: pairs with the baseline as one family, all others as another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import synthetic
from folders import REFERENCE
from statsmodels.stats.multitest import multipletests
from synthetic import BF16

from bench.records import store
from report.differences import families, pair
from report.differences.families import Verdicts
from report.rows.results import Results, load
from report.rows.rows import Metric, QualityRow, Result
from report.stats import compare_counts


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The published tables, of which nothing but counts are known, each variant with a twin.

    Twins score a little less.
    """
    found = load(tmp_path_factory.mktemp("none"), REFERENCE)
    twins = [
        replace(
            row,
            variant=f"{row.variant}-twin",
            records=(f"{row.record}-twin",),
            value=replace(row.value, value=row.value.value - 0.07),
        )
        for row in found.quality
        if not row.is_baseline
    ]
    return replace(found, quality=[*found.quality, *twins])


def counted(a: QualityRow, b: QualityRow) -> float:
    rights = [round(row.value.value * row.n) for row in (a, b)]
    p = compare_counts(rights[0], a.n, rights[1], b.n).p
    assert p is not None
    return p


def holm(values: Iterable[float]) -> list[float]:
    return list(multipletests(np.array(list(values)), method="holm")[1])


def groups(results: Results, same: Callable[[QualityRow], object]) -> list[list[QualityRow]]:
    found: dict[object, list[QualityRow]] = {}
    for row in results.quality:
        found.setdefault(same(row), []).append(row)
    return [sorted(own, key=lambda row: row.variant) for own in found.values()]


def test_scores_against_the_baseline_are_corrected_for_one_another(results: Results) -> None:
    verdicts, seen = Verdicts(results), 0
    for own in groups(results, lambda row: (row.kin, row.task)):
        base = {row.metric: row for row in own if row.is_baseline}
        tested = [row for row in own if not row.is_baseline and row.metric in base]
        for row, p in zip(
            tested, holm(counted(row, base[row.metric]) for row in tested) if tested else (),
            strict=True,
        ):  # fmt: skip
            found = verdicts.quality(row)
            assert found is not None
            assert found.verdict.p_adjusted == pytest.approx(p)
            assert found.verdict.tests == len(tested)
            seen += 1
        assert not any(verdicts.quality(row) for row in own if row.is_baseline)
    assert seen > 2


@pytest.mark.parametrize("turned", [False, True])
def test_scores_of_two_others_are_corrected_for_all_such_pairs(
    turned: bool, results: Results
) -> None:
    """Whoever is asked about first, and in whichever order."""
    verdicts, seen = Verdicts(results), 0
    for own in groups(results, lambda row: (row.kin, row.task)):
        others = [row for row in own if not row.is_baseline]
        pairs = [(a, b) for a, b in combinations(others, 2) if a.metric == b.metric]
        corrected = holm(counted(a, b) for a, b in pairs) if pairs else []
        told = list(zip(pairs, corrected, strict=True))
        for (a, b), p in reversed(told) if turned else told:
            there, back = verdicts.between_scores(a, b), verdicts.between_scores(b, a)
            assert there.verdict.p_adjusted == pytest.approx(p)
            assert back.verdict.p_adjusted == pytest.approx(p)
            assert there.verdict.tests == back.verdict.tests == len(pairs)
            assert there.verdict.estimate == pytest.approx(a.value.value - b.value.value)
            assert back.verdict.estimate == pytest.approx(b.value.value - a.value.value)
            seen += 1
    assert seen > 5


def test_two_measured_scores_have_the_decision_of_the_pair_and_no_slow_parts(
    tmp_path: Path,
) -> None:
    """Three variants: of the pairs with the baseline the decision is told, of the other none."""
    variants = (
        BF16,
        replace(BF16, name="One", baseline=False),
        replace(BF16, name="Two", baseline=False),
    )
    for variant in variants:
        store.write(tmp_path, *synthetic.quality_record(variant))
    verdicts = Verdicts(load(tmp_path, None))
    rows = {row.variant_name: row for row in verdicts.scores if row.metric == "acc"}
    base, one, two = rows[BF16.name], rows["One"], rows["Two"]
    whole, told = verdicts.quality(one), verdicts.between_scores(one, base)
    assert whole is not None
    assert told.decision == whole.decision is not None
    assert (told.verdict, told.kept) == (whole.verdict, whole.kept)
    assert whole.changed_answers and whole.shift and whole.right_probability
    assert (told.changed_answers, told.shift, told.right_probability) == (None, None, None)
    assert verdicts.between_scores(one, two).decision is None
    assert verdicts.between_scores(base, one).decision is None
    decided = verdicts.decision(one.who)
    assert decided is not None
    assert decided.decision == whole.decision
    assert (decided.least, decided.in_points) == (0.99, False)
    assert verdicts.decision(base.who) is None


def test_two_of_different_families_are_tested_alone(results: Results) -> None:
    families_of = groups(results, lambda row: (row.task, row.metric))
    pairs = [(a, b) for own in families_of for a, b in combinations(own, 2) if a.kin != b.kin]
    assert pairs
    for a, b in pairs:
        verdict = Verdicts(results).between_scores(a, b).verdict
        assert verdict.p == pytest.approx(counted(a, b))
        assert verdict.p_adjusted is None


def test_a_speed_is_told_where_both_know_it(results: Results) -> None:
    a, b = results.speed[:2]
    found = families.speeds(results, a, b, Metric)
    assert [each.metric for each in found] == [
        metric for metric in Metric if metric in a.metrics and metric in b.metrics
    ]
    assert 0 < len(found) < len(Metric)


def test_of_a_variants_rows_one_that_knows_its_size_stands_for_it(results: Results) -> None:
    rows: list[Result] = [*results.quality, *results.speed]
    chosen = families.sized(rows)
    assert [row.who for row in chosen] == list(dict.fromkeys(row.who for row in rows))
    for row in chosen:
        known = [each for each in rows if each.who == row.who and each.served.weights_gib]
        assert row == (known[0] if known else next(r for r in rows if r.who == row.who))
    one = rows[0]
    silent = replace(one, served=replace(one.served, weights_gib=None))
    telling = [replace(one, served=replace(one.served, weights_gib=size)) for size in (3.0, 4.0)]
    for order, first in (
        ([silent, *telling], telling[0]), ([*telling, silent], telling[0]),
        ([telling[1], silent, telling[0]], telling[1]), ([silent, silent], silent),
    ):  # fmt: skip
        assert families.sized(order) == [first]


def test_weights_are_told_against_the_baselines(results: Results) -> None:
    verdicts = Verdicts(results)
    rows = families.sized([*results.quality, *results.speed])
    base = {row.kin: row for row in rows if row.is_baseline}
    told = 0
    for row in rows:
        found = verdicts.memory(row)
        if row.is_baseline or not (own := pair.memory(row, base[row.kin])):
            assert found is None
        else:
            assert found is not None
            assert found.verdict.estimate == own[0].verdict.estimate
            told += 1
    assert told


def test_verdicts_of_one_family_are_those_of_all(results: Results) -> None:
    everything = Verdicts(results)
    for kin in {row.kin for row in results.quality}:
        own = Verdicts(results, {kin})
        assert {row.kin for row in own.scores} == {kin}
        assert own.differences == [each for each in everything.differences if each.a.kin == kin]
