"""Charts: every point is drawn, in inks that follow the theme, the same every time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from sites import HOSTILE

from bench.records import store
from report.charts import charts, drawing, pictures
from report.charts.drawing import Mark, Point
from report.decisions.decision import decisions
from report.differences.families import Verdicts
from report.pages.frontier import Load, carries, frontier
from report.rows.results import load
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
    made = [mark(i) for i in range(50)]
    chart = charts.ranking("r", made, "c", "acc, %", line=("guessing", 25.0))
    assert chart is not None
    assert chart.caption == (
        "c; bars are 95 % intervals. The dashed line is guessing. The 40 best of 50."
    )
    assert marks(chart.wide, "symbol") == charts.MOST_ROWS
    assert marks(chart.wide, "rule") == charts.MOST_ROWS + 1
    without = charts.ranking("r", [mark(0)], "c", "acc, %")
    assert without is not None and marks(without.wide, "rule") == 1
    assert without.caption == "c; bars are 95 % intervals."


def test_a_caption_says_no_more_than_is_drawn() -> None:
    """Neither bars nor a dashed line that nobody sees; the caption is what is read aloud, too."""
    bare = Estimate(40.0, None, None, 1)
    plain = replace(mark(0, x="2026-03-01T00:00:00Z"), value=bare)
    ranked = charts.ranking("r", [plain], "c", "t")
    over_time = charts.lines("l", [plain], "c", ("x", "y"))
    for chart in (ranked, over_time):
        assert chart is not None and chart.caption == "c." and marks(chart.wide, "rule") == 0
        assert 'aria-label="c."' in chart.wide
    barred = charts.lines("l", [mark(0, x="2026-03-01T00:00:00Z")], "c", ("x", "y"))
    assert barred is not None and barred.caption == "c; bars are 95 % intervals."

    whole = trade_off([point(i) for i in range(5)])
    assert whole.caption == (
        "What it shows Bars are 95 % intervals. The area of a dot is what its weights take. The"
        " dashed line joins the variants that none beats in both."
    )
    assert marks(whole.wide, "line") == 1
    one = {"x": bare, "y": bare, "gib": None}
    lone = trade_off([point(0, **one), point(2, **one)])
    assert lone.caption == "What it shows"
    assert marks(lone.wide, "line") == marks(lone.wide, "rule") == 0


@pytest.mark.parametrize("moments", [
    [f"2026-03-{day:02}T00:00:00Z" for day in (1, 2, 3)],
    [f"2026-03-{day:02}T00:00:00Z" for day in (1, 8, 29)],
    [f"2026-03-01T{hour:02}:00:00Z" for hour in (5, 6, 7)],
])  # fmt: skip
def test_lines_draw_every_value_over_time_and_no_date_twice(moments: list[str]) -> None:
    chart = charts.lines("l", [mark(0, x=each) for each in moments], "c", ("finished", "ms"))
    assert chart is not None
    assert marks(chart.wide, "symbol") == 3
    dates = re.findall(r">((?:2026-)?03-\d\d(?: \d\d:\d\d)?)</text>", chart.wide)
    assert len(dates) >= 3
    assert len(set(dates)) == len(dates)


def test_a_frontier_is_a_line_a_variant_with_its_units_and_intervals_said(tmp_path: Path) -> None:
    for variant in (synthetic.BF16, synthetic.FP8):
        for number in range(2):
            time = synthetic.START + timedelta(hours=number)
            made = synthetic.speed_record(
                variant, finished=time, seed=number, loops=(1, 8, 32), repeats=1
            )
            store.write(tmp_path, *made)
    verdicts = Verdicts(load(tmp_path, None))
    [decision] = decisions(verdicts)
    found = frontier("x", verdicts.results, decision)
    assert found and found.chart
    assert "shaded is the 95 % interval of the output." in found.chart.caption
    assert marks(found.chart.wide, "area") == 2
    assert marks(found.chart.wide, "line") == 2
    assert marks(found.chart.wide, "symbol") == 6
    told = found.chart.spec["data"]["values"][0]
    assert re.fullmatch(r"[\d,.]+ tokens/s \([\d,.]+ – [\d,.]+\) at 1 at a time", told["text"])
    assert re.fullmatch(r"[\d.]+ ms \([\d.]+ – [\d.]+\)", told["x_text"])


def test_a_frontier_without_intervals_is_not_called_shaded(tmp_path: Path) -> None:
    for variant in (synthetic.BF16, synthetic.FP8):
        made = synthetic.speed_record(variant, loops=(1, 8, 32), repeats=1)
        store.write(tmp_path, *made)
    verdicts = Verdicts(load(tmp_path, None))
    found = frontier("x", verdicts.results, decisions(verdicts)[0])
    assert found and found.chart
    assert found.chart.caption.endswith("Up and left is better.")
    assert marks(found.chart.wide, "area") == 0


def test_what_is_carried_is_the_most_output_whose_whole_intervals_are_within() -> None:
    loads = [
        Load("1 at a time", 100.0, "100", (20.0, 22.0), (5.0, 6.0)),
        Load("8 at a time", 400.0, "400", (90.0, 110.0), (9.0, 11.0)),
    ]
    assert carries(loads, 200.0, 20.0) == "400 tokens/s, 8 at a time"
    assert carries(loads, 200.0, 10.0) == "100 tokens/s, 1 at a time; perhaps 400, 8 at a time"
    assert carries(loads, 200.0, 5.5) == "no measured load for sure; perhaps 100, 1 at a time"
    assert carries(loads, 10.0, 50.0) == "no measured load for sure"


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
    charts.lines("l", [mark(0, x="2026-03-01T00:00:00Z")], "c", ("x", "y"))
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
    script = pictures.bundle(None, Path())
    assert "window.vegaEmbed" in script
    assert len(script) > 500_000
