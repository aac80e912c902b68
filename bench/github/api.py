"""GitHub's REST API, as much of it as the workflows need.

Standard library only: the job that may write to pull requests runs this and nothing that was
installed, so that no package, however it got into the lock, ever holds that token.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench.errors import BenchError, MachineError, RefusedError

TIMEOUT_S = 30
MAX_ANSWER_BYTES = 16 * 2**20
MAX_PAGES = 10
_SHA = re.compile(r"[0-9a-f]{40}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: urllib would carry the token to whatever host it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class NotFoundError(MachineError):
    """GitHub answered 404: not there, or not for this token."""


class ForbiddenError(MachineError):
    """GitHub answered 401 or 403: not for this token, or not so often."""


@dataclass(frozen=True)
class Api:
    """One repository's part of the API; paths are relative to it.

    Args:
        url: the API's address, without a slash at the end.
        repository: owner/name.
        token: sent to this address and to no other; without one, what is public is answered.
    """

    url: str
    repository: str
    token: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """As Actions sets it: GITHUB_API_URL, GITHUB_REPOSITORY, and GITHUB_TOKEN by the step.

        Raises:
            MachineError: not run by Actions.
        """
        try:
            return cls(
                environment["GITHUB_API_URL"].rstrip("/"),
                environment["GITHUB_REPOSITORY"],
                environment["GITHUB_TOKEN"],
            )
        except KeyError as error:
            raise MachineError(
                f"{error.args[0]} is not set", "this runs in GitHub Actions"
            ) from error

    def get(self, path: str, /, **query: str | int) -> Any:
        """The answer to a GET, as JSON."""
        return self._json("GET", path, query)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a POST, PATCH or DELETE, as JSON; None if it has none."""
        return self._json(method, path, {}, body)

    def pages(self, path: str, /, **query: str | int) -> Iterator[Any]:
        """Every element of a listing, up to MAX_PAGES pages of 100."""
        for page in range(1, MAX_PAGES + 1):
            answer = self.get(path, **query, per_page=100, page=page)
            rows = (
                answer
                if isinstance(answer, list)
                else next(value for value in answer.values() if isinstance(value, list))
            )
            yield from rows
            if len(rows) < 100:
                return

    def download(self, path: str, limit: int) -> bytes:
        """A file that the API redirects to, such as an artifact's .zip; at most `limit` bytes.

        Raises:
            RefusedError: it is larger.
        """
        headers, data = self._open("GET", self._address(path, {}), None, limit)
        location = headers.get("Location")
        if location is None:
            return data
        if not location.startswith(("https://", f"{self.url}/")):
            raise RefusedError(f"GitHub redirects {path} to another protocol", "try again")
        # Signed address at another host: the token must not go there.
        return self._open("GET", location, None, limit, trusted=False)[1]

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        _, answer = self._open(method, self._address(path, query), data, MAX_ANSWER_BYTES)
        return json.loads(answer) if answer else None

    def _address(self, path: str, query: Mapping[str, str | int]) -> str:
        address = f"{self.url}/repos/{self.repository}/{path}".rstrip("/")
        return f"{address}?{urllib.parse.urlencode(query)}" if query else address

    def _open(
        self, method: str, address: str, data: bytes | None, limit: int, trusted: bool = True
    ) -> tuple[Mapping[str, str], bytes]:
        request = urllib.request.Request(address, data, method=method)  # noqa: S310  (checked above)
        request.add_header("User-Agent", "quantbench")
        if trusted:
            request.add_header("Accept", "application/vnd.github+json")
            if self.token:
                request.add_header("Authorization", f"Bearer {self.token}")
            request.add_header("X-GitHub-Api-Version", "2022-11-28")
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                content = answer.read(limit + 1)
        except urllib.error.HTTPError as error:
            with error:
                if 300 <= error.code < 400:
                    return dict(error.headers.items()), b""
                raise _failure(method, address, error) from error
        except OSError as error:
            raise MachineError(
                f"no answer from {self.url}: {error}",
                _fix("run the job again", "check the network, then try again"),
            ) from error
        if len(content) > limit:
            raise RefusedError(
                f"{_path(address)} is larger than {limit:,} bytes", "look at the run"
            )
        return {}, content


def is_sha(value: object) -> bool:
    """Whether a value is a full commit hash and nothing else."""
    return isinstance(value, str) and _SHA.fullmatch(value) is not None


def quote(segment: str) -> str:
    """One segment of a path, whatever it holds."""
    return urllib.parse.quote(segment, safe="")


def _failure(method: str, address: str, error: urllib.error.HTTPError) -> MachineError:
    try:
        said = str(json.loads(error.read(10_000))["message"])
    except (ValueError, KeyError, TypeError, OSError):
        said = str(error.reason)
    kinds = {401: ForbiddenError, 403: ForbiddenError, 404: NotFoundError}
    kind = kinds.get(error.code, MachineError)
    return kind(
        f"GitHub answered {error.code} to {method} {_path(address)}: {said[:200]}",
        _fix("check the job's permissions", "check GITHUB_TOKEN or GH_TOKEN, and what it may do")
        if error.code in (401, 403, 404)
        else _fix("run the job again", "try again"),
    )


def _fix(in_a_job: str, at_a_terminal: str) -> str:
    """What helps depends on who reads it: the log of a job, or a person who typed a command."""
    return in_a_job if os.environ.get("GITHUB_ACTIONS") == "true" else at_a_terminal


def _path(address: str) -> str:
    return urllib.parse.urlsplit(address).path


def run_step(step: Callable[[Mapping[str, Any], Api], str]) -> int:
    """A workflow step on its event: prints what it says, or its error; returns the exit status."""
    try:
        event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
        print(step(event, Api.from_environment()))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    return 0
