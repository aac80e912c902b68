"""Charts: every point is drawn, in inks that follow the theme, the same every time."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sites import HOSTILE

from report.charts import charts, drawing
from report.charts.drawing import Mark, Point
from report.stats import Estimate, Interval


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, Interval(low, high, 0.95), None, 3)


def point(number: int, **other: Any) -> Point:
    made: dict[str, Any] = {
        "label": f"Variant {number}",
        "family": f"Family {number % 3}",
        "x": estimate(20.0 + 7 * number, 19.0 + 7 * number, 21.5 + 7 * number),
        "y": estimate(60.0 - number, 55.0 - number, 65.0 - number),
        "gib": 15.0 - number,
        "front": number < 2,
        "published": number == 3,
        "href": f"variants/variant-{number}.html",
        "x_text": "20 ms",
        "y_text": "60 %",
        "gib_text": "15 GiB",
    }
    return Point(**{**made, **other})


def trade_off(points: list[Point]) -> drawing.Chart:
    chart = charts.trade_off("t", points, "What it shows", "hellaswag acc")
    assert chart is not None
    return chart


def marks(svg: str, kind: str) -> int:
    """How many marks of a kind were drawn, legends and axes left out."""
    groups = re.findall(rf'class="mark-{kind} role-mark[^"]*"[^>]*>(.*?)</g>', svg, re.DOTALL)
    return sum(len(re.findall(r"<(?:path|line|text)[ >]", group)) for group in groups)


def test_every_point_and_both_its_intervals_are_drawn_in_both_widths() -> None:
    chart = trade_off([point(i) for i in range(5)])
    for svg in (chart.wide, chart.narrow):
        assert marks(svg, "symbol") == 5
        assert marks(svg, "rule") == 10
    assert 'width="' in chart.wide and "What it shows" in chart.wide


def test_a_point_without_interval_or_memory_is_drawn_all_the_same() -> None:
    bare = point(1, x=Estimate(27.0, None, None, 1), y=Estimate(59.0, None, None, 1), gib=None)
    assert marks(trade_off([point(0), bare]).wide, "symbol") == 2


def test_points_all_alike_are_drawn() -> None:
    same = {"x": estimate(5.0, 5.0, 5.0), "y": estimate(0.0, 0.0, 0.0)}
    assert marks(trade_off([point(0, **same), point(1, **same)]).wide, "symbol") == 2


def test_nothing_to_draw_is_no_chart() -> None:
    assert charts.trade_off("t", [], "c", "m") is None
    assert charts.ranking("r", [], "c", "t") is None
    assert charts.lines("l", [], "c", ("x", "y")) is None


def mark(number: int, x: float | str | None = None) -> Mark:
    value = estimate(40.0 + number, 39.0 + number, 41.0 + number)
    return Mark(f"Variant {number}", "F", x, value, "t", None)


def test_a_ranking_draws_at_most_its_limit_and_the_line_of_guessing() -> None:
    chart = charts.ranking("r", [mark(i) for i in range(50)], "c", "acc, %", at=25.0)
    assert chart is not None
    assert marks(chart.wide, "symbol") == charts.MOST_ROWS
    assert marks(chart.wide, "rule") == charts.MOST_ROWS + 1
    without = charts.ranking("r", [mark(0)], "c", "acc, %")
    assert without is not None and marks(without.wide, "rule") == 1


def test_lines_draw_every_value_over_time() -> None:
    rows = [mark(0, x=f"2026-03-0{day}T00:00:00Z") for day in (1, 2, 3)]
    chart = charts.lines("l", rows, "c", ("finished", "ms"), over_time=True)
    assert chart is not None
    assert marks(chart.wide, "symbol") == 3
    assert "2026-03-01" in chart.wide


def test_only_inks_that_follow_the_theme_are_used_and_nothing_is_fetched() -> None:
    chart = trade_off([point(i) for i in range(5)])
    for svg in (chart.wide, chart.narrow):
        assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) <= {
            "none", "transparent", *(f"var({name})" for name in drawing.INKS.values()),
        }  # fmt: skip
        assert "<a " not in svg and "<image" not in svg
        assert not re.findall(r'(?:href|src)="[^"#]', svg)


def test_the_interactive_form_has_the_same_data_zoom_and_links() -> None:
    chart = trade_off([point(i) for i in range(5)])
    assert len(chart.spec["data"]["values"]) == 5
    assert chart.spec["width"] == "container"
    (dots,) = [layer for layer in chart.spec["layer"] if "params" in layer]
    assert dots["encoding"]["href"]["field"] == "href"
    text = chart.script.partition('quantbenchCharts["t"]=')[2].rstrip().removesuffix(";")
    assert json.loads(text) == chart.spec


def test_a_chart_is_the_same_however_many_were_drawn_before() -> None:
    points = [point(i) for i in range(3)]
    first = trade_off(points)
    charts.lines("l", [mark(0, x=1.0)], "c", ("x", "y"))
    assert trade_off(points) == first


def test_hostile_names_are_text_in_the_drawing_and_the_script() -> None:
    chart = charts.trade_off("t", [point(0, label=HOSTILE, family=HOSTILE)] * 2, HOSTILE, HOSTILE)
    assert chart is not None
    block = drawing.figure(chart)
    assert "<script" not in block and "<img" not in block
    assert block.count("```") == 2 and "{{" not in block
    assert "<" not in chart.script


points = st.lists(st.tuples(st.floats(1, 100), st.floats(0, 100)), max_size=12)


@given(points)
def test_nothing_beats_the_front_and_everything_else_is_beaten(
    made: list[tuple[float, float]],
) -> None:
    front = charts.pareto(made)
    for i, one in enumerate(made):
        beaten = any(other[0] <= one[0] and other[1] >= one[1] and other != one for other in made)
        first_of_its_kind = made.index(one) == i
        assert (i in front) == (not beaten and first_of_its_kind)


@given(st.lists(st.tuples(st.floats(0, 640), st.floats(0, 340), st.text(max_size=30)), max_size=15))
def test_labels_stay_inside_and_each_point_has_at_most_one(
    made: list[tuple[float, float, str]],
) -> None:
    placed = drawing.place_labels(made, 640, 340)
    everyone = [i for chosen in placed for i in chosen]
    assert len(everyone) == len(set(everyone))
    assert set(everyone) <= set(range(len(made)))


def test_the_bundle_is_one_script_from_the_installed_package() -> None:
    script = drawing.bundle()
    assert "window.vegaEmbed" in script
    assert len(script) > 500_000
