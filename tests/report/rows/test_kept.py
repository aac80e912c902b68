"""Rows that are kept in the cache: the same rows with it, without it, and however it was spoilt."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import synthetic
from bench_runs import PATIENCE_S
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import BF16, FP8

from bench.records import store
from report.exports import export
from report.pages import variant
from report.places import TEMPLATES
from report.rows import results
from report.rows.results import Folder, Results, load

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    for week in (0, 1):
        finished = synthetic.START + week * (synthetic.START.resolution * 10**6 * 86_400 * 7)
        for each in (BF16, FP8):
            for made in (
                synthetic.speed_record(each, finished=finished, seed=week, prompts=4, loops=(2,)),
                synthetic.quality_record(each, finished=finished, seed=week, documents=8),
            ):
                store.write(root, *made)
    store.write(root, synthetic.failed_record(FP8))
    return root


def told(root: Path, kept: Path | None) -> list[str]:
    """All that is loaded, to the last digit."""
    found = load(root, None, kept)
    rows = (found.runs, found.speed, found.quality, found.parts, found.repeats, found.history)
    return [*(repr(list(each)) for each in (*rows, found.left_out)), *of_folders(found)]


def of_folders(found: Results) -> list[str]:
    """What each folder's page and exports have of it alone."""
    parts = (
        found.of_folders("page", variant.alone, many=300),
        found.of_folders("exports", export.of_folder, many=300),
    )
    return [tell(folder) for tell in parts for folder in found.packed]


def exported(root: Path, kept: Path | None, out: Path) -> dict[str, bytes]:
    export.write(load(root, None, kept), out, None)
    return {
        f"{path.relative_to(out)}": path.read_bytes() for path in out.rglob("*") if path.is_file()
    }


def remove_a_sidecar(root: Path, _: Path) -> None:
    sorted(root.glob("*/*/*.gz"))[0].unlink(missing_ok=True)


def empty_a_sidecar(root: Path, _: Path) -> None:
    sorted(root.glob("*/*/*.gz"))[-1].write_bytes(b"")


def spoil_a_record(root: Path, _: Path) -> None:
    store.paths(root)[1].write_text("{}")


def change_a_digit_and_no_time_or_size(root: Path, _: Path) -> None:
    path = next(path for path in store.paths(root) if path.name.startswith("quality"))
    old, was = path.read_text(), path.stat()
    path.write_text(old.replace('"duration_s":', '"duration_s":9', 1)[: len(old)])
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def add_a_record(root: Path, _: Path) -> None:
    later = synthetic.START + synthetic.START.resolution * 10**6 * 86_400 * 30
    if not list(root.glob("*/*/speed-20260331*")):
        store.write(root, *synthetic.speed_record(FP8, finished=later, seed=9, prompts=4))


def remove_a_variant(root: Path, _: Path) -> None:
    shutil.rmtree(store.paths(root)[-1].parent)


def remove_the_table(_: Path, kept: Path) -> None:
    kept.unlink(missing_ok=True)


def put_a_text_in_its_place(_: Path, kept: Path) -> None:
    kept.write_text("not a table\n" * 1000)


def cut_the_table(_: Path, kept: Path) -> None:
    if kept.exists():
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])


def change_a_byte_of_each_row(_: Path, kept: Path) -> None:
    change(kept, "UPDATE made SET packed = x'00' || substr(packed, 2)")


def swap_the_rows(_: Path, kept: Path) -> None:
    change(kept, "UPDATE made SET packed = (SELECT packed FROM made ORDER BY part LIMIT 1)")


def put_texts_for_rows(_: Path, kept: Path) -> None:
    change(kept, "UPDATE made SET packed = 'rows'")


def take_a_part(_: Path, kept: Path) -> None:
    change(kept, "DELETE FROM made WHERE part = 'quality'")


def say_another_version_made_it(_: Path, kept: Path) -> None:
    change(kept, "UPDATE made SET rests_on = sha256")


def put_a_strange_table(_: Path, kept: Path) -> None:
    kept.unlink(missing_ok=True)
    with closing(sqlite3.connect(kept)) as table, table:
        table.execute("CREATE TABLE made (something TEXT)")


def put_a_folder(_: Path, kept: Path) -> None:
    kept.unlink()
    kept.mkdir()


def change(kept: Path, how: str) -> None:
    if kept.is_file() and kept.read_bytes().startswith(b"SQLite"):
        with closing(sqlite3.connect(kept)) as table:
            try:
                with table:
                    table.execute(how)
            except sqlite3.Error:  # it is broken already
                return


def spy(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose records are read from now on."""
    read: list[Path] = []
    made = results._variant

    def variant(root: Path, paths: Sequence[Path]) -> results._Rows:
        read.append(paths[0].parent)
        return made(root, paths)

    monkeypatch.setattr(results, "_variant", variant)
    return read


Blow = Callable[[Path, Path], None]
TO_RECORDS: tuple[Blow, ...] = (
    remove_a_sidecar,
    empty_a_sidecar,
    spoil_a_record,
    change_a_digit_and_no_time_or_size,
    add_a_record,
    remove_a_variant,
)
TO_THE_TABLE: tuple[Blow, ...] = (
    remove_the_table,
    put_a_text_in_its_place,
    cut_the_table,
    change_a_byte_of_each_row,
    swap_the_rows,
    put_texts_for_rows,
    take_a_part,
    say_another_version_made_it,
    put_a_strange_table,
    put_a_folder,
)


@pytest.mark.parametrize("blow", (*TO_RECORDS, *TO_THE_TABLE))
def test_one_blow_changes_nothing_that_is_told(records: Path, tmp_path: Path, blow: Blow) -> None:
    root, kept = tmp_path / "records", tmp_path / "kept"
    shutil.copytree(records, root)
    load(root, None, kept)
    blow(root, kept)
    expected = told(root, None)
    assert told(root, kept) == expected
    assert told(root, kept) == expected, "and again, with what was just written"


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from((*TO_RECORDS[:-1], *TO_THE_TABLE[:-1])), min_size=2, max_size=5))
def test_any_blows_change_nothing_that_is_told(
    records: Path, tmp_path_factory: pytest.TempPathFactory, blows: list[Blow]
) -> None:
    folder = tmp_path_factory.mktemp("blows")
    root, kept = folder / "records", folder / "kept"
    shutil.copytree(records, root)
    for blow in blows:
        blow(root, kept)
        assert told(root, kept) == told(root, None)


def test_what_did_not_change_is_not_read_again(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, kept = tmp_path / "records", tmp_path / "kept"
    shutil.copytree(records, root)
    first = exported(root, kept, tmp_path / "first")
    read = spy(monkeypatch)
    assert exported(root, kept, tmp_path / "second") == first
    assert read == []
    assert exported(root, None, tmp_path / "third") == first
    read.clear()
    add_a_record(root, kept)
    load(root, None, kept)
    assert [folder.name for folder in read] == ["qwen3-8b-fp8"], "its variant, and no other"


def test_a_changed_program_makes_everything_anew(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(records, None, tmp_path / "kept")
    code = tmp_path / "code.py"
    code.write_text("SIX = 7\n")
    ours = list(results._code())
    monkeypatch.setattr(results, "_code", lambda: iter([*ours, code]))
    read = spy(monkeypatch)
    assert told(records, tmp_path / "kept") == told(records, None)
    assert len(read) == 4, "two variants, each with the table and without"


class Pages:
    """Makes what a page has of a folder alone, and remembers of which it did."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, folder: Folder) -> str:
        self.made.append(folder.name.partition("/")[2])
        return variant.alone(folder)

    def of(self, found: Results) -> list[str]:
        """Those that had to be made, once it is clear that all are as they would be made anew."""
        self.made.clear()
        tell = found.of_folders("page", self, many=300)
        made = list(self.made)
        assert [tell(name) for name in found.packed] == [
            variant.alone(Folder(found.root, name, packed)) for name, packed in found.packed.items()
        ]
        return made


def test_a_folder_is_told_again_only_for_its_own_records_code_and_packages(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, kept, pages = tmp_path / "records", tmp_path / "kept", Pages()
    shutil.copytree(records, root)
    every = ["qwen3-8b-bf16", "qwen3-8b-fp8"]
    assert pages.of(load(root, None, kept)) == every
    assert pages.of(load(root, None, kept)) == []
    add_a_record(root, kept)
    assert pages.of(load(root, None, kept)) == ["qwen3-8b-fp8"], "its variant, and no other"
    assert {TEMPLATES / "table.html.j2", Path(variant.__file__)} <= {*results._all_code()}
    code = tmp_path / "code.py"
    code.write_text("SIX = 7\n")
    ours = list(results._all_code())
    with monkeypatch.context() as patched:
        patched.setattr(results, "_all_code", lambda: iter([*ours, code]))
        assert pages.of(load(root, None, kept)) == every
    monkeypatch.setattr(results, "_PACKAGES", ("numpy",))
    assert pages.of(load(root, None, kept)) == every


def test_what_was_made_of_records_that_changed_meanwhile_is_not_kept(
    records: Path, tmp_path: Path
) -> None:
    root, kept = tmp_path / "records", tmp_path / "kept"
    shutil.copytree(records, root)
    found = load(root, None, kept)
    add_a_record(root, kept)
    before = of_folders(found)
    assert of_folders(load(root, None, kept)) == of_folders(load(root, None)) != before


def test_stores_that_are_gone_are_forgotten(records: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for name in ("one", "other"):
        shutil.copytree(records, tmp_path / name)
        load(tmp_path / name, None, kept)
        shutil.rmtree(tmp_path / name)
    load(records, None, kept)
    with closing(sqlite3.connect(kept)) as table:
        assert table.execute("SELECT DISTINCT root FROM made").fetchall() == [(str(records),)]


@pytest.mark.process
def test_processes_at_once_tell_the_same(records: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path\n"
        "from report.rows.results import load\n"
        "for _ in range(5): found = load(Path(sys.argv[3]), None, Path(sys.argv[4]))\n"
        "print([*found.speed, *found.quality, *found.history])"
    )
    here = [str(ROOT), str(ROOT / "tests" / "support"), str(records), str(kept)]
    running = [
        subprocess.Popen([sys.executable, "-c", program, *here], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {process.communicate(timeout=PATIENCE_S)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    found = load(records, None)
    assert said == {f"{[*found.speed, *found.quality, *found.history]}\n"}
