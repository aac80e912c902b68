"""From a chart's spec to what stands in a page: SVGs that follow the theme, and a script's file.

Colours are written as fixed inks and turned into the style sheet's variables in the SVG, so that
one picture serves the light and the dark theme. A reader who wants more loads the interactive
form, from the same spec; nobody else pays for it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from markupsafe import Markup

from report import escape
from report.stats import Estimate

Spec = dict[str, Any]

# Okabe and Ito's palette, darkened where it would be too faint on paper, and the inks of text,
# each with the style sheet's variable that stands for it.
SERIES = ("#0072b2", "#b35400", "#007a5a", "#a3447a", "#7a6a00", "#2b7fae")
INK, SOFT, GRID, PAPER, OTHER = "#1c2024", "#565d64", "#e4e4df", "#fdfdfc", "#565d65"
INKS = {
    **{colour: f"--c{number}" for number, colour in enumerate(SERIES, 1)},
    **{OTHER: "--c7", SOFT: "--soft", INK: "--ink", GRID: "--grid", PAPER: "--paper"},
}
WIDE, NARROW = 640, 250
_LETTER, _LINE, _DOT = 7.0, 13.0, 9.0  # pixels: a label's letter and line, a dot's reach
ANCHORS = (("left", 9, -9), ("left", 9, 12), ("right", -9, -9), ("right", -9, 12))


@dataclass(frozen=True, slots=True)
class Point:
    """One variant in the picture of quality (y, %) against time (x, ms), its weights as area.

    The texts are a tooltip's. `side` is where its label stands, among ANCHORS.
    """

    label: str
    family: str
    x: Estimate
    y: Estimate
    gib: float | None
    published: bool
    href: str
    x_text: str
    y_text: str
    gib_text: str
    front: bool = False
    side: int | None = None
    area: float = 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One value of a ranking or a line, with its interval and the text of a tooltip."""

    label: str
    family: str | None
    x: float | str | None
    value: Estimate
    text: str
    href: str | None
    x_text: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture: what it shows in a sentence, its interactive spec, and its drawings."""

    name: str
    caption: str
    spec: Spec
    wide: str
    narrow: str

    @property
    def script(self) -> str:
        """The file that hands the spec to the interactive form."""
        return (
            f"window.quantbenchInks={escape.script_json(INKS)};\n"
            f"window.quantbenchCharts[{escape.script_json(self.name)}]="
            f"{escape.script_json(self.spec)};\n"
        )


def figure(chart: Chart) -> escape.Markdown:
    """The chart as a raw HTML block of a page."""
    return escape.html_block(markup(chart))


def markup(chart: Chart) -> Markup:
    """The chart as HTML: drawings that need no script, and a caption."""
    drawings = Markup("\n").join(
        Markup(f'<div class="{kind}">{svg}</div>')  # noqa: S704 - drawn and escaped here
        for kind, svg in (("wide", chart.wide), ("narrow", chart.narrow))
    )
    return Markup(
        '<figure class="chart" data-chart="{}">\n{}\n<figcaption>{}</figcaption>\n</figure>'
    ).format(escape.html(chart.name), drawings, escape.html(chart.caption))


def draw(
    name: str,
    caption: str,
    compose: Callable[[int], tuple[Any, Sequence[Point | Mark]]],
    height: int,
    widths: tuple[int, int] = (WIDE, NARROW),
) -> Chart:
    """Draws the chart and data that `compose` makes for a width in pixels, wide and narrow."""
    wide, narrow = (_spec(*compose(width), width, height) for width in widths)
    drawings = [_svg(spec, f"{name}-{i}", caption) for i, spec in enumerate((wide, narrow))]
    return Chart(name, caption, _interactive(wide), *drawings)


@cache
def bundle() -> str:
    """The Vega, Vega-Lite and Vega-Embed scripts as one file, from the installed package."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def place_labels(
    points: Sequence[tuple[float, float, str]], width: float, height: float
) -> list[list[int]]:
    """For each of ANCHORS, which points (x, y in pixels, label) carry their label there.

    Greedy, in the points' order: a label that would cover a dot or another label on every side is
    left out; the table below the picture has every name.
    """
    taken = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y, _ in points]
    placed: list[list[int]] = [[] for _ in ANCHORS]
    for i, (x, y, label) in enumerate(points):
        for anchor, (side, dx, dy) in enumerate(ANCHORS):
            length = _LETTER * len(label)
            left = x + dx if side == "left" else x + dx - length
            box = (left, y + dy - _LINE / 2, left + length, y + dy + _LINE / 2)
            inside = box[0] >= 0 and box[2] <= width and box[1] >= 0 and box[3] <= height
            others = (other for k, other in enumerate(taken) if k != i)
            if inside and not any(_overlap(box, other) for other in others):
                placed[anchor].append(i)
                taken.append(box)
                break
    return placed


def _datum(row: Point | Mark) -> dict[str, Any]:
    """What is known of a datum, its texts cleaned, the ends of an interval beside its value."""
    datum: dict[str, Any] = {}
    for each in fields(row):
        value = getattr(row, each.name)
        if isinstance(value, Estimate):
            datum[each.name] = value.value
            if value.interval:
                ends = f"{each.name}_" if each.name != "value" else ""
                datum |= {f"{ends}low": value.interval.low, f"{ends}high": value.interval.high}
        elif value is not None:
            datum[each.name] = escape.clean(value) if isinstance(value, str) else value
    return datum


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _spec(chart: Any, rows: Sequence[Point | Mark], width: int, height: int) -> Spec:
    """The chart's Vega-Lite with its look and size; altair never sees the data, being slow."""
    spec: Spec = chart.properties(width=width, height=height).to_dict(validate=False)
    spec["data"] = {"values": [_datum(row) for row in rows]}
    for layer in spec["layer"]:
        if layer["data"] == {"name": "empty"}:  # altair's word for a chart without data
            del layer["data"]
    axis = {
        **{"labelColor": SOFT, "titleColor": SOFT, "gridColor": GRID, "domainColor": GRID},
        **{"tickColor": GRID, "titleFontWeight": "normal", "titleFontSize": 12, "tickCount": 6},
        **{"labelFontSize": 11, "titlePadding": 8, "labelLimit": 260 if width == WIDE else 165},
    }
    # A reader's font may be wider than the one that is measured here: columns have room.
    legend = {"labelColor": INK, "labelFontSize": 11, "columns": 3 if width == WIDE else 1}
    legend |= {"columnPadding": 48, "symbolOpacity": 1}
    spec["config"] = {
        **{
            "aria": False,
            "background": "transparent",
            "font": "Arial, Liberation Sans, sans-serif",
        },
        **{"axis": axis, "legend": legend, "view": {"stroke": None}},
    }
    return _without_counters(spec)


def _without_counters(spec: Spec) -> Spec:
    """Altair numbers views in the order of a process's life; pages must not depend on that."""
    text = re.sub(r'"name": "view_\d+"', '"name": "view"', json.dumps(spec))
    made: Spec = json.loads(text)
    return made


def _interactive(spec: Spec) -> Spec:
    """The spec for a reader with scripts: as wide as the page, with zoom."""
    made = copy.deepcopy(spec)
    made["width"] = "container"
    for layer in made.get("layer", []):
        if "tooltip" in layer.get("encoding", {}):
            types = {axis: layer["encoding"][axis].get("type") for axis in ("x", "y")}
            axes = [axis for axis, kind in types.items() if kind != "nominal"]
            zoom = {"name": "zoom", "select": {"type": "interval", "encodings": axes}}
            layer["params"] = [{**zoom, "bind": "scales"}]
    return made


def _svg(spec: Spec, prefix: str, caption: str) -> str:
    """The drawing: ids unique in the page, inks as variables, no links inside an image."""
    import vl_convert

    plain = copy.deepcopy(spec)
    for layer in plain.get("layer", []):
        for channel in ("href", "tooltip"):
            layer.get("encoding", {}).pop(channel, None)
    svg = vl_convert.vegalite_to_svg(plain)
    svg = re.sub(r'(id="|url\(#|href="#)([\w-]+)', rf"\g<1>{prefix}-\g<2>", svg)
    svg = re.sub("|".join(INKS), lambda match: f"var({INKS[match[0]]})", svg)
    svg = re.sub(r' (role|aria-roledescription)="[^"]*"', "", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape.html(caption)}" ', 1)
