"""What a person writes or pastes for a checkpoint on the Hub, taken apart before any network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError

from bench.config import GgufFile, Repo, Revision
from bench.errors import ConfigError

_FIX = "write OWNER/NAME, OWNER/NAME:FILE.gguf, or paste the model's address on huggingface.co"
_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<path>[^?#]*)")
_DEFAULT = "main"  # the Hub's default branch, which needs no name


@dataclass(frozen=True)
class Address:
    """A repository, and the GGUF file and the branch, tag or commit if they are named."""

    repo: str
    file: str | None = None
    revision: str | None = None


def read(text: str) -> Address:
    """The repository that OWNER/NAME, OWNER/NAME:FILE or a page of the Hub names.

    Raises:
        ConfigError: it is none of these, or the page is no model's, or of another file than GGUF.
    """
    if page := _PAGE.match(text):
        found = _from_page(text, page["path"])
    elif "://" in text:
        raise ConfigError(f"{text!r} is no page of the Hub", _FIX)
    else:
        repo, colon, file = text.partition(":")
        found = Address(repo, file if colon else None)
    for part, kind, words in (
        (found.repo, Repo, "is no repository's name"),
        (found.file, GgufFile, "is no name of a GGUF file"),
        (found.revision, Revision, "is no branch, tag or commit"),
    ):
        if part is not None and not _is(kind, part):
            raise ConfigError(f"{part!r} {words}", _FIX)
    return found


def _from_page(text: str, path: str) -> Address:
    """The repository of huggingface.co/OWNER/NAME[/tree/REVISION | /blob/REVISION/FILE]."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    match parts:
        case ["datasets" | "spaces" | "docs" | "collections" | "papers", *_]:
            raise ConfigError(f"{text!r} is no model's page", _FIX)
        case [owner, name]:
            return Address(f"{owner}/{name}")
        case [owner, name, "tree", revision]:
            return Address(f"{owner}/{name}", None, _named(revision))
        case [owner, name, "blob" | "resolve", revision, *file] if file:
            return Address(f"{owner}/{name}", "/".join(file), _named(revision))
    raise ConfigError(f"{text!r} is not the page of a model or of a file of one", _FIX)


def _named(revision: str) -> str | None:
    return None if revision == _DEFAULT else revision


def _is(kind: Any, value: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True
