"""Files of a Hub repository into the cache: resumed where they stopped, and each one verified.

The client library names the files, follows redirects and keeps the cache. The large files are
fetched here with its `http_get`, because since 2.0 it forgets a partial file when a process ends,
and 40 GB should not start again; their SHA-256 is checked before they enter the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_url, snapshot_download
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash

from bench import places
from bench.config import is_commit
from bench.errors import MachineError, WeightsError
from bench.records.record import ModelFile
from bench.weights import hub

GIB = 2**30
_AT_ONCE = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[int, int, float], None]  # bytes here, bytes in all, bytes per second
Files = tuple[hub.RemoteFile, ...]


def storage_of(repo: str, cache: Path) -> Path:
    """Where the cache keeps a repository: `blobs` by hash, `snapshots` of links by commit."""
    return cache / repo_folder_name(repo_id=repo, repo_type="model")


def fetch(
    found: hub.Repository, wanted: Files, cache: Path, progress: Progress | None = None
) -> tuple[Path, tuple[ModelFile, ...]]:
    """Brings files of a repository into the cache as far as they are not there yet.

    Returns:
        The snapshot's folder, and the files as the record has them.

    Raises:
        MachineError: too little free disk space.
        WeightsError: the download failed or a file is corrupt; see `hub.explain`.
    """
    storage = storage_of(found.name, cache)
    here = storage / "snapshots" / found.commit
    if places.job_folder():
        with hub.asking(found.name, found.commit):
            _clean(here, found, storage)
    if all((here / file.name).is_file() for file in wanted):  # reading takes no lock
        with hub.asking(found.name, found.commit):
            return here, tuple(verify(here / file.name, file, storage) for file in wanted)
    large = tuple(file for file in wanted if _goes_by_http(file))
    with hub.asking(found.name, found.commit):
        (storage / "blobs").mkdir(parents=True, exist_ok=True)
        _check_room(cache, storage, found.name, wanted)
        _fetch_large(found, large, storage, progress)
        folder = Path(
            snapshot_download(  # the small files, and links to the large ones
                found.name,
                revision=found.commit,
                cache_dir=cache,
                endpoint=hub.endpoint(),
                allow_patterns=[file.name for file in wanted],
            )
        )
        return folder, tuple(verify(folder / file.name, file, storage) for file in wanted)


def _clean(snapshot: Path, found: hub.Repository, storage: Path) -> None:
    """Leaves only files that the repository has too: of a folder, an engine may read any.

    A GGUF file is read where it is named, and is verified then.
    """
    known = {file.name: file for file in found.files}
    for path in sorted(snapshot.rglob("*")):
        file = known.get(path.relative_to(snapshot).as_posix())
        if path.is_symlink() or not path.is_dir():
            if file is None or not path.is_file():
                path.unlink()
            elif path.suffix != ".gguf":
                verify(path, file, storage)


def local_files(folder: Path) -> Files:
    """A snapshot's files in the cache, which names large ones by SHA-256 and small ones by git's.

    Their sizes are those they have here: what is right about a file is its hash.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = []
    for path in paths:
        blob = path.resolve().name
        sha256 = blob if _SHA256.fullmatch(blob) else None
        git_sha1 = blob if is_commit(blob) else None
        name = path.relative_to(folder).as_posix()
        files.append(hub.RemoteFile(name, path.stat().st_size, sha256, git_sha1))
    return tuple(files)


def verify(path: Path, file: hub.RemoteFile, storage: Path) -> ModelFile:
    """The file as the record has it, hashed and compared with what its name in the cache says.

    A large file is hashed once: its size and time are noted beside its blob, and while they are
    the same it is taken to be. So neither another program's cache nor a damaged disk is believed.

    Args:
        storage: the repository's folder in the cache.

    Raises:
        WeightsError: its bytes are not those the Hub names; the file is removed.
    """
    # Not HfApi.verify_repo_checksums: it needs the Hub, and hashes 40 GB again each time.
    stat = path.stat()
    size, as_seen = stat.st_size, f"{stat.st_size} {stat.st_mtime_ns}"
    note = _notes(storage) / f"{_blob(file)}.verified"
    if file.sha256 and size == file.size_bytes and _read(note) == as_seen:
        return ModelFile(name=file.name, size_bytes=size, sha256=file.sha256)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    same = size == file.size_bytes and file.sha256 in (None, sha256)
    if same and file.sha256 is None and file.git_sha1:
        same = git_hash(path.read_bytes()) == file.git_sha1
    if not same:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"{file.name} was corrupted on its way or on this disk: its hash is not the Hub's",
            "it has been removed; run again with the Hub in reach",
        )
    if file.sha256:
        with contextlib.suppress(OSError):  # a cache that only reads is hashed each time
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(as_seen)
    return ModelFile(name=file.name, size_bytes=size, sha256=sha256)


def _notes(storage: Path) -> Path:
    """Where it is noted what was verified: in a job with that job, which may not believe others."""
    job = places.job_folder()
    return job / "verified" / storage.name if job else storage / "blobs"


def _read(note: Path) -> str | None:
    return note.read_text(errors="replace") if note.is_file() else None


def _blob(file: hub.RemoteFile) -> str:
    return file.sha256 or file.git_sha1 or file.name


def _goes_by_http(file: hub.RemoteFile) -> bool:
    """Larger files than this the Hub gives through the client library's own transport alone."""
    return (
        file.sha256 is not None
        and _SHA256.fullmatch(file.sha256) is not None
        and file.size_bytes <= constants.MAX_HTTP_DOWNLOAD_SIZE
    )


def _partial(storage: Path, file: hub.RemoteFile) -> Path:
    return storage / "blobs" / f"{_blob(file)}.partial"


def _bytes_here(storage: Path, file: hub.RemoteFile) -> int:
    if (storage / "blobs" / _blob(file)).exists():
        return file.size_bytes
    partial = _partial(storage, file)
    return min(partial.stat().st_size, file.size_bytes) if partial.exists() else 0


def _check_room(cache: Path, storage: Path, repo: str, files: Iterable[hub.RemoteFile]) -> None:
    # Not snapshot_download(dry_run=True): half a file is continued here, and none there.
    needed = sum(file.size_bytes - _bytes_here(storage, file) for file in files)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise MachineError(
            f"{repo} needs {needed / GIB:.1f} GiB and {cache} has {free / GIB:.1f} GiB free",
            "free some space, or set HF_HOME to a larger disk",
        )


def _fetch_large(
    found: hub.Repository, files: Files, storage: Path, progress: Progress | None
) -> None:
    stop = threading.Event()
    here = sum(_bytes_here(storage, file) for file in files)
    tick = _meter(here, sum(file.size_bytes for file in files), progress, stop)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        downloads = [pool.submit(_fetch_one, found, file, storage, tick) for file in files]
        try:
            for download in as_completed(downloads):
                download.result()
        except BaseException:  # also Ctrl-C: the other downloads end at their next piece
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(
    found: hub.Repository, file: hub.RemoteFile, storage: Path, tick: Callable[[int], None]
) -> None:
    blob, partial = storage / "blobs" / _blob(file), _partial(storage, file)
    lock = storage.parent / ".locks" / storage.name / f"{blob.name}.lock"  # the library's own
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        if partial.exists() and partial.stat().st_size > file.size_bytes:
            partial.unlink()
        headers = build_hf_headers(library_name="quantbench") | {"Accept-Encoding": "identity"}
        with _MeteredFile(partial, tick) as out:
            http_get(
                hf_hub_url(found.name, file.name, revision=found.commit, endpoint=hub.endpoint()),
                out,
                resume_size=out.tell(),
                headers=headers,
                expected_size=file.size_bytes,
            )
        verify(partial, file, storage)
        partial.replace(blob)


class _MeteredFile(io.FileIO):
    """A file opened to be continued that tells what is written to it; `http_get` wants a file."""

    def __init__(self, path: Path, tick: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._tick = tick

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        self._tick(done)
        return done


def _meter(
    here: int, total: int, progress: Progress | None, stop: threading.Event
) -> Callable[[int], None]:
    lock, began, before, shown_at = threading.Lock(), time.monotonic(), here, 0.0

    def tick(size: int) -> None:
        nonlocal here, shown_at
        if stop.is_set():
            raise InterruptedError("another file's download failed")
        with lock:
            here += size
            now = time.monotonic()
            if progress and (now - shown_at >= 1 or here >= total):
                shown_at = now
                progress(min(here, total), total, (here - before) / max(now - began, 1e-3))

    return tick
