"""Planned sessions against statsmodels' and scipy's power."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestIndPower

from report.stats import planning, simultaneous
from report.stats.planning import Design

FOUR = Design(spread=0.05, variants=4, pooled=4)


@pytest.mark.parametrize("sessions", [2, 3, 5, 12])
def test_two_variants_and_one_metric_are_the_t_tests_power(sessions: int) -> None:
    design = Design(0.05, variants=2, pooled=2, metrics=1)
    expected = TTestIndPower().power(math.log(1.1) / 0.05, sessions, alpha=simultaneous.AIMED_AT)
    assert planning.power(design, 1.1, sessions) == pytest.approx(expected, abs=1e-6)
    assert planning.power(design, 1 / 1.1, sessions) == pytest.approx(expected, abs=1e-6)


def test_power_of_a_family_is_the_non_central_t_beyond_its_width() -> None:
    within = simultaneous.within_family([math.sqrt(0.5)] * 3)
    (width,) = simultaneous.critical_values(within, (8.0,), simultaneous.AIMED_AT / 3)
    distance = math.log(1.2) / (0.05 * math.sqrt(2 / 3))
    expected = scipy_stats.nct.sf(width, 8, distance)
    assert planning.power(FOUR, 1.2, 3) == pytest.approx(expected, abs=1e-6)
    assert round(planning.power(FOUR, 1.2, 3), 2) == 0.74


@settings(max_examples=30, deadline=None)
@given(st.floats(0.005, 0.2), st.integers(2, 8), st.integers(2, 12))
def test_the_smallest_ratio_is_shown_four_times_out_of_five(
    spread: float, variants: int, sessions: int
) -> None:
    design = Design(spread, variants, pooled=variants + 2)
    smallest = planning.smallest_ratio(design, sessions)
    assert planning.power(design, smallest, sessions) == pytest.approx(0.8, abs=1e-4)
    assert planning.sessions_needed(design, smallest * 1.0001) == sessions


def test_sessions_needed_are_the_fewest() -> None:
    needed = planning.sessions_needed(FOUR, 1.05)
    assert needed is not None
    assert planning.power(FOUR, 1.05, needed) >= 0.8 > planning.power(FOUR, 1.05, needed - 1)
    assert planning.sessions_needed(Design(0.01, 4, 4), 1.05) == 3
    assert planning.sessions_needed(Design(0.5, 4, 4), 1.05) is None


@settings(max_examples=30, deadline=None)
@given(st.floats(0.005, 0.1), st.floats(1.02, 2.0), st.integers(2, 6), st.integers(2, 10))
def test_more_sessions_a_larger_difference_or_a_smaller_spread_show_more(
    spread: float, ratio: float, variants: int, sessions: int
) -> None:
    design = Design(spread, variants, pooled=variants)
    shown = planning.power(design, ratio, sessions)
    assert planning.power(design, ratio, sessions + 1) >= shown - 1e-9
    assert planning.power(design, ratio * 1.05, sessions) >= shown - 1e-9
    assert planning.power(Design(spread * 0.9, variants, variants), ratio, sessions) >= shown - 1e-9
    assert planning.power(design, 1 / ratio, sessions) == pytest.approx(shown)


def test_a_larger_machine_needs_fewer_sessions() -> None:
    alone, among_others = (
        planning.power(FOUR, 1.2, 3),
        planning.power(Design(0.05, 4, pooled=12), 1.2, 3),
    )
    assert among_others > alone


def test_what_compares_nothing_is_refused() -> None:
    for wrong in ((0.0, 4, 4), (0.05, 1, 4), (0.05, 4, 3)):
        with pytest.raises(ValueError, match="compares nothing"):
            Design(*wrong)
    with pytest.raises(ValueError, match="one session"):
        planning.power(FOUR, 1.1, 1)
    with pytest.raises(ValueError, match="no number of sessions"):
        planning.sessions_needed(FOUR, 1.0)
