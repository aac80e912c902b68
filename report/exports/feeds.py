"""New results as an Atom feed."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape as xml_escape
from xml.sax.saxutils import quoteattr

from report import escape
from report.rows.rows import RunRow

_TITLE = "quantbench: new results"
_MOST = 50
_NO_TIME = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished stage; `time` is ISO 8601 in UTC."""

    id: str
    title: str
    url: str
    time: str


def entries(runs: Sequence[RunRow], site_url: str | None) -> list[Entry]:
    """The newest finished stages, newest first."""
    done = [run for run in runs if run.status != "failed"]
    done.sort(key=lambda run: (run.finished_at or "", run.record), reverse=True)
    base = f"{site_url.rstrip('/')}/" if site_url else "../"
    return [
        Entry(
            _urn(run.record),
            escape.clean(f"{run.variant_name}, {run.stage}, on {run.hardware_name}"),
            f"{base}{run.variant_page}",
            run.finished_at or _NO_TIME,
        )
        for run in done[:_MOST]
    ]


def atom(newest: Sequence[Entry], site_url: str | None) -> str:
    """The Atom feed (RFC 4287); without results it was never updated."""
    items = "".join(
        f"  <entry>\n    <id>{each.id}</id>\n    <title>{xml_escape(each.title)}</title>\n"
        f"    <updated>{each.time}</updated>\n    <link href={quoteattr(each.url)}/>\n"
        "  </entry>\n"
        for each in newest
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
        f"  <id>{_urn(site_url or _TITLE)}</id>\n  <title>{_TITLE}</title>\n"
        f"  <updated>{newest[0].time if newest else _NO_TIME}</updated>\n"
        f"  <author><name>quantbench</name></author>\n{items}</feed>\n"
    )


def _urn(name: str) -> str:
    """An id that is the same for the same name, whoever builds the site."""
    return f"urn:uuid:{uuid.UUID(bytes=hashlib.sha256(name.encode()).digest()[:16], version=4)}"
