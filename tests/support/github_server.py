"""A local stand-in of GitHub's API for one repository: its state is plain Python, its wire real."""

# ruff: noqa: ARG005  (every route takes the same arguments)

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "octo/bench"
TOKEN = "stand-in-token"
BOT = {"login": "github-actions[bot]", "type": "Bot"}
NOT_FOUND = (404, {"message": "Not Found"})


@dataclass
class State:
    """What the repository is, and what was done to it.

    Args:
        origin: the bare repository from which trees and blobs are answered.
        is_public, is_administrator, is_limited: who is told what: those without a token, this
            token, and nobody until an hour has passed.
        may_open_pulls: whether a workflow may.
        branch_policies, secrets: names by environment.
        permissions_of_actions: answers by what follows `actions/permissions`.
        artifacts: the .zip files of `runs`, by artifact id.
    """

    origin: Path | None = None
    permissions: dict[str, str] = field(default_factory=lambda: {"maintainer": "write"})
    environments: dict[str, Any] = field(default_factory=dict)
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    labels: dict[int, list[str]] = field(default_factory=dict)
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    artifacts: dict[int, dict[str, Any]] = field(default_factory=dict)
    archives: dict[int, bytes] = field(default_factory=dict)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    attestations: list[dict[str, Any]] = field(default_factory=list)
    runner_downloads: list[dict[str, Any]] = field(default_factory=list)
    added_to_blobs: bytes = b""
    cut_from_blobs: int = 0  # characters of their base64
    is_public: bool = True
    is_administrator: bool = True
    is_limited: bool = False
    may_open_pulls: bool = True
    default_branch: str = "main"
    pages: dict[str, Any] | None = None
    repository_labels: set[str] = field(default_factory=set)
    rules: list[dict[str, Any]] = field(default_factory=list)
    branch_policies: dict[str, list[str]] = field(default_factory=dict)
    secrets: dict[str, list[str]] = field(default_factory=dict)
    runners: list[dict[str, Any]] = field(default_factory=list)
    permissions_of_actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    url: str = ""

    def add_artifact(self, run: int, name: str, archive: bytes, number: int | None = None) -> int:
        """An artifact of a run, newer than those before, whatever its id, which is returned."""
        number = number or len(self.artifacts) + 1
        created = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=len(self.artifacts))
        self.artifacts[number] = {
            "id": number,
            "name": name,
            "expired": False,
            "created_at": f"{created:%Y-%m-%dT%H:%M:%SZ}",
            "workflow_run": {"id": run},
        }
        self.archives[number] = archive
        return number

    def protect(self, name: str, reviewers: int = 1) -> None:
        """An environment with required reviewers."""
        rule = {"type": "required_reviewers", "reviewers": [{"type": "User"}] * reviewers}
        self.environments[name] = {"name": name, "protection_rules": [rule]}

    def limit_branches(self, name: str, *branches: str) -> None:
        """Only these branches may deploy to the environment, which is made if it is missing."""
        environment = self.environments.setdefault(name, {"name": name, "protection_rules": []})
        environment["deployment_branch_policy"] = {
            "protected_branches": False, "custom_branch_policies": True,
        }  # fmt: skip
        self.branch_policies[name] = list(branches)

    def git(self, *arguments: str) -> bytes:
        """Output of git in the origin."""
        assert self.origin
        return subprocess.run(
            ["git", *arguments], cwd=self.origin, check=True, capture_output=True
        ).stdout


Answer = tuple[int, Any]


def _trees(state: State, sha: str) -> Answer:
    lines = state.git("ls-tree", "-l", sha).decode().splitlines()
    rows = [line.split(None, 4) for line in lines]
    return 200, {
        "tree": [
            {"mode": m, "type": t, "sha": s, "path": p, **({"size": int(n)} if n != "-" else {})}
            for m, t, s, n, p in rows
        ]
    }


def _blobs(state: State, sha: str) -> Answer:
    import base64

    content = state.git("cat-file", "blob", sha) + state.added_to_blobs
    text = base64.encodebytes(content).decode().rstrip()
    return 200, {"content": text[: len(text) - state.cut_from_blobs]}


def _commits(state: State, path: str) -> Answer:
    """Those of the default branch that touch a path, newest first, with their parents."""
    log = state.git("log", "--format=%H %P", state.default_branch, "--", path).decode()
    rows = [line.split() for line in log.splitlines()]
    return 200, [{"sha": sha, "parents": [{"sha": p} for p in parents]} for sha, *parents in rows]


def _open_pull(state: State, asked: dict[str, Any]) -> Answer:
    if not state.may_open_pulls:
        return 403, {"message": "GitHub Actions is not permitted to create pull requests."}
    number = len(state.pulls) + 1
    state.pulls[number] = {"number": number, "state": "open", **asked}
    return 201, {"html_url": f"https://github.invalid/{REPOSITORY}/pull/{number}"}


def _ref(state: State, name: str) -> Answer:
    known = state.git("for-each-ref", "--format=%(refname)").decode().split()
    return (200, {"ref": f"refs/{name}"}) if f"refs/{name}" in known else NOT_FOUND


def _list_pulls(state: State, query: dict[str, str]) -> Answer:
    owner, _, branch = query["head"].partition(":")
    return 200, [
        pull
        for pull in state.pulls.values()
        if pull["state"] == query["state"]
        and pull["head"]["user"]["login"] == owner
        and pull["head"]["ref"] == branch
    ]


def _artifacts(state: State, query: dict[str, str], run: int | None = None) -> Answer:
    found = [
        artifact
        for artifact in state.artifacts.values()
        if artifact["name"] == query.get("name", artifact["name"])
        and run in (None, artifact["workflow_run"]["id"])
    ]
    return 200, {"total_count": len(found), "artifacts": found}


def _comment(state: State, number: int, body: dict[str, Any]) -> Answer:
    comment = {"id": 1000 + sum(map(len, state.comments.values())), "user": BOT, **body}
    state.comments.setdefault(number, []).append(comment)
    return 201, comment


def _edit(state: State, number: int, body: dict[str, Any] | None) -> Answer:
    for comments in state.comments.values():
        for comment in comments:
            if comment["id"] == number and body is not None:
                comment.update(body)
                return 200, comment
            if comment["id"] == number:
                comments.remove(comment)
                return 204, None
    return NOT_FOUND


def _unlabel(state: State, number: int, label: str) -> Answer:
    if label not in state.labels.get(number, []):
        return NOT_FOUND
    state.labels[number].remove(label)
    return 200, []


def _merged(state: State, sha: str) -> Answer:
    there = [
        (pull, (pull.get("merge_commit_sha"), pull["head"]["sha"])) for pull in state.pulls.values()
    ]
    return 200, [pull for pull, commits in there if sha in commits]


def _names(key: str, names: list[str] | None) -> Answer:
    rows = [{"name": name} for name in names or []]
    return NOT_FOUND if names is None else (200, {"total_count": len(rows), key: rows})


def _found(value: Any) -> Answer:
    return NOT_FOUND if value is None else (200, value)


def _noted(kept: list[dict[str, Any]], body: dict[str, Any]) -> Answer:
    kept.append(body)
    return 201, {}


# What everybody may ask of a public repository, and what administrators alone may ask of any.
PUBLIC = re.compile(
    r"GET (?:|pages|labels/[^/]+|rules/branches/[^/]+"
    r"|environments/[^/]+(?:/deployment-branch-policies)?)"
)
ADMINISTRATION = re.compile(r"\w+ (?:actions/permissions.*|actions/runners.*|.*/secrets)")
# Method and path, and what answers: the state, the groups of the path, the query, the body.
Route = Callable[[State, tuple[str, ...], dict[str, str], Any], Answer]
ROUTES: dict[str, Route] = {
    r"GET collaborators/([^/]+)/permission": lambda s, p, q, b: (
        200, {"permission": s.permissions.get(p[0], "read")}),
    r"GET environments/([^/]+)": lambda s, p, q, b: _found(s.environments.get(p[0])),
    r"GET pulls/(\d+)": lambda s, p, q, b: _found(s.pulls.get(int(p[0]))),
    r"POST pulls": lambda s, p, q, b: _open_pull(s, b),
    r"GET git/ref/(heads/.+)": lambda s, p, q, b: _ref(s, p[0]),
    r"GET pulls": lambda s, p, q, b: _list_pulls(s, q),
    r"GET commits": lambda s, p, q, b: _commits(s, q["path"]),
    r"GET commits/(\w+)/pulls": lambda s, p, q, b: _merged(s, p[0]),
    r"GET git/trees/(\w+)": lambda s, p, q, b: _trees(s, p[0]),
    r"GET git/blobs/(\w+)": lambda s, p, q, b: _blobs(s, p[0]),
    r"GET actions/runs/(\d+)": lambda s, p, q, b: _found(s.runs.get(int(p[0]))),
    r"GET actions/runs/(\d+)/artifacts": lambda s, p, q, b: _artifacts(s, q, int(p[0])),
    r"GET actions/artifacts": lambda s, p, q, b: _artifacts(s, q),
    r"GET actions/artifacts/(\d+)/zip": lambda s, p, q, b: (302, f"/blob/{p[0]}"),
    r"GET issues/(\d+)/comments": lambda s, p, q, b: (200, s.comments.get(int(p[0]), [])),
    r"POST issues/(\d+)/comments": lambda s, p, q, b: _comment(s, int(p[0]), b),
    r"PATCH issues/comments/(\d+)": lambda s, p, q, b: _edit(s, int(p[0]), b),
    r"DELETE issues/comments/(\d+)": lambda s, p, q, b: _edit(s, int(p[0]), None),
    r"DELETE issues/(\d+)/labels/([^/]+)": lambda s, p, q, b: _unlabel(s, int(p[0]), p[1]),
    r"GET ": lambda s, p, q, b: (
        200, {"full_name": REPOSITORY, "default_branch": s.default_branch}),
    r"GET pages": lambda s, p, q, b: _found(s.pages),
    r"GET labels/([^/]+)": lambda s, p, q, b: _found(
        {"name": p[0]} if p[0] in s.repository_labels else None),
    r"GET rules/branches/(\w+)": lambda s, p, q, b: (200, s.rules),
    r"GET environments/([^/]+)/deployment-branch-policies": lambda s, p, q, b: _names(
        "branch_policies", s.branch_policies.get(p[0])),
    r"GET environments/([^/]+)/secrets": lambda s, p, q, b: _names(
        "secrets", s.secrets.get(p[0], []) if p[0] in s.environments else None),
    r"GET actions/permissions(|/.*)": lambda s, p, q, b: _found(
        s.permissions_of_actions.get(p[0])),
    r"GET actions/runners": lambda s, p, q, b: (
        200, {"total_count": len(s.runners), "runners": s.runners}),
    r"GET actions/runners/downloads": lambda s, p, q, b: (200, s.runner_downloads),
    r"POST actions/runners/registration-token": lambda s, p, q, b: (201, {"token": "ONCE"}),
    r"POST pages/deployments": lambda s, p, q, b: _noted(s.deployments, b),
    r"POST attestations": lambda s, p, q, b: _noted(s.attestations, b),
}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    state: State
    lock = threading.Lock()

    def _answer(self) -> None:
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        with self.lock:
            self.state.requests.append(f"{self.command} {self.path}")
            if split.path.startswith("/blob/"):
                self._blob(int(split.path.rpartition("/")[2]))
                return
            self._reply(*self._route(split.path, query, body))

    def _route(self, path: str, query: dict[str, str], body: Any) -> Answer:
        said = self.headers.get("Authorization")
        told = said == f"Bearer {TOKEN}"
        asked = f"{self.command} {path.removeprefix(f'/repos/{REPOSITORY}').removeprefix('/')}"
        if self.state.is_limited:
            return 403, {"message": "API rate limit exceeded for 192.0.2.1."}
        if said is None and PUBLIC.fullmatch(asked):
            if not self.state.is_public:
                return NOT_FOUND
        # The stand-ins of the actions say what they did without a token.
        elif not told and not path.endswith(("/pages/deployments", "/attestations")):
            return 401, {"message": "Bad credentials" if said else "Requires authentication"}
        if ADMINISTRATION.fullmatch(asked) and not self.state.is_administrator:
            return 403, {"message": "Resource not accessible by personal access token"}
        for pattern, route in ROUTES.items():
            if found := re.fullmatch(pattern, asked):
                return route(self.state, found.groups(), query, body)
        return NOT_FOUND

    def _blob(self, number: int) -> None:
        """Another host's signed address in truth: it must never see the token."""
        if self.headers.get("Authorization"):
            self.state.leaked.append(self.path)
        data = self.state.archives[number]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _reply(self, status: int, answer: Any) -> None:
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.state.url + answer)
            answer = None
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815


@contextmanager
def serving(state: State) -> Iterator[State]:
    """The API at `state.url` while the block runs."""
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
