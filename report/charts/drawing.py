"""From a chart's spec to what stands in a page: SVGs that follow the theme, and a script's file.

Colours are written as fixed inks and turned into the style sheet's variables in the SVG, so that
one picture serves the light and the dark theme. A reader who wants more loads the interactive
form, from the same spec; nobody else pays for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from markupsafe import Markup

from report import escape
from report.charts import pictures
from report.charts.pictures import Spec
from report.stats import Estimate

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

    The texts and the `label` are a tooltip's, the `short` label stands in the picture, at its
    `side`, one of ANCHORS.
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
    short: str = ""
    front: bool = False
    side: int | None = None
    area: float = 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One value of a ranking or a line, with its interval and the text of a tooltip.

    A ranking's axis says the `short` label.
    """

    label: str
    family: str | None
    x: float | str | None
    value: Estimate
    text: str
    href: str | None
    x_text: str = ""
    short: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture: what it shows in a sentence, and its specs, for a wide page and a narrow one."""

    name: str
    caption: str
    specs: tuple[Spec, Spec]

    @property
    def wide(self) -> str:
        """The drawing for a wide page."""
        return self._svg(0)

    @property
    def narrow(self) -> str:
        """The drawing for a narrow page."""
        return self._svg(1)

    @property
    def spec(self) -> Spec:
        """The interactive form."""
        return _interactive(self.specs[0])

    @property
    def script(self) -> str:
        """The file that hands the spec to the interactive form."""
        return (
            f"window.quantbenchInks={escape.script_json(INKS)};\n"
            f"window.quantbenchCharts[{escape.script_json(self.name)}]="
            f"{escape.script_json(self.spec)};\n"
        )

    def _svg(self, which: int) -> str:
        """The drawing: ids unique in the page, inks as variables."""
        prefix, svg = f"{self.name}-{which}", pictures.svg(plain(self.specs[which]))
        svg = re.sub(r'(id="|url\(#|href="#)([\w-]+)', rf"\g<1>{prefix}-\g<2>", svg)
        svg = re.sub("|".join(INKS), lambda match: f"var({INKS[match[0]]})", svg)
        svg = re.sub(r' (role|aria-roledescription)="[^"]*"', "", svg)
        told = escape.html(self.caption)
        return svg.replace("<svg ", f'<svg role="img" aria-label="{told}" ', 1)


def draw_ahead(charts: Sequence[Chart], kept: Path | None, root: Path) -> None:
    """Draws what the charts need, all at once.

    Args:
        kept: the file in which drawings are kept from one time to the next, for the records
            under `root`.
    """
    specs = [plain(spec) for chart in charts for spec in chart.specs]
    pictures.draw_ahead(specs, kept, root)


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
    compose: Callable[[int], tuple[Sequence[Spec], Sequence[Point | Mark]]],
    height: int,
    widths: tuple[int, int] = (WIDE, NARROW),
) -> Chart:
    """The chart of the layers and data that `compose` makes for a width, wide and narrow."""
    wide, narrow = (_spec(*compose(width), width, height) for width in widths)
    return Chart(name, caption, (wide, narrow))


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


def _spec(layers: Sequence[Spec], rows: Sequence[Point | Mark], width: int, height: int) -> Spec:
    """The layers over the data, with their look and size."""
    axis = {
        **{"labelColor": SOFT, "titleColor": SOFT, "gridColor": GRID, "domainColor": GRID},
        **{"tickColor": GRID, "titleFontWeight": "normal", "titleFontSize": 12},
        **{"tickCount": 6 if width == WIDE else 4, "labelOverlap": "greedy", "labelSeparation": 6},
        **{"labelFontSize": 11, "titlePadding": 8, "labelLimit": 260 if width == WIDE else 165},
    }
    # A reader's font may be wider than the one that is measured here: columns have room.
    legend = {"labelColor": INK, "labelFontSize": 11, "columns": 3 if width == WIDE else 1}
    legend |= {"columnPadding": 48, "symbolOpacity": 1}
    look = {"aria": False, "background": "transparent", "view": {"stroke": None}}
    look["font"] = "Arial, Liberation Sans, sans-serif"
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "config": {**look, "axis": axis, "legend": legend},
        "data": {"values": [_datum(row) for row in rows]},
        "layer": list(layers),
        "height": height,
        "width": width,
    }


def _interactive(spec: Spec) -> Spec:
    """The spec for a reader with scripts: as wide as the page, with zoom."""
    layers = []
    for layer in spec["layer"]:
        encoding = layer["encoding"]
        if "tooltip" in encoding:
            axes = [axis for axis in ("x", "y") if encoding[axis]["type"] != "nominal"]
            zoom = {"name": "zoom", "select": {"type": "interval", "encodings": axes}}
            layers.append({**layer, "params": [{**zoom, "bind": "scales"}]})
        else:
            layers.append(layer)
    return {**spec, "layer": layers, "width": "container"}


def plain(spec: Spec) -> Spec:
    """The spec of a drawing: no links inside an image, nor what is told when it is pointed at."""
    layers = [
        {
            **layer,
            "encoding": {
                channel: told
                for channel, told in layer["encoding"].items()
                if channel not in ("href", "tooltip")
            },
        }
        for layer in spec["layer"]
    ]
    return {**spec, "layer": layers}
