"""Stands in for the third-party actions under act: same inputs, same effects, on this disk.

Usage: standin.py ACTION, with its inputs in the environment as INPUT_<NAME>. Artifacts are .zip
files in $STANDIN/artifacts/<run>, as GitHub keeps them; deployments and attestations go to the
stand-in of the API.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

STORE = Path(os.environ["STANDIN"])
ARTIFACTS = STORE / "artifacts" / os.environ["GITHUB_RUN_ID"]


def value(name: str, default: str = "") -> str:
    return os.environ.get(f"INPUT_{name.upper().replace('-', '_')}", "") or default


def git(*arguments: str, cwd: Path | None = None) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, check=True, text=True, capture_output=True
    ).stdout.strip()


def checkout() -> None:
    """Clones a bare origin; without credentials its remote leads nowhere, as a push would."""
    repository = value("repository", os.environ["GITHUB_REPOSITORY"])
    path = Path(os.environ["GITHUB_WORKSPACE"]) / value("path", ".")
    path.mkdir(parents=True, exist_ok=True)
    git("init", "--quiet", cwd=path)
    git("remote", "add", "origin", f"{os.environ['GITHUB_SERVER_URL']}/{repository}", cwd=path)
    ref = value("ref", os.environ["GITHUB_SHA"])
    depth = ("--depth", "1") if value("fetch-depth", "1") == "1" else ()
    git("fetch", "--quiet", *depth, "origin", ref, cwd=path)
    git("checkout", "--quiet", "--force", "FETCH_HEAD", cwd=path)
    if value("persist-credentials") != "true":
        git("remote", "set-url", "origin", "/nonexistent/no-credentials", cwd=path)
    print(f"checked out {git('rev-parse', 'HEAD', cwd=path)} to {path}")
    if (path / "requirements").is_dir():
        _prepare_environment(path)


def _prepare_environment(path: Path) -> None:
    """What `./run` would make from the locks: the packages are those these tests run with."""
    programs = path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("bench", "ruff", "mypy", "pytest"):
        recorded = f"{STORE}/recorded.py" if name == "bench" else ""
        command = f"{sys.executable} {recorded or f'-m {name}'}"
        script = f'#!/bin/sh\nPYTHONPATH="{path}" exec {command} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    for lock in ("tool", "dev"):
        shutil.copy(path / "requirements" / f"{lock}.txt", path / ".venv" / f".made-from-{lock}")


def upload() -> None:
    """One .zip per name, and its id; a name is taken once, unless it is said to be overwritten."""
    path = Path(value("path"))
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        if value("if-no-files-found", "warn") == "error":
            sys.exit(f"no files at {path}")
        print(f"no files at {path}")
        return
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    target = ARTIFACTS / f"{value('name')}.zip"
    if target.exists() and value("overwrite") != "true":
        sys.exit(f"an artifact {value('name')} exists already")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if not hidden:
                archive.write(file, file.name if path.is_file() else file.relative_to(path))
    number = str(time.time_ns())
    target.with_suffix(".id").write_text(number)
    target.with_suffix(".attempt").write_text(os.environ["GITHUB_RUN_ATTEMPT"])
    _output("artifact-id", number)


def download() -> None:
    """By id, or those that match a pattern, unpacked or as they are; one alone into `path` itself.

    Those of an earlier attempt are found where the run and a token are named, else they are not.
    An artifact that was replaced has another id, and the old one leads nowhere.
    """
    numbers, path = value("artifact-ids").split(","), Path(value("path", "."))
    every = value("run-id") == os.environ["GITHUB_RUN_ID"] and value("github-token")
    here = [
        archive
        for archive in sorted(ARTIFACTS.glob("*.zip"))
        if every or archive.with_suffix(".attempt").read_text() == os.environ["GITHUB_RUN_ATTEMPT"]
    ]
    found = [
        archive
        for archive in here
        if archive.with_suffix(".id").read_text() in numbers
        or fnmatch.fnmatch(archive.stem, value("pattern"))
    ]
    if numbers != [""] and not found:
        sys.exit("None of the provided artifact IDs were found")
    for archive in found:
        flat = value("merge-multiple") == "true" or len(found) == 1
        folder = path if flat else path / archive.stem
        folder.mkdir(parents=True, exist_ok=True)
        if value("skip-decompress") == "true":
            shutil.copy(archive, folder)
        else:
            zipfile.ZipFile(archive).extractall(folder)


def pages() -> None:
    """The site as the Pages artifact."""
    os.environ.update(INPUT_NAME="github-pages", INPUT_OVERWRITE="true")
    upload()


def deploy() -> None:
    """A deployment reaches the stand-in of the API with the site's files."""
    with zipfile.ZipFile(ARTIFACTS / "github-pages.zip") as site:
        index = json.loads(site.read("index.html"))
        _tell("pages/deployments", {"files": site.namelist(), "asked": index})
    _output("page_url", "https://octo.example/bench/")


def attest() -> None:
    """The subjects' checksums reach the stand-in of the API; or it fails, once."""
    if (STORE / "fail-attest").exists():
        (STORE / "fail-attest").unlink()
        sys.exit("the signing service does not answer")
    if value("subject-path"):  # the site's
        return
    _tell("attestations", {"subjects": Path(value("subject-checksums")).read_text().splitlines()})


def _output(name: str, text: str) -> None:
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as output:
        output.write(f"{name}={text}\n")


def _tell(path: str, body: dict[str, object]) -> None:
    address = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    data = json.dumps(body).encode()
    urllib.request.urlopen(urllib.request.Request(address, data, method="POST")).close()  # noqa: S310


def configure() -> None:
    """Pages is set up already, and this is where."""
    _output("base_url", "https://octo.example/bench")


if __name__ == "__main__":
    {f.__name__: f for f in (checkout, upload, download, pages, deploy, attest, configure)}[
        sys.argv[1]
    ]()
