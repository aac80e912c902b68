"""The unmodified workflow files under act, against a bare origin and a stand-in of the API.

act runs the jobs on this machine ("host mode"). The third-party actions are stand-ins of the same
inputs and effects (act/standin.py), `git` reaches a bare repository through `insteadOf`, and
the two programs that take minutes are recorded (act/recorded.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from folders import ROOT, SUPPORT
from github_server import REPOSITORY, TOKEN, State

from bench import places

_PATIENCE_S = 1800  # a job with the real engine takes minutes

STANDINS = SUPPORT / "act"
SERVER = "https://github.invalid"
# Each action with its inputs, as far as the workflows use them, and the stand-in's name.
ACTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "actions/checkout": ("checkout", {"repository": "", "ref": "", "path": ".",
                                      "fetch-depth": "1", "persist-credentials": "true"}),
    "actions/upload-artifact": ("upload", {"name": "", "path": "", "overwrite": "false",
                                           "if-no-files-found": "warn", "retention-days": ""}),
    "actions/download-artifact": ("download", {"artifact-ids": "", "pattern": "", "path": ".",
                                               "merge-multiple": "false",
                                               "run-id": "", "github-token": "",
                                               "skip-decompress": "false"}),
    "actions/configure-pages": ("configure", {}),
    "actions/upload-pages-artifact": ("pages", {"path": ""}),
    "actions/deploy-pages": ("deploy", {}),
    "actions/attest": ("attest", {"subject-checksums": "", "subject-path": ""}),
}  # fmt: skip
MODELS = """
[speed]
sessions = 1
[quality]
documents = 40
[[hardware]]
id = "hosted"
name = "GitHub-hosted runner"
engine = "cpu"
runner = ["ubuntu-24.04"]
[[hardware]]
id = "gpu"
name = "A GPU"
engine = "cuda"
runner = ["self-hosted", "linux", "gpu"]
gpu_memory_gib = 24
[[family]]
name = "Qwen3-8B"
baseline = "Qwen3-8B BF16"
[[variant]]
name = "Qwen3-8B BF16"
family = "Qwen3-8B"
repo = "Qwen/Qwen3-8B"
revision = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
[[variant]]
name = "Qwen3-8B FP8"
family = "Qwen3-8B"
repo = "Qwen/Qwen3-8B-FP8"
revision = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
"""
QUARTO = "#!/bin/sh\necho 1.0.0\n"


@dataclass(frozen=True)
class Run:
    """How a workflow's run ended: every job that ran by name, and all that was printed.

    `failures` is what the jobs printed that failed: jobs beside and after them print more.
    """

    status: int
    jobs: dict[str, str]
    log: str
    failures: str


# What the engine's tests share (tests/conftest.py), and how this machine's packages are reached.
SHARED = ("TORCHINDUCTOR_CACHE_DIR", "VLLM_CACHE_ROOT", "VLLM_CPU_NUM_OF_RESERVED_CPU")
PACKAGES = ("PIP_", "UV_")


class Workshop:
    """A repository on this disk with its API, and act to run its workflows."""

    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.state = folder, state
        self.origin, self.work = folder / "origin.git", folder / "work"
        self.standin, self.home = folder / "standin", folder / "home"
        for path in (self.standin, self.home, folder / "bin"):
            path.mkdir()
        self.called: dict[str, Path] = {}
        self._make_origin()
        self._make_home()
        self._make_actions()
        state.origin = self.origin

    # -- the repository --------------------------------------------------------------------------

    def _make_origin(self) -> None:
        """What is committed here but for the tests, with small models and a small Quarto."""
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, text=True, capture_output=True,
        ).stdout.splitlines()  # fmt: skip
        for name in tracked:
            if (ROOT / name).is_file() and not name.startswith(
                ("tests/", "bench/results/", "benchmarks/")  # these need the tests' helpers
            ):
                target = self.work / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)
        (self.work / "benchmarks").mkdir()
        (self.work / "benchmarks" / "nothing.py").write_text("")
        (self.work / "tests").mkdir()
        # One for each of the two jobs that run tests.
        nothing = "def test_{}() -> None:\n    pass\n"
        (self.work / "tests" / "test_nothing.py").write_text(
            f"import pytest\n\n\n{nothing.format('fast')}\n\n"
            f"@pytest.mark.engine\n{nothing.format('slow')}"
        )
        (self.work / "models.toml").write_text(MODELS)
        self._make_quarto()
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("remote", "add", "origin", str(self.origin))
        subprocess.run(["git", "init", "--quiet", "--bare", self.origin], check=True)
        # As on GitHub, any commit of the repository can be fetched by its hash.
        self.git("config", "uploadpack.allowAnySHA1InWant", "true", at=self.origin)
        self.commit("start")

    def move_tool(self, repository: str, caller: str) -> None:
        """Leaves models.toml and the workflow `caller` here, the tool in a repository beside."""
        tool, sha = self.folder / "tool", self.git("rev-parse", "HEAD")
        shutil.copytree(self.origin, self.folder / "tool.git")
        self._redirect(repository, self.folder / "tool.git")
        shutil.copytree(self.work, tool, ignore=shutil.ignore_patterns(".git"))
        self.called[f"{repository}@{sha}"] = tool
        for path in self.work.iterdir():
            if path.name not in (".git", "models.toml"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        workflows = self.work / ".github" / "workflows"
        workflows.mkdir(parents=True)
        (workflows / "call.yml").write_text(caller.replace("COMMIT", sha))
        # GitHub reads a called workflow's `./` in its own repository, act in the caller's.
        shutil.copy(tool / ".github" / "workflows" / "publish.yml", workflows)
        self.commit("call the tool")

    def become_template(self) -> None:
        """As `Use this template` leaves it: one commit, with the author's models and records."""
        for top in ("models.toml", "bench/results", "report/reference"):
            source, target = ROOT / top, self.work / top
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)
        self.git("remote", "set-url", "origin", f"{SERVER}/{REPOSITORY}.git")
        self.git("config", f"url.{self.origin}.insteadOf", f"{SERVER}/{REPOSITORY}.git")
        self.git("checkout", "--quiet", "--orphan", "copy")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Initial commit")
        self.git("branch", "--quiet", "--force", "--move", "main")
        self.git("push", "--quiet", "--force", "--set-upstream", "origin", "main")

    def _make_quarto(self) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            member = tarfile.TarInfo("quarto-1.0.0/bin/quarto")
            member.mode, member.size = 0o755, len(QUARTO)
            archive.addfile(member, io.BytesIO(QUARTO.encode()))
        (self.standin / "quarto.tar.gz").write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        sums = self.work / ".github" / "actions" / "quarto" / "quarto.sha256"
        sums.write_text(f"{digest}  quarto-1.0.0-linux-amd64.tar.gz\n")
        curl = self.folder / "bin" / "curl"
        curl.write_text(f'#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\n'
                        f'cp {self.standin}/quarto.tar.gz "$2"\n')  # fmt: skip
        curl.chmod(0o755)

    def git(self, *arguments: str, at: Path | None = None) -> str:
        """Output of git in the working clone, or elsewhere."""
        identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
        answer = subprocess.run(
            ["git", *identity, *arguments], cwd=at or self.work,
            check=True, text=True, capture_output=True,
        )  # fmt: skip
        return answer.stdout.strip()

    def commit(self, message: str, branch: str = "main", **files: str) -> str:
        """Commits files (`models` is models.toml) and pushes them; the commit's hash."""
        for name, text in files.items():
            (self.work / f"{name}.toml").write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def sync(self) -> None:
        """The working clone at the newest main, as Actions would start the next run."""
        self.git("fetch", "--quiet", "origin", "main")
        self.git("checkout", "--quiet", "--force", "-B", "main", "FETCH_HEAD")

    def results(self) -> list[str]:
        """`hardware/variant/stage` of every record on the origin's main."""
        names = self.git("ls-tree", "-r", "--name-only", "main", at=self.origin).splitlines()
        records = [n.split("/")[2:] for n in names if n.startswith("bench/results/")]
        return sorted(
            f"{hardware}/{variant}/{name.split('-')[0]}"
            for hardware, variant, name in records
            if name.endswith(".json")
        )

    def measured(self) -> list[str]:
        """What the recorded engine was asked for, in order."""
        log = self.standin / "measured.log"
        return log.read_text().splitlines() if log.exists() else []

    def artifacts(self, run_id: int = 1) -> dict[str, Path]:
        """The artifacts of a run by name, as .zip files."""
        found = (self.standin / "artifacts" / str(run_id)).glob("*.zip")
        return {path.stem: path for path in sorted(found)}

    def set(self, name: str) -> None:
        """Something for the recorded programs to do; see act/recorded.py."""
        (self.standin / name).touch()

    # -- act -------------------------------------------------------------------------------------

    def _make_home(self) -> None:
        self._redirect(REPOSITORY, self.origin)
        with (self.home / ".gitconfig").open("a") as file:
            # Its maintenance goes on in the background, in folders that act is about to remove.
            file.write("[maintenance]\n\tauto = false\n[gc]\n\tauto = 0\n")
        shutil.copy(STANDINS / "recorded.py", self.standin)

    def _redirect(self, repository: str, bare: Path) -> None:
        """Has the jobs' git find a repository of the server on this disk."""
        lines = [f'[url "{bare}"]']
        lines += [f"\tinsteadOf = {SERVER}/{repository}{end}" for end in (".git", "")]
        with (self.home / ".gitconfig").open("a") as file:
            file.write("\n".join(lines) + "\n")

    def _make_actions(self) -> None:
        """One composite for each action: its inputs into the environment of the stand-in."""
        for name, (standin, inputs) in ACTIONS.items():
            folder = self.folder / "actions" / name
            folder.mkdir(parents=True)
            passed = {f"INPUT_{key.upper().replace('-', '_')}": f"${{{{ inputs.{key} }}}}"
                      for key in inputs}  # fmt: skip
            step = {"id": "it", "shell": "bash", "env": passed,
                    "run": f"{sys.executable} {STANDINS}/standin.py {standin}"}  # fmt: skip
            action = {
                "name": name,
                "inputs": {key: {"default": value} for key, value in inputs.items()},
                "outputs": {
                    key: {"value": f"${{{{ steps.it.outputs.{key} }}}}"}
                    for key in ("page_url", "artifact-id", "base_url")
                },
                "runs": {"using": "composite", "steps": [step]},
            }
            (folder / "action.yml").write_text(yaml.safe_dump(action))

    def run(
        self,
        workflow: str,
        event: str,
        payload: dict[str, Any],
        *,
        run_id: int = 1,
        attempt: int = 1,
    ) -> Run:
        """Runs a workflow of the working clone for an event."""
        repository = {"full_name": REPOSITORY, "name": "bench", "default_branch": "main",
                      "private": False, "owner": {"login": "octo"}}  # fmt: skip
        path = self.folder / f"event-{run_id}-{attempt}-{workflow}.json"
        path.write_text(json.dumps({"repository": repository, **payload}))
        process = subprocess.run(
            self._command(workflow, event, path, run_id, attempt),
            env=self._environment(), text=True, capture_output=True, check=False,
            timeout=_PATIENCE_S,
        )  # fmt: skip
        return _read(process)

    def _command(
        self, workflow: str, event: str, path: Path, run_id: int, attempt: int
    ) -> list[str]:
        settings = {
            "BENCH_CACHE": str(places.cache()),
            # Those of all tests: what was checked, compiled and looked up already.
            "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache"),
            **{
                name: value
                for name, value in os.environ.items()
                if name in SHARED or name.startswith(PACKAGES)
            },
            "PYTEST_XDIST_AUTO_NUM_WORKERS": "0",  # for two tests of nothing
            "STANDIN": str(self.standin),
            "RECORDED": str(SUPPORT),
            "GITHUB_API_URL": self.state.url,
            "GITHUB_SERVER_URL": SERVER,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(run_id),
            "GITHUB_RUN_ATTEMPT": str(attempt),
        }
        repositories = {
            **{f"{name}@{sha}": self.folder / "actions" / name for name, sha in PINS.items()},
            **self.called,
        }
        return [
            str(Path(sys.executable).parent / "act"), event,
            "-C", str(self.work), "-W", f".github/workflows/{workflow}.yml", "-e", str(path),
            *(f"--platform={label}=-self-hosted" for label in ("ubuntu-24.04", "self-hosted")),
            "--rm", "--pull=false", "--action-offline-mode", "--no-skip-checkout", "--json",
            "--no-cache-server", "--secret", f"GITHUB_TOKEN={TOKEN}",
            *(f"--env={key}={value}" for key, value in settings.items()),
            *(f"--local-repository={name}={path}" for name, path in repositories.items()),
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """As `env -i`, with a home of its own."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8"}


def _pins() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job.get("steps", []):
                name, _, sha = step.get("uses", "").partition("@")
                if sha:
                    found[name] = sha
    return found


PINS = _pins()


def _read(process: subprocess.CompletedProcess[str]) -> Run:
    jobs: dict[str, str] = {}
    text: list[str] = []
    by_job: dict[str, list[str]] = {}
    failing: dict[str, list[str]] = {}
    failed: set[str] = set()
    for line in process.stdout.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            text.append(line)
            continue
        text.append(f"[{entry.get('job', '')}] {entry.get('msg', '')}".rstrip())
        by_job.setdefault(entry.get("job", ""), []).append(str(entry.get("msg", "")).rstrip())
        # act numbers the jobs of a matrix; GitHub does not.
        name = entry.get("job", "").partition("/")[2].strip()
        name = re.sub(r"( on [a-z-]+, session \d+)-\d+$", r"\1", name)
        if entry.get("stepResult") == "failure":
            failed.add(name)
            failing[entry["job"]] = by_job[entry["job"]]
        if "jobResult" in entry:
            # act gives all jobs of a matrix one result; whether a step failed tells them apart.
            jobs[name] = "failure" if name in failed else "success"
    log = "\n".join([*text, process.stderr])
    return Run(process.returncode, jobs, log, "\n".join(chain.from_iterable(failing.values())))
