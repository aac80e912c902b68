"""The charts: what each shows of the rows, and how, as Vega-Lite by altair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from bench.records.pace import Pace
from report import escape, numbers, rates
from report.charts.drawing import (
    ANCHORS,
    INK,
    NARROW,
    OTHER,
    PAPER,
    SERIES,
    SOFT,
    WIDE,
    Chart,
    Mark,
    Point,
    draw,
    place_labels,
)
from report.numbers import Form
from report.rows.loads import at_lowest
from report.rows.rows import HistoryRow, Metric, QualityRow, Result, SpeedRow
from report.stats import Estimate, Interval, Verdict

MOST_ROWS = 40
_HEIGHT = 340
_TOLD = {"label": "variant", "text": "value"}  # a mark's tooltip
_DAYS = 6  # from so many on, six ticks have each a date of its own


def quality_against_speed(name: str, kept: Sequence[tuple[SpeedRow, Estimate]]) -> Chart | None:
    """What each variant of a family kept of its baseline's quality, against its time per token.

    A score of its own would mislead: another variant may have answered other documents.
    """
    points = [
        _point(row, quality, row.metrics[Metric.TPOT_MEAN])
        for row, quality in kept
        if Metric.TPOT_MEAN in row.metrics
    ]
    if len(points) < 2:
        return None
    front = pareto([(point.x.value, point.y.value) for point in points])
    points = [replace(point, front=i in front) for i, point in enumerate(points)]
    first = kept[0][0]
    caption = (
        f"Quality kept against speed of {first.family} on {first.hardware_name}. Bars are 95 %"
        " intervals, the area of a dot is what its weights take, and the dashed line joins the"
        " variants that none beats in both."
    )
    return trade_off(name, points, caption, "quality kept of the baseline's")


def frontier(name: str, title: str, series: Sequence[Sequence[SpeedRow]]) -> Chart | None:
    """Output against the time per token, a line a variant, from its lowest load to its highest."""
    alt = _altair()

    marks = [
        replace(
            _mark(row, row.metrics[Metric.OUTPUT], "", x=row.metrics[Metric.TPOT_P90].value),
            text=f"{_told(row, Metric.OUTPUT)} at {rates.short_load(row.pace)}",
            x_text=_told(row, Metric.TPOT_P90),
        )
        for own in series
        for row in own
    ]
    paces = dict.fromkeys(row.pace for own in series for row in own)
    loads = ", ".join(rates.short(pace).removesuffix(" at a time") for pace in sorted(paces))
    what = "requests at a time" if next(iter(paces)).is_closed else "offered"
    caption = (
        f"Output against time per token, {title}: a line a variant, a point a load ({loads}"
        f" {what}). Up and left is better; shaded is the 95 % interval of the output."
    )
    x = alt.X("x:Q", title="TPOT p90, ms (less is faster)", scale=alt.Scale(zero=True))
    y = alt.Y("value:Q", title="output, tokens/s", scale=alt.Scale(zero=True))
    colour = _colour(marks, "label")
    tooltip = _tooltip({"label": "variant", "text": "output", "x_text": "TPOT p90"})

    def compose(_: int) -> tuple[Any, Sequence[Mark]]:
        base = alt.Chart()
        band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.18)
        layers = alt.layer(
            *(
                [band.encode(x=x, y="low:Q", y2="high:Q", color=colour)]
                if any(mark.value.interval for mark in marks)
                else []
            ),
            base.mark_line(strokeWidth=1.75).encode(x=x, y=y, color=colour),
            base.mark_point(filled=True, size=45, opacity=1).encode(
                x=x, y=y, color=colour, href="href:N",
                shape=alt.Shape("label:N", legend=None), tooltip=tooltip,
            ),
        )  # fmt: skip
        return layers, marks

    return draw(name, caption, compose, _HEIGHT)


def _told(row: SpeedRow, metric: Metric) -> str:
    """A metric's value with its unit and interval."""
    return _with_interval(row.metrics[metric], numbers.number, f" {metric.unit}")


def _with_interval(value: Estimate, form: Form, unit: str) -> str:
    """A value as a tooltip has it: 9.84 ms (9.10 – 10.6)."""
    ends = value.interval
    within = numbers.interval(ends.low, ends.high, form) if ends else "no interval"
    return f"{form(value.value)}{unit} ({within})"


def speeds(hardware: str, name: str, rows: Sequence[SpeedRow]) -> list[Chart]:
    """TPOT with its interval at the lowest load, for each family of which there are two."""
    made = []
    for number, family in enumerate(dict.fromkeys(row.family for row in rows)):
        here = at_lowest([row for row in rows if row.family == family])
        own = [
            _mark(row, row.metrics[Metric.TPOT_MEAN], " ms")
            for row in here
            if Metric.TPOT_MEAN in row.metrics
        ]
        if len(own) < 2:
            continue
        own.sort(key=lambda mark: (mark.value.value, mark.label))
        more = f" The {MOST_ROWS} fastest of {len(own)}." if len(own) > MOST_ROWS else ""
        caption = (
            f"Time per output token of {family} on {name} at {rates.short(here[0].pace)}; bars are"
            f" 95 % intervals.{more}"
        )
        title = "TPOT mean, ms (lower is faster)"
        made.append(ranking(f"tpot-{hardware}-{number}", own, caption, title))
    return [chart for chart in made if chart]


def scores(section: str, rows: Sequence[QualityRow]) -> Chart | None:
    """Every variant's score in the first metric, with its interval and the line of guessing."""
    first = rows[0]
    own, share = [row for row in rows if row.metric == first.metric], first.unit == "share"
    marks = [_mark(row, row.value, " %" if share else "") for row in own]
    note = " The dashed line is guessing." if first.chance is not None else ""
    asked = f"{first.task} {first.metric} on {first.hardware_name}"
    caption = f"{asked}; bars are 95 % intervals.{note}"
    at = None if first.chance is None else 100 * first.chance
    title = f"{first.metric}, %" if share else first.metric
    zero = any(mark.value.value == 0 for mark in marks)  # there is nothing below
    return _best_first(section, first, marks, caption, title, at=at, zero=zero)


def score_changes(section: str, told: Sequence[tuple[QualityRow, Verdict]]) -> Chart | None:
    """What each variant scored beyond its baseline on the documents that both answered.

    For variants that answered other documents, whose scores would mislead side by side.
    """
    marks = []
    for row, verdict in told:
        if verdict.estimate is not None:
            value = Estimate(verdict.estimate, verdict.interval, None, row.n)
            text = _with_interval(value, numbers.score_gap(row.unit), "")
            shown = _percent(value) if row.unit == "share" else value
            marks.append(Mark(_label(row), row.family, None, shown, text, row.page))
    if not marks:
        return None
    first = told[0][0]
    asked = f"{first.task} {first.metric} on {first.hardware_name}"
    caption = (
        f"{asked}: change against the baseline, on the documents that both answered; bars are "
        "95 % intervals. The dashed line is the baseline."
    )
    unit = "points" if first.unit == "share" else first.unit
    return _best_first(section, first, marks, caption, f"change in {first.metric}, {unit}", at=0.0)


def _best_first(
    section: str,
    first: QualityRow,
    marks: Sequence[Mark],
    caption: str,
    title: str,
    *,
    at: float | None,
    zero: bool = False,
) -> Chart | None:
    """A section's ranking, by the direction of its metric, which the title tells if unusual."""
    side = -1 if first.higher_is_better else 1
    ranked = sorted(marks, key=lambda mark: (side * mark.value.value, mark.label))
    told = title if first.higher_is_better else f"{title} (lower is better)"
    return ranking(f"score-{section}", ranked, caption, told, at=at, zero=zero)


def over_time(hardware: str, name: str, series: Sequence[Sequence[HistoryRow]]) -> Chart | None:
    """TPOT over time of at most six variants at one load."""
    chosen = [group for group in series if group[0].metric == Metric.TPOT_MEAN]
    if not chosen:
        return None
    first = min((group[0] for group in chosen), key=lambda row: (row.series == "inf", row.series))
    marks = [
        Mark(
            label=row.variant_name,
            family=None,
            x=row.finished_at,
            value=row.value,
            text=_with_interval(row.value, numbers.number, " ms"),
            href=None,
            x_text=f"{numbers.date(row.finished_at)}, vLLM {row.engine_version}",
        )
        for group in [group for group in chosen if group[0].series == first.series][:6]
        for row in group
        if row.value is not None
    ]
    load = rates.short_load(first.pace or Pace())
    caption = f"Time per output token over time on {name} at {load}; bars are 95 % intervals."
    titles = ("finished", "TPOT mean, ms")
    return lines(f"history-{hardware}", marks, caption, titles)


def _point(row: SpeedRow, kept: Estimate, time: Estimate) -> Point:
    served = row.served
    gib = served.checkpoint_gib if served.weights_gib is None else served.weights_gib
    return Point(
        label=_label(row),
        family=row.family,
        x=time,
        y=_percent(kept),
        gib=gib,
        published=row.source == "published",
        href=row.page,
        x_text=f"{_with_interval(time, numbers.number, ' ms')} per token",
        y_text=f"{_with_interval(kept, numbers.share, ' %')} kept",
        gib_text=f"{numbers.number(gib)} GiB",
    )


def _mark(row: Result, value: Estimate, unit: str, *, x: float | None = None) -> Mark:
    """A value with its unit; one in per cent is drawn as that."""
    percent = unit == " %"
    text = _with_interval(value, numbers.share if percent else numbers.number, unit)
    shown = _percent(value) if percent else value
    return Mark(_label(row), row.family, x, shown, text, row.page)


def _percent(value: Estimate) -> Estimate:
    ends = value.interval
    scaled = Interval(100 * ends.low, 100 * ends.high, ends.level) if ends else None
    return replace(value, value=100 * value.value, interval=scaled)


def _label(row: Result) -> str:
    return f"{row.variant_name} (published)" if row.source == "published" else row.variant_name


def pareto(points: Sequence[tuple[float, float]]) -> set[int]:
    """The positions of points that no other beats in x (less is better) and y (more is better)."""
    best, front = float("-inf"), set()
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if points[i][1] > best:
            best = points[i][1]
            front.add(i)
    return front


def trade_off(name: str, points: Sequence[Point], caption: str, metric: str) -> Chart | None:
    """Accuracy against time per token, with both intervals, memory as area, and the front."""
    if not points:
        return None
    alt = _altair()

    domains = _domain([point.x for point in points]), _domain([point.y for point in points])
    time = "time per output token, mean, ms (less is faster)"
    x = alt.X("x:Q", title=time, scale=_over(domains[0]))
    y = alt.Y("y:Q", title=f"{metric}, %", scale=_over(domains[1]))
    colour = _colour(points, "family")
    most = max(point.gib or 0 for point in points) or 1.0
    size = alt.Size("area:Q", scale=alt.Scale(domain=[0, most], range=[24, 380]), legend=None)

    def compose(width: int) -> tuple[Any, Sequence[Point]]:
        rows = _with_sides(points, domains, width)
        base = alt.Chart()
        bar = {"strokeWidth": 1.25, "opacity": 0.5}
        front = base.transform_filter("datum.front").mark_line(
            strokeDash=[3, 3], strokeWidth=1, color=SOFT, interpolate="step-after"
        )
        marks = {"opacity": 0.92, "strokeWidth": 1.5}
        texts = {"label": "variant", "x_text": "time", "y_text": "quality", "gib_text": "weights"}
        dots = base.transform_filter("!datum.published").mark_point(
            **marks, filled=True, stroke=PAPER
        )
        rings = base.transform_filter("datum.published").mark_point(**marks, filled=False)
        layers = alt.layer(
            front.encode(x=x, y=y, order="x:Q"),
            *(
                base.mark_rule(**bar).encode(color=colour, **ends)
                for known, ends in (
                    (
                        any(row.x.interval for row in rows),
                        {"x": "x_low:Q", "x2": "x_high:Q", "y": y},
                    ),
                    (
                        any(row.y.interval for row in rows),
                        {"x": x, "y": "y_low:Q", "y2": "y_high:Q"},
                    ),
                )
                if known
            ),
            rings.encode(x=x, y=y, color=colour, size=size, href="href:N"),
            dots.encode(x=x, y=y, color=colour, size=size, href="href:N", tooltip=_tooltip(texts)),
            *(
                base.transform_filter(f"datum.side == {i}")
                .mark_text(align=align, dx=dx, dy=dy, fontSize=11, color=INK)
                .encode(x=x, y=y, text="label:N")
                for i, (align, dx, dy) in enumerate(ANCHORS)
                if any(row.side == i for row in rows)
            ),
        )
        return layers, rows

    return draw(name, caption, compose, _HEIGHT)


def ranking(
    name: str,
    rows: Sequence[Mark],
    caption: str,
    title: str,
    *,
    at: float | None = None,
    zero: bool = False,
) -> Chart | None:
    """One line per variant, at most MOST_ROWS; `at` draws a line, of guessing or of no change.

    The axis begins at 0 if `zero`, else near the lowest.
    """
    if not rows:
        return None
    alt = _altair()

    shown = rows[:MOST_ROWS]
    order = list(dict.fromkeys(escape.clean(row.label) for row in shown))
    plain = alt.Axis(domain=False, ticks=False, grid=False)
    y = alt.Y("label:N", title=None, sort=order, axis=plain)
    x = alt.X(
        "value:Q", title=title, scale=alt.Scale(zero=zero, nice=True, padding=0 if zero else 12)
    )
    colour = _colour(rows, "family")

    def compose(_: int) -> tuple[Any, Sequence[Mark]]:
        base = alt.Chart()
        bars = base.mark_rule(strokeWidth=2, opacity=0.5).encode(
            x="low:Q", x2="high:Q", y=y, color=colour
        )
        layers = [
            *([bars] if any(row.value.interval for row in shown) else []),
            base.mark_point(filled=True, size=70, opacity=1).encode(
                x=x, y=y, color=colour, href="href:N", tooltip=_tooltip(_TOLD)
            ),
        ]
        if at is not None:
            guessing = alt.Chart(alt.Data(values=[{"at": at}]))
            layers.insert(0, guessing.mark_rule(strokeDash=[4, 3], color=SOFT).encode(x="at:Q"))
        return alt.layer(*layers), shown

    widths = (WIDE, NARROW - 75)  # names take their room
    return draw(name, caption, compose, 24 * len(order) + 8, widths)


def lines(name: str, rows: Sequence[Mark], caption: str, titles: tuple[str, str]) -> Chart | None:
    """A line with intervals per label over time; `x` is a moment as ISO 8601 has it."""
    if not rows:
        return None
    alt = _altair()

    moments = sorted(datetime.fromisoformat(str(row.x)) for row in rows)
    shown = "%Y-%m-%d" if (moments[-1] - moments[0]).days >= _DAYS else "%m-%d %H:%M"
    axis = alt.Axis(format=shown, labelOverlap=True)
    x = alt.X("x:T", title=titles[0], axis=axis, scale=alt.Scale(type="utc"))
    y = alt.Y("value:Q", title=titles[1], scale=alt.Scale(zero=False, nice=True))
    colour = _colour(rows, "label")

    def compose(_: int) -> tuple[Any, Sequence[Mark]]:
        base = alt.Chart()
        bars = base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(
            x=x, y="low:Q", y2="high:Q", color=colour
        )
        layers = alt.layer(
            base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=colour),
            *([bars] if any(row.value.interval for row in rows) else []),
            base.mark_point(filled=True, size=45, opacity=1).encode(
                x=x, y=y, color=colour,
                shape=alt.Shape("label:N", legend=None),
                tooltip=_tooltip({**_TOLD, "x_text": "finished"}),
            ),
        )  # fmt: skip
        return layers, rows

    return draw(name, caption, compose, 260)


def _altair() -> Any:
    """Altair, untyped: its own types spell out every colour there is."""
    import altair

    return altair


def _domain(shown: Sequence[Estimate]) -> tuple[float, float]:
    """From the lowest to the highest of all values and ends, and a little more."""
    ends = [each.value for each in shown]
    for interval in (each.interval for each in shown if each.interval):
        ends += [interval.low, interval.high]
    room = 0.06 * (max(ends) - min(ends)) or 0.06 * abs(ends[0]) or 1.0
    return min(ends) - room, max(ends) + room


def _over(domain: tuple[float, float]) -> Any:
    alt = _altair()

    return alt.Scale(domain=list(domain), nice=False, zero=False)


def _with_sides(
    points: Sequence[Point], domains: tuple[tuple[float, float], ...], width: int
) -> list[Point]:
    """The points, each with which of ANCHORS its name has room at; None where it has none."""
    (left, right), (bottom, top) = domains
    pixels = [
        (
            (point.x.value - left) / (right - left) * width,
            (top - point.y.value) / (top - bottom) * _HEIGHT,
            escape.clean(point.label),
        )
        for point in points
    ]
    side = {i: k for k, chosen in enumerate(place_labels(pixels, width, _HEIGHT)) for i in chosen}
    return [replace(point, side=side.get(i), area=point.gib or 0) for i, point in enumerate(points)]


def _tooltip(titles: Mapping[str, str]) -> list[Any]:
    alt = _altair()

    return [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]


def _colour(rows: Sequence[Point | Mark], key: Literal["family", "label"]) -> Any:
    """A colour per name in the order of appearance; what comes after the sixth shares a grey."""
    alt = _altair()

    names = list(dict.fromkeys(escape.clean(getattr(row, key)) for row in rows))
    colours = [SERIES[i] if i < len(SERIES) else OTHER for i in range(len(names))]
    told = 2 <= len(names) <= 12
    legend = alt.Legend(orient="top", title=None, labelLimit=220) if told else None
    return alt.Color(f"{key}:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
