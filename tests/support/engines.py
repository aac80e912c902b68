"""The stand-in's environment as an `Engine` of the tool, made once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import standin_engine

from bench.engine.installed import Engine


@pytest.fixture(scope="session")
def engine_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's Python."""
    return standin_engine.make(tmp_path_factory.mktemp("standin") / "engine")


@pytest.fixture
def engine(engine_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The stand-in's engine, with a cache of the test's own and its moments in `tmp_path`."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLLM_STANDIN", str(tmp_path))
    version = standin_engine.VLLM.partition("+")[0]
    return Engine("cpu", engine_python, version, standin_engine.LM_EVAL, "0" * 64)
