"""Which GitHub repository this clone is of, and where its pages are."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ConfigError, MachineError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
# https://host/owner/name.git, ssh://git@host:port/owner/name, git@host:owner/name.git; what may
# stand before the host is a user, or a token that nobody should see.
_ADDRESS = re.compile(
    r"(?:https?://|ssh://)(?:[^@/\s]+@)?(?P<host>[\w.-]+)(?::\d+)?/(?P<name>[^\s?#]+?)"
    r"|(?:[^@/:\s]+@)?(?P<scp_host>[\w.-]+):(?P<scp_name>[^/\s][^\s?#]*?)"
)


@dataclass(frozen=True)
class Repository:
    """A repository on GitHub or on an Enterprise server.

    Args:
        server: with its protocol, without a slash at the end.
        name: owner/name.
    """

    server: str
    name: str

    @property
    def url(self) -> str:
        """Its front page."""
        return f"{self.server}/{self.name}"

    @property
    def api_url(self) -> str:
        """Where the server's REST API is; GITHUB_API_URL says otherwise."""
        usual = f"{self.server}/api/v3"
        if self.server == "https://github.com":
            usual = "https://api.github.com"
        return os.environ.get("GITHUB_API_URL", usual).rstrip("/")

    @property
    def site_url(self) -> str:
        """Where GitHub Pages shows its site, unless it was given a domain of its own."""
        owner, _, name = self.name.partition("/")
        host = f"{owner.lower()}.github.io"
        return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"

    def page(self, path: str) -> str:
        """The address of one of its pages, such as "settings/pages"."""
        return f"{self.url}/{path}"


def parse(address: str) -> Repository | None:
    """The repository that a remote's address names, or None: a path, or another kind of server."""
    found = _ADDRESS.fullmatch(address.strip().rstrip("/").removesuffix(".git"))
    if not found:
        return None
    name = found["name"] or found["scp_name"]
    host = found["host"] or found["scp_host"]
    return Repository(f"https://{host}", name) if _NAME.fullmatch(name) else None


def choose(
    folder: Path, asked: str | None = None, environment: Mapping[str, str] = os.environ
) -> Repository:
    """The repository that was asked for, or the one that this clone's `origin` is.

    Args:
        folder: inside the clone.
        asked: owner/name, of the server that Actions or the remote names, else of github.com.

    Raises:
        ConfigError: it cannot be told, or is not a name.
    """
    # With `insteadOf` in git's configuration either form may be the one that names GitHub.
    addresses = [
        git(folder, "remote", "get-url", "origin"),
        git(folder, "config", "remote.origin.url"),
    ]
    origin = next((found for a in addresses if a and (found := parse(a))), None)
    if asked is None:
        if origin is None:
            raise ConfigError(
                f"git remote names no repository on GitHub: {_without_secret(addresses[0])}"
                if addresses[0]
                else f"{folder} has no git remote `origin`",
                "name it: --repository OWNER/NAME",
            )
        return origin
    if not _NAME.fullmatch(asked):
        raise ConfigError(f"{asked!r} is not the name of a repository", "write it as OWNER/NAME")
    server = environment.get("GITHUB_SERVER_URL") or (origin.server if origin else None)
    return Repository((server or "https://github.com").rstrip("/"), asked)


def token(environment: Mapping[str, str] = os.environ) -> str:
    """The token for GitHub's API that the environment holds, under either of its usual names."""
    return environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN") or ""


def git(folder: Path, *arguments: str) -> str | None:
    """What git answers, without the line break at its end; None where it fails.

    Raises:
        MachineError: there is no git.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise MachineError("git is not installed", "install git") from error
    return done.stdout.strip() if done.returncode == 0 else None


def _without_secret(address: str) -> str:
    return re.sub(r"//[^@/]+@", "//…@", address)
