"""Tables: correct without scripts, everything in them text, what is unknown said so."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from hostile_texts import TEXTS, Reader
from hypothesis import given
from hypothesis import strategies as st
from sites import HOSTILE

from report import escape, numbers
from report.pages import cells, tables
from report.pages.tables import Cell, Column, Row, Table
from report.stats import Estimate, Interval

COLUMNS = (
    Column("variant", "Variant", numeric=False),
    Column("tpot", "TPOT mean", "ms", better="lower"),
)


def table(*rows: Row) -> Table:
    return Table("speed", "Speed", COLUMNS, rows)


def test_a_table_has_caption_scopes_units_and_a_frame_that_scrolls() -> None:
    text = tables.html(table(Row(Cell("A"), [Cell("50.1", 50.1, "48.2 – 52.0", ends=(48.2, 52))])))
    assert "<caption>Speed</caption>" in text
    assert '<th scope="col" data-key="tpot" class="num" data-better="lower"' in text
    assert '<span class="unit">ms</span>' in text
    assert '<th scope="row">A</th>' in text
    shown = 'data-v="50.1" data-ends="48.2 52" data-label="TPOT mean, ms">50.1<span class="sub">'
    assert f"{shown}48.2 – 52.0</span></td>" in text
    assert 'role="region" aria-label="Speed" tabindex="0"' in text


@given(TEXTS, TEXTS)
def test_whatever_a_cell_holds_is_text_and_stays_in_its_place(text: str, other: str) -> None:
    cell = Cell(text or "x", 1.0, other, other, "variants/x.html", other)
    made = tables.html(
        Table(
            "t", text, (Column("a", text, other, title=other), Column("b", text)),
            [Row(Cell(text or "x"), [cell], "r", other, text)],
        )
    )  # fmt: skip
    reader = Reader()
    reader.feed(str(escape.html_block(made)))
    allowed = {"div", "table", "caption", "thead", "tr", "th", "span", "tbody", "td", "a"}
    assert set(reader.tags) <= allowed
    assert reader.tags.count("tr") == 2 and reader.tags.count("td") == 1
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


def test_a_measured_cell_is_its_value_and_interval_and_without_them_unknown() -> None:
    cell = cells.measured(Estimate(0.5, Interval(0.4, 0.6, 0.95), 0.05, 3), numbers.share)
    assert (cell.text, cell.interval, cell.ends) == ("50.00", "40.00 – 60.00", (0.4, 0.6))
    assert cells.measured(Estimate(1.5, None, None, 1)) == Cell("1.50", 1.5)
    assert cells.measured(None).text == "unknown"
    assert cells.amount(None).text == "unknown"
    assert cells.amount(0.0) == Cell("0", 0.0)


def test_a_column_that_no_row_knows_is_left_out() -> None:
    known = Row(Cell("A"), [Cell("50.1", 50.1)])
    unknown = Row(Cell("B"), [cells.unknown()])
    assert 'data-key="tpot"' in tables.html(table(known, unknown))
    text = tables.html(table(unknown))
    assert 'data-key="tpot"' not in text
    assert '<th scope="row">B</th></tr>' in text


def test_facts_are_text_and_missing_ones_unknown_and_long_ones_opened() -> None:
    text = tables.facts([("Repository", "Qwen/Qwen3-8B"), ("License", None), ("Note", HOSTILE)])
    assert re.search(r"<td>Repository *</td><td>Qwen/Qwen3-8B *</td>", text)
    assert re.search(r"<td>License *</td><td>unknown *</td>", text)
    assert "<details><summary>" in text
    assert "{{<" not in text and "<script" not in text and "<img" not in text


def test_each_group_has_a_heading_and_a_body_of_its_own() -> None:
    rows = [Row(Cell(name), [Cell("1", 1.0)], group=group) for group, name in ("1a", "1b", "2a")]
    headings = {"1": "10 requests/s", "2": "unthrottled"}
    text = tables.html(replace(table(*rows), headings=headings))
    bodies = text.split("<tbody>")[1:]
    assert [body.count('scope="row"') for body in bodies] == [2, 1]
    assert '<th scope="rowgroup" colspan="2">unthrottled</th>' in bodies[1]


def test_what_is_more_than_two_lines_is_opened_by_a_click() -> None:
    cell = Cell("−1.0 %", -1.0, "−2 to 0", word="no difference", more="it ran throttled")
    text = tables.html(table(Row(Cell("A", records=[("JSON", "r.json")]), [cell])))
    assert "<details><summary>note</summary><span>it ran throttled</span></details>" in text
    assert '<a href="r.json">JSON</a>' in text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_a_number_is_shown_within_half_a_unit_of_its_third_digit(value: float) -> None:
    shown = float(numbers.number(value).replace(",", "").replace("−", "-"))
    # Never fewer digits than the whole part has, never more than six decimals.
    place = max(math.floor(math.log10(abs(value))) - 2 if value else 0, -6)
    assert abs(shown - value) <= 0.5 * 10.0 ** min(place, 0) * (1 + 1e-9)


def test_numbers_have_their_sign_and_thousands_in_text() -> None:
    assert numbers.number(1052.84, 4) == "1,053"
    assert numbers.change(0.658) == "−34.2 %"
    assert numbers.change(1.0) == "0.0 %"
    assert numbers.points(0.0125) == "+1.25"
    for form in (numbers.number, numbers.whole, numbers.share, numbers.points, numbers.bytes_):
        assert form(None) == "unknown"
