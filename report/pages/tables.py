"""Tables: correct without scripts, and with what `assets/site.js` needs to sort, filter, compare.

A table of measurements is HTML, since a Markdown cell cannot carry the number behind its text; a
table of facts is made by `tabulate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from tabulate import tabulate

from report import escape, numbers
from report.places import TEMPLATES

Better = Literal["lower", "higher", ""]
Change = Literal["exact", "untested", "unpaired", ""]
Tone = Literal["", "better", "worse", "unknown"]
_LONG = 60  # characters of a fact that are seen at once


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `key` names it in the URL.

    `better` says which way is good; `change` how two side by side are told that no test is about:
    by their change, by that and that it is not tested, or that they are not paired. `note` stands
    under the label in the head; cards on a phone, which repeat label and unit, leave it out.
    """

    key: str
    label: str
    unit: str = ""
    numeric: bool = True
    better: Better = ""
    change: Change = ""
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows: its text, the interval or a note under it, and the numbers behind both.

    It takes two lines at most: `word` stands beside the text, `title` is said when it is pointed
    at, `more` is opened by a click. `links` are further texts with where they lead, shown after
    the first; `drawn` is a picture of the interval; a row's head leads to its `records`.
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
    word: str = ""
    title: str = ""
    more: str = ""
    records: Sequence[tuple[str, str]] = ()

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
    """One row; those of one `group` may stand under a heading.

    `marks` are the purposes that it is taken for; `pair` holds the ids of the two rows it is about.
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

    A `dense` one is small enough to be taken in at once. `headings` stand above the rows of each
    group, which are sorted among themselves alone.
    """

    id: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    choose: bool = False
    quiet: bool = False
    dense: bool = False
    headings: Mapping[str, str] = field(default_factory=dict)


def render(table: Table) -> escape.Markdown:
    """The table as a raw HTML block of a page."""
    return escape.html_block(html(table))


def folded(value: Sequence[Table], summary: str) -> escape.Markdown:
    """Tables that a reader opens, as a raw HTML block."""
    shown = Markup("\n").join(html(table) for table in value)
    opened = Markup('<details class="group">\n<summary>{}</summary>\n{}\n</details>')
    return escape.html_block(opened.format(escape.html(summary), shown))


def html(table: Table) -> Markup:
    """The table as HTML, less the columns that no row knows anything of.

    Rows are written here, not by a template, as there are thousands.
    """
    table = _known(table)
    bodies = Markup("".join(_bodies(table)))  # noqa: S704 - escaped
    return fragment("table.html.j2", table=table, bodies=bodies)


def fragment(template: str, **context: Any) -> Markup:
    """A piece of HTML from a template that escapes every text it is given."""
    text = _environment().get_template(template).render(**context)
    return Markup(text)  # noqa: S704 - escaped by the template


def facts(rows: Iterable[tuple[str, str | None]]) -> escape.Markdown:
    """Two columns, what and its value; a missing value is "unknown", a long one is opened."""
    shown = [(escape.html(name), _fact(value or numbers.UNKNOWN)) for name, value in rows]
    body = Markup(tabulate(shown, tablefmt="unsafehtml", disable_numparse=True))  # noqa: S704
    return escape.html_block(Markup('<div class="facts">{}</div>').format(body))


def _fact(value: str) -> Markup:
    text = escape.clean(value)
    if len(text) <= _LONG:
        return escape.html(text)
    start = text[:_LONG].rpartition(" ")[0].rstrip(",;")
    return Markup("<details><summary>{} …</summary><span>{}</span></details>").format(start, text)


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


def _bodies(table: Table) -> Iterable[str]:
    """The rows, a body for each group that has a heading."""
    for group, rows in groupby(table.rows, lambda row: row.group if table.headings else ""):
        head, title = "", table.headings.get(group)
        if title:
            attributes = _attributes({"scope": "rowgroup", "colspan": str(len(table.columns))})
            head = f'<tr class="heading"><th{attributes}>{escape.html(title)}</th></tr>\n'
        yield f"<tbody>\n{head}{''.join(_row(row, table.columns) for row in rows)}</tbody>\n"


def _row(row: Row, columns: Sequence[Column]) -> str:
    names = [*(["base-row"] if row.baseline else []), *(["published"] if row.published else [])]
    attributes = {
        "id": row.id,
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
    shown = [_linked(cell.text, cell.href, cell.tone, cell.title)] if cell.text else []
    shown += [_linked(text, href) for text, href in cell.links]
    content = f"{cell.drawn or ''}{', '.join(shown)}"
    if cell.word:
        content += f' <span class="word {cell.tone}">{escape.html(cell.word)}</span>'
    if cell.tag:
        content += f' <span class="tag">{escape.html(cell.tag)}</span>'
    if cell.records:
        listed = ", ".join(_linked(text, href) for text, href in cell.records)
        content += f' <span class="records">{listed}</span>'
    beneath = cell.interval or cell.note
    if beneath or cell.more:
        content += f'<span class="sub">{escape.html(beneath)}{_more(cell.more)}</span>'
    if first:
        return f'<th scope="row"{_attributes(attributes)}>{content}</th>'
    return f"<td{_attributes(attributes)}>{content}</td>"


def _more(text: str) -> str:
    """What is opened by a click, without scripts too."""
    return (
        f" <details><summary>note</summary><span>{escape.html(text)}</span></details>"
        if text
        else ""
    )


def _linked(text: str, href: str, tone: str = "", title: str = "") -> str:
    shown = str(escape.html(text))
    if href:
        return f"<a{_attributes({'href': href, 'title': title})}>{shown}</a>"
    known = _attributes({"class": tone, "title": title})
    return f"<span{known}>{shown}</span>" if known else shown


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
