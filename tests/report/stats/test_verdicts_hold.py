"""The promises of `benchmarks/verdicts.md`, in a quick version at fixed seeds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
EXPERIMENTS = 150
ERRORS = 2.0  # so many Monte-Carlo standard errors beyond its bound, a share breaks it


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verdicts", BENCHMARKS / "verdicts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdicts"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_every_promise_is_kept_within_its_monte_carlo_error(verdicts: ModuleType) -> None:
    measured = list(verdicts.run(EXPERIMENTS, quick=True))
    broken = [
        f"{each.cell}, {each.column}: {each} instead of {each.bound}"
        for each in measured
        if each.bound is not None and not each.bound.holds(each.share, EXPERIMENTS, errors=ERRORS)
    ]
    assert not broken
    assert sum(each.bound is not None for each in measured) >= 20


def test_without_moderation_a_noisy_baseline_breaks_its_promise(verdicts: ModuleType) -> None:
    """The simulation can fail: it does for the statistics it was made to replace."""
    machine = verdicts.Machine(relative=verdicts.ONE_NOISY)
    shares = verdicts.speed_shares(machine, 3, EXPERIMENTS, [1], verdicts.ALL_ALIKE)
    assert not verdicts.UNEQUAL.holds(shares.false, EXPERIMENTS, errors=ERRORS)
    moderated = verdicts.speed_shares(machine, 3, EXPERIMENTS, [1])
    assert moderated.false < shares.false / 2


def test_the_committed_tables_keep_their_promises(verdicts: ModuleType) -> None:
    """All but those that the page itself tells of, under "Where a promise is not kept"."""
    text = (BENCHMARKS / "verdicts.md").read_text()
    cells = {each.cell for each in verdicts.run(1)}
    assert all(f"| {cell} " in text for cell in cells)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    broken = {row.split("|")[1].strip() for row in rows if "✗" in row}
    assert broken == {
        "worst case: one variant four times, in one metric only",
        "one variant four times as far apart",  # its wrong signs
    }


def test_a_bound_is_kept_or_not(verdicts: ModuleType) -> None:
    bound = verdicts.Bound(0.94, 0.98)
    assert bound.holds(0.94, 1000) and bound.holds(0.98, 1000)
    assert not bound.holds(0.939, 1000) and not bound.holds(0.981, 1000)
    assert bound.holds(0.935, 1000, errors=1) and not bound.holds(0.92, 1000, errors=2)
    assert [str(verdicts.Bound(*ends)) for ends in ((0, 0.05), (0.9, 1), (0.94, 0.98))] == [
        "≤ 5",
        "≥ 90",
        "94–98",
    ]
