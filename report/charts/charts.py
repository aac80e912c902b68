"""The charts: what each shows of the rows, and how, as Vega-Lite."""

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
from report.charts.pictures import Spec
from report.findings import words
from report.numbers import Form
from report.rows.loads import at_lowest
from report.rows.rows import HistoryRow, Metric, QualityRow, Result, SpeedRow
from report.stats import Estimate, Interval, Verdict

MOST_ROWS = 40
_HEIGHT = 340
_TOLD = {"label": "variant", "text": "value"}  # a mark's tooltip
_DOT = {"filled": True, "size": 45, "opacity": 1}
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
    caption = f"Quality kept against speed of {first.family} on {first.hardware_name}."
    return trade_off(name, points, caption, "quality kept of the baseline's")


def frontier(name: str, title: str, series: Sequence[Sequence[SpeedRow]]) -> Chart | None:
    """Output against the time per token, a line a variant, from its lowest load to its highest."""
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
    ends = [mark.label for mark in marks if mark.value.interval]
    shaded = any(ends.count(label) > 1 for label in ends)
    caption = (
        f"Output against time per token, {title}: a line a variant, a point a load ({loads}"
        f" {what}). Up and left is better"
        f"{'; shaded is the 95 % interval of the output' if shaded else ''}."
    )
    x = _field("x", title="TPOT p90, ms (less is faster)", scale={"zero": True})
    y = _field("value", title="output, tokens/s", scale={"zero": True})
    colour = _colour(marks, "label")
    place = {"x": x, "y": y, "color": colour}
    within = {**place, "y": _field("low"), "y2": {"field": "high"}}
    told = {"label": "variant", "text": "output", "x_text": "TPOT p90"}
    dots = {**place, "href": _text("href"), "shape": _text("label", legend=None)}
    layers = [
        *([_layer("area", {"opacity": 0.18}, within, "isValid(datum.low)")] if shaded else []),
        _layer("line", {"strokeWidth": 1.75}, place),
        _layer("point", _DOT, {**dots, "tooltip": _tooltip(told)}),
    ]
    return draw(name, caption, lambda _: (layers, marks), _HEIGHT)


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
        caption = f"Time per output token of {family} on {name} at {rates.short(here[0].pace)}"
        title = "TPOT mean, ms (lower is faster)"
        made.append(ranking(f"tpot-{hardware}-{number}", own, caption, title))
    return [chart for chart in made if chart]


def scores(name: str, rows: Sequence[QualityRow]) -> Chart | None:
    """The score of each variant of a family, with its interval and the line of guessing."""
    first = rows[0]
    share = first.unit == "share"
    marks = [_mark(row, row.value, " %" if share else "") for row in rows]
    if len(marks) < 2:
        return None
    line = None if first.chance is None else ("guessing", 100 * first.chance)
    title = f"{first.metric}, %" if share else first.metric
    zero = any(mark.value.value == 0 for mark in marks)  # there is nothing below
    return _best_first(name, first, marks, _asked(first), title, line=line, zero=zero)


def score_changes(name: str, told: Sequence[tuple[QualityRow, Verdict]]) -> Chart | None:
    """What each variant of a family scored beyond its baseline on the documents that both answered.

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
    caption = f"{_asked(first)}: change against the baseline, on the documents that both answered"
    title = f"change in {first.metric}, {'points' if first.unit == 'share' else first.unit}"
    return _best_first(name, first, marks, caption, title, line=("the baseline", 0.0))


def _asked(row: QualityRow) -> str:
    return f"{row.task} {row.metric} of {row.family} on {row.hardware_name}"


def _best_first(
    name: str,
    first: QualityRow,
    marks: Sequence[Mark],
    caption: str,
    title: str,
    *,
    line: tuple[str, float] | None,
    zero: bool = False,
) -> Chart | None:
    """A ranking of scores, by the direction of its metric, which the title tells if unusual."""
    side = -1 if first.higher_is_better else 1
    ranked = sorted(marks, key=lambda mark: (side * mark.value.value, mark.label))
    told = title if first.higher_is_better else f"{title} (lower is better)"
    return ranking(f"score-{name}", ranked, caption, told, line=line, zero=zero)


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
    caption = f"Time per output token over time on {name} at {load}"
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
    """Accuracy against time per token, with both intervals, memory as area, and the front.

    To the caption comes what is drawn of these: one variant alone is no front.
    """
    if not points:
        return None
    short = words.short([point.label for point in points])
    points = [replace(point, short=text) for point, text in zip(points, short, strict=True)]
    domains = _domain([point.x for point in points]), _domain([point.y for point in points])
    time = "time per output token, mean, ms (less is faster)"
    x = _field("x", title=time, scale=_over(domains[0]))
    y = _field("y", title=f"{metric}, %", scale=_over(domains[1]))
    colour = _colour(points, "family")
    most = max(point.gib or 0 for point in points) or 1.0
    size = _field("area", scale={"domain": [0, most], "range": [24, 380]}, legend=None)
    texts = {"label": "variant", "x_text": "time", "y_text": "quality", "gib_text": "weights"}
    front = {"strokeDash": [3, 3], "strokeWidth": 1, "color": SOFT, "interpolate": "step-after"}
    joined = sum(point.front for point in points) > 1
    drawn = {
        "Bars are 95 % intervals.": any(each.x.interval or each.y.interval for each in points),
        "The area of a dot is what its weights take.": any(point.gib for point in points),
        "The dashed line joins the variants that none beats in both.": joined,
    }
    bar = {"strokeWidth": 1.25, "opacity": 0.5}
    dot = {"opacity": 0.92, "strokeWidth": 1.5}
    shown = {"x": x, "y": y, "color": colour, "size": size, "href": _text("href")}
    across = {"x": _field("x_low"), "x2": {"field": "x_high"}, "y": y}
    upright = {"x": x, "y": _field("y_low"), "y2": {"field": "y_high"}}

    def compose(width: int) -> tuple[list[Spec], Sequence[Point]]:
        rows = _with_sides(points, domains, width)
        bars = [
            _layer("rule", bar, {**ends, "color": colour})
            for known, ends in (
                (any(row.x.interval for row in rows), across),
                (any(row.y.interval for row in rows), upright),
            )
            if known
        ]
        names = [
            _layer(
                "text",
                {"align": align, "dx": dx, "dy": dy, "fontSize": 11, "color": INK},
                {"x": x, "y": y, "text": _text("short")},
                f"datum.side == {i}",
            )
            for i, (align, dx, dy) in enumerate(ANCHORS)
            if any(row.side == i for row in rows)
        ]
        told = {**shown, "tooltip": _tooltip(texts)}
        layers = [
            *(
                [_layer("line", front, {"x": x, "y": y, "order": _field("x")}, "datum.front")]
                if joined
                else []
            ),
            *bars,
            _layer("point", {**dot, "filled": False}, shown, "datum.published"),
            _layer("point", {**dot, "filled": True, "stroke": PAPER}, told, "!datum.published"),
            *names,
        ]
        return layers, rows

    shown_too = (text for text, is_drawn in drawn.items() if is_drawn)
    return draw(name, " ".join([caption, *shown_too]), compose, _HEIGHT)


def ranking(
    name: str,
    rows: Sequence[Mark],
    caption: str,
    title: str,
    *,
    line: tuple[str, float] | None = None,
    zero: bool = False,
) -> Chart | None:
    """One line per variant, at most MOST_ROWS; to the caption comes what is drawn beside the dots.

    Args:
        caption: without its final stop.
        line: what a dashed line is, and where: guessing, or the baseline.
        zero: whether the axis begins at 0; else near the lowest.
    """
    if not rows:
        return None
    short = words.short([row.label for row in rows[:MOST_ROWS]])
    shown = [replace(row, short=text) for row, text in zip(rows, short, strict=False)]
    order = list(dict.fromkeys(escape.clean(row.short) for row in shown))
    plain = {"domain": False, "ticks": False, "grid": False}
    y = _text("short", title=None, sort=order, axis=plain)
    scale = {"zero": zero, "nice": True, "padding": 0 if zero else 12}
    x = _field("value", title=title, scale=scale)
    colour = _colour(rows, "family")
    place = {"x": x, "y": y, "color": colour}
    dots = {**place, "href": _text("href"), "tooltip": _tooltip(_TOLD)}
    layers = [_layer("point", {**_DOT, "size": 70}, dots)]
    if any(row.value.interval for row in shown):
        within = {**place, "x": _field("low"), "x2": {"field": "high"}}
        layers.insert(0, _layer("rule", {"strokeWidth": 2, "opacity": 0.5}, within))
    told = _with_bars(caption, shown)
    if line is not None:
        what, at = line
        rule = _layer("rule", {"strokeDash": [4, 3], "color": SOFT}, {"x": _field("at")})
        layers.insert(0, {"data": {"values": [{"at": at}]}, **rule})
        told += f" The dashed line is {what}."
    if len(rows) > len(shown):
        told += f" The {len(shown)} best of {len(rows)}."
    widths = (WIDE, NARROW - 75)  # names take their room
    return draw(name, told, lambda _: (layers, shown), 24 * len(order) + 8, widths)


def _with_bars(caption: str, rows: Sequence[Mark]) -> str:
    """The caption, and what the bars are if there are any."""
    bars = any(row.value.interval for row in rows)
    return f"{caption}{'; bars are 95 % intervals' if bars else ''}."


def lines(name: str, rows: Sequence[Mark], caption: str, titles: tuple[str, str]) -> Chart | None:
    """A line with intervals per label over time; `x` is a moment as ISO 8601 has it.

    The caption, without its final stop, is told what the bars are if there are any.
    """
    if not rows:
        return None
    moments = sorted(datetime.fromisoformat(str(row.x)) for row in rows)
    shown = "%Y-%m-%d" if (moments[-1] - moments[0]).days >= _DAYS else "%m-%d %H:%M"
    axis = {"format": shown, "labelOverlap": True}
    x = {"field": "x", "type": "temporal", "title": titles[0], "axis": axis}
    x["scale"] = {"type": "utc"}
    y = _field("value", title=titles[1], scale={"zero": False, "nice": True})
    colour = _colour(rows, "label")
    place = {"x": x, "y": y, "color": colour}
    within = {**place, "y": _field("low"), "y2": {"field": "high"}}
    told = _tooltip({**_TOLD, "x_text": "finished"})
    bars = _layer("rule", {"strokeWidth": 1.5, "opacity": 0.5}, within)
    layers = [
        _layer("line", {"strokeWidth": 1.5}, place),
        *([bars] if any(row.value.interval for row in rows) else []),
        _layer("point", _DOT, {**place, "shape": _text("label", legend=None), "tooltip": told}),
    ]
    return draw(name, _with_bars(caption, rows), lambda _: (layers, rows), 260)


def _layer(kind: str, mark: Spec, encoding: Spec, only: str | None = None) -> Spec:
    """Marks of a kind, of the data of which a filter says so, if there is one."""
    chosen = {"transform": [{"filter": only}]} if only else {}
    return {**chosen, "mark": {"type": kind, **mark}, "encoding": encoding}


def _field(name: str, **more: Any) -> Spec:
    """A number of the data as a channel."""
    return {"field": name, "type": "quantitative", **more}


def _text(name: str, **more: Any) -> Spec:
    """A text of the data as a channel."""
    return {"field": name, "type": "nominal", **more}


def _domain(shown: Sequence[Estimate]) -> tuple[float, float]:
    """From the lowest to the highest of all values and ends, and a little more."""
    ends = [each.value for each in shown]
    for interval in (each.interval for each in shown if each.interval):
        ends += [interval.low, interval.high]
    room = 0.06 * (max(ends) - min(ends)) or 0.06 * abs(ends[0]) or 1.0
    return min(ends) - room, max(ends) + room


def _over(domain: tuple[float, float]) -> Spec:
    return {"domain": list(domain), "nice": False, "zero": False}


def _with_sides(
    points: Sequence[Point], domains: tuple[tuple[float, float], ...], width: int
) -> list[Point]:
    """The points, each with which of ANCHORS its name has room at; None where it has none."""
    (left, right), (bottom, top) = domains
    pixels = [
        (
            (point.x.value - left) / (right - left) * width,
            (top - point.y.value) / (top - bottom) * _HEIGHT,
            escape.clean(point.short),
        )
        for point in points
    ]
    side = {i: k for k, chosen in enumerate(place_labels(pixels, width, _HEIGHT)) for i in chosen}
    return [replace(point, side=side.get(i), area=point.gib or 0) for i, point in enumerate(points)]


def _tooltip(titles: Mapping[str, str]) -> list[Spec]:
    return [_text(field, title=title) for field, title in titles.items()]


def _colour(rows: Sequence[Point | Mark], key: Literal["family", "label"]) -> Spec:
    """A colour per name in the order of appearance; what comes after the sixth shares a grey."""
    names = list(dict.fromkeys(escape.clean(getattr(row, key)) for row in rows))
    colours = [SERIES[i] if i < len(SERIES) else OTHER for i in range(len(names))]
    told = 2 <= len(names) <= 12
    legend = {"orient": "top", "title": None, "labelLimit": 220} if told else None
    return _text(key, scale={"domain": names, "range": colours}, legend=legend)
