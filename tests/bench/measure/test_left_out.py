"""A processor that lacks a variant's kernels: it is left out in words, the others are measured.

The command is the real one in a process of its own, and reads a /proc/cpuinfo of the test's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_runs import REVISION, STAGES, Place, kill
from engines import engine_python

from bench.records import store

pytestmark = pytest.mark.process

__all__ = ["engine_python"]  # a fixture

COMMAND = """\
import sys
from pathlib import Path
from bench import cli
from bench.demo import inputs
from bench.engine import processor

processor.CPUINFO, inputs.MODELS = Path("cpuinfo").resolve(), Path("models.toml").resolve()
cli.invoke(cli.cli)
"""
WORDS = "this processor has no AVX-512"


@pytest.fixture
def place(tmp_path: Path, engine_python: Path) -> Iterator[Place]:
    """A place where A has weights of 16 bits and B of four."""
    place = Place(tmp_path, engine_python)
    config = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    snapshot = tmp_path / f"hf/hub/models--stand-in--b/snapshots/{REVISION}"
    (snapshot / "config.json").write_text(json.dumps(config))
    yield place
    kill(*place.living())  # of a test that failed


def bench(place: Place, flags: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command line on a processor with these flags."""
    (place.folder / "cpuinfo").write_text(f"flags\t\t: fpu {flags} hypervisor\n")
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *argv],
        env=place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_with_avx_512_all_are_measured(place: Place) -> None:
    done = bench(place, "avx2 avx512f", *place.argv()[3:])
    assert done.returncode == 0, done.stderr
    assert set(place.finished()) == set(STAGES)


def test_without_it_a_run_says_so_first_measures_the_rest_and_fails(place: Place) -> None:
    done = bench(place, "avx2", *place.argv()[3:])
    assert done.returncode == 3, done.stderr
    assert 0 < done.stderr.index(f"B: {WORDS}") < done.stderr.index("A: ")
    assert set(place.finished()) == {"a/speed", "a/quality"}
    assert [name for name, _ in place.moments()].count("start") == 1
    found = [record for _, record in store.records(place.results) if record.error]
    assert {(record.variant, record.stage) for record in found} == {
        ("b", "speed"),
        ("b", "quality"),
    }
    for record in found:
        assert record.error
        assert record.error.kind == "UnsupportedError"
        assert record.error.message.startswith(WORDS)


def test_said_again_it_is_not_recorded_again(place: Place) -> None:
    for _ in range(2):
        done = bench(place, "avx2", *place.argv("--variant", "b", "--stage", "speed")[3:])
        assert done.returncode == 3, done.stderr
        assert f"B: {WORDS}" in done.stderr
    assert len(store.paths(place.results)) == 1
    assert not [name for name, _ in place.moments() if name == "start"]


def test_the_demo_is_whole_without_it_and_its_page_says_why(place: Place) -> None:
    models = place.folder / "models.toml"
    models.write_text(models.read_text().replace('id = "cpu"', 'id = "cpu-avx2"'))
    done = bench(place, "avx2", "demo", "--out", str(place.folder / "out"))
    assert done.returncode == 0, done.stderr
    assert f"variants left out: 1: {WORDS}" in done.stdout
    assert "error:" not in done.stderr
    site = place.folder / "out" / "site"
    first, takeaways = (
        " ".join((site / page).read_text().split()) for page in ("index.html", "takeaways.html")
    )
    assert "2 stages failed" in first
    assert f"B (quality and speed): {WORDS}" in takeaways
