"""The site's search: what can be found and where, as a script that is loaded when it is asked."""

from __future__ import annotations

from report import escape
from report.pages.all_pages import NAVIGATION
from report.rows.results import Results
from report.rows.rows import QualityRow, Result, is_toy


def script(results: Results) -> str:
    """The file that hands the texts and their addresses to `assets/site.js`."""
    return f"window.quantbenchSearch={escape.script_json(entries(results))};\n"


def entries(results: Results) -> list[tuple[str, str]]:
    """Each page, and each variant's speed and quality on each machine, with its address.

    What was measured stands before what was published, real models before toys.
    """
    found = {text: f"{path}.html" for text, path in NAVIGATION}
    every: tuple[Result, ...] = (*results.speed, *results.quality)
    families: dict[str, list[Result]] = {}
    for row in every:
        families.setdefault(row.family, []).append(row)
    toys = {family for family, rows in families.items() if is_toy(rows)}

    for row in sorted(every, key=lambda row: (row.source != "measured", row.family in toys)):
        page, what = ("quality", f", {row.task}") if isinstance(row, QualityRow) else ("speed", "")
        found.setdefault(f"{_subject(row)}: {page}{what}", f"{page}.html#{row.anchor}")
    return list(found.items())


def _subject(row: Result) -> str:
    published = ", published" if row.source == "published" else ""
    return escape.clean(f"{row.variant_name} on {row.hardware_name}{published}")
