"""The charts: quality against speed, rankings, and curves, as Vega-Lite by altair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from report import escape
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
    Datum,
    draw,
    place_labels,
)

MOST_ROWS = 40
_HEIGHT = 340


def trade_off(name: str, points: Sequence[Datum], caption: str, metric: str) -> Chart | None:
    """Accuracy against time per token, with both intervals, memory as area, and the front.

    Each point: label, family, x, x_low, x_high (ms), y, y_low, y_high (%), gib, front, published,
    href, and the texts of a tooltip.
    """
    if not points:
        return None
    alt = _altair()

    domains = {axis: _domain(points, axis) for axis in ("x", "y")}
    time = "time per output token, mean, ms (less is faster)"
    x = alt.X("x:Q", title=time, scale=_over(domains["x"]))
    y = alt.Y("y:Q", title=f"{metric}, %", scale=_over(domains["y"]))
    colour = _colour(points, "family")
    most = max(point["gib"] or 0 for point in points) or 1.0
    size = alt.Size("area:Q", scale=alt.Scale(domain=[0, most], range=[24, 380]), legend=None)

    def compose(width: int) -> tuple[Any, Sequence[Datum]]:
        rows = _with_sides(points, domains, width)
        base = alt.Chart()
        bar = {"strokeWidth": 1.25, "opacity": 0.5}
        front = base.transform_filter("datum.front").mark_line(
            strokeDash=[3, 3], strokeWidth=1, color=SOFT, interpolate="step-after"
        )
        marks = {"opacity": 0.92, "strokeWidth": 1.5}
        texts = ("label", "x_text", "y_text", "gib_text")
        dots = base.transform_filter("!datum.published").mark_point(
            **marks, filled=True, stroke=PAPER
        )
        rings = base.transform_filter("datum.published").mark_point(**marks, filled=False)
        layers = alt.layer(
            front.encode(x=x, y=y, order="x:Q"),
            base.mark_rule(**bar).encode(x="x_low:Q", x2="x_high:Q", y=y, color=colour),
            base.mark_rule(**bar).encode(x=x, y="y_low:Q", y2="y_high:Q", color=colour),
            rings.encode(x=x, y=y, color=colour, size=size, href="href:N"),
            dots.encode(x=x, y=y, color=colour, size=size, href="href:N", tooltip=_tooltip(*texts)),
            *(
                base.transform_filter(f"datum.side == {i}")
                .mark_text(align=align, dx=dx, dy=dy, fontSize=11, color=INK)
                .encode(x=x, y=y, text="label:N")
                for i, (align, dx, dy) in enumerate(ANCHORS)
                if any(row["side"] == i for row in rows)
            ),
        )
        return layers, rows

    return draw(name, caption, compose, _HEIGHT)


def ranking(
    name: str, rows: Sequence[Datum], caption: str, title: str, *, at: float | None = None
) -> Chart | None:
    """One line per variant: its value and interval; `at` draws what guessing would score.

    Each row: label, family, value, low, high, text, href; at most MOST_ROWS are drawn.
    """
    if not rows:
        return None
    alt = _altair()

    shown = rows[:MOST_ROWS]
    order = list(dict.fromkeys(escape.clean(row["label"]) for row in shown))
    plain = alt.Axis(domain=False, ticks=False, grid=False)
    y = alt.Y("label:N", title=None, sort=order, axis=plain)
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, nice=True, padding=12))
    colour = _colour(rows, "family")

    def compose(_: int) -> tuple[Any, Sequence[Datum]]:
        base = alt.Chart()
        layers = [
            base.mark_rule(strokeWidth=2, opacity=0.5).encode(
                x="low:Q", x2="high:Q", y=y, color=colour
            ),
            base.mark_point(filled=True, size=70, opacity=1).encode(
                x=x, y=y, color=colour, href="href:N", tooltip=_tooltip("label", "text")
            ),
        ]
        if at is not None:
            guessing = alt.Chart(alt.Data(values=[{"at": at}]))
            layers.insert(0, guessing.mark_rule(strokeDash=[4, 3], color=SOFT).encode(x="at:Q"))
        return alt.layer(*layers), shown

    widths = (WIDE, NARROW - 75)  # names take their room
    return draw(name, caption, compose, 24 * len(order) + 8, widths)


def lines(
    name: str,
    rows: Sequence[Datum],
    caption: str,
    titles: tuple[str, str],
    *,
    over_time: bool = False,
) -> Chart | None:
    """A line with intervals per `label` over `x`; each row: label, x, value, low, high, text."""
    if not rows:
        return None
    alt = _altair()

    days = alt.Axis(format="%Y-%m-%d", labelOverlap=True) if over_time else alt.Axis()
    kind = alt.Scale(type="utc") if over_time else alt.Scale(zero=True)
    x = alt.X("x:T" if over_time else "x:Q", title=titles[0], axis=days, scale=kind)
    y = alt.Y("value:Q", title=titles[1], scale=alt.Scale(zero=False, nice=True))
    colour = _colour(rows, "label")

    def compose(_: int) -> tuple[Any, Sequence[Datum]]:
        base = alt.Chart()
        layers = alt.layer(
            base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=colour),
            base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(
                x=x, y="low:Q", y2="high:Q", color=colour
            ),
            base.mark_point(filled=True, size=45, opacity=1).encode(
                x=x, y=y, color=colour,
                shape=alt.Shape("label:N", legend=None),
                tooltip=_tooltip("label", "text"),
            ),
        )  # fmt: skip
        return layers, rows

    return draw(name, caption, compose, 260)


def pareto(points: Sequence[Datum]) -> set[int]:
    """The positions of points that no other beats in x (less is better) and y (more is better)."""
    best, front = float("-inf"), set()
    for i in sorted(range(len(points)), key=lambda i: (points[i]["x"], -points[i]["y"], i)):
        if points[i]["y"] > best:
            best = points[i]["y"]
            front.add(i)
    return front


def _altair() -> Any:
    """Altair, untyped: its own types spell out every colour there is."""
    import altair

    return altair


def _domain(points: Sequence[Datum], axis: str) -> tuple[float, float]:
    """From the lowest to the highest end of an interval, and a little more."""
    ends = [
        value
        for point in points
        for value in (point[axis], point[f"{axis}_low"], point[f"{axis}_high"])
        if value is not None
    ]
    room = 0.06 * (max(ends) - min(ends)) or 0.06 * abs(ends[0]) or 1.0
    return min(ends) - room, max(ends) + room


def _over(domain: tuple[float, float]) -> Any:
    alt = _altair()

    return alt.Scale(domain=list(domain), nice=False, zero=False)


def _with_sides(points: Sequence[Datum], domains: dict[str, Any], width: int) -> list[Datum]:
    """The points, each with which of ANCHORS its name has room at; None where it has none."""
    (left, right), (bottom, top) = domains["x"], domains["y"]
    pixels = [
        (
            (point["x"] - left) / (right - left) * width,
            (top - point["y"]) / (top - bottom) * _HEIGHT,
            escape.clean(point["label"]),
        )
        for point in points
    ]
    side = {i: k for k, chosen in enumerate(place_labels(pixels, width, _HEIGHT)) for i in chosen}
    return [
        {**point, "side": side.get(i), "area": point["gib"] or 0} for i, point in enumerate(points)
    ]


def _tooltip(*fields: str) -> list[Any]:
    alt = _altair()

    return [alt.Tooltip(f"{field}:N", title=field.removesuffix("_text")) for field in fields]


def _colour(rows: Sequence[Datum], key: str) -> Any:
    """A colour per name in the order of appearance; what comes after the sixth shares a grey."""
    alt = _altair()

    names = list(dict.fromkeys(escape.clean(row[key]) for row in rows))
    colours = [SERIES[i] if i < len(SERIES) else OTHER for i in range(len(names))]
    told = 2 <= len(names) <= 12
    legend = alt.Legend(orient="top", title=None, labelLimit=220) if told else None
    return alt.Color(f"{key}:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
