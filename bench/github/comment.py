"""The pull request's one comment: the plan, and later the numbers, out of text nobody vouches for.

What it says comes from an artifact that a fork's own code may have made. So the artifact is one
small JSON document of headings, cells and notes; each text is shown inert, whatever it holds; and
which pull request it goes to is decided from the event and the API alone. Standard library only,
like `api`: `python3 -m bench.github.comment` runs beside a write token.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.archive import members
from bench.errors import RefusedError
from bench.github.api import Api, is_sha, run_step

ARTIFACT = "comment"
FILE = "comment.json"
MARKER = "<!-- quantbench -->"
BOT = "github-actions[bot]"
SERVER = "https://github.com"
SECTIONS = {"plan": "## What would be measured", "results": "## Measured"}
# A pull request's own code can write any document, and runs in the first of these events only.
_SECTION_OF = {"pull_request": "plan", "pull_request_target": "results"}
MAX_ARCHIVE_BYTES = 2 * 2**20
MAX_BYTES = 512 * 1024
MAX_TABLES, MAX_COLUMNS, MAX_ROWS, MAX_NOTES, MAX_TEXT = 8, 14, 200, 50, 400
MAX_BODY = 60_000  # GitHub's own limit is 65,536
# Said as they are; everything else goes into a code span, where nothing is interpreted.
_PLAIN = re.compile(r"(?:[+-]?[A-Za-z0-9]|[(−×±])(?:[A-Za-z0-9 .,;+%×±()/–−-]|: |'s )*")
_TAKEN = re.compile(r"www\.|\bgh-\d", re.IGNORECASE)
# No code span may be ended, no table cell, no HTML comment of ours be forged.
_LOOKALIKES = str.maketrans({"`": "ʼ", "|": "¦", "<": "‹", ">": "›", "\\": "⧵", "\n": " "})


@dataclass(frozen=True)
class Table:
    """A heading and rows of text; all rows are as long as `columns`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Document:
    """What one run has to say about the commit `head_sha` of a pull request.

    Args:
        section: "plan" or "results": the part of the comment that is replaced.
        headline: one sentence, above everything.
        sentences: what was found, one line each; the tables are then folded away.
        notes: one line each, below the tables.
    """

    section: str
    head_sha: str
    headline: str
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Links:
    """Where a reader finds more: the run, which keeps the records, and the published page.

    They are made of what GitHub says of itself, of nothing in a document.
    """

    run: str
    page: str


def links(server: str, repository: str, run_id: int) -> Links:
    """Those of a run of a repository, named owner/name."""
    owner, _, name = repository.partition("/")
    home = f"{owner.lower()}.github.io"
    page = f"https://{home}/" if name.lower() == home else f"https://{home}/{name}/"
    return Links(f"{server}/{repository}/actions/runs/{run_id}", page)


def write(document: Document, path: Path) -> None:
    """Writes the document as the artifact's one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(document), indent=1))


def read_archive(archive: bytes) -> Document:
    """The document in an artifact's .zip, read in memory under caps, never unpacked.

    Raises:
        RefusedError: it holds anything but one small, well-formed comment.json.
    """
    files = dict(members(io.BytesIO(archive), 1, lambda _: MAX_BYTES))
    if list(files) != [FILE]:
        raise RefusedError(f"the artifact holds other than {FILE}", "no comment")
    try:
        return _parse(json.loads(files[FILE]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RefusedError(f"{FILE} is not a comment's document", "no comment") from error


def _parse(raw: Any) -> Document:
    if raw["section"] not in SECTIONS or not is_sha(raw["head_sha"]):
        raise ValueError
    tables = tuple(
        Table(
            _text(table["title"]),
            columns := _texts(table["columns"], MAX_COLUMNS),
            tuple(
                _texts(row, len(columns), len(columns)) for row in _list(table["rows"], MAX_ROWS)
            ),
        )
        for table in _list(raw["tables"], MAX_TABLES)
    )
    notes, sentences = (_texts(raw.get(part, []), MAX_NOTES) for part in ("notes", "sentences"))
    headline = _text(raw["headline"])
    return Document(raw["section"], raw["head_sha"], headline, tables, notes, sentences)


def _list(value: Any, most: int, least: int = 0) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise ValueError
    return value


def _texts(value: Any, most: int, least: int = 0) -> tuple[str, ...]:
    return tuple(_text(entry) for entry in _list(value, most, least))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value if len(value) <= MAX_TEXT else f"{value[: MAX_TEXT - 1]}…"


def inert(text: str) -> str:
    """The text as Markdown that shows it and does nothing: no link, mention, HTML or formatting."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not text or (_PLAIN.fullmatch(text) and not _TAKEN.search(text)):
        return text
    return f"`{text.translate(_LOOKALIKES)}`"


def render(document: Document, more: Links | None = None) -> str:
    """The document's section of the comment, or of a job summary."""
    blocks = [SECTIONS[document.section], inert(document.headline)]
    if document.sentences:
        blocks.append("\n".join(f"- {inert(each)}" for each in document.sentences))
    folded = bool(document.sentences and document.tables)
    blocks += ["<details><summary>Every number</summary>"] if folded else []
    for table in document.tables:
        head = [_row([inert(c) for c in table.columns]), _row(["---"] * len(table.columns))]
        # A heading is a paragraph in bold: a code span cannot end it.
        blocks += [f"**{inert(table.title)}**" if table.title else ""]
        blocks += ["\n".join([*head, *(_row([inert(c) for c in row]) for row in table.rows)])]
    blocks += ["</details>"] if folded else []
    if document.notes:
        blocks.append("\n".join(f"- {inert(note)}" for note in document.notes))
    if more:
        records = f"[run]({more.run}) · [records]({more.run}#artifacts)"
        blocks.append(f"{records} · [page, once this is merged]({more.page})")
    blocks.append(f"<sub>Commit {document.head_sha[:12]}</sub>")
    text = "\n\n".join(block for block in blocks if block)
    return text if len(text) <= MAX_BODY // 2 else _shortened(document)


def _shortened(document: Document) -> str:
    headline = inert(document.headline)
    return f"{SECTIONS[document.section]}\n\n{headline}\n\nToo long for a comment: see the run."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def combine(existing: str, document: Document, more: Links | None = None) -> str:
    """The comment's new body: the document's section replaced, the other one kept."""
    kept = dict.fromkeys(SECTIONS, "")
    for name in SECTIONS:
        found = re.search(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", existing, re.DOTALL)
        kept[name] = found[1] if found else ""
    kept[document.section] = render(document, more)
    parts = [f"<!-- {name} -->\n{text}\n<!-- /{name} -->" for name, text in kept.items() if text]
    return "\n".join([MARKER, *parts])


def find_pull(run: Mapping[str, Any], document: Document, api: Api) -> int | None:
    """The open pull request this run was for, or None if it has moved on.

    The event decides which section the document may be: numbers come from main's code alone.
    `workflow_run.pull_requests` is empty for forks, so it is looked up by the head's owner and
    branch, which the event vouches for, and must be at the document's commit right now. A
    `pull_request` event vouches for the commit as well; for `pull_request_target` its head_sha is
    main's, and the document comes from main's own code.
    """
    if document.section != _SECTION_OF[run["event"]]:
        raise RefusedError(
            f"a run on {run['event']} may not write the section {document.section!r}", "no comment"
        )
    if run["event"] == "pull_request" and run["head_sha"] != document.head_sha:
        raise RefusedError("the artifact is about another commit than the run", "no comment")
    if not run.get("head_repository"):
        return None  # the fork is deleted, and its pull request is closed with it
    owner = run["head_repository"]["owner"]["login"]
    for pull in api.pages("pulls", state="open", head=f"{owner}:{run['head_branch']}"):
        same = (pull["head"].get("repo") or {}).get("id") == run["head_repository"]["id"]
        if same and pull["head"]["sha"] == document.head_sha:
            return int(pull["number"])
    return None


def post(number: int, document: Document, api: Api, more: Links | None = None) -> None:
    """Writes or updates the one comment of ours; two that were written at once become one."""
    ours = [
        comment
        for comment in api.pages(f"issues/{number}/comments")
        # Anyone can write the marker; only Actions writes as this user.
        if comment["user"]["login"] == BOT and comment["body"].startswith(MARKER)
    ]
    body = {"body": combine("\n".join(comment["body"] for comment in ours), document, more)}
    if not ours:
        api.send("POST", f"issues/{number}/comments", body)
        return
    api.send("PATCH", f"issues/comments/{int(ours[0]['id'])}", body)
    for spare in ours[1:]:
        api.send("DELETE", f"issues/comments/{int(spare['id'])}")


def answer(event: Mapping[str, Any], api: Api) -> str:
    """Comments on the pull request of a finished run, if it left a document; what was done."""
    run = event["workflow_run"]
    if run["event"] not in _SECTION_OF:
        return "not a run for a pull request"
    listed = api.pages(f"actions/runs/{int(run['id'])}/artifacts", name=ARTIFACT)
    found = [entry for entry in listed if entry["name"] == ARTIFACT and not entry["expired"]]
    if not found:
        return "::notice::no comment: the run left none; see the run for why"
    newest = max(found, key=lambda entry: entry["created_at"])  # ids are in no order of time
    archive = api.download(f"actions/artifacts/{int(newest['id'])}/zip", MAX_ARCHIVE_BYTES)
    document = read_archive(archive)
    number = find_pull(run, document, api)
    if number is None:
        gone = not run.get("head_repository")
        why = ": its fork is deleted" if gone else ""
        return f"::notice::no comment: no open pull request is at this commit any more{why}"
    more = links(os.environ.get("GITHUB_SERVER_URL", SERVER), api.repository, int(run["id"]))
    post(number, document, api, more if document.section == "results" else None)
    return f"commented on #{number}"


if __name__ == "__main__":  # `python3 -m bench.github.comment`: what the comment workflow does
    sys.exit(run_step(answer))
