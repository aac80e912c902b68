"""Records on their way into the repository: checked, gathered aside, then held against main.

They are gathered in a store of their own first, because main moves while they are on their way:
what it lacks of them is decided again before every push.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from bench.errors import RefusedError
from bench.github import approval
from bench.github.annotations import annotate_refused
from bench.github.api import Api
from bench.ingest import Asked, Ticket, Unshown, store_results
from bench.plan import documents
from bench.plan.jobs import sessions_of
from bench.records import store
from bench.records.pace import of_load, of_spec
from bench.records.record import Record
from bench.records.store import Found

MAX_PUSH_BYTES = 256 * 2**20  # of one commit: a speed and a quality stage have 0.1 MB together


def gather(
    incoming: Path,
    asked: Mapping[Ticket, Asked],
    staged: Path,
    results: Path,
    find_unshown: Unshown,
) -> list[RefusedError]:
    """Every artifact by itself: a bad one is refused whole, annotated, and spoils no other.

    Args:
        results: where they are to go in the end, and where others of their family are.
        find_unshown: what a report of a store leaves out.
    """
    refused = []
    left = MAX_PUSH_BYTES
    for name, folder in _artifacts(incoming):
        try:
            written = store_results(
                folder, asked, staged, beside=[results], find_unshown=find_unshown, most_bytes=left
            )
            left -= sum(path.stat().st_size for path in written)
        except RefusedError as error:
            click.echo(annotate_refused(name, error))
            refused.append(error)
    return refused


def _artifacts(incoming: Path) -> Iterator[tuple[str, Path]]:
    """Each artifact's name and folder, as actions/download-artifact lays them out.

    Several lie in folders of their names; one alone lies in `incoming` itself.
    """
    entries = sorted(incoming.iterdir()) if incoming.is_dir() else []
    if any(not entry.is_dir() for entry in entries):
        yield entries[0].stem, incoming
    else:
        yield from ((entry.name, entry) for entry in entries)


def adopt(
    event: Mapping[str, Any],
    api: Api,
    asked: Mapping[Ticket, Asked],
    staged: Path,
    results: Path,
    find_unshown: Unshown,
) -> None:
    """Gathers what was measured before the merge of every pull request that this push brings."""
    for pushed in event.get("commits", []):
        archive = approval.find_measured(pushed["id"], api)
        if archive is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "measured.zip").write_bytes(archive)
            try:
                stored = store_results(
                    Path(folder), asked, staged, beside=[results], find_unshown=find_unshown
                )
            except RefusedError as error:
                # Main asks for something else than the pull request did: then it is measured.
                click.echo(f"::warning::not the records main asks for: {error.message}")
            else:
                click.echo(f"{len(stored)} files were measured before {pushed['id'][:12]}")


def write_missing(staged: Path, results: Path, *, force: bool = False) -> list[Path]:
    """Writes into `results` what it lacks of the staged records; the paths of all that it wrote.

    What another run has measured and stored meanwhile, the same session or the same documents, is
    not stored twice, unless it was measured again on purpose; of two attempts at it the newest
    complete one is, and of what failed only what nobody finished.

    Raises:
        BenchError: `results` has another record of the same name.
    """
    written: list[Path] = []
    for path, record in sorted(store.records(staged), key=_rank):
        target = results / path.relative_to(staged)
        if target.exists() and target.read_bytes() == path.read_bytes():
            continue
        if not force and not _adds(path, record, results):
            click.echo(f"{path.relative_to(staged)}: another run's evidence is there already")
            continue
        sidecars = [path.parent / sidecar.file for sidecar in store.sidecars(record)]
        store.write(results, record, [sidecar.read_bytes() for sidecar in sidecars])
        written += [results / file.relative_to(staged) for file in (path, *sidecars)]
    return written


def _rank(found: Found) -> tuple[int, float]:
    """Complete records before partial and failed ones, and of each the newest first."""
    record = found[1]
    order = ("ok", "partial", "failed").index(record.status)
    return order, -record.provenance.finished_at.timestamp()


def check_shown(written: Iterable[Path], results: Path, find_unshown: Unshown) -> None:
    """Raises RefusedError unless a report of `results` shows every record that was just written.

    Each was shown alone; this is said of all of them together, before they are pushed.
    """
    unshown = find_unshown(results)
    for path in written:
        if reason := unshown.get(path.relative_to(results).as_posix()):
            raise RefusedError(
                f"{path.relative_to(results)}: could not be shown: {reason}",
                "nothing was pushed; the run's artifacts have it all",
            )


def _adds(path: Path, record: Record, results: Path) -> bool:
    """Whether a staged record has a session of a load, or a document, that `results` lacks.

    One that failed has none, and is told where what it tried is missing.
    """
    every = store.of_stage([results], record.hardware, record.variant, record.stage)
    found = [entry for entry in every if entry[1].status != "failed"]
    if record.stage == "speed":
        number = record.session or 1
        brought = (
            tuple(of_load(load) for load in record.speed.loads)
            if record.speed
            else of_spec(record.spec["speed"])
        )
        return any(number not in sessions_of(record.spec, pace, found) for pace in brought)
    if record.quality is None:
        return all(other.key != record.key for _, other in found)
    return any(
        not mine <= documents.answered(task.name, mine, record.spec, found, task.asked)
        for task in record.quality.tasks
        for mine in (documents.indices(path, task),)
    )


def list_stored(staged: Path, results: Path) -> list[Path]:
    """The staged records that `results` has, with their sidecars: this run's or an attempt's."""
    return [
        results / file.relative_to(staged)
        for path, record in store.records(staged)
        if (results / path.relative_to(staged)).exists()
        for file in (path, *(path.parent / sidecar.file for sidecar in store.sidecars(record)))
    ]
