"""The compare page: what a variant carries, and that nothing is called what it is not."""

from pathlib import Path

import pytest
import synthetic
from folders import REFERENCE
from synthetic import BF16, BROKEN, FP8, L40, LAPTOP, SMALL

from bench.records import store
from report.decisions.decision import decisions
from report.differences.families import Verdicts
from report.pages import compare
from report.rows.loads import Kept
from report.rows.results import load


@pytest.mark.parametrize(
    ("kept", "lines"),
    [
        (None, ("unknown", "")),
        (Kept(10.0, None), ("≥ 10", "highest tried")),
        (Kept(2.5, 10.0), ("2.5", "unsure at 10")),
        (Kept(2.5, None, 10.0), ("2.5", "fails at 10")),
        (Kept(2.5, 5.0, 10.0), ("2.5", "unsure at 5")),
        (Kept(None, None, 10.0), ("none", "fails at 10")),
        (Kept(None, 2.5, 10.0), ("none", "unsure at 2.5")),
    ],
)
def test_what_it_carries_says_what_was_tried(kept: Kept | None, lines: tuple[str, str]) -> None:
    cell = compare._carries(kept)
    assert (cell.text, cell.note) == lines
    assert cell.value == (kept.highest if kept else None)


def test_weights_on_disk_are_another_column_than_those_in_memory(tmp_path: Path) -> None:
    """Else, side by side across machines, what a file takes would be set against memory."""
    for machine in (L40, LAPTOP):
        synthetic.write(tmp_path, (SMALL, BROKEN), machine)
    verdicts = Verdicts(load(tmp_path, None))
    on_gpu, on_cpu = compare.sections(decisions(verdicts), verdicts)
    sizes = [each.table.columns[1] for each in (on_gpu, on_cpu)]
    assert [(size.key, size.unit) for size in sizes] == [
        ("weights_gib", "GiB"), ("checkpoint_gib", "GiB on disk")
    ]  # fmt: skip
    assert all(row.cells[0].value for each in (on_gpu, on_cpu) for row in each.table.rows)


@pytest.mark.parametrize(("documents", "said"), [(100, True), (200, False)])
def test_a_pair_says_on_which_documents_where_the_scores_are_of_more(
    tmp_path: Path, documents: int, said: bool
) -> None:
    store.write(tmp_path, *synthetic.quality_record(BF16, documents=200))
    store.write(tmp_path, *synthetic.quality_record(FP8, documents=documents))
    verdicts = Verdicts(load(tmp_path, None))
    [section] = compare.sections(decisions(verdicts), verdicts)
    assert section.pairs
    told = [row.cells[-1].more for row in section.pairs.rows]
    assert ["on the 100 documents that both answered" in each for each in told] == [said, said]


def test_what_is_shown_is_what_the_pairs_are_told_of(tmp_path: Path) -> None:
    verdicts = Verdicts(load(tmp_path, REFERENCE))
    section = compare.sections(decisions(verdicts), verdicts)[0]
    assert section.pairs
    measured = {
        each.key for each in section.table.columns if each.change in ("untested", "unpaired")
    }
    assert measured == {each.key for each in section.pairs.columns[2:]}
    assert "tested" not in section.pairs.caption.lower()
    words = {cell.word for row in section.pairs.rows for cell in row.cells[1:4]} - {""}
    assert words == {"one run"}
