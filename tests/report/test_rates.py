"""A request rate in words, and what sorts as it does."""

from __future__ import annotations

import math

from report import rates


def test_every_form_of_a_rate_and_of_no_limit() -> None:
    forms = (rates.name, rates.short, rates.full, rates.load, rates.short_load, rates.note)
    assert [form(2.5) for form in forms] == [
        "2.5", "2.5/s", "2.5 requests/s", "2.5 requests/s", "2.5/s", "at 2.5/s",
    ]  # fmt: skip
    assert [form(math.inf) for form in forms] == [
        "inf", "unthrottled", "unthrottled", "unthrottled load", "unthrottled load", "unthrottled",
    ]  # fmt: skip
    assert rates.name(10.0) == "10"
    assert float("inf") > rates.sort_value(math.inf) > rates.sort_value(1e6) == 1e6
