"""Every page's source from the results: Python prepares, the templates only place and word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report import escape, numbers
from report.charts import drawing
from report.charts.drawing import Chart
from report.decisions.decision import decisions
from report.differences.families import Verdicts
from report.exports.frames import FORMATS, FRAMES
from report.findings.finding import Finding
from report.findings.takeaways import findings
from report.pages import (
    compare,
    decision,
    history,
    overview,
    quality,
    speed,
    tables,
    takeaways,
    variant,
)
from report.pages.decision import Panel
from report.places import TEMPLATES
from report.rows.results import Results
from report.rows.rows import Result, is_toy

Row = TypeVar("Row", bound=Result)
Section = speed.Section | quality.Section | history.Section
NAVIGATION = (
    ("Overview", "index"),
    ("Speed", "speed"),
    ("Quality", "quality"),
    ("Compare", "compare"),
    ("History", "history"),
    ("Methodology", "methodology"),
    ("Data", "data"),
)


@dataclass(frozen=True)
class Page:
    """One page: its path without ending below the site's root, and its source.

    That is held as it is written: one sign beyond Latin doubles a text of Python's.
    """

    path: str
    encoded: bytes

    @property
    def source(self) -> str:
        """What Quarto or Pandoc reads."""
        return self.encoded.decode()

    @property
    def root(self) -> str:
        """The way from this page to the site's root."""
        return "../" * self.path.count("/")


def make(results: Results) -> tuple[list[Page], list[Chart], list[Panel]]:
    """All pages, the charts whose interactive form they offer, and the decisions."""
    verdicts = results.once(Verdicts)
    loads = _arranged(results.speed, lambda row: (row.pace, ""))
    scores = _arranged(results.quality, lambda row: row.asked)
    found = findings(verdicts)
    coverage = overview.coverage(results.runs)
    decided = decisions(verdicts)
    panels = decision.panels(results, decided)
    on_speed, on_quality = speed.sections(loads, verdicts), quality.sections(scores, verdicts)
    on_history = history.sections(results)
    drawn = [
        *(chart for panel in panels for chart in panel.charts),
        *(chart for section in on_speed for chart in section.charts),
        *(chart for section in on_quality for chart in section.charts),
        *(section.chart for section in on_history if section.chart),
    ]
    drawing.draw_ahead(drawn, results.kept, results.root)

    def place(chart: Chart | None) -> escape.Markdown:
        return drawing.figure(chart) if chart else escape.Markdown("")

    shared: dict[str, Any] = {"place": place, "facts": overview.counts(results)}
    pages = [
        _page(
            "index",
            **shared,
            panels=panels,
            measured=takeaways.listed(found, "measured"),
            published=takeaways.listed(found, "published"),
            count=len(found),
            coverage=coverage,
            newest=overview.newest(results.runs),
        ),
        _takeaways(found, shared),
        _page("speed", **shared, sections=on_speed),
        _page(
            "quality",
            **shared,
            recoveries=quality.recoveries(scores, verdicts),
            sections=on_quality,
            own_texts=quality.own_texts(scores, verdicts),
            texts=quality.expectations(results, scores),
        ),
        _page(
            "compare",
            **shared,
            sections=compare.sections(decided, verdicts),
        ),
        _page("history", **shared, sections=on_history),
        _page(
            "methodology",
            **shared,
            served=overview.served([*loads, *scores]),
            asked=overview.asked(scores),
        ),
        _page(
            "data",
            **shared,
            frames={name: what for name, (_, what) in FRAMES.items()},
            formats=FORMATS,
            published=[(each, overview.published(each)) for each in results.references],
            coverage=coverage,
            records=overview.files(results.runs),
            left_out=overview.left_out(results),
        ),
    ]
    for newest, machines in variant.variants(verdicts, loads, scores):
        path = f"variants/{newest.variant}"
        pages.append(_page("variant", path, **shared, newest=newest, machines=machines))
    return pages, drawn, panels


def _page(name: str, path: str = "", **context: Any) -> Page:
    page = Page(path or name, b"")
    template = environment().get_template(f"{name}.qmd.j2")
    frame = {"root": page.root, "path": page.path, "navigation": NAVIGATION}
    source = template.render(**frame, contents=_contents, **context)
    return Page(page.path, f"{source.rstrip()}\n".encode())


def _takeaways(found: Sequence[Finding], shared: dict[str, Any]) -> Page:
    """Every take-away."""
    return _page(
        "takeaways",
        **shared,
        measured=takeaways.listed(found, "measured", len(found)),
        published=takeaways.listed(found, "published", len(found)),
    )


def _contents(prefix: str, sections: Sequence[Section]) -> escape.Markdown:
    """Links to a page's sections, where there are several."""
    links = [
        f"- [{escape.markdown(each.title)}](#{escape.identifier(f'{prefix}-{each.id}')})"
        for each in sections
    ]
    listed = "\n".join(links)
    return escape.Markdown(f"\n::: {{.on-page}}\n{listed}\n:::\n" if len(links) > 1 else "")


def _arranged(rows: Sequence[Row], asked: Callable[[Row], tuple[Any, ...]]) -> list[Row]:
    """By machine; then load or task, family, its baseline, name.

    Machines that served real models come first, then GPUs, then ours before published ones.
    """
    by_machine: dict[str, list[Row]] = {}
    for row in rows:
        by_machine.setdefault(row.hardware, []).append(row)
    machines = {
        hardware: (
            is_toy(own),
            all(row.served.engine_build == "cpu" for row in own),
            all(row.source == "published" for row in own),
            hardware,
        )
        for hardware, own in by_machine.items()
    }

    def place(row: Row) -> tuple[Any, ...]:
        variant = (row.source, row.family, not row.is_baseline, row.variant_name)
        return *machines[row.hardware], *asked(row), *variant

    return sorted(rows, key=place)


@cache
def environment() -> Environment:
    """Templates whose every expression is escaped as Markdown unless it is Markdown already."""
    made = Environment(  # noqa: S701 - Markdown is not HTML; `finalize` escapes for it
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="<!--#",  # {# begins an attribute in Markdown
        comment_end_string="#-->",
        finalize=escape.markdown,
    )
    made.filters.update(
        yaml=escape.yaml_text,
        table=tables.render,
        folded=tables.folded,
        panels=decision.html,
        compared=compare.html,
        findings=takeaways.html,
        whole=numbers.whole,
        date=numbers.date,
        id=escape.identifier,
        path=escape.Markdown,
        bytes=numbers.bytes_,
    )
    return made
