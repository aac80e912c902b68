"""Answers of several records: each document counts as it was answered last."""

from datetime import timedelta
from pathlib import Path

import pytest
import synthetic
from synthetic import BF16, START

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import TaskResult
from report.rows import answers


def asked(root: Path, week: int, documents: int) -> tuple[Path, TaskResult]:
    """A record of so many documents, and its task."""
    made = synthetic.quality_record(
        BF16, finished=START + timedelta(weeks=week), seed=week, documents=documents
    )
    path = store.write(root, *made)
    quality = store.read(path).quality
    assert quality
    return path, quality.tasks[0]


def test_what_was_asked_again_is_not_read(tmp_path: Path) -> None:
    """And what some of the documents were asked again of is."""
    first, again, others = asked(tmp_path, 0, 40), asked(tmp_path, 1, 40), asked(tmp_path, 2, 50)
    assert first[1].samples != again[1].samples
    told = answers.read([first, others, again])
    (first[0].parent / first[1].samples.file).unlink()
    assert repr(answers.read([first, others, again])) == repr(told)
    assert repr(answers.read([others, again])) == repr(told)
    assert len(told.documents) == 50
    with pytest.raises(ConfigError, match="restore it"):
        answers.read([first, others, again], each=True)
    with pytest.raises(ConfigError, match="restore it"):
        answers.read([again, first])
