"""The Hugging Face Hub: what it says of a repository, and each of its failures in one sentence."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, errors, get_token, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    disable_progress_bars,
    get_session,
    hf_raise_for_status,
)

from bench.config import is_commit
from bench.errors import BenchError, MachineError, WeightsError

_ANSWER_WITHIN_S = 20
# A server that is no Hub answers with no JSON, or with JSON the client cannot take apart.
_NOT_A_HUB = (errors.FileMetadataError, json.JSONDecodeError, KeyError, TypeError)
_CLIENT_ERRORS = (
    OSError,
    httpx2.HTTPError,
    errors.HFValidationError,
    errors.RevisionResolutionError,
    *_NOT_A_HUB,
)


class UnreachableError(WeightsError):
    """No answer from the Hub, as opposed to an answer that refuses."""


class RevisionError(WeightsError):
    """The repository is there, the revision is not."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository; large files carry the SHA-256 of their bytes, small ones git's."""

    name: str
    size_bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Repository:
    """A model repository at one commit."""

    name: str
    commit: str
    license: str | None
    base_model: str | None
    gated: bool
    files: tuple[RemoteFile, ...]


def endpoint() -> str:
    """The Hub's address: HF_ENDPOINT now, not as it was when the client library was imported."""
    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def client() -> HfApi:
    """The client library's API; it finds the token itself (HF_TOKEN, or `hf auth login`)."""
    disable_progress_bars()  # progress is ours to show, and only ours
    return HfApi(endpoint=endpoint(), library_name="quantbench")


def is_offline() -> bool:
    """Whether the user forbade the network, in the client library's own words."""
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return asked.upper() in {"1", "ON", "YES", "TRUE"}


def default_cache() -> Path:
    """The client library's own cache, so that other programs' downloads are found, and ours."""
    return Path(constants.HF_HUB_CACHE)


def describe(repo: str, revision: str | None = None) -> Repository:
    """Commit, licence, base model and files of a repository, in one request.

    Raises:
        WeightsError: missing, gated, no such revision, token refused, no network.
    """
    with asking(repo, revision):
        info = client().model_info(
            repo, revision=revision, files_metadata=True, timeout=_ANSWER_WITHIN_S
        )
    if not is_commit(info.sha):
        raise explain(TypeError("no commit"), repo)
    card: dict[str, Any] = dict(vars(info.card_data)) if info.card_data else {}
    base = card.get("base_model")
    if isinstance(base, list):
        base = next(iter(base), None)
    files = (
        RemoteFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None, s.blob_id)
        for s in info.siblings or ()
    )
    return Repository(
        name=repo,
        commit=info.sha or "",
        license=_license(card),
        base_model=base if isinstance(base, str) and base else None,
        gated=bool(info.gated),
        files=tuple(files),
    )


def check_access(found: Repository) -> None:
    """Asks whether a gated repository would let this token download.

    A gated repository tells strangers what it holds, and gives them none of it.

    Raises:
        WeightsError: it would not.
    """
    if found.gated:
        with asking(found.name):
            client().auth_check(found.name)


def fetch(repo: str, commit: str, name: str, cache: Path) -> Path:
    """One small file of the repository, through the cache.

    Raises:
        WeightsError: as `describe`.
    """
    with asking(repo, commit):
        return Path(client().hf_hub_download(repo, name, revision=commit, cache_dir=cache))


def read_head(repo: str, commit: str, name: str, size: int) -> bytes:
    """The first `size` bytes of a file.

    Raises:
        WeightsError: as `describe`.
    """
    url = hf_hub_url(repo, name, revision=commit, endpoint=endpoint())
    headers = build_hf_headers(library_name="quantbench") | {"Range": f"bytes=0-{size - 1}"}
    head = bytearray()
    with (
        asking(repo, commit),
        get_session().stream("GET", url, headers=headers, timeout=_ANSWER_WITHIN_S) as response,
    ):
        hf_raise_for_status(response)
        for piece in response.iter_bytes():  # a proxy may ignore the range and send all 40 GB
            head += piece
            if len(head) >= size:
                break
    return bytes(head[:size])


def load_json(path: Path) -> dict[str, Any]:
    """A checkpoint's JSON file.

    Raises:
        WeightsError: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise WeightsError(f"{path.name} is not a JSON object", f"remove {path} and run again")
    return value


@contextlib.contextmanager
def asking(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns whatever the client library raises inside into one sentence and its fix."""
    try:
        yield
    except _CLIENT_ERRORS as error:
        raise explain(error, repo, revision) from error


def explain(error: Exception, repo: str, revision: str | None = None) -> BenchError:
    """What a failure of the client library means to someone who wants these weights."""
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    kind: type[BenchError] = WeightsError
    match error:
        case errors.HfHubHTTPError():
            return _refusal(error, repo, revision)
        case errors.HFValidationError():
            message = f"{repo} is not a repository name"
            fix = "write it as the Hub does: owner/name"
        case errors.LocalEntryNotFoundError() | errors.RevisionResolutionError():
            message = f"{repo} at {revision or 'main'} is not in the cache"
            fix = "unset HF_HUB_OFFLINE to download it"
        case errors.OfflineModeIsEnabled():
            kind, message = UnreachableError, f"HF_HUB_OFFLINE forbids asking {endpoint()}"
            fix = "unset HF_HUB_OFFLINE"
        case httpx2.TransportError():
            kind, message = UnreachableError, f"{endpoint()} does not answer ({_reason(error)})"
            fix = "check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is cached already"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            kind, message = MachineError, f"the disk filled up while {repo} was downloaded"
            fix = "free some space, then run again"
        case OSError() if error.errno is not None:
            kind, message = MachineError, f"{error.filename}: {error.strerror}"
            fix = "make the cache folder writable, or set HF_HOME to one that is"
        case _ if isinstance(error, _NOT_A_HUB):
            message = f"{endpoint()} does not answer as a Hub does"
            fix = f"check HF_ENDPOINT ({_reason(error)})"
        case _:
            message = f"{repo}: {_reason(error)}"
            fix = "run again; finished parts of a download are kept"
    return kind(message, fix)


def _refusal(error: errors.HfHubHTTPError, repo: str, revision: str | None) -> WeightsError:
    status, at, has_token = error.response.status_code, endpoint(), get_token() is not None
    kind: type[WeightsError] = WeightsError
    if isinstance(error, errors.GatedRepoError):
        who = "the account of this token" if has_token else "anyone without a token"
        message = f"{repo} is gated and does not let in {who}"
        fix = f"ask for access at {at}/{repo}, then set HF_TOKEN to a token of that account"
    elif status == 401 and has_token:
        message = f"the Hub refuses the token ({_said(error)})"
        fix = f"make a new one at {at}/settings/tokens and set HF_TOKEN, or unset it"
    elif isinstance(error, errors.RevisionNotFoundError):
        kind, message = RevisionError, f"{repo} has no revision {revision!r}"
        fix = "name a commit, tag or branch it has"
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        name = error.response.url.path.rpartition("/")[2]
        message, fix = f"{repo} has no file {name}", f"see {at}/{repo}/tree/main"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        hidden = "" if has_token else ", or it is private and HF_TOKEN is not set"
        message, fix = f"there is no repository {repo}{hidden}", "write it as the Hub does"
    elif status == 429 or status >= 500:
        kind, message, fix = UnreachableError, f"the Hub answers {status} for {repo}", "try later"
    else:
        message, fix = f"the Hub answers {status} for {repo} ({_said(error)})", f"open {at}/{repo}"
    return kind(message, fix)


def _license(card: dict[str, Any]) -> str | None:
    name = card.get("license_name") if card.get("license") == "other" else card.get("license")
    value = name or card.get("license")
    return value if isinstance(value, str) else None


def _said(error: errors.HfHubHTTPError) -> str:
    said = error.server_message or error.response.reason_phrase
    return (said.splitlines() or ["no reason given"])[0]


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
