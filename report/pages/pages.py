"""Every page's source from the results: Python prepares, the templates only place and word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report import escape, numbers
from report.charts import drawing, pictures
from report.charts.drawing import Chart
from report.differences import compare
from report.exports import export
from report.findings import takeaways
from report.findings.finding import Finding
from report.pages import compare as comparison
from report.pages import (
    expectations,
    history,
    methodology,
    overview,
    pair_tests,
    quality,
    speed,
    tables,
    takeaway_lists,
)
from report.pages import variant as variants
from report.pages.verdict_cells import Tests
from report.places import TEMPLATES
from report.rows.load import Results, rows_of
from report.site.renderers import Page

Frame = dict[str, Any]
Place = Callable[[Chart | None], escape.Markdown]


def make(results: Results) -> tuple[list[Page], list[Chart]]:
    """All pages, and the charts whose interactive form they offer."""
    runs = rows_of(results.runs)
    fast, good = _arranged(rows_of(results.speed)), _arranged(rows_of(results.quality))
    drawn: list[Chart] = []

    def place(chart: Chart | None) -> escape.Markdown:
        if chart is None:
            return escape.Markdown("")
        drawn.append(chart)
        return drawing.figure(chart)

    shared: dict[str, Any] = {"place": place, "facts": overview.facts(runs, fast, good)}
    differences = compare.differences(results)
    tests, found = Tests(differences), takeaways.findings(results, differences)
    pages = [
        _page("index", **shared, **overview.context(runs, fast, good, found)),
        _findings(found, shared),
        _page("speed", **shared, sections=_speed_sections(fast, tests)),
        _page(
            "quality",
            **shared,
            sections=_quality_sections(good, tests),
            texts=expectations.tables(results, good),
        ),
        _page(
            "compare",
            **shared,
            table=comparison.table(fast, good),
            tested=pair_tests.table(results, fast, good, differences),
        ),
        _page("history", **shared, sections=history.sections(results, "")),
        _page(
            "methodology",
            **shared,
            served=methodology.served([*fast, *good]),
            asked=methodology.asked(good),
        ),
        _page(
            "data",
            **shared,
            frames=export.FRAMES,
            formats=export.FORMATS,
            published=[(each, overview.published(each)) for each in results.references],
            records=overview.files(runs),
        ),
    ]
    pages += _variant_pages(results, {"runs": runs, "speed": fast, "quality": good}, shared, tests)
    return pages, drawn


def _page(name: str, path: str = "", **context: Any) -> Page:
    page = Page(path or name, "")
    template = environment().get_template(f"{name}.qmd.j2")
    source = template.render(root=page.root, contents=_contents, **context)
    return Page(page.path, source.rstrip() + "\n")


def _findings(found: Sequence[Finding], shared: dict[str, Any]) -> Page:
    """Every take-away, the picks among them."""
    lists: dict[str, Any] = {
        source: takeaway_lists.listed(found, source, len(found), picks=True)
        for source in ("measured", "published")
    }
    choices = takeaway_lists.choices(found, len(found))
    return _page("takeaways", **shared, **lists, choices=choices)


def _contents(prefix: str, sections: Sequence[dict[str, Any]]) -> escape.Markdown:
    """Links to a page's sections, where there are several."""
    links = [
        f"- [{escape.markdown(each['title'])}](#{escape.identifier(prefix + '-' + each['id'])})"
        for each in sections
    ]
    listed = "\n".join(links)
    return escape.Markdown(f"\n::: {{.on-page}}\n{listed}\n:::\n" if len(links) > 1 else "")


def _arranged(rows: Sequence[Frame]) -> list[Frame]:
    """By machine, ours before published ones; then load, family, its baseline, name."""
    ours = {row["hardware"] for row in rows if row["source"] == "measured"}

    def place(row: Frame) -> tuple[Any, ...]:
        asked = row.get("request_rate_rps") or row.get("task")
        return (
            row["hardware"] not in ours,
            row["hardware"],
            asked,
            row.get("metric") or "",
            row["source"],
            row["family"],
            not row["is_baseline"],
            row["variant_name"],
        )

    return sorted(rows, key=place)


def _speed_sections(rows: Sequence[Frame], tests: Tests) -> list[dict[str, Any]]:
    sections = speed.tables(rows, "", tests.speed)
    for section in sections:
        own = [row for row in rows if row["hardware"] == section["id"]]
        section["charts"] = pictures.speeds(section["id"], section["title"], own)
    return sections


def _quality_sections(rows: Sequence[Frame], tests: Tests) -> list[dict[str, Any]]:
    sections = quality.tables(rows, "", tests.quality)
    for section in sections:
        own = [
            row for row in rows
            if (row["hardware"], row["task"]) == (section["hardware"], section["task"])
        ]  # fmt: skip
        section["chart"] = pictures.scores(section["id"], own)
    return sections


def _variant_pages(
    results: Results, frames: dict[str, list[Frame]], shared: dict[str, Any], tests: Tests
) -> Iterator[Page]:
    frames = {
        **frames,
        "repeats": rows_of(results.repeats),
        "history": rows_of(results.history),
    }
    measured = {
        name: _by_variant([row for row in rows if row.get("source") != "published"])
        for name, rows in frames.items()
    }
    for slug, own in measured["runs"].items():
        machines = []
        for hardware in dict.fromkeys(row["hardware"] for row in own):
            here = {
                name: [row for row in rows.get(slug, []) if row["hardware"] == hardware]
                for name, rows in measured.items()
            }
            records = [results.read(row["record"]) for row in here["runs"] if row["current"]]
            machines.append(
                {
                    "id": hardware,
                    "title": here["runs"][0]["hardware_name"],
                    **variants.results(hardware, here["speed"], here["quality"], tests),
                    "repeats": variants.repeats(hardware, here["repeats"]),
                    "earlier": variants.earlier(hardware, here["history"]),
                    "runs": variants.runs(hardware, here["runs"]),
                    "records": records,
                }
            )
        newest = max(own, key=lambda row: (row["finished_at"], row["record"]))
        context = {**shared, "newest": newest, "machines": machines, "v": variants}
        yield _page("variant", f"variants/{slug}", **context)


def _by_variant(rows: Sequence[Frame]) -> dict[str, list[Frame]]:
    grouped: dict[str, list[Frame]] = {}
    for row in rows:
        grouped.setdefault(row["variant"], []).append(row)
    return grouped


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
        picks=lambda choice: takeaway_lists.html("picks", choice),
        findings=lambda found: takeaway_lists.html("findings", found),
        whole=numbers.whole,
        date=numbers.date,
        id=escape.identifier,
        path=escape.Markdown,
        bytes=numbers.bytes_,
    )
    return made
