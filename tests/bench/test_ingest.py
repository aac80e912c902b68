"""`bench ingest`: sound results arrive whole, everything else is refused and nothing written."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
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
from bench.records.record import Fidelity, Record, Sidecar, canonical_json
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
    folder: Path, change: Callable[[Record], Record] = lambda record: record, **more: Any
) -> list[Path]:
    """What is stored of a real job's record, with this change to it, or made another way."""
    text = hostile.models(f'repo = "a/b"\nrevision = "{"a" * 40}"\nfile = "c.gguf"')
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


@pytest.mark.parametrize("word", ["is there twice, with different contents", ""])
def test_a_name_in_two_archives_is_one_file_only_if_it_is_the_same(
    word: str, tmp_path: Path
) -> None:
    name, data = next(iter(hostile.record_files().items()))
    for archive, content in (("a", data), ("b", data + b" " if word else data)):
        hostile.zipped((name, content))(tmp_path / archive)
    if word:
        with pytest.raises(RefusedError, match=word):
            read_files(tmp_path)
    else:
        assert read_files(tmp_path) == {name: data}


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
    assert take(tmp_path / "tried twice", sessions(1, 1, status="failed"), 1) == 2
    assert take(tmp_path / "often", sessions(*[1] * MAX_TRIES, status="failed"), 1) == MAX_TRIES
    with pytest.raises(RefusedError, match=f"more than {MAX_TRIES} records of one session"):
        take(tmp_path / "too often", sessions(*[1] * (MAX_TRIES + 1), status="failed"), 1)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((1, 4), "did not ask for this session"), ((2, 2), "the same session of the same load")],
)
def test_one_more_session_than_was_asked_for_is_refused(
    numbers: tuple[int, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=words):
        take(tmp_path, sessions(*numbers), 1, 2)
    assert not (tmp_path / "results").exists()


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


CASES: list[tuple[str, Callable[[Rows], object], str]] = [
    ("repeats", lambda rows: rows.reverse(), "repeats and requests"),
    ("repeats", lambda rows: rows.pop(), "repeats and requests"),
    ("repeats", lambda rows: rows[0]["ttft_ms"].pop(), "repeats and requests"),
    ("repeats", lambda rows: _add(rows, "ttft_ms"), "its record's mean of ttft_ms"),
    ("repeats", lambda rows: _add(rows, "tpot_ms"), "its record's mean of tpot_ms"),
    ("repeats", lambda rows: _add(rows, "e2e_ms"), "its record's mean of e2e_ms"),
    ("repeats", _swap, "its record's median of ttft_ms"),
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
    ("positions", lambda rows: rows[0].update(top={}), "0.top: Dictionary should have"),
    ("positions", lambda rows: rows[0].update(top={"7": None}), "0.top.7: Input should be"),
]


@pytest.mark.parametrize(("kind", "change", "words"), CASES)
def test_what_the_report_could_not_read_is_named(
    kind: str, change: Callable[[Rows], object], words: str
) -> None:
    assert words in (fault(kind, change) or "")


def test_a_task_of_no_documents_is_named() -> None:
    record, _ = synthetic.quality_record(synthetic.BF16)
    sidecar, data = store.pack_sidecar([])
    record = naming(record, "documents", sidecar)
    assert record.quality
    none = record.quality.tasks[0].model_copy(update={"documents_effective": 0})
    quality = record.quality.model_copy(update={"tasks": (none,)})
    record = record.model_copy(update={"quality": quality})
    assert find_fault(record, sidecar, gzip.decompress(data))
