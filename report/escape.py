"""Names and free text made harmless for where they land: Markdown, HTML, JSON, a script.

URLs need none of it: they are made of slugs and hashes alone.

Templates need no care: whatever they print is Markdown text and is escaped, unless it is already
`Markdown`. Raw HTML enters a page only through `html_block`, made from `Markup`, which escapes in
turn whatever is put into it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from typing import Any

from markupsafe import Markup

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_QUIET = re.compile(r"(?<=[0-9A-Za-z])[-._](?=[0-9A-Za-z])|,(?= )|(?<=[0-9] )%")
# Invisible characters that reorder or hide what a reader sees.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


class Markdown(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


def clean(text: object) -> str:
    """One line of visible text: runs of white space become a space, unseen characters U+FFFD."""
    line = " ".join(str(text).split())
    if line.isascii() and line.isprintable():
        return line
    return "".join("\ufffd" if unicodedata.category(c) in _UNSEEN else c for c in line)


def markdown(text: object) -> Markdown:
    """Text for anywhere in a Pandoc or Quarto document, its front matter's values included.

    Every ASCII punctuation mark gets a backslash, but for those that cannot mean anything where
    they stand (the hyphen in Qwen3-8B), so that sources stay readable.
    """
    if isinstance(text, Markdown):
        return text
    line = clean(text)
    quiet = {match.start() for match in _QUIET.finditer(line)}
    return Markdown(_PUNCTUATION.sub(lambda m: m[0] if m.start() in quiet else "\\" + m[0], line))


def html(text: object) -> Markup:
    """Text for HTML content and quoted attributes; `Markup` passes as it is."""
    return text if isinstance(text, Markup) else _escaped(str(text))


@lru_cache(maxsize=2**16)
def _escaped(text: str) -> Markup:
    """Kept, as tables of thousands of rows say the same names and classes over and over."""
    return Markup.escape(clean(text))


def html_block(markup: Markup) -> Markdown:
    """A raw HTML block for a .qmd page; neither its fence nor a shortcode can be written inside.

    Backquotes and braces become character references, so `markup` must hold no script or style.
    """
    if not isinstance(markup, Markup):
        raise TypeError("html_block takes Markup: text must be escaped first")
    inert = str(markup).replace("`", "&#96;").replace("{", "&#123;").replace("}", "&#125;")
    return Markdown(f"```{{=html}}\n{inert.strip()}\n```\n")


def script_json(value: Any) -> str:
    """JSON that can stand in a script, in an attribute once escaped, and in a .js file."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&`":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def yaml_text(text: object) -> Markdown:
    """A quoted YAML scalar whose value Pandoc reads as Markdown and shows as `text`."""
    return Markdown(json.dumps(str(markdown(text)), ensure_ascii=False))


def identifier(text: object) -> Markdown:
    """Text as an HTML id that needs no escaping anywhere."""
    return Markdown(re.sub(r"[^A-Za-z0-9_-]", "-", str(text)))
