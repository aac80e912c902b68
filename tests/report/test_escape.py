"""Text lands as text, whatever it holds: in Markdown, HTML, a script, front matter."""

import json
import subprocess
from typing import Any

import pypandoc
from hostile_texts import TEXTS, Reader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from report import escape

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def words(inlines: list[dict[str, Any]]) -> str:
    """The text of inlines that are nothing but words; anything else is a leak."""
    text = ""
    for inline in inlines:
        assert inline["t"] in ("Str", "Space", "SoftBreak"), inline
        text += inline["c"] if inline["t"] == "Str" else " "
    return text


def parse(source: str) -> dict[str, Any]:
    reader = "--from=markdown+autolink_bare_uris+emoji"
    command = [pypandoc.get_pandoc_path(), reader, "--to=json"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@few
@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_markdown_is_read_back_as_the_same_words(texts: list[str]) -> None:
    source = "\n\n".join(f"x {escape.markdown(text)} x" for text in texts)
    blocks = parse(source)["blocks"]
    assert [words(block["c"]) for block in blocks] == [
        " ".join(f"x {escape.clean(text)} x".split()) for text in texts
    ]


@few
@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_markdown_at_the_start_of_a_line_and_in_a_table_is_still_text(texts: list[str]) -> None:
    shown = [escape.clean(text) for text in texts]
    rows = "".join(f"| {escape.markdown(text)} | x |\n" for text in texts)
    source = f"| a | b |\n|:--|:--|\n{rows}\n"
    (table,) = parse(source)["blocks"]
    body = table["c"][4][0][3]
    cells = [row[1][0][4] for row in body]
    assert [words(cell[0]["c"]) if cell else "" for cell in cells] == shown
    alone = "\n\n".join(f"{escape.markdown(text)}\n\n<!-- -->" for text in texts if shown)
    blocks = [b for b in parse(alone)["blocks"] if b["t"] != "RawBlock"]
    assert [words(b["c"]) for b in blocks] == [text for text in shown if text]


@few
@given(st.lists(TEXTS, min_size=1, max_size=10))
def test_front_matter_holds_the_same_words(texts: list[str]) -> None:
    lines = "".join(f"k{i}: {escape.yaml_text(text)}\n" for i, text in enumerate(texts))
    meta = parse(f"---\n{lines}---\n")["meta"]
    for i, text in enumerate(texts):
        value = meta.get(f"k{i}", {"t": "MetaInlines", "c": []})
        assert value["t"] in ("MetaInlines", "MetaString"), value
        shown = words(value["c"]) if value["t"] == "MetaInlines" else value["c"]
        assert shown == escape.clean(text)


@given(TEXTS)
def test_html_block_is_one_raw_block_whose_text_and_attribute_are_the_same(text: str) -> None:
    shown = escape.html(text)
    block = escape.html_block(Markup('<p title="{}">{}</p>').format(shown, shown))
    assert block.startswith("```{=html}\n") and block.endswith("\n```\n")
    inside = block.removeprefix("```{=html}\n").removesuffix("\n```\n")
    assert "`" not in inside and "{" not in inside
    reader = Reader()
    reader.feed(inside)
    reader.close()
    assert reader.tags == ["p"]
    assert reader.text.strip() == escape.clean(text)
    assert reader.attributes == [("title", escape.clean(text))]


@given(st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_script_json_is_the_same_value_and_ends_no_script(value: Any) -> None:
    text = escape.script_json(value)
    assert json.loads(text) == value
    assert not set("<>&`\u2028\u2029") & set(text)


def test_names_stay_readable_in_sources() -> None:
    assert escape.markdown("Qwen3-8B AWQ INT4, Marlin v1.5") == "Qwen3-8B AWQ INT4, Marlin v1.5"
    assert escape.markdown("{{< x >}}") == "\\{\\{\\< x \\>\\}\\}"


def test_text_is_escaped_once() -> None:
    once = escape.markdown("a*b")
    assert escape.markdown(once) == once == "a\\*b"
