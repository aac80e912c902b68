"""The site's search: what can be found and where, as a script that is loaded when it is asked."""

from __future__ import annotations

from collections.abc import Iterator

from report import escape
from report.rows.results import Results
from report.rows.rows import Result
from report.site import renderers


def script(results: Results) -> str:
    """The file that hands the texts and their addresses to `assets/site.js`."""
    found = dict(_found(results))
    return f"window.quantbenchSearch={escape.script_json(list(found.items()))};\n"


def _found(results: Results) -> Iterator[tuple[str, str]]:
    """Each page, and each variant's speed and quality on each machine."""
    yield from ((text, f"{path}.html") for text, path in renderers.NAVIGATION)
    for load in reversed(results.speed):  # of several loads the first stays
        yield f"{_subject(load)}: speed", f"speed.html#{load.anchor}"
    for score in reversed(results.quality):
        yield f"{_subject(score)}: quality, {score.task}", f"quality.html#{score.anchor}"


def _subject(row: Result) -> str:
    published = ", published" if row.source == "published" else ""
    return escape.clean(f"{row.variant_name} on {row.hardware_name}{published}")
