"""Which repository a clone is of, from every way of writing a remote."""

from __future__ import annotations

from pathlib import Path

import pytest
from copies import git

from bench.errors import ConfigError
from bench.setup import remote
from bench.setup.remote import Repository

OURS = Repository("https://github.com", "octo/bench")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://github.com/octo/bench.git", OURS),
        ("https://github.com/octo/bench", OURS),
        ("https://github.com/octo/bench/", OURS),
        ("https://x-access-token:ghs_secret@github.com/octo/bench.git", OURS),
        ("git@github.com:octo/bench.git", OURS),
        ("ssh://git@github.com/octo/bench.git", OURS),
        ("ssh://git@github.com:22/octo/bench", OURS),
        ("https://git.acme.com/octo/bench.git", Repository("https://git.acme.com", "octo/bench")),
        ("/srv/git/bench.git", None),
        ("../bench", None),
        ("https://gitlab.com/group/sub/bench.git", None),
        ("https://github.com/octo/be$(id)nch", None),
        ("https://github.com/octo/bench\nhttps://evil.example/a/b", None),
        ("", None),
    ],
)
def test_a_remotes_address(address: str, found: Repository | None) -> None:
    assert remote.parse(address) == found


def test_the_pages_the_site_and_the_api() -> None:
    assert OURS.page("settings/pages") == "https://github.com/octo/bench/settings/pages"
    assert OURS.site_url == "https://octo.github.io/bench/"
    assert Repository(OURS.server, "Octo/octo.github.io").site_url == "https://octo.github.io/"
    assert OURS.api_url == "https://api.github.com"
    assert Repository("https://git.acme.com", "a/b").api_url == "https://git.acme.com/api/v3"


def test_what_is_asked_for_stands_and_the_remote_otherwise(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    with pytest.raises(ConfigError, match="no git remote `origin`"):
        remote.choose(tmp_path, environment={})
    assert remote.choose(tmp_path, "octo/bench", {}) == OURS
    git(tmp_path, "remote", "add", "origin", "https://git.acme.com/a/b")
    assert remote.choose(tmp_path, environment={}).url == "https://git.acme.com/a/b"
    assert remote.choose(tmp_path, "octo/bench", {}).server == "https://git.acme.com"
    in_actions = {"GITHUB_SERVER_URL": "https://github.com"}
    assert remote.choose(tmp_path, "octo/bench", in_actions) == OURS
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        remote.choose(tmp_path, "octo", {})


@pytest.mark.parametrize(
    ("written", "instead"),
    [("gh:octo/bench", "https://github.com/"), ("https://github.com/octo/bench", "/srv/mirror/")],
)
def test_a_remote_that_git_writes_another_way(written: str, instead: str, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "remote", "add", "origin", written)
    before = "gh:" if written.startswith("gh:") else "https://github.com/"
    git(tmp_path, "config", f"url.{instead}.insteadOf", before)
    assert remote.choose(tmp_path, environment={}) == OURS


def test_a_secret_in_a_remote_is_not_shown(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "remote", "add", "origin", "https://user:secret@example.org/only-one-part")
    with pytest.raises(ConfigError) as error:
        remote.choose(tmp_path, environment={})
    assert "secret" not in str(error.value)


def test_git_that_fails_is_none(tmp_path: Path) -> None:
    assert remote.git(tmp_path, "rev-parse", "HEAD") is None
