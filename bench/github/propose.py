"""A newer engine as a pull request: the patch of a job that could not write, by one that can.

That job installed packages, so what it hands over is read as a stranger's: a patch of the files
that lock the engines and of no other, and a summary whose text does nothing. Standard library only:
`python3 -m bench.github.propose` runs beside a write token.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import RefusedError
from bench.github.api import Api, ForbiddenError, NotFoundError, run_step
from bench.github.commit import git

PATCH, SUMMARY = "engine.patch", "summary.md"
LOCKS = "bench/engine/locks"
FILES = {f"{LOCKS}/{name}" for name in ("cpu.in", "cpu.txt", "cpu.files",
                                        "cuda.in", "cuda.txt", "cuda.files",
                                        "serve-arguments.json", "lm-eval-tasks.json")}  # fmt: skip
MAX_BYTES = 16 * 2**20
MAX_BODY = 60_000  # GitHub's own limit is 65,536
_VERSION = re.compile(r"\d+(?:\.\d+){1,3}(?:\.post\d+)?")
# No mention, no HTML: a lookalike stands for each.
_INERT = str.maketrans({"@": "＠", "<": "‹", ">": "›"})
_NOTE = """\
This was proposed by the workflow *Engine*. A pull request that a workflow opened starts no checks:
close it and open it again, and they run.

A label does not measure it, as only main's code measures. Merged, *Actions →
Benchmark → Run workflow* measures everything with the new engine, and the page *History* shows what
got faster, slower, better or worse.
"""


def branch_of(version: str) -> str:
    """Where the proposal of a version is kept."""
    if not _VERSION.fullmatch(version):
        raise RefusedError(f"{version[:40]!r} is not a version", "look at the run")
    return f"engine/vllm-{version}"


def is_proposed(version: str, api: Api) -> bool:
    """Whether there is a branch with it already, merged or not."""
    try:
        api.get(f"git/ref/heads/{branch_of(version)}")
    except NotFoundError:
        return False
    return True


def propose(folder: Path, repository: Path, version: str, api: Api) -> str:
    """Pushes a branch with the patch and opens its pull request; says where it is.

    Args:
        folder: with the patch and the summary.
        repository: a clone of main that may push.

    Raises:
        RefusedError: the patch is too large, or touches anything but the engines' locks.
        MachineError: git or GitHub refuses.
    """
    branch, base = branch_of(version), str(api.get("")["default_branch"])
    patch = folder / PATCH
    if patch.stat().st_size > MAX_BYTES:
        raise RefusedError(f"{PATCH} is larger than {MAX_BYTES:,} bytes", "look at the run")
    git(repository, "checkout", "--quiet", "-B", branch)
    git(repository, "apply", "--index", str(patch.resolve()))
    for row in git(repository, "diff", "--cached", "--raw", "--no-renames", "-z").split("\0:"):
        fields, _, name = row.lstrip(":").rstrip("\0").partition("\0")
        if name not in FILES or fields.split()[1] != "100644" or fields.split()[-1] != "M":
            raise RefusedError(f"{PATCH} changes {name[:100]!r}", "look at the run")
    title = f"Engine: vLLM {version}"
    git(repository, "commit", "--quiet", "--no-verify", "--message", title)
    git(repository, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    summary = (folder / SUMMARY).read_bytes()[:MAX_BODY].decode(errors="replace")
    body = f"{summary.translate(_INERT)[: MAX_BODY - len(_NOTE)]}\n{_NOTE}"
    asked = {"title": title, "head": branch, "base": base, "body": body}
    try:
        return str(api.send("POST", "pulls", asked)["html_url"])
    except ForbiddenError:
        server = os.environ["GITHUB_SERVER_URL"]
        link = f"{server}/{api.repository}/compare/{base}...{branch}?expand=1"
        return f"::notice::Actions may not open pull requests here; this link does: {link}"


def _step(_: Mapping[str, Any], api: Api) -> str:
    return propose(Path(sys.argv[1]), Path.cwd(), os.environ["VERSION"], api)


if __name__ == "__main__":  # `python3 -m bench.github.propose FOLDER`, in the clone
    sys.exit(run_step(_step))
