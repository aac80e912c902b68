"""A load's pace in words, and what sorts as it does."""

from __future__ import annotations

import math

from bench.records.pace import Pace
from report import rates


def test_every_form_of_a_rate_a_closed_loop_and_of_no_limit() -> None:
    forms = (rates.name, rates.short, rates.full, rates.load, rates.short_load, rates.note)
    assert [form(Pace(2.5)) for form in forms] == [
        "2.5", "2.5/s", "2.5 requests/s", "2.5 requests/s", "2.5/s", "at 2.5/s",
    ]  # fmt: skip
    assert [form(Pace(concurrency=8)) for form in forms] == [
        "c8", "8 at a time", "8 at a time", "8 requests at a time", "8 at a time", "8 at a time",
    ]  # fmt: skip
    assert [form(Pace()) for form in forms] == [
        "inf", "unthrottled", "unthrottled", "unthrottled load", "unthrottled load", "unthrottled",
    ]  # fmt: skip
    assert rates.name(Pace(10.0)) == "10"
    assert rates.load(Pace(concurrency=1)) == "1 request at a time"


def test_no_limit_is_the_hardest_and_any_rate_gentler_than_a_loop() -> None:
    offered = [Pace(0.5), Pace(1e5), Pace(concurrency=1), Pace(concurrency=128), Pace()]
    assert sorted(offered) == offered
    values = [rates.sort_value(pace) for pace in offered]
    assert values == sorted(set(values))
    assert all(map(math.isfinite, values))
