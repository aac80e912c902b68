"""The code's own rules: linters, types, and who may know whom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ROOT

IMPORTS_REPORT = re.compile(r"^\s*(?:from|import) report\b", re.MULTILINE)
MEASURING = ("run", "server", "speed", "quality", "engine", "client", "process", "supervise")


@pytest.mark.lint
@pytest.mark.parametrize("tool", ["ruff check", "ruff format --check", "mypy"])
def test_linter(tool: str) -> None:
    argv = [sys.executable, "-m", *tool.split()]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_measuring_knows_nothing_of_reporting() -> None:
    """`bench/cli.py` alone knows both halves."""
    knowing = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "bench").rglob("*.py"))
        if IMPORTS_REPORT.search(path.read_text())
    ]
    assert knowing == ["bench/cli.py"]


def test_reporting_measures_nothing() -> None:
    pattern = re.compile(rf"from bench(?:\.| import .*\b)(?:{'|'.join(MEASURING)})\b")
    for path in sorted((ROOT / "report").rglob("*.py")):
        assert not pattern.search(path.read_text()), path


def test_no_lock_with_addresses_and_no_index_is_named() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = listed.stdout.split()
    assert not [name for name in files if Path(name).name in ("uv.lock", "package-lock.json")]
    hosts = re.compile(rb"(?:py" rb"pi\.org|files\.python" rb"hosted|registry\.npm" rb"js)")
    naming = [name for name in files if (ROOT / name).is_file()]
    assert not [name for name in naming if hosts.search((ROOT / name).read_bytes())]
