"""What an engine's environment may hold: exactly its packages' files, by hashes that are committed.

Jobs of one machine share its cache, and whatever lies in an environment is run. So in a job nothing
in the cache vouches for it, neither a package's list of files nor `ready.json`: a committed file
beside the lock, `cpu.files`, has the SHA-256 of each package's list, the list has those of its
files, and a file that stands in no list has no place there.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

NOTHING = hashlib.sha256().hexdigest()  # the list of a package without files
_INFO, _SHA256 = ".dist-info", "sha256="
_SCRIPT = b"#!"  # begins with the environment's own path, so it is another one on each machine


@dataclass(frozen=True)
class Lists:
    """What is committed of a lock's packages.

    Attributes:
        packages: the hash of a package's list of files, by its name and version.
        files: the SHA-256 of a file that its wheel lists with another, by its place.
    """

    packages: Mapping[str, str]
    files: Mapping[str, str]


def describe(folder: Path, site: Path, *, without: str | None = None) -> Lists:
    """The lists for an environment that was just made from wheels of known hashes.

    Args:
        folder: the environment.
        site: its site-packages.
        without: the package that no wheel brought.
    """
    names = {path.name.removesuffix(_INFO) for path in site.glob(f"*{_INFO}")} - {without}
    listed = {name: _listed(folder, site, name) for name in names}
    others = _find_other(folder, _gather(listed.values()))
    return Lists(
        {name: _hash(files) for name, files in listed.items()},
        {file: sha256 for file, sha256 in others if sha256},
    )


def write_lists(lists: Sequence[Lists], path: Path) -> None:
    """Writes them as one, in the form of `sha256sum`."""
    pairs = [
        pair for each in lists for part in (each.packages, each.files) for pair in part.items()
    ]
    path.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(pairs)))


def read_lists(path: Path) -> Lists:
    """What `write_lists` wrote."""
    pairs = [line.split("  ", 1) for line in path.read_text().splitlines()]
    return Lists(
        {name: digest for digest, name in pairs if not digest.startswith(_SHA256)},
        {name: digest for digest, name in pairs if digest.startswith(_SHA256)},
    )


@dataclass(frozen=True)
class Held:
    """What came of holding an environment against its lists.

    Attributes:
        damage: what in its packages is not as the lists have it, or None.
        removed: files that belonged to no package and that nobody made a part of it.
    """

    damage: str | None
    removed: Sequence[str] = ()


def hold(folder: Path, site: Path, lists: Lists) -> Held:
    """Leaves nothing in an environment but its packages' files, and compares those with the lists.

    Of what it removes the Python, its settings, scripts and compiled modules can be made again, and
    tell of what they were made from, which proves nothing.
    """
    inside = site.relative_to(folder)
    if site.resolve() != folder.resolve() / inside:
        return Held(f"{inside} is a link")
    found = {path.name.removesuffix(_INFO) for path in site.glob(f"*{_INFO}")}
    for name in sorted(found ^ set(lists.packages)):
        return Held(f"{name} is {'no package of the lock' if name in found else 'gone'}")
    listed = {name: _listed(folder, site, name) for name in lists.packages}
    for name, digest in lists.packages.items():
        if _hash(listed[name]) != digest:
            return Held(f"{name} has another list of files than its wheel")
    held = _gather([*listed.values(), lists.files.items()])
    removed = _remove_others(folder, held)
    for file, _ in _find_other(folder, held):  # now that no link stands for a folder
        return Held(f"{file} is not the file of its wheel", removed)
    return Held(None, removed)


def _remove_others(folder: Path, held: Container[str]) -> list[str]:
    others = [file for file in _walk(folder) if file not in held and not _is_about(file)]
    for file in others:
        (folder / file).unlink(missing_ok=True)
    # Of compiled modules a killed process leaves halves, under other names.
    return [file for file in others if "/site-packages/" in file and "/__pycache__/" not in file]


def _listed(folder: Path, site: Path, name: str) -> list[tuple[str, str]]:
    """A package's files by their place in the environment, with their SHA-256 as wheels write it.

    Empty where its list cannot be read, which is then another one than is known.
    """
    inside = str(site.relative_to(folder))
    files = []
    try:
        with (site / f"{name}{_INFO}" / "RECORD").open(newline="") as record:
            for file, sha256, _ in csv.reader(record):
                place = os.path.normpath(f"{inside}/{file}")
                if sha256 and not _is_about(place) and not _is_script(folder, place):
                    files.append((place, sha256))
    except (OSError, ValueError):
        return []
    return sorted(files)


def _gather(lists: Iterable[Iterable[tuple[str, str]]]) -> dict[str, set[str]]:
    """By file, its SHA-256: of one that two packages have, both, as the last one wrote it."""
    held: dict[str, set[str]] = {}
    for file, sha256 in chain.from_iterable(lists):
        held.setdefault(file, set()).add(sha256)
    return held


def _find_other(folder: Path, held: Mapping[str, set[str]]) -> Iterator[tuple[str, str | None]]:
    """Each file with its SHA-256 where that is none of those it may have."""
    with ThreadPoolExecutor() as pool:  # hashing large files keeps no other thread waiting
        hashes = pool.map(lambda file: _sha256(folder / file), held)
        yield from (
            (file, sha256)
            for file, sha256 in zip(held, hashes, strict=True)
            if sha256 not in held[file]
        )


def _is_about(file: str) -> bool:
    """Whether it is text about a package, which says nothing of what runs.

    That of a package built from its source says by what it was built, so it is another one
    elsewhere. `entry_points.txt` names code to run, and is held like any other file.
    """
    return bool(re.fullmatch(r"lib/[^/]+/site-packages/[^/]+\.dist-info/.+", file)) and not (
        file.endswith("/entry_points.txt")
    )


def _is_script(folder: Path, file: str) -> bool:
    """Whether it is a script, or was one: an earlier job removed those."""
    if not file.startswith("bin/"):
        return False
    try:
        with (folder / file).open("rb") as script:
            return script.read(len(_SCRIPT)) == _SCRIPT
    except OSError:
        return True


def _walk(folder: Path) -> Iterator[str]:
    """Every file below a folder, and every link: none is followed."""
    for at, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(f"{at}/{name}")]  # noqa: PTH114
        for name in (*files, *links):
            yield os.path.relpath(f"{at}/{name}", folder)


def _sha256(path: Path) -> str | None:
    """As a wheel's list has it; None for what is no plain file."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    return _SHA256 + urlsafe_b64encode(digest).rstrip(b"=").decode()


def _hash(listed: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"{file} {sha256}\n" for file, sha256 in listed)
    return hashlib.sha256(lines.encode()).hexdigest()
