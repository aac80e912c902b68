"""Tables: correct without scripts, and with what `assets/site.js` needs to sort, filter, compare.

A table of measurements is HTML, since a Markdown cell cannot carry the number behind its text; a
table of facts is Markdown by `tabulate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from tabulate import tabulate

from report import escape, numbers
from report.places import TEMPLATES

Better = Literal["lower", "higher", ""]
Scale = Literal["ratio", "points", ""]
Tone = Literal["", "better", "worse", "unknown"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `key` names it in the URL.

    `scale` says how a reader's chosen baseline is put in relation: as a ratio, or as a difference
    in percentage points; `better` which way that is good.
    """

    key: str
    label: str
    unit: str = ""
    numeric: bool = True
    better: Better = ""
    scale: Scale = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows: its text, the interval under it, a note, and the numbers behind both.

    `links` are further texts with where they lead, shown after the first; `drawn` is a picture of
    the interval.
    """

    text: str
    value: float | None = None
    interval: str = ""
    note: str = ""
    href: str = ""
    tag: str = ""
    tone: Tone = ""
    ends: tuple[float, float] | None = None
    links: Sequence[tuple[str, str]] = ()
    drawn: Markup | None = None

    @property
    def sort_value(self) -> str:
        """The number as JSON writes it, or nothing where the text itself is the value."""
        return "" if self.value is None else f"{self.value:.6g}"

    @property
    def sort_ends(self) -> str:
        """The interval as the script reads it, or nothing where there is none."""
        return "" if self.ends is None else f"{self.ends[0]:.6g} {self.ends[1]:.6g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row; ratios are taken between rows of one `group`, named by `variant`.

    `marks` are the purposes that it is taken for.
    """

    head: Cell
    cells: Sequence[Cell]
    id: str = ""
    group: str = ""
    variant: str = ""
    baseline: bool = False
    published: bool = False
    where: str = ""
    pair: str = ""
    marks: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A captioned table of measurements; the first column is the rows' heads.

    A `dense` one is small enough to be taken in at once.
    """

    id: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    baselines: bool = False
    choose: bool = False
    quiet: bool = False
    dense: bool = False


def render(table: Table) -> escape.Markdown:
    """The table as a raw HTML block of a page."""
    return escape.html_block(html(table))


def folded(summary: str, held: Iterable[Table]) -> escape.Markdown:
    """Tables behind a line that opens them, for a page."""
    body = Markup("").join(map(html, held))
    title = escape.html(summary)
    return escape.html_block(Markup(f"<details><summary>{title}</summary>\n{body}</details>"))  # noqa: S704 - escaped


def html(table: Table) -> Markup:
    """The table as HTML, less the columns that no row knows anything of.

    Rows are written here, not by a template, as there are thousands.
    """
    table = _known(table)
    rows = Markup("".join(_row(row, table.columns) for row in table.rows))  # noqa: S704 - escaped
    return fragment("table.html.j2", table=table, rows=rows)


def fragment(template: str, **context: Any) -> Markup:
    """A piece of HTML from a template that escapes every text it is given."""
    text = _environment().get_template(template).render(**context)
    return Markup(text)  # noqa: S704 - escaped by the template


def facts(rows: Iterable[tuple[str, str | None]]) -> escape.Markdown:
    """Two columns, what and its value, as a Markdown table; a missing value is "unknown"."""
    shown = [
        (escape.markdown(name), escape.markdown(value or numbers.UNKNOWN)) for name, value in rows
    ]
    body = tabulate(shown, headers=["", ""], tablefmt="pipe", disable_numparse=True)
    return escape.Markdown(f"::: {{.facts}}\n{body}\n:::\n")


def _known(table: Table) -> Table:
    """The table without the columns that are unknown in every row."""
    keep = [
        i
        for i in range(len(table.columns) - 1)
        if not table.rows or any(row.cells[i].text != numbers.UNKNOWN for row in table.rows)
    ]
    if len(keep) == len(table.columns) - 1:
        return table
    columns = (table.columns[0], *(table.columns[i + 1] for i in keep))
    rows = [replace(row, cells=[row.cells[i] for i in keep]) for row in table.rows]
    return replace(table, columns=columns, rows=rows)


def _row(row: Row, columns: Sequence[Column]) -> str:
    names = [*(["base-row"] if row.baseline else []), *(["published"] if row.published else [])]
    attributes = {
        "id": row.id,
        "data-group": row.group,
        "data-variant": row.variant,
        "data-where": row.where,
        "data-pair": row.pair,
        "data-for": row.marks,
        "class": " ".join(names),
    }
    cells = zip((row.head, *row.cells), columns, strict=True)
    body = "".join(_cell(cell, column, i == 0) for i, (cell, column) in enumerate(cells))
    return f"<tr{_attributes(attributes)}>{body}</tr>\n"


def _cell(cell: Cell, column: Column, first: bool) -> str:
    kind = "num" if column.numeric else ""
    attributes = {"class": kind, "data-v": cell.sort_value, "data-ends": cell.sort_ends}
    if not first:
        attributes["data-label"] = f"{column.label}, {column.unit}" if column.unit else column.label
    shown = [_linked(cell.text, cell.href, cell.tone)] if cell.text else []
    shown += [_linked(text, href) for text, href in cell.links]
    content = f"{cell.drawn or ''}{', '.join(shown)}"
    if cell.interval:
        content += f'<span class="ci">{escape.html(cell.interval)}</span>'
    if cell.tag:
        content += f' <span class="tag">{escape.html(cell.tag)}</span>'
    if cell.note:
        content += f'<span class="sub">{escape.html(cell.note)}</span>'
    if first:
        return f'<th scope="row"{_attributes(attributes)}>{content}</th>'
    return f"<td{_attributes(attributes)}>{content}</td>"


def _linked(text: str, href: str, tone: str = "") -> str:
    shown = str(escape.html(text))
    if href:
        return f'<a href="{escape.html(href)}">{shown}</a>'
    return f'<span class="{tone}">{shown}</span>' if tone else shown


def _attributes(values: dict[str, str]) -> str:
    return "".join(f' {name}="{escape.html(v)}"' for name, v in values.items() if v)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else escape.clean(value),
    )
