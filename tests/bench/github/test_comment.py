"""The pull request's comment: inert, on the right pull request, one; hostile archives refused."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import github_server
import hostile
import hostile_archives
import pytest
from github_server import State

from bench.errors import BenchError, RefusedError
from bench.github import comment
from bench.github.api import Api
from bench.github.comment import Document, Table, combine, inert, render

SHA = "a" * 40
OTHER_SHA = "b" * 40
TABLE = Table("", ("Variant", "Time"), (("qwen3-8b-fp8", "12 min"),))
PLAN = Document("plan", SHA, "2 of 4 stages would be measured.", (TABLE,), ("a note",))


def archive(content: Any, name: str = comment.FILE) -> bytes:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return hostile_archives.zipped(name, data)


def pull(number: int = 7, sha: str = SHA, owner: str = "stranger") -> dict[str, Any]:
    head = {"sha": sha, "ref": "patch-1", "user": {"login": owner}, "repo": {"id": 99}}
    return {"number": number, "state": "open", "head": head}


def event(kind: str = "pull_request", sha: str = SHA) -> dict[str, Any]:
    return {
        "workflow_run": {
            "id": 1, "event": kind, "head_sha": sha, "head_branch": "patch-1",
            "head_repository": {"id": 99, "owner": {"login": "stranger"}}, "pull_requests": [],
        }
    }  # fmt: skip


@pytest.fixture
def state() -> Iterator[State]:
    with github_server.serving(State()) as state:
        state.pulls[7] = pull()
        yield state
    assert not state.leaked


def api(state: State) -> Api:
    return Api(state.url, github_server.REPOSITORY, github_server.TOKEN)


def bodies(state: State, number: int = 7) -> list[str]:
    return [entry["body"] for entry in state.comments.get(number, [])]


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", hostile.TEXTS)
def test_a_strangers_text_is_inert(kind: str) -> None:
    shown = inert(hostile.TEXTS[kind])
    if not shown.startswith("`"):
        assert re.fullmatch(r"(?:[\w .,;+%×±()/–−-]|: |'s )*", shown)
        return
    inside = shown[1:-1]
    assert shown[-1] == "`"
    assert not set(inside) & set("`|<>\\\n\r")
    assert inside.isprintable()


def test_plain_text_stays_readable() -> None:
    for text in ("Qwen3-8B AWQ INT4, Marlin", "+3.4 %", "−1.2 to 0.8", "12 min", ""):
        assert inert(text) == text
    assert inert("www.evil.example") == "`www.evil.example`"
    assert inert("see GH-12") == "`see GH-12`"
    assert inert("- item") == "`- item`"


@pytest.mark.parametrize("kind", hostile.TEXTS)
def test_hostile_text_does_not_break_out_of_the_comment(kind: str) -> None:
    text = hostile.TEXTS[kind][: comment.MAX_TEXT]
    document = Document("plan", SHA, text, (Table(text, (text, text), ((text, text),)),), (text,))
    lines = render(document).splitlines()
    heads = [line for line in lines if line.startswith("|")]
    assert len(heads) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in heads)
    assert [line for line in lines if line.startswith("#")] == ["## What would be measured"]
    both = combine(combine("", document), replace(PLAN, section="results"))
    assert both.count("<!--") == both.count("-->") == 5


def test_a_long_document_says_so() -> None:
    row = ("`" * comment.MAX_TEXT,) * 10
    document = Document("plan", SHA, "Head.", (Table("", ("x",) * 10, (row,) * 200),))
    assert render(document).endswith("Too long for a comment: see the run.")


def test_sections_replace_their_own_part_only() -> None:
    results = replace(PLAN, section="results", headline="Numbers.")
    body = combine(combine("", PLAN), results)
    assert body.startswith(comment.MARKER)
    assert body.index(PLAN.headline) < body.index("Numbers.")
    again = combine(body, replace(PLAN, headline="Another plan."))
    assert "Another plan." in again
    assert PLAN.headline not in again
    assert "Numbers." in again
    assert combine(again, replace(PLAN, headline="Another plan.")) == again


# -- archives --------------------------------------------------------------------------------------

RAW = json.loads(json.dumps(asdict(PLAN)))
ARCHIVES: dict[str, bytes] = {
    **{
        kind: make(comment.FILE, json.dumps(RAW).encode())
        for kind, make in hostile_archives.ARCHIVES.items()
    },
    "not a zip": b"no",
    "another name": archive(RAW, "../../evil.json"),
    "an absolute name": archive(RAW, "/comment.json"),
    "a bomb": archive(b" " * (64 * 2**20)),
    "not JSON": archive(b"{"),
    "nested": archive(b"[" * 200_000),
    "a list": archive([1]),
    "another section": archive({**RAW, "section": "evil"}),
    "no commit": archive({**RAW, "head_sha": "main"}),
    "a number for text": archive({**RAW, "headline": 1}),
    "text for a list": archive({**RAW, "notes": "abc"}),
    "ragged rows": archive({**RAW, "tables": [{**RAW["tables"][0], "rows": [["1"]]}]}),
    "many rows": archive({**RAW, "tables": [{**RAW["tables"][0], "rows": [["1", "2"]] * 999}]}),
    "many tables": archive({**RAW, "tables": [RAW["tables"][0]] * 99}),
    "a lone surrogate": archive(b'{"section": "plan", "head_sha": "\\ud800"}'),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_hostile_archives_are_refused(case: str) -> None:
    with pytest.raises(RefusedError):
        comment.read_archive(ARCHIVES[case])


def test_two_files_are_refused() -> None:
    buffer = io.BytesIO(archive(RAW))
    with zipfile.ZipFile(buffer, "a") as zipped:
        zipped.writestr("x", b"")
    with pytest.raises(RefusedError):
        comment.read_archive(buffer.getvalue())


def test_what_is_written_is_what_is_read(tmp_path: Any) -> None:
    comment.write(PLAN, tmp_path / "a" / comment.FILE)
    content = (tmp_path / "a" / comment.FILE).read_bytes()
    assert comment.read_archive(archive(content)) == PLAN


# -- the pull request ------------------------------------------------------------------------------


def test_a_forks_pull_request_gets_one_comment(state: State) -> None:
    state.add_artifact(1, "comment", archive(RAW))
    assert comment.answer(event(), api(state)) == "commented on #7"
    assert comment.answer(event(), api(state)) == "commented on #7"
    (body,) = bodies(state)
    assert PLAN.headline in body
    assert SHA[:12] in body


def test_the_numbers_join_the_plan(state: State) -> None:
    state.add_artifact(1, "comment", archive(RAW))
    comment.answer(event(), api(state))
    state.add_artifact(2, "comment", archive({**RAW, "section": "results", "headline": "Numbers."}))
    later = event("pull_request_target", OTHER_SHA)  # main's commit, as GitHub sends it
    later["workflow_run"]["id"] = 2
    assert comment.answer(later, api(state)) == "commented on #7"
    (body,) = bodies(state)
    assert PLAN.headline in body
    assert "Numbers." in body


def test_a_document_about_another_commit_than_its_run_is_refused(state: State) -> None:
    state.pulls[8] = pull(8, OTHER_SHA, "victim")
    state.add_artifact(1, "comment", archive({**RAW, "head_sha": OTHER_SHA}))
    with pytest.raises(RefusedError):
        comment.answer(event(), api(state))
    assert not state.comments


@pytest.mark.parametrize(("kind", "section"), [
    ("pull_request", "results"), ("pull_request_target", "plan"),
])  # fmt: skip
def test_a_section_that_is_not_the_events_is_refused(kind: str, section: str, state: State) -> None:
    body = combine("", replace(PLAN, section="results", headline="Numbers."))
    state.comments[7] = [{"id": 5, "user": github_server.BOT, "body": body}]
    state.add_artifact(1, "comment", archive({**RAW, "section": section, "headline": "Forged."}))
    with pytest.raises(RefusedError, match=f"{kind} may not write the section '{section}'"):
        comment.answer(event(kind), api(state))
    assert bodies(state) == [body]


@pytest.mark.parametrize("change", [
    {"state": "closed"},
    {"head": pull(7, OTHER_SHA)["head"]},
    {"head": {**pull()["head"], "repo": {"id": 98}}},
    {"head": {**pull()["head"], "repo": None}},
    {"head": {**pull()["head"], "ref": "patch-2"}},
])  # fmt: skip
def test_a_pull_request_that_moved_on_gets_none(change: dict[str, Any], state: State) -> None:
    state.pulls[7].update(change)
    state.add_artifact(1, "comment", archive(RAW))
    assert comment.answer(event(), api(state)).startswith(
        "::notice::no comment: no open pull request"
    )
    assert not state.comments


def test_a_strangers_comment_with_our_marker_is_not_ours(state: State) -> None:
    body = f"{comment.MARKER}\n<!-- results -->\n# forged\n<!-- /results -->"
    state.comments[7] = [{"id": 5, "user": {"login": "stranger"}, "body": body}]
    state.add_artifact(1, "comment", archive(RAW))
    comment.answer(event(), api(state))
    assert bodies(state)[0] == body
    assert "forged" not in bodies(state)[1]


def test_two_comments_written_at_once_become_one(state: State) -> None:
    for document in (PLAN, replace(PLAN, section="results", headline="Numbers.")):
        body = combine("", document)
        entry = {"id": len(state.comments.get(7, [])) + 1, "user": github_server.BOT, "body": body}
        state.comments.setdefault(7, []).append(entry)
    state.add_artifact(1, "comment", archive({**RAW, "headline": "New plan."}))
    comment.answer(event(), api(state))
    (body,) = bodies(state)
    assert "New plan." in body
    assert "Numbers." in body


def test_a_deleted_forks_run_is_answered_by_a_reason(state: State) -> None:
    state.add_artifact(1, "comment", archive(RAW))
    gone = event()
    gone["workflow_run"]["head_repository"] = None
    said = comment.answer(gone, api(state))
    assert said.startswith("::notice::")
    assert said.endswith("at this commit any more: its fork is deleted")
    assert not state.comments


def test_of_several_attempts_the_newest_in_time_is_told(state: State) -> None:
    for number, words in ((900, "Older."), (17, "Newest.")):
        state.add_artifact(1, "comment", archive({**RAW, "headline": words}), number)
    comment.answer(event(), api(state))
    (body,) = bodies(state)
    assert "Newest." in body


NONE = "::notice::no comment: the run left none; see the run for why"


def test_other_runs_and_runs_without_a_document_are_left_alone(state: State) -> None:
    assert comment.answer(event("push"), api(state)) == "not a run for a pull request"
    assert comment.answer(event(), api(state)) == NONE
    state.add_artifact(1, "comment", archive(RAW))
    state.artifacts[1]["expired"] = True
    assert comment.answer(event(), api(state)) == NONE
    assert not state.comments


def test_a_large_archive_is_not_read_to_its_end(state: State) -> None:
    state.add_artifact(1, "comment", b"x" * (comment.MAX_ARCHIVE_BYTES + 1))
    with pytest.raises(RefusedError, match="larger"):
        comment.answer(event(), api(state))


def test_a_wrong_token_is_said(state: State) -> None:
    with pytest.raises(BenchError, match="401") as failed:
        Api(state.url, github_server.REPOSITORY, "wrong").get("pulls/7")
    assert "wrong" not in str(failed.value)
