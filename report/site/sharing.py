"""What is sent around: a decision as one file for mailing, and the card that a link shows."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from report import escape
from report.pages import decision, tables
from report.pages.decision import Panel
from report.places import ASSETS

CARD = "assets/card.png"
_WIDTH, _HEIGHT = 1200, 630  # what networks ask of a card
_LOCAL = re.compile(r' href="(?!#)([^"]*)"')
_FOOTER = (
    "Built by quantbench from result records, or published results where it says so. "
    "This file needs no network and no scripts."
)


def one_file(panel: Panel, site_url: str | None) -> str:
    """The decision with its style and pictures inside; links lead to the site if it is known."""
    body = decision.markup([replace(panel, models=(), machines=(), file="")])
    base = f"{site_url.rstrip('/')}/" if site_url else ""
    linked = _LOCAL.sub(rf' href="{escape.html(base)}\1"' if base else "", str(body))
    style = (ASSETS / "style.css").read_text(encoding="utf-8")
    return str(
        tables.fragment(
            "decision.html.j2",
            panel=panel,
            body=Markup(linked),  # noqa: S704 - made of markup, less addresses
            style=Markup(style),  # noqa: S704 - ours
            footer=_FOOTER,
        )
    )


def card(panels: Sequence[Panel]) -> bytes:
    """A picture of the first decision's sentence, as a PNG."""
    import vl_convert

    title, text = "quantbench", "What quantization costs and buys"
    if panels:
        title, text = panels[0].title, panels[0].summary
    lines = [
        *((line, 30, "#565d64") for line in textwrap.wrap(title, 60)[:2]),
        *((line, 48, "#1c2024") for line in textwrap.wrap(text, 40)[:6]),
    ]
    y, shown = 60.0, Markup("")
    for line, size, colour in lines:
        y += 1.35 * size
        shown += Markup(
            '<text x="80" y="{}" font-size="{}" fill="{}" font-family="Liberation Sans, Arial">{}'
            "</text>"
        ).format(y, size, colour, escape.clean(line))
    svg = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}">'
        '<rect width="100%" height="100%" fill="#fdfdfc"/>'
        '<rect width="24" height="100%" fill="#00588f"/>{}</svg>'
    ).format(_WIDTH, _HEIGHT, shown)
    return bytes(vl_convert.svg_to_png(str(svg)))
