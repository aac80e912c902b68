"""Records held against main: what it lacks is written, nothing is doubled or overwritten."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import hostile
import pytest
import synthetic

from bench.errors import BenchError, RefusedError
from bench.github import incoming
from bench.records import store

LATER = synthetic.START + timedelta(hours=1)


def everything(_: Path) -> dict[str, str]:
    return {}


def test_one_push_takes_so_many_bytes_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is over is refused by artifact; nothing of it is stored, and no other suffers."""
    taken = sum(map(len, hostile.record_files().values()))
    monkeypatch.setattr(incoming, "MAX_PUSH_BYTES", 2 * taken - 1)
    for name in "ab":
        hostile.write_files(tmp_path / "in" / name, hostile.record_files())
    later = hostile.edited(lambda raw: raw["provenance"].update(finished_at=f"{LATER:%FT%TZ}"))
    hostile.write_files(tmp_path / "in" / "c", later)
    staged, results = tmp_path / "staged", tmp_path / "results"
    refused = incoming.gather(tmp_path / "in", hostile.plan(), staged, results, everything)
    assert [f"more than 2,000 files or {taken - 1:,} bytes" in e.message for e in refused] == [
        True, True,
    ]  # fmt: skip
    assert "title=refused b" in capsys.readouterr().out
    assert len(store.paths(staged)) == 1


def test_what_a_report_of_all_would_leave_out_is_not_pushed(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(synthetic.BF16)
    path = store.write(tmp_path, record, sidecars)
    name = path.relative_to(tmp_path).as_posix()
    incoming.check_shown([path], tmp_path, everything)
    incoming.check_shown([path], tmp_path, lambda _: {"another/one.json": "was there before"})
    with pytest.raises(RefusedError, match=r"could not be shown: has no rows"):
        incoming.check_shown([path], tmp_path, lambda _: {name: "has no rows"})


def test_what_is_written_is_the_record_with_its_sidecars(tmp_path: Path) -> None:
    record, sidecars = synthetic.quality_record(synthetic.BF16)
    path = store.write(tmp_path / "staged", record, sidecars)
    written = incoming.write_missing(tmp_path / "staged", tmp_path / "results")
    assert sorted(written) == sorted(p for p in (tmp_path / "results").rglob("*") if p.is_file())
    assert len(written) == 1 + len(sidecars)
    assert written[0].read_bytes() == path.read_bytes()
    assert incoming.write_missing(tmp_path / "staged", tmp_path / "results") == []
    assert incoming.list_stored(tmp_path / "staged", tmp_path / "results") == written


def test_the_same_stage_measured_twice_in_one_push_is_stored_once(tmp_path: Path) -> None:
    for finished in (synthetic.START, LATER):
        store.write(tmp_path / "staged", *synthetic.speed_record(synthetic.BF16, finished=finished))
    incoming.write_missing(tmp_path / "staged", tmp_path / "results")
    assert len(store.paths(tmp_path / "results")) == 1
    assert len(incoming.list_stored(tmp_path / "staged", tmp_path / "results")) == 2


def test_a_failed_stage_on_main_does_not_keep_its_repetition_out(tmp_path: Path) -> None:
    failed, _ = synthetic.speed_record(synthetic.BF16)
    store.write(tmp_path / "results", failed.model_copy(update={"status": "failed"}), [])
    store.write(tmp_path / "staged", *synthetic.speed_record(synthetic.BF16, finished=LATER))
    assert incoming.write_missing(tmp_path / "staged", tmp_path / "results")


def test_a_record_that_someone_edited_is_not_overwritten(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(synthetic.BF16)
    store.write(tmp_path / "staged", record, sidecars)
    edited = store.write(tmp_path / "results", record.model_copy(update={"status": "failed"}))
    before = edited.read_bytes()
    with pytest.raises(BenchError, match="exists already"):
        incoming.write_missing(tmp_path / "staged", tmp_path / "results")
    assert edited.read_bytes() == before


@pytest.mark.parametrize("worse", ["partial", "failed"])
@pytest.mark.parametrize("hours", [-1, 1])
def test_of_two_attempts_the_complete_one_is_stored(worse: str, hours: int, tmp_path: Path) -> None:
    """Whichever came first."""
    staged, results = tmp_path / "staged", tmp_path / "results"
    store.write(staged, *synthetic.speed_record(synthetic.BF16))
    at = synthetic.START + timedelta(hours=hours)
    record, sidecars = synthetic.speed_record(synthetic.BF16, finished=at)
    store.write(staged, record.model_copy(update={"status": worse}), sidecars)
    incoming.write_missing(staged, results)
    assert [record.status for _, record in store.records(results)] == ["ok"]


def test_of_two_complete_attempts_the_newest_is_stored(tmp_path: Path) -> None:
    staged, results = tmp_path / "staged", tmp_path / "results"
    for finished in (synthetic.START, LATER):
        store.write(staged, *synthetic.speed_record(synthetic.BF16, finished=finished))
    incoming.write_missing(staged, results)
    assert [r.provenance.finished_at for _, r in store.records(results)] == [LATER]
