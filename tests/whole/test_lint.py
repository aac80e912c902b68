"""The code's own rules: linters, types, and who may know whom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ROOT


@pytest.mark.lint
@pytest.mark.parametrize("tool", ["ruff check", "ruff format --check", "mypy"])
def test_linter(tool: str) -> None:
    argv = [sys.executable, "-m", *tool.split()]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.lint
def test_a_room_imports_only_what_stands_below_it() -> None:
    """The contracts in pyproject.toml: rooms, circles, what the two halves see of each other."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_lock_with_addresses_and_no_index_is_named() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = listed.stdout.split()
    assert not [name for name in files if Path(name).name in ("uv.lock", "package-lock.json")]
    hosts = re.compile(rb"(?:py" rb"pi\.org|files\.python" rb"hosted|registry\.npm" rb"js)")
    naming = [name for name in files if (ROOT / name).is_file()]
    assert not [name for name in naming if hosts.search((ROOT / name).read_bytes())]
