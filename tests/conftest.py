"""What every test shares: all cores, hypothesis without a clock, the command line in-process."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from bench import cli

# The slowest first, so that no core is left alone with them at the end.
MARKS = ("engine", "actions", "lint", "browser", "process", "unit")
os.environ.pop("GITHUB_ACTIONS", None)  # a test that is a job of Actions says so
# Two shared cores: a deadline would fail at random. The same examples on every run.
settings.register_profile("bench", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("bench")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All cores for all tests; this process alone for those that are named: they start at once."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    cores = len(os.sched_getaffinity(0))
    few = named or config.option.keyword or config.option.lf or cores == 1
    return 0 if few else cores


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A whole file is no name: a test's stands in each log, and each process sends them all."""
    if isinstance(val, str | bytes) and len(val) > 80:
        return f"{argname} of {len(val)}"
    return None


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What has no other mark is a unit test. Where several processes run them, shares them out."""
    for item in items:
        if not any(map(item.get_closest_marker, MARKS)):
            item.add_marker("unit")
    if hasattr(config, "workerinput"):
        for item in items:
            if not item.get_closest_marker("xdist_group") and (group := _group(item)):
                item.add_marker(pytest.mark.xdist_group(group))
        items.sort(key=_rank)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Sees that groups are kept, and exempts what stays from every later collection of garbage."""
    if getattr(session.config.option, "loadgroup", False):
        grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
        assert all("@" in item.nodeid for item in grouped)  # what the scheduler goes by
    gc.freeze()


def _rank(item: pytest.Item) -> int:
    return next(rank for rank, mark in enumerate(MARKS) if item.get_closest_marker(mark))


def _group(item: pytest.Item) -> str | None:
    """What one process runs, one after the other; None for a test that any process may run.

    The engine's tests share the machine's lock, the engine and its checkpoints, which the first of
    them makes; mypy's its cache. Those of one file share its fixtures, each of which is made once.
    """
    mark = MARKS[_rank(item)]
    if mark in ("engine", "lint"):
        return mark
    return None if mark == "actions" else item.path.stem


@pytest.fixture(scope="session", autouse=True)
def engine_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the real engine compiles and looks up in its models, it does once and not per server.

    Each server has a folder of its own for temporary files, and each workflow a home of its own. It
    computes on one core of two: beside other tests two would wait for each other.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_NUM_OF_RESERVED_CPU", "1")
        for name in ("TORCHINDUCTOR_CACHE_DIR", "VLLM_CACHE_ROOT"):
            patch.setenv(name, str(tmp_path_factory.getbasetemp() / name.lower()))
        yield


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
