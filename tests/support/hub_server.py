"""A Hugging Face Hub on this machine: the protocol as the client library of our lock speaks it.

Written against huggingface_hub 2.4 and what its error handling expects: model info, tree and
paths-info; `resolve` with X-Repo-Commit, ETag and, for large files, X-Linked-Size, X-Linked-ETag
and a redirect to another host (the CDN, which must never see the token); byte ranges; refusals
with X-Error-Code and X-Error-Message. `Faults` makes it misbehave. A data set's name begins with
`datasets/`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import close_session

LARGE_BYTES = 1_000_000  # what is larger, or holds weights, is kept in LFS
_WEIGHTS = (".safetensors", ".gguf", ".bin")


@dataclass(frozen=True)
class Content:
    """The bytes of a file: given, or (for sparse files of many GB) on disk with a stated hash."""

    path: Path | None = None
    data: bytes = b""
    stated_sha256: str | None = None

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path else len(self.data)

    @cached_property
    def sha256(self) -> str:
        return self.stated_sha256 or hashlib.sha256(self.read(0, self.size)).hexdigest()

    @cached_property
    def git_sha1(self) -> str:
        data = self.read(0, self.size)
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        if self.path is None:
            return self.data[start:stop]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@dataclass
class Repo:
    """One repository with a single commit."""

    files: dict[str, Content]
    card: dict[str, Any] = field(default_factory=lambda: {"license": "apache-2.0"})
    gated: bool = False
    members: frozenset[str] = frozenset()  # tokens that a gated repository lets in
    branches: tuple[str, ...] = ("main",)

    @property
    def commit(self) -> str:
        listing = [(name, file.size, file.stated_sha256) for name, file in self.files.items()]
        return hashlib.sha1(repr(listing).encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def of(cls, files: Mapping[str, Any], **more: Any) -> Repo:
        """From texts, bytes, and values to be written as JSON."""
        contents = {}
        for name, value in files.items():
            text = json.dumps(value) if isinstance(value, dict) else value
            contents[name] = Content(data=text.encode() if isinstance(text, str) else text)
        return cls(contents, **more)

    @classmethod
    def of_folder(cls, folder: Path, **more: Any) -> Repo:
        """From a checkpoint on disk."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls({p.relative_to(folder).as_posix(): Content(path=p) for p in paths}, **more)

    def is_large(self, name: str) -> bool:
        return name.endswith(_WEIGHTS) or self.files[name].size > LARGE_BYTES


@dataclass
class Faults:
    """What goes wrong. Keys are file names."""

    cut_after: dict[str, list[int]] = field(default_factory=dict)  # bytes, one entry per request
    corrupt: set[str] = field(default_factory=set)
    stall_after: dict[str, int] = field(default_factory=dict)
    down: bool = False


@dataclass
class Hub:
    """The server while it runs, and every request it got."""

    url: str
    repos: dict[str, Repo]
    tokens: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str, str | None, bool]] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def asked(self, text: str) -> list[tuple[str, str, str | None, bool]]:
        """Requests whose path contains `text`: method, path, Range, whether a token came along."""
        return [request for request in self.requests if text in request[1]]


@contextmanager
def serve(repos: dict[str, Repo]) -> Iterator[Hub]:
    """A Hub with these repositories, on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}", repos)
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serve_client(
    repos: dict[str, Repo], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Hub]:
    """`serve`, with the client library of this process told where it is and given no token."""
    with serve(repos) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        yield hub
        close_session()


class _RefusalError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; do not wait in between

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names http.server calls

    def _answer(self) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        path = unquote(urlsplit(self.path).path)
        byte_range = self.headers.get("Range")
        self.hub.requests.append((self.command, path, byte_range, token is not None))
        length = int(self.headers.get("Content-Length") or 0)
        body = parse_qs(self.rfile.read(length).decode())
        try:
            if self.hub.faults.down:
                raise _RefusalError(503, "", "down for maintenance")
            if path.startswith("/cdn/"):
                self._send_file(*self._find_blob(path.removeprefix("/cdn/")))
            elif found := re.fullmatch(
                r"/api/resolve-cache/models/(.+?/.+?)/([0-9a-f]+)/(.+)", path
            ):
                self._send_file(found[3], self.hub.repos[found[1]].files[found[3]])
            elif found := re.fullmatch(
                r"/api/(?:models/|(datasets/))([^/]+/[^/]+)(?:/(.+))?", path
            ):
                self._check_token(token)
                parts = found[3].split("/") if found[3] else ["revision"]
                self._api((found[1] or "") + found[2], parts, token, body)
            else:
                self._check_token(token)
                self._resolve(path, token)
        except _RefusalError as refusal:
            headers = {"X-Error-Message": str(refusal)}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._send_json({"error": str(refusal)}, refusal.status, headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client was killed, as some tests do

    # -- what is asked -------------------------------------------------------------------------

    def _check_token(self, token: str | None) -> None:
        if token in self.hub.expired:
            raise _RefusalError(401, "", 'User Access Token "bench" is expired')
        if token is not None and token not in self.hub.tokens:
            raise _RefusalError(401, "", "Invalid credentials in Authorization header")

    def _repo(self, name: str, revision: str, token: str | None) -> Repo:
        repo = self.hub.repos.get(name)
        if repo is None:
            if token is None:  # the Hub does not tell strangers what exists
                raise _RefusalError(401, "", "Invalid username or password.")
            raise _RefusalError(404, "RepoNotFound", "Repository not found")
        if revision not in (*repo.branches, repo.commit):
            raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo

    def _check_access(self, name: str, repo: Repo, token: str | None) -> None:
        if repo.gated and token not in repo.members:
            text = f"Access to model {name} is restricted."
            raise _RefusalError(401 if token is None else 403, "GatedRepo", text)

    def _api(
        self, name: str, parts: list[str], token: str | None, body: dict[str, list[str]]
    ) -> None:
        call, revision, folder = parts[0], "/".join(parts[1:]) or "main", ""
        if call == "tree" and name.startswith("datasets/"):  # whose branches have plain names here
            revision, _, folder = revision.partition("/")
        repo = self._repo(name, revision, token)
        if call == "auth-check":
            self._check_access(name, repo, token)
            self._send_json({})
        elif call == "tree":
            each = name.startswith("datasets/")  # folder is listed by itself
            inside = [
                file
                for file in repo.files
                if not each or PurePosixPath(file).parent == PurePosixPath(folder)
            ]
            self._send_json([self._entry(repo, file) for file in inside])
        elif call == "paths-info":
            wanted = [path for path in body.get("paths", []) if path in repo.files]
            self._send_json([self._entry(repo, file) for file in wanted])
        else:
            self._send_json(self._info(name, repo))

    def _info(self, name: str, repo: Repo) -> dict[str, Any]:
        siblings = []
        for file, content in repo.files.items():
            sibling: dict[str, Any] = {"rfilename": file}
            if "blobs=" in self.path:
                sibling |= {"size": content.size, "blobId": self._pointer(repo, file)}
                if repo.is_large(file):
                    lfs = {"sha256": content.sha256, "size": content.size, "pointerSize": 134}
                    sibling["lfs"] = lfs
            siblings.append(sibling)
        gated = "manual" if repo.gated else False
        card = repo.card
        return {
            "id": name,
            "sha": repo.commit,
            "cardData": card,
            "gated": gated,
            "siblings": siblings,
        }

    def _pointer(self, repo: Repo, file: str) -> str:
        content = repo.files[file]
        return content.sha256[:40] if repo.is_large(file) else content.git_sha1

    def _entry(self, repo: Repo, file: str) -> dict[str, Any]:
        content = repo.files[file]
        entry = {
            "type": "file",
            "path": file,
            "size": content.size,
            "oid": self._pointer(repo, file),
        }
        if repo.is_large(file):
            lfs = {"oid": content.sha256, "size": content.size, "pointerSize": 134}
            entry["lfs"] = lfs
        return entry

    def _resolve(self, path: str, token: str | None) -> None:
        found = re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found is None:
            raise _RefusalError(404, "", "Sorry, we can't find the page you are looking for.")
        name, revision, file = found.groups()
        repo = self._repo(name, revision, token)
        self._check_access(name, repo, token)
        commit = {"X-Repo-Commit": repo.commit}
        if file not in repo.files:
            self._send_json(
                {"error": "Entry not found"}, 404, commit | {"X-Error-Code": "EntryNotFound"}
            )
        elif repo.is_large(file):
            content = repo.files[file]
            headers = {
                "Location": f"http://localhost:{urlsplit(self.hub.url).port}/cdn/{content.sha256}",
                "X-Linked-Size": str(content.size),
                "X-Linked-ETag": f'"{content.sha256}"',
            }
            self._send_json({}, HTTPStatus.FOUND, commit | headers)
        else:
            here = f"/api/resolve-cache/models/{name}/{repo.commit}/{file}"
            self._send_json({}, HTTPStatus.TEMPORARY_REDIRECT, commit | {"Location": here})

    # -- what is sent --------------------------------------------------------------------------

    def _find_blob(self, sha256: str) -> tuple[str, Content]:
        for repo in self.hub.repos.values():
            for name, content in repo.files.items():
                if repo.is_large(name) and content.sha256 == sha256:
                    return name, content
        raise _RefusalError(404, "", "no such blob")

    def _send_json(
        self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, text in (headers or {}).items():
            self.send_header(key, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send_file(self, name: str, content: Content) -> None:
        start, stop, size = 0, content.size, content.size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            start, stop = int(wanted[1]), min(int(wanted[2] or size - 1) + 1, size)
            if start >= size:
                raise _RefusalError(416, "", "Range Not Satisfiable")
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        repo = next(
            repo
            for repo in self.hub.repos.values()
            if any(content is own for own in repo.files.values())
        )
        self.send_header("X-Repo-Commit", repo.commit)
        self.send_header("ETag", f'"{self._etag(repo, name)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command != "HEAD":
            self._send_bytes(name, content, start, stop)

    def _etag(self, repo: Repo, name: str) -> str:
        content = repo.files[name]
        return content.sha256 if repo.is_large(name) else content.git_sha1

    def _send_bytes(self, name: str, content: Content, start: int, stop: int) -> None:
        faults = self.hub.faults
        data = content.read(start, stop)
        if name in faults.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        cuts = faults.cut_after.get(name)
        if cuts:
            self.wfile.write(data[: cuts.pop(0)])
            self.close_connection = True
        elif name in faults.stall_after:
            self.wfile.write(data[: faults.stall_after[name]])
            self.hub.stalled.set()
            self.hub.closing.wait()
            self.close_connection = True
        else:
            self.wfile.write(data)
