"""`bench ingest`: sound results arrive whole, everything else is refused and nothing written."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import hostile
import pytest

from bench.errors import ConfigError, RefusedError
from bench.ingest import Ticket, ingest, read_plan
from bench.modelsfile import problems
from bench.records import store


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_sound_results_are_stored_as_they_are(tmp_path: Path) -> None:
    files = hostile.record_files()
    source = hostile.write_files(tmp_path / "in", files)
    written = ingest(source, hostile.plan(), tmp_path / "results")
    assert {str(p.relative_to(tmp_path / "results")): p.read_bytes() for p in written} == files
    assert [record.status for _, record in store.records(tmp_path / "results")] == ["ok"]


# Several artifacts are downloaded into a folder each, a single one may lie by itself.
@pytest.mark.parametrize("source", ["in", "in/results-l40-a/results-l40-a.zip"])
def test_an_archive_is_read_without_unpacking(source: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "results-l40-a").mkdir(parents=True)
    archive = tmp_path / "in" / "results-l40-a" / "results-l40-a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.mkdir("l40")
        for name, data in hostile.record_files().items():
            zipped.writestr(name, data)
    written = ingest(tmp_path / source, hostile.plan(), tmp_path / "results")
    assert len(written) == 2
    assert listing(tmp_path / "in") == ["results-l40-a", "results-l40-a/results-l40-a.zip"]


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be read"):
        ingest(tmp_path / "in", hostile.plan(), tmp_path / "results")


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    source = hostile.write_files(tmp_path / "in", hostile.record_files())
    ingest(source, hostile.plan(), tmp_path / "results")
    assert ingest(source, hostile.plan(), tmp_path / "results") == []


def test_a_sidecar_whose_record_was_never_written_is_left_out(tmp_path: Path) -> None:
    _, orphan = store.pack_sidecar([{"half": "done"}])
    name = f"{hostile.FOLDER}/{store.pack_sidecar([{'half': 'done'}])[0].file}"
    source = hostile.write_files(tmp_path / "in", {**hostile.record_files(), name: orphan})
    written = ingest(source, hostile.plan(), tmp_path / "results")
    assert len(written) == 2
    assert not (tmp_path / "results" / name).exists()


def test_a_stored_record_is_not_replaced(tmp_path: Path) -> None:
    source = hostile.write_files(tmp_path / "in", hostile.record_files())
    record = next(
        p for p in ingest(source, hostile.plan(), tmp_path / "results") if p.suffix != ".gz"
    )
    record.write_bytes(record.read_bytes().replace(b"AMD EPYC", b"AMD Epyc"))
    kept = record.read_bytes()
    with pytest.raises(RefusedError, match="stored already"):
        ingest(source, hostile.plan(), tmp_path / "results")
    assert record.read_bytes() == kept


@pytest.mark.parametrize("case", hostile.ARTIFACTS)
def test_hostile_artifacts_are_refused_whole(case: str, tmp_path: Path) -> None:
    make, words = hostile.ARTIFACTS[case]
    source = hostile.write_files(tmp_path / "in", make())
    with pytest.raises(RefusedError) as refused:
        ingest(source, hostile.plan(), tmp_path / "results")
    assert words in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.exit_code == 7
    assert listing(tmp_path) == sorted(["in", *(f"in/{name}" for name in listing(source))])


@pytest.mark.parametrize("case", hostile.FOLDERS)
def test_links_and_archives_are_refused(case: str, tmp_path: Path) -> None:
    make, words = hostile.FOLDERS[case]
    make(tmp_path / "in")
    before = listing(tmp_path)
    with pytest.raises(RefusedError) as refused:
        ingest(tmp_path / "in", hostile.plan(), tmp_path / "results")
    assert words in refused.value.message
    assert listing(tmp_path) == before


def test_one_bad_record_spoils_all(tmp_path: Path) -> None:
    source = hostile.write_files(tmp_path / "in", hostile.record_files())
    hostile.write_files(source, hostile.edited(lambda raw: raw.update(variant="unasked")))
    with pytest.raises(RefusedError):
        ingest(source, hostile.plan(), tmp_path / "results")
    assert not (tmp_path / "results").exists()
    shutil.rmtree(source / "l40" / "unasked")
    assert ingest(source, hostile.plan(), tmp_path / "results")


def test_the_plan_is_what_bench_plan_prints(tmp_path: Path) -> None:
    row = {"variant": "v", "hardware": "h", "stage": "speed", "key": "a" * 64, "needed": True}
    other = {**row, "stage": "quality", "key": "b" * 64, "needed": False, "state": "current"}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps([row, other]))
    assert read_plan(path) == {Ticket("h", "v", "speed"): "a" * 64}
    path.write_text(json.dumps([{**row, "key": "x"}]))
    with pytest.raises(ConfigError, match="not a plan"):
        read_plan(path)


@pytest.mark.parametrize("case", hostile.MODELS)
def test_hostile_models_are_answered_with_key_and_fix(case: str) -> None:
    text, key = hostile.MODELS[case]
    found = problems.find_problems(text)
    assert any(key in problem.key for problem in found), found
    for problem in found:
        assert problem.fix
        assert len(problem.message + problem.fix) < 1_000


@pytest.mark.parametrize("kind", hostile.TEXTS)
def test_a_comment_in_models_toml_says_nothing_to_the_program(kind: str, tmp_path: Path) -> None:
    sound = hostile.models('repo = "a/b"')
    remarks = "".join(f"# {line}\n" for line in hostile.TEXTS[kind].split("\n"))
    path = tmp_path / "models.toml"
    path.write_text(remarks + sound, newline="")
    if kind == "terminal":  # TOML itself forbids control characters
        (problem,) = problems.find_problems(path.read_text())
        assert problem.key == "syntax"
        return
    commented = problems.load_experiment(path)
    path.write_text(sound)
    assert commented == problems.load_experiment(path)
