"""`bench ingest`: sound results arrive whole, everything else is refused and nothing written."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import shutil
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hostile
import nonsense
import pytest
import synthetic
from folders import ROOT

from bench.config import Experiment, QualityOptions, parse
from bench.errors import ConfigError, RefusedError
from bench.ingest import MAX_TRIES, Asked, Ticket, read_files, read_plan, store_results
from bench.modelsfile import problems
from bench.plan import documents
from bench.plan.commits import Repository, repositories
from bench.plan.jobs import find_jobs
from bench.records import store
from bench.records.record import Fidelity, Metric, Record, Sidecar, canonical_json
from bench.records.sense import find_nonsense
from bench.records.sidecars import find_fault

Raw = dict[str, Any]
Rows = list[Raw]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_sound_results_are_stored_as_they_are(tmp_path: Path) -> None:
    files = hostile.record_files()
    source = hostile.write_files(tmp_path / "in", files)
    written = store_results(source, hostile.plan(), tmp_path / "results")
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
    written = store_results(tmp_path / source, hostile.plan(), tmp_path / "results")
    assert len(written) == 2
    assert listing(tmp_path / "in") == ["results-l40-a", "results-l40-a/results-l40-a.zip"]


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be read"):
        store_results(tmp_path / "in", hostile.plan(), tmp_path / "results")


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    source = hostile.write_files(tmp_path / "in", hostile.record_files())
    store_results(source, hostile.plan(), tmp_path / "results")
    assert store_results(source, hostile.plan(), tmp_path / "results") == []


def test_a_sidecar_whose_record_was_never_written_is_left_out(tmp_path: Path) -> None:
    _, orphan = store.pack_sidecar([{"half": "done"}])
    name = f"{hostile.FOLDER}/{store.pack_sidecar([{'half': 'done'}])[0].file}"
    source = hostile.write_files(tmp_path / "in", {**hostile.record_files(), name: orphan})
    written = store_results(source, hostile.plan(), tmp_path / "results")
    assert len(written) == 2
    assert not (tmp_path / "results" / name).exists()


def test_a_stored_record_is_not_replaced(tmp_path: Path) -> None:
    source = hostile.write_files(tmp_path / "in", hostile.record_files())
    record = next(
        p for p in store_results(source, hostile.plan(), tmp_path / "results") if p.suffix != ".gz"
    )
    record.write_bytes(record.read_bytes().replace(b"AMD EPYC", b"AMD Epyc"))
    kept = record.read_bytes()
    with pytest.raises(RefusedError, match="stored already"):
        store_results(source, hostile.plan(), tmp_path / "results")
    assert record.read_bytes() == kept


@pytest.mark.parametrize("case", hostile.ARTIFACTS)
def test_hostile_artifacts_are_refused_whole(case: str, tmp_path: Path) -> None:
    make, words = hostile.ARTIFACTS[case]
    source = hostile.write_files(tmp_path / "in", make())
    with pytest.raises(RefusedError) as refused:
        store_results(source, hostile.plan(), tmp_path / "results")
    assert words in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.exit_code == 7
    assert listing(tmp_path) == sorted(["in", *(f"in/{name}" for name in listing(source))])


@pytest.mark.parametrize("kind", nonsense.RECORDS)
def test_a_record_that_makes_no_sense_is_refused(kind: str, tmp_path: Path) -> None:
    raw, sidecars = nonsense.make(kind)
    source = hostile.write_files(tmp_path / "in", hostile.pack(raw, sidecars))
    told = hostile.describe(Record.model_validate_json(canonical_json(raw)))
    plan = {Ticket(raw["hardware"], raw["variant"], raw["stage"]): Asked(raw["key"], told)}
    with pytest.raises(RefusedError):
        store_results(source, plan, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_stage_may_end_in_the_second_in_which_it_began() -> None:
    record, _ = synthetic.speed_record(synthetic.BF16)
    times = {"started_at": record.provenance.finished_at}
    provenance = record.provenance.model_copy(update=times)
    assert find_nonsense(record.model_copy(update={"provenance": provenance})) is None


SERVED: dict[str, Callable[[Record], Record]] = {
    "engine version": lambda r: _with(r, "engine", version="0.31.0"),
    "engine build": lambda r: _with(r, "engine", build="cpu"),
    "repo": lambda r: _with(r, "model", repo="another/one"),
    "file": lambda r: _with(r, "model", file="another.gguf"),
    "revision": lambda r: _with(r, "model", revision="b" * 40),
    "revision ": lambda r: _with(r, "model", revision=None),
    "tokenizer_revision": lambda r: _with(r, "model", tokenizer_revision="c" * 40),
    "prompts": lambda r: _sent(r, prompts=1),
    "input_tokens": lambda r: _sent(r, input_tokens=1),
    "output_tokens": lambda r: _sent(r, output_tokens=2),
    "warmup_prompts": lambda r: _sent(r, warmup_prompts=0),
}


def _with(record: Record, part: str, **change: object) -> Record:
    return record.model_copy(update={part: getattr(record, part).model_copy(update=change)})


def _sent(record: Record, **change: object) -> Record:
    assert record.speed
    return _with(record, "speed", workload=record.speed.workload.model_copy(update=change))


def take_job(
    folder: Path,
    change: Callable[[Record], Record] = lambda record: record,
    options: str = "",
    **more: Any,
) -> list[Path]:
    """What is stored of a real job's record, with this change to it, or made another way."""
    revision = "a" * 40
    text = hostile.models(f'repo = "a/b"\nrevision = "{revision}"\nfile = "c.gguf"\n{options}')
    text = text.replace('"cpu"', '"cuda"\ngpu_memory_gib = 48.0').replace(
        "file =", 'tokenizer = "a/b"\nfile ='
    )
    job = find_jobs(parse(Experiment, tomllib.loads(text)), folder / "none", stages=["speed"])[0]
    asked = {"prompts": job.speed.prompts, "repeats": job.speed.repeats}
    record, sidecars = synthetic.speed_record(hostile.VARIANT, **{**asked, **more})
    record = _with(synthetic.of_job(record, job), "model", tokenizer_revision="d" * 40)
    record = change(record)
    files = hostile.pack(record.model_dump(mode="json"), sidecars)
    weights, tokenizer = repositories(job.variant)
    fetched = (weights, replace(tokenizer, commit="d" * 40))  # looked up when it was planned
    asked_for = Asked(job.key, job.description, repositories=fetched)
    plan = {Ticket(job.hardware.id, job.variant.id, "speed"): asked_for}
    return store_results(hostile.write_files(folder / "in", files), plan, folder / "results")


def test_a_record_of_what_was_asked_is_stored(tmp_path: Path) -> None:
    assert len(take_job(tmp_path)) == 2


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"repeats": 2}, "has 2 repeats of a load, not 1"),
        ({"prompts": 20}, "other than 200 requests"),
        ({"rates": (10.0, 20.0)}, "a load that was not asked for (20 requests/s)"),
        ({"loops": (8,)}, "a load that was not asked for (8 at a time)"),
    ],
    ids=str,
)
def test_a_record_of_more_or_less_than_was_asked_is_refused(
    made: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=re.escape(words)):
        take_job(tmp_path, **made)


LOOPS = "speed = { request_rates = [inf], concurrency = [2, 5], prompts_each = 40, repeats = 2 }"


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (40, "repeats and requests"),  # as many as were asked: it is the sidecar that has others
        (39, "has a repeat of other than 80 requests"),
        (41, "has a repeat of other than 80 requests"),
    ],
)
def test_in_a_closed_loop_as_many_are_sent_as_are_at_once_times_those_of_each(
    each: int, words: str, tmp_path: Path
) -> None:
    def change(record: Record) -> Record:
        raw = record.model_dump(mode="json")
        for load in raw["speed"]["loads"][1:]:
            count = each * load["concurrency"]
            for repeat in load["repeats"]:
                repeat |= {"asked": count, "completed": count}
                for side, tokens in (("input_tokens", 512), ("output_tokens", 128)):
                    repeat |= {side: count * tokens, f"server_{side}": count * tokens}
        return Record.model_validate_json(canonical_json(raw))

    with pytest.raises(RefusedError, match=words):
        take_job(tmp_path, change, LOOPS, rates=(math.inf,), loops=(2, 5), prompts=200, repeats=2)


@pytest.mark.parametrize(
    "count", ["input_tokens", "output_tokens", "server_input_tokens", "server_output_tokens"]
)
def test_a_record_of_other_tokens_than_were_asked_is_refused(count: str, tmp_path: Path) -> None:
    def change(record: Record) -> Record:
        raw = record.model_dump(mode="json")
        raw["speed"]["loads"][0]["repeats"][0][count] -= 1
        return Record.model_validate_json(canonical_json(raw))

    with pytest.raises(RefusedError, match=r"other (than|tokens)"):
        take_job(tmp_path, change)


# -- quality: the documents that were asked, and the same ones for the whole family ---------------

VARIANTS = "".join(
    f'[[variant]]\nname = "{name}"\nfamily = "F"\nrepo = "a/{name}"\n' for name in "VW"
)
QUALITY = (
    f"quality = {{ documents = 30 }}\n{hostile.HARDWARE_TABLE}[[family]]\n"
    f'name = "F"\nbaseline = "V"\n{VARIANTS}'
)


def quality(
    folder: Path, variant: str = "v", change: Callable[[Raw, Rows], object] = lambda *_: None
) -> tuple[Path, dict[Ticket, Asked]]:
    """An artifact with the answers of a variant to 30 documents of one data set, and its plan."""
    experiment = parse(Experiment, tomllib.loads(QUALITY))
    jobs = find_jobs(experiment, folder / "none", variants=[variant], stages=["quality"])
    (job,) = jobs
    record, (data,) = synthetic.quality_record(hostile.VARIANT, documents=30)
    raw = synthetic.of_job(record, job).model_dump(mode="json")
    rows: Rows = json.loads(gzip.decompress(data))
    for row, index in zip(rows, documents.choose(10_042, job.quality), strict=True):
        row["doc"] = index
    task = raw["quality"]["tasks"][0]
    task["dataset_revision"] = "c" * 40
    change(task, rows)
    listed = "\n".join(f"{row['doc']} {row['hash']}" for row in rows)
    task.setdefault("documents_sha256", "")
    if task["documents_sha256"] != "f" * 64:
        task["documents_sha256"] = hashlib.sha256(listed.encode()).hexdigest()
    sidecar, data = store.pack_sidecar(rows)
    task["samples"] = sidecar.model_dump(mode="json")
    source = hostile.write_files(folder / f"in-{variant}", hostile.pack(raw, [data]))
    return source, {Ticket("h", variant, "quality"): Asked(job.key, job.description)}


def test_answers_to_what_was_asked_are_stored(tmp_path: Path) -> None:
    for variant in "vw":
        assert len(store_results(*quality(tmp_path, variant), tmp_path / "results")) == 2


def test_each_task_has_documents_of_its_own(tmp_path: Path) -> None:
    asked = QUALITY.replace("{ documents", '{ tasks = ["hellaswag", "piqa"], documents')
    experiment = parse(Experiment, tomllib.loads(asked))
    (job,) = find_jobs(experiment, tmp_path, variants=["v"], stages=["quality"])
    record, packed = synthetic.quality_record(
        hostile.VARIANT, tasks=("hellaswag", "piqa"), documents=30
    )
    raw, written = synthetic.of_job(record, job).model_dump(mode="json"), []
    for task, split, data in zip(raw["quality"]["tasks"], (10_042, 1_838), packed, strict=True):
        rows: Rows = json.loads(gzip.decompress(data))
        for row, index in zip(rows, documents.choose(split, job.quality), strict=True):
            row["doc"] = index
        listed = "\n".join(f"{row['doc']} {row['hash']}" for row in rows)
        sidecar, repacked = store.pack_sidecar(rows)
        written.append(repacked)
        task |= {"documents_original": split, "samples": sidecar.model_dump(mode="json")}
        task["documents_sha256"] = hashlib.sha256(listed.encode()).hexdigest()
    source = hostile.write_files(tmp_path / "in", hostile.pack(raw, written))
    plan = {Ticket("h", "v", "quality"): Asked(job.key, job.description)}
    assert len(store_results(source, plan, tmp_path / "results")) == 3


Change = Callable[[Raw, Rows], object]
CHOSEN = set(documents.choose(10_042, QualityOptions(documents=30)))
UNASKED: dict[str, tuple[Change, str]] = {
    "another task": (lambda task, _: task.update(name="piqa"), "not asked for (piqa)"),
    "in chats": (lambda task, _: task.update(apply_chat_template=True), "form of prompt"),
    "sampled": (lambda task, _: task.update(sampling_seeds=[1, 2]), "number of times"),
    "one's own choice": (
        lambda _, rows: rows[0].update(doc=next(i for i in range(99) if i not in CHOSEN)),
        "documents of hellaswag that were not asked for",
    ),
    "another split": (lambda task, _: task.update(documents_original=9_000), "not asked for"),
    "another list": (
        lambda task, _: task.update(documents_sha256="f" * 64), "than its record says",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNASKED)
def test_answers_to_something_else_are_refused(kind: str, tmp_path: Path) -> None:
    change, words = UNASKED[kind]
    with pytest.raises(RefusedError, match=re.escape(words)):
        store_results(*quality(tmp_path, change=change), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def forge(_: Raw, rows: Rows) -> None:
    rows[3]["hash"] = "d" * 64


def test_of_one_data_set_a_family_has_the_same_documents(tmp_path: Path) -> None:
    """Whether the other's record is stored here, or where this one is to go in the end."""
    results, aside = tmp_path / "results", tmp_path / "aside"
    store_results(*quality(tmp_path), results)
    forged = quality(tmp_path, "w", forge)
    for where, beside in ((results, []), (aside, [results])):
        with pytest.raises(RefusedError, match="other documents than its family's records"):
            store_results(*forged, where, beside=beside)
    assert not aside.exists()
    assert store_results(*forged, aside), "nothing to hold it against"


def test_another_state_of_the_data_may_have_other_documents(tmp_path: Path) -> None:
    def renew(task: Raw, rows: Rows) -> None:
        forge(task, rows)
        task["dataset_revision"] = "e" * 40

    store_results(*quality(tmp_path), tmp_path / "results")
    assert store_results(*quality(tmp_path, "w", renew), tmp_path / "results")


def test_where_nobody_said_which_data_documents_may_have_changed_since(tmp_path: Path) -> None:
    """With a hash of the data alone it is said."""

    def hide(task: Raw, rows: Rows) -> None:
        forge(task, rows)
        task["dataset_revision"] = None

    def show(task: Raw, rows: Rows) -> None:
        task.update(dataset_revision=None, dataset_sha256="9" * 64)

    def forge_shown(task: Raw, rows: Rows) -> None:
        forge(task, rows)
        show(task, rows)

    unsaid = lambda task, _: task.update(dataset_revision=None)  # noqa: E731
    store_results(*quality(tmp_path, change=unsaid), tmp_path / "unsaid")
    assert store_results(*quality(tmp_path, "w", hide), tmp_path / "unsaid")
    store_results(*quality(tmp_path / "2", change=show), tmp_path / "said")
    forged = quality(tmp_path / "2", "w", forge_shown)
    for beside in ([], [tmp_path / "unsaid"]):
        with pytest.raises(RefusedError, match="other documents than its family's records"):
            store_results(*forged, tmp_path / "said", beside=beside)


def test_of_one_artifact_a_family_has_the_same_documents_too(tmp_path: Path) -> None:
    source, plan = quality(tmp_path)
    forged, asked = quality(tmp_path, "w", forge)
    shutil.copytree(forged, source, dirs_exist_ok=True)
    with pytest.raises(RefusedError, match="other documents than its family's records"):
        store_results(source, plan | asked, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_another_version_of_a_task_or_of_lm_eval_may_have_other_documents(tmp_path: Path) -> None:
    def renew(task: Raw, rows: Rows) -> None:
        forge(task, rows)
        task["version"] = "another"

    store_results(*quality(tmp_path), tmp_path / "results")
    assert store_results(*quality(tmp_path, "w", renew), tmp_path / "results")


def test_a_record_that_nobody_can_read_keeps_no_other_out(tmp_path: Path) -> None:
    broken = tmp_path / "results" / "h" / "x" / "quality-20260301T120000Z-00000000.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    assert store_results(*quality(tmp_path), tmp_path / "results")


def test_what_no_report_can_be_made_of_is_not_stored(tmp_path: Path) -> None:
    seen: list[str] = []

    def find_unshown(folder: Path) -> dict[str, str]:
        seen.extend(listing(folder))
        return {seen[-1]: "has no rows"}

    source = hostile.write_files(tmp_path / "in", hostile.record_files())
    with pytest.raises(RefusedError, match="could not be shown: has no rows"):
        store_results(source, hostile.plan(), tmp_path / "results", find_unshown=find_unshown)
    assert len(seen) == 4, "a store of these records alone"
    assert listing(tmp_path) == sorted(["in", *(f"in/{name}" for name in listing(source))])


@pytest.mark.parametrize(("first", "second"), [(b"1", b"2"), (b"2", b"1"), (b"1", b"1")])
def test_a_name_in_two_archives_is_one_file_only_if_it_is_the_same(
    first: bytes, second: bytes, tmp_path: Path
) -> None:
    name = next(iter(hostile.record_files()))
    for archive, content in (("a", first), ("b", second)):
        hostile.zipped((name, content))(tmp_path / archive)
    if first != second:
        with pytest.raises(RefusedError, match="is there twice, with different contents"):
            read_files(tmp_path)
    else:
        assert read_files(tmp_path) == {name: first}


@pytest.mark.parametrize("by", [-1, 1])
def test_a_sidecar_of_another_size_than_its_record_says_is_refused(by: int, tmp_path: Path) -> None:
    def resize(raw: Raw) -> None:
        raw["speed"]["requests"]["size_bytes"] += by

    source = hostile.write_files(tmp_path / "in", hostile.edited(resize))
    with pytest.raises(RefusedError, match="its size is not the one"):
        store_results(source, hostile.plan(), tmp_path / "results")


@pytest.mark.parametrize("part", SERVED)
def test_a_record_of_something_else_served_or_sent_is_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=f"the plan asks for another {part.strip()}"):
        take_job(tmp_path, SERVED[part])


@pytest.mark.parametrize("part", ["engine", "model"])
def test_a_result_that_does_not_say_what_was_served_is_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="does not say what was served"):
        take_job(tmp_path, lambda record: record.model_copy(update={part: None}))


@pytest.mark.parametrize("path", store.paths(ROOT / "bench" / "results"), ids=lambda p: p.stem)
def test_every_committed_record_makes_sense(path: Path) -> None:
    assert find_nonsense(store.read(path)) is None


def sessions(*numbers: int | None, status: str = "ok") -> dict[str, bytes]:
    """An artifact with one record for each of these sessions, a second apart."""
    files: dict[str, bytes] = {}
    for second, number in enumerate(numbers):
        finished = synthetic.START + timedelta(seconds=second)
        record, sidecars = synthetic.speed_record(hostile.VARIANT, finished=finished)
        record = record.model_copy(update={"session": number, "status": status})
        files |= {f"{hostile.FOLDER}/{store.file_name(record)}": as_bytes(record)}
        files |= {
            f"{hostile.FOLDER}/{hashlib.sha256(data).hexdigest()}.json.gz": data
            for data in sidecars
        }
    return files


def as_bytes(record: Record) -> bytes:
    return canonical_json(record.model_dump(mode="json")).encode()


def take(folder: Path, files: dict[str, bytes], *asked: int) -> int:
    """How many records are stored of an artifact, where these sessions were asked for."""
    ((ticket, sound),) = hostile.plan().items()
    plan = {ticket: Asked(sound.key, sound.description, frozenset(asked))}
    store_results(hostile.write_files(folder / "in", files), plan, folder / "results")
    return len(store.paths(folder / "results"))


def test_as_many_sessions_arrive_as_were_asked_for(tmp_path: Path) -> None:
    assert take(tmp_path / "all", sessions(1, 2, 3), 1, 2, 3) == 3
    assert take(tmp_path / "fewer", sessions(2), 1, 2, 3) == 1
    assert take(tmp_path / "older", sessions(None), 1) == 1
    assert take(tmp_path / "older and second", sessions(None, 2), 1, 2) == 2
    assert take(tmp_path / "tried twice", sessions(1, 1, status="failed"), 1) == 2
    assert take(tmp_path / "often", sessions(*[1] * MAX_TRIES, status="failed"), 1) == MAX_TRIES
    with pytest.raises(RefusedError, match=f"more than {MAX_TRIES} records of one session"):
        take(tmp_path / "too often", sessions(*[1] * (MAX_TRIES + 1), status="failed"), 1)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1, 4), "did not ask for this session"),
        ((None, 1), "the same session of the same load"),
        ((2, 2), "the same session of the same load"),
    ],
)
def test_one_more_session_than_was_asked_for_is_refused(
    numbers: tuple[int | None, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=words):
        take(tmp_path, sessions(*numbers), 1, 2)
    assert not (tmp_path / "results").exists()


def test_a_failed_stage_need_not_say_what_was_served(tmp_path: Path) -> None:
    def fail(record: Record) -> Record:
        return record.model_copy(
            update={"status": "failed", "engine": None, "model": None, "speed": None}
        )

    record, _ = synthetic.speed_record(hostile.VARIANT)
    files = hostile.pack(fail(record).model_dump(mode="json"), [])
    source = hostile.write_files(tmp_path / "in", files)
    assert len(store_results(source, hostile.plan(), tmp_path / "results")) == 1


def test_a_local_build_of_the_engine_is_that_version(tmp_path: Path) -> None:
    def build(record: Record) -> Record:
        assert record.engine
        return _with(record, "engine", version=f"{record.engine.version}+cu130")

    assert take_job(tmp_path, build)


@pytest.mark.parametrize(("minutes", "is_taken"), [(-1, True), (58, True), (62, False)])
def test_a_clock_may_go_wrong_by_an_hour(minutes: int, is_taken: bool, tmp_path: Path) -> None:
    finished = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes)
    record, sidecars = synthetic.speed_record(hostile.VARIANT, finished=finished)
    files = hostile.pack(record.model_dump(mode="json"), sidecars)
    source = hostile.write_files(tmp_path / "in", files)
    if is_taken:
        assert store_results(source, hostile.plan(), tmp_path / "results")
    else:
        with pytest.raises(RefusedError, match="in the future"):
            store_results(source, hostile.plan(), tmp_path / "results")


def test_a_sidecar_is_named_by_its_own_bytes_and_by_no_others(tmp_path: Path) -> None:
    def rename(raw: Raw) -> None:
        raw["speed"]["requests"]["file"] = f"{'0' * 64}.json.gz"

    files = hostile.edited(rename)
    data = next(data for name, data in files.items() if name.endswith(".gz"))
    files = {name: data for name, data in files.items() if name.endswith(".json")}
    files[f"{hostile.FOLDER}/{'0' * 64}.json.gz"] = data
    with pytest.raises(RefusedError, match="its SHA-256 is not the one its record names"):
        store_results(
            hostile.write_files(tmp_path / "in", files), hostile.plan(), tmp_path / "results"
        )


# -- caps: what is as large as it may be is taken, one more byte, file or folder is not ------------


def test_an_artifact_may_have_as_many_bytes_as_it_is_given(tmp_path: Path) -> None:
    files = hostile.record_files()
    source = hostile.write_files(tmp_path / "in", files)
    size = sum(map(len, files.values()))
    assert read_files(source, size) == files
    with pytest.raises(RefusedError, match=f"or {size - 1:,} bytes in all"):
        read_files(source, size - 1)


def test_an_artifact_may_have_2000_files(tmp_path: Path) -> None:
    files = {f"{hostile.FOLDER}/{number:064x}.json.gz": b"" for number in range(2_000)}
    assert len(read_files(hostile.write_files(tmp_path / "in", files))) == 2_000


@pytest.mark.parametrize(("length", "is_taken"), [(300, True), (301, False)])
def test_a_path_may_have_300_characters(length: int, is_taken: bool, tmp_path: Path) -> None:
    end = f"/v/{'a' * 64}.json.gz"
    name = f"{'h' * (length - len(end))}{end}"
    if is_taken:
        assert read_files(hostile.write_files(tmp_path / "in", {name: b""})) == {name: b""}
    else:
        with pytest.raises(RefusedError, match="not the path of a record"):
            read_files(hostile.write_files(tmp_path / "in", {name: b""}))


@pytest.mark.parametrize(("depth", "is_taken"), [(3, True), (4, True), (5, False)])
def test_an_archive_may_lie_four_folders_deep(depth: int, is_taken: bool, tmp_path: Path) -> None:
    folder = tmp_path.joinpath("in", *"abcde"[: depth - 1])
    folder.mkdir(parents=True)
    hostile.zipped((f"{hostile.FOLDER}/{'a' * 64}.json.gz", b""))(folder / "last")
    if is_taken:
        assert len(read_files(tmp_path / "in")) == 1
    else:
        with pytest.raises(RefusedError, match="nested too deeply"):
            read_files(tmp_path / "in")


@pytest.mark.parametrize(("more", "words"), [(0, "not a sound .zip"), (1, "than 268,435,456")])
def test_an_archive_may_have_256_mib(more: int, words: str, tmp_path: Path) -> None:
    with (tmp_path / "a.zip").open("wb") as file:
        file.truncate(2**28 + more)  # takes no room on the disk
    with pytest.raises(RefusedError, match=words):
        read_files(tmp_path / "a.zip")


@pytest.mark.parametrize("fewer", [0, 1])
def test_a_sidecar_may_unpack_to_as_much_as_the_cap(
    fewer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hostile.record_files()
    (packed,) = (data for name, data in files.items() if name.endswith(".gz"))
    most = len(gzip.decompress(packed)) - fewer
    monkeypatch.setattr(store, "MAX_SIDECAR_TEXT_BYTES", most)
    source = hostile.write_files(tmp_path / "in", files)
    if fewer:
        with pytest.raises(RefusedError, match=f"unpacks to more than {most:,} bytes"):
            store_results(source, hostile.plan(), tmp_path / "results")
    else:
        assert store_results(source, hostile.plan(), tmp_path / "results")


@pytest.mark.parametrize("case", hostile.FOLDERS)
def test_links_and_archives_are_refused(case: str, tmp_path: Path) -> None:
    make, words = hostile.FOLDERS[case]
    make(tmp_path / "in")
    before = listing(tmp_path)
    with pytest.raises(RefusedError) as refused:
        store_results(tmp_path / "in", hostile.plan(), tmp_path / "results")
    assert words in refused.value.message
    assert listing(tmp_path) == before


def test_one_bad_record_spoils_all(tmp_path: Path) -> None:
    source = hostile.write_files(tmp_path / "in", hostile.record_files())
    hostile.write_files(source, hostile.edited(lambda raw: raw.update(variant="unasked")))
    with pytest.raises(RefusedError):
        store_results(source, hostile.plan(), tmp_path / "results")
    assert not (tmp_path / "results").exists()
    shutil.rmtree(source / "l40" / "unasked")
    assert store_results(source, hostile.plan(), tmp_path / "results")


def test_the_plan_is_what_bench_plan_prints(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "variant": "v",
        "hardware": "h",
        "stage": "speed",
        "key": "a" * 64,
        "needed": True,
    }
    told = hostile.plan().popitem()[1].description
    fetched = Repository("repo", "a/b", "main", "c" * 40)
    row |= {"sessions": [1, 3], "description": asdict(told), "repositories": [asdict(fetched)]}
    other = {**row, "stage": "quality", "key": "b" * 64, "needed": False, "state": "current"}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps([row, other]))
    asked = Asked("a" * 64, told, frozenset({1, 3}), (fetched,))
    assert read_plan(path) == {Ticket("h", "v", "speed"): asked}
    path.write_text(json.dumps([{**row, "key": "x"}]))
    with pytest.raises(ConfigError, match="not a plan"):
        read_plan(path)


def test_the_command_says_how_many_records_it_stored(tmp_path: Path, bench: Any) -> None:
    rows = [
        {
            **asdict(ticket),
            "key": asked.key,
            "needed": True,
            "sessions": [1],
            "description": asdict(asked.description),
        }
        for ticket, asked in hostile.plan().items()
    ]
    (tmp_path / "plan.json").write_text(json.dumps(rows))
    incoming, results = tmp_path / "in", tmp_path / "results"
    incoming.mkdir()
    results.mkdir()
    ingest = ("ingest", incoming, "--plan", tmp_path / "plan.json", "--results", results)
    none = f"0 record(s) stored: {incoming} has none that are not there already\n"
    assert bench(*ingest).out == none
    hostile.write_files(incoming, hostile.record_files())
    ran = bench(*ingest)
    assert (ran.code, ran.err) == (0, "")
    *paths, told = ran.out.splitlines()
    assert {Path(path) for path in paths} == {p for p in results.rglob("*") if p.is_file()}
    assert told == "1 record(s) stored"
    assert bench(*ingest).out == none


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


# -- sidecars: refused unless the report can read from them what their records say ---------------


def fault(kind: str, change: Callable[[Rows], object]) -> str | None:
    """What is found in a sidecar whose rows are changed, its record naming it truly."""
    make = synthetic.speed_record if kind == "repeats" else synthetic.quality_record
    record, (data,) = make(synthetic.BF16)
    rows: Rows = json.loads(gzip.decompress(data))
    if kind == "positions":
        rows = [{"paragraph": 0, "token": 9, "logprob": -1.5, "top": {"7": -0.5}}] * 3
        rows = json.loads(json.dumps(rows))
    change(rows)
    sidecar, data = store.pack_sidecar(rows)
    return find_fault(naming(record, kind, sidecar), sidecar, gzip.decompress(data))


def naming(record: Record, kind: str, sidecar: Sidecar) -> Record:
    if record.speed:
        speed = record.speed.model_copy(update={"requests": sidecar})
        return record.model_copy(update={"speed": speed})
    assert record.quality
    (task,) = record.quality.tasks
    fidelity = Fidelity(
        text_sha256="a" * 64, positions=3, top=1, mean_logprob=-1.5, logprobs=sidecar
    )
    change = (
        {"fidelity": fidelity}
        if kind == "positions"
        else {"tasks": (task.model_copy(update={"samples": sidecar}),)}
    )
    quality = record.quality.model_copy(update=change)
    return record.model_copy(update={"quality": quality})


@pytest.mark.parametrize("kind", ["repeats", "documents", "positions"])
def test_what_this_tool_writes_is_without_fault(kind: str) -> None:
    assert fault(kind, len) is None


def _add(rows: Rows, name: str) -> None:
    rows[0][name][0] += 0.01 * sum(rows[0][name])


def _swap(rows: Rows) -> None:
    """The same mean of other requests."""
    values = sorted(rows[0]["ttft_ms"])
    middle = len(values) // 2
    values[middle] += 5
    values[middle - 1] += 5
    values[0] -= 10
    rows[0]["ttft_ms"] = values


def _spread(rows: Rows) -> None:
    """The same mean and the same quantiles of requests further apart."""
    values = sorted(rows[0]["ttft_ms"])
    further = values[len(values) // 2 - 2] - values[1]  # stays below the median
    rows[0]["ttft_ms"] = [values[0] - further, values[1] + further, *values[2:]]


CASES: list[tuple[str, Callable[[Rows], object], str]] = [
    ("repeats", lambda rows: rows.reverse(), "repeats and requests"),
    ("repeats", lambda rows: rows.pop(), "repeats and requests"),
    ("repeats", lambda rows: rows[0]["ttft_ms"].pop(), "repeats and requests"),
    ("repeats", lambda rows: _add(rows, "ttft_ms"), "its record's mean of ttft_ms"),
    ("repeats", lambda rows: _add(rows, "tpot_ms"), "its record's mean of tpot_ms"),
    ("repeats", lambda rows: _add(rows, "e2e_ms"), "its record's mean of e2e_ms"),
    ("repeats", _swap, "its record's median of ttft_ms"),
    ("repeats", _spread, "its record's std of ttft_ms"),
    ("repeats", lambda rows: rows[0]["e2e_ms"].reverse(), "tpot_ms and e2e_ms do not agree"),
    ("repeats", lambda rows: rows[0].update(ttft_ms=[]), "0.ttft_ms: List should have"),
    ("repeats", lambda rows: rows[0].update(e2e_ms=["x"] * 9), "0.e2e_ms.0: Input should be"),
    ("repeats", lambda rows: rows[0].update(seed=True), "0.seed: Input should be"),
    ("repeats", lambda rows: rows[0].update(tpot_ms=[1e300]), "0.tpot_ms.0: Input should be"),
    ("repeats", lambda rows: rows[0].update(evil="x"), "0.evil: Extra inputs"),
    ("repeats", lambda rows: rows.insert(0, 1), "0: Input should be"),  # type: ignore[arg-type]
    ("documents", lambda rows: rows.pop(), "documents once"),
    ("documents", lambda rows: rows[0].update(rows[1]), "documents once"),
    ("documents", lambda rows: rows[0]["bytes"].pop(), "a size for each"),
    ("documents", lambda rows: rows[0].update(acc="right"), "0.acc.number: Input should be"),
    ("documents", lambda rows: rows[0].update(note="leaked"), "0.note.number: Input should be"),
    ("documents", lambda rows: rows[0].update(text="leaked"), "0.text: Input should be"),
    ("documents", lambda rows: rows[0]["text"].update(said="leaked"), "0.text.said: Extra"),
    ("documents", lambda rows: rows[0]["text"].update(sha256="leaked"), "0.text.sha256: String"),
    ("documents", lambda rows: rows[0]["text"].update(tokens=0), "0.text.tokens: Input should be"),
    ("documents", lambda rows: rows[0]["text"].update(tokens=10**400), "0.text.tokens: "),
    ("documents", lambda rows: rows[0]["text"].update(logprob=0.1), "0.text.logprob: Input"),
    ("documents", lambda rows: rows[0]["text"].update(top={}), "0.text.top: Dictionary should"),
    ("documents", lambda rows: rows[0]["text"]["top"].update(a={"1": -1.0}), "String should match"),
    ("documents", lambda rows: rows[0]["text"]["top"].update({"0": {"a": -1.0}}), "String should"),
    ("documents", lambda rows: rows[0]["text"]["top"].update({"0": {"1": 0.1}}), "less than or eq"),
    (
        "documents",
        lambda rows: rows[0]["text"]["top"].update({"999": {"1": -1.0}}),
        "names a place",
    ),
    (
        "documents",
        lambda rows: rows[0]["text"]["top"].update({"0": {"1": -0.5, "2": -0.9}}),
        "come to more than 1",
    ),
    ("documents", lambda rows: rows[0].pop("text"), "as many texts as its record says"),
    ("documents", lambda rows: rows[0].update(doc=-1), "0.doc: Input should be"),
    ("documents", lambda rows: rows[0].update(acc=[]), "0.acc.numbers: List should have"),
    ("documents", lambda rows: rows[0].update(acc=1 - rows[0]["acc"]), "its record's acc"),
    ("documents", lambda rows: rows[0].update(target=9), "none of the document's"),
    ("documents", lambda rows: rows[0].update(by_seed={"acc": [1.0]}), "its record's seeds"),
    (
        "documents",
        lambda rows: rows[0].update(target=0, bytes=[1], loglikelihoods=[-1.0]),
        "as many choices",
    ),
    ("positions", lambda rows: rows.pop(), "record's positions"),
    ("positions", lambda rows: rows[0].update(logprob=-1.4), "its record's mean_logprob"),
    ("positions", lambda rows: rows[0].update(top={}), "0.top: Dictionary should have"),
    ("positions", lambda rows: rows[0].update(top={"7": None}), "0.top.7: Input should be"),
]


@pytest.mark.parametrize(("kind", "change", "words"), CASES)
def test_what_the_report_could_not_read_is_named(
    kind: str, change: Callable[[Rows], object], words: str
) -> None:
    assert words in (fault(kind, change) or "")


BEYOND = math.nextafter(1e15, 2e15)
# Where a sidecar's rows end to be sound: the last value, the first that is refused.
EDGES: list[tuple[str, Callable[[Rows, Any], object], object, object]] = [
    ("positions", lambda rows, x: rows[0]["top"].update({"7": x}), 1e15, BEYOND),
    ("positions", lambda rows, x: rows[0]["top"].update({"7": x}), -1e15, -BEYOND),
    ("positions", lambda rows, x: rows[0].update(logprob=x), -1.5004, -1.501),
    ("documents", lambda rows, x: rows[0]["text"].update(logprob=x), 0.0, 5e-324),
    ("documents", lambda rows, x: rows[0]["text"].update(logprob=x), -1e15, -BEYOND),
    ("documents", lambda rows, x: rows[0]["text"].update(tokens=x), 1_000_000, 1_000_001),
    ("documents", lambda rows, x: rows[0]["text"].update(tokens=x, top={"0": {"1": -1.0}}), 1, 0),
    ("documents", lambda rows, x: rows[0]["text"].update(tokens=9, top={x: {"1": -1.0}}), "8", "9"),
    ("documents", lambda rows, x: rows[0]["text"].update(sha256="a" * x), 16, 15),
    ("documents", lambda rows, x: rows[0]["text"].update(sha256="a" * x), 16, 17),
    ("documents", lambda rows, x: rows[0]["text"]["top"].update({"0": {"9" * x: -1.0}}), 6, 7),
    ("documents", lambda rows, x: rows[0]["text"]["top"].update({"0": _labels(x)}), 100, 101),
    ("documents", lambda rows, x: rows[0]["text"].update(tokens=999, top=_places(x)), 100, 101),
    ("documents", lambda rows, x: rows[0]["text"]["top"].update({"0": _two(x)}), 1.0009, 1.0011),
    ("documents", lambda rows, x: rows[0].update(more=[0.5] * x), 1000, 1001),
    ("documents", lambda rows, x: rows[0].update(target=x), 3, 4),
    ("documents", lambda rows, x: rows[0].update(target=x), 0, -1),
    ("documents", lambda rows, x: rows[0].update(targets=[0, x]), 3, 4),
]  # fmt: skip


def _labels(count: int) -> dict[str, float]:
    return {str(label): -9.0 for label in range(count)}


def _places(count: int) -> dict[str, dict[str, float]]:
    return {str(place): {"1": -1.0} for place in range(count)}


def _two(total: float) -> dict[str, float]:
    return {"1": math.log(total / 2), "2": math.log(total / 2)}


@pytest.mark.parametrize(("kind", "change", "last", "first"), EDGES)
def test_a_sidecars_rows_are_sound_up_to_an_edge(
    kind: str, change: Callable[[Rows, Any], object], last: object, first: object
) -> None:
    assert fault(kind, lambda rows: change(rows, last)) is None
    assert fault(kind, lambda rows: change(rows, first)) is not None


@pytest.mark.parametrize("part", ["value", "stderr", "by_seed"])
def test_a_metric_may_be_rounded_in_the_seventh_digit(part: str) -> None:
    seeds, value = ((1, 2), 0.5) if part == "by_seed" else ((), 0.5)
    if part == "stderr":
        value = (1 / 3 / 4) ** 0.5
    for share, is_same in (
        (1 + 5e-7, True),
        (1 - 5e-7, True),
        (1 + 2e-6, False),
        (1 - 2e-6, False),
    ):
        said = (value * share, value) if part == "by_seed" else value * share
        assert (claim(seeds, **{part: said}) is None) == is_same


@pytest.mark.parametrize("kind", ["ttft_ms", "tpot_ms", "e2e_ms"])
@pytest.mark.parametrize("part", ["mean", "median", "std", "p50", "p90", "p99"])
def test_a_summary_may_be_rounded_in_the_fourth_digit(kind: str, part: str) -> None:
    words = f"does not come to its record's {part} of {kind}"
    for by, is_same in ((0.5, True), (-0.5, True), (3, False), (-3, False)):
        found = summed(lambda raw, by=by: scale(raw[kind], part, 1 + by / 1000))  # type: ignore[misc]
        assert found == (None if is_same else words)


@pytest.mark.parametrize(
    "name", ["request_throughput_rps", "output_throughput_tps", "total_throughput_tps"]
)
def test_a_throughput_is_what_was_completed_by_the_time_it_took(name: str) -> None:
    for share, is_same in ((1 + 5e-7, True), (1 + 3e-6, False), (1 - 3e-6, False)):
        found = summed(lambda raw, share=share: scale(raw, name, share))  # type: ignore[misc]
        assert found == (None if is_same else f"does not come to its record's {name}")


def scale(raw: Raw, name: str, share: float) -> None:
    raw[name] *= share


def summed(change: Callable[[Raw], object]) -> str | None:
    """What is found where a record's repeat is changed, and its rows stay."""
    record, (data,) = synthetic.speed_record(synthetic.BF16)
    raw = record.model_dump(mode="json")
    change(raw["speed"]["loads"][0]["repeats"][0])
    record = Record.model_validate_json(canonical_json(raw))
    assert record.speed
    return find_fault(record, record.speed.requests, gzip.decompress(data))


def claim(seeds: tuple[int, ...] = (), **parts: Any) -> str | None:
    """What is found where four documents were right with these scores, and more is said."""
    scores = [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    rows: Rows = [
        {"doc": number, "hash": f"{number:064}", "em": sum(pair) / 2 if seeds else pair[0]}
        | ({"by_seed": {"em": pair}} if seeds else {})
        for number, pair in enumerate(scores)
    ]
    metric = {"name": "em", "value": 0.5, "stderr": None, "aggregation": "mean", "unit": "score"}
    return told(rows, metric | parts, seeds)


def told(rows: Rows, metric: Raw, seeds: tuple[int, ...] = ()) -> str | None:
    """What is found of a metric that is said of documents."""
    record, _ = synthetic.quality_record(synthetic.BF16)
    assert record.quality
    sidecar, data = store.pack_sidecar(rows)
    task = record.quality.tasks[0].model_copy(
        update={"samples": sidecar, "metrics": (Metric.model_validate(metric),), "texts": None,
                "documents_effective": len(rows), "choices": None, "sampling_seeds": seeds}
    )  # fmt: skip
    quality = record.quality.model_copy(update={"tasks": (task,)})
    record = record.model_copy(update={"quality": quality})
    return find_fault(record, sidecar, gzip.decompress(data))


def test_a_standard_error_is_that_between_the_documents() -> None:
    once, twice = (1 / 3 / 4) ** 0.5, (1 / 2 / 3 / 4) ** 0.5  # sums of squares are 1 and 1/2
    assert claim(stderr=once) is None
    assert claim(stderr=once * 1.001) == "does not come to its record's standard error of em"
    assert claim(stderr=0.0) == "does not come to its record's standard error of em"
    assert claim((1, 2), stderr=twice) is None
    assert claim((1, 2), stderr=once) == "does not come to its record's standard error of em"
    assert claim(stderr=0.1, aggregation=None) is None  # nobody said that it is a mean


@pytest.mark.parametrize(
    ("how", "value"),
    [("perplexity", math.exp(2)), ("weighted perplexity", math.exp(8 / 6)),
     ("bits per byte", 8 / 6 / math.log(2))],
)  # fmt: skip
def test_each_way_in_which_a_value_comes_from_documents_is_checked(how: str, value: float) -> None:
    pairs: Rows = [
        {"doc": 0, "hash": "0" * 64, "ppl": [-3.0, 2.0]},
        {"doc": 1, "hash": "1" * 64, "ppl": [-5.0, 4.0]},
    ]
    plain: Rows = [{"doc": 0, "hash": "0" * 64, "ppl": -2.0}]
    rows = plain if how == "perplexity" else pairs
    metric = {"name": "ppl", "value": value, "stderr": 9.0, "aggregation": how}
    assert told(rows, metric) is None
    assert told(rows, metric | {"value": value * 1.001}) == "does not come to its record's ppl"
    if rows is pairs:  # the words that a number is of are there too
        short: Rows = [{**row, "ppl": row["ppl"][:1]} for row in rows]
        assert told(short, metric) == "has values that no ppl comes from"


def test_a_value_with_each_seed_is_that_of_the_documents() -> None:
    assert claim((1, 2), by_seed=(0.5, 0.5)) is None
    wrong = "does not come to its record's em with each seed"
    assert claim((1, 2), by_seed=(0.25, 0.75)) == wrong
    assert claim((1, 2), by_seed=(0.5, 0.5, 0.5)) == wrong


@pytest.mark.parametrize("part", ["value", "by_seed"])
def test_values_that_nothing_comes_from_are_named(part: str) -> None:
    """No two numbers where two are needed; two that come to no number."""
    sound: Rows = [
        {"doc": doc, "hash": f"{doc:064}", "ppl": [-8.0, 2.0], "by_seed": {"ppl": [[-8.0, 2.0]]}}
        for doc in range(2)
    ]
    metric: Raw = {"name": "ppl", "value": math.exp(4), "stderr": None, "by_seed": (math.exp(4),)}
    metric |= {"aggregation": "weighted perplexity", "unit": "perplexity"}
    assert told(sound, metric, (1,)) is None
    for broken in ([-8.0], [-8.0, 0.0], [-9e9, 1.0]):
        values = {"ppl": broken} if part == "value" else {"by_seed": {"ppl": [broken]}}
        rows = [row | values for row in sound]
        assert told(rows, metric, (1,)) == "has values that no ppl comes from"


def test_of_a_metric_that_does_not_say_how_it_comes_about_only_shares_of_right_are_known() -> None:
    assert claim(aggregation=None) is None
    assert claim(aggregation=None, value=0.75) == "does not come to its record's em"
    assert claim((1, 2), aggregation=None, value=0.75) is None, "halves are no shares of right"
    once = (1 / 3 / 4) ** 0.5
    assert claim(aggregation=None, stderr=once * 1.01) is None
    assert claim(aggregation=None, unit="share", value=0.5) is None


@pytest.mark.parametrize(
    ("low", "high", "is_share"), [(0.0, 1.0, True), (0.0, 2.0, False), (-1.0, 1.0, False)]
)
def test_a_share_is_one_of_every_document(low: float, high: float, is_share: bool) -> None:
    rows: Rows = [{"doc": i, "hash": f"{i:064}", "em": v} for i, v in enumerate((low, high))]
    metric = {"name": "em", "value": (low + high) / 2, "stderr": None, "aggregation": "mean"}
    words = "has a share of em that is not from 0 to 1"
    assert told(rows, metric | {"unit": "share"}) == (None if is_share else words)
    assert told(rows, metric | {"unit": "score"}) is None


def test_two_documents_have_a_standard_error_and_one_has_none() -> None:
    rows: Rows = [{"doc": i, "hash": f"{i:064}", "em": float(i)} for i in range(2)]
    metric = {"name": "em", "value": 0.5, "aggregation": "mean", "unit": "score"}
    assert told(rows, metric | {"stderr": 0.5}) is None
    assert told(rows, metric | {"stderr": 0.6}) == (
        "does not come to its record's standard error of em"
    )
    assert told(rows[:1], metric | {"value": 0.0, "stderr": 0.6}) is None


def test_a_task_of_no_documents_is_named() -> None:
    record, _ = synthetic.quality_record(synthetic.BF16)
    sidecar, data = store.pack_sidecar([])
    record = naming(record, "documents", sidecar)
    assert record.quality
    none = record.quality.tasks[0].model_copy(update={"documents_effective": 0})
    quality = record.quality.model_copy(update={"tasks": (none,)})
    record = record.model_copy(update={"quality": quality})
    assert find_fault(record, sidecar, gzip.decompress(data))
