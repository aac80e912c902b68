"""What every test shares: hypothesis without a clock, and the real command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from bench import cli

MARKS = ("process", "engine", "browser", "actions", "lint")
# Two shared cores: a deadline would fail at random. The same examples on every run.
settings.register_profile("bench", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("bench")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What has no other mark is a unit test."""
    for item in items:
        if not any(map(item.get_closest_marker, MARKS)):
            item.add_marker("unit")


@dataclass(frozen=True)
class Ran:
    """How a command line ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """Runs `bench ARGUMENTS…` through its entry point; what it caches goes with the test."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return Ran(code, printed.out, printed.err)

    return run
