"""The real `bench run` as a process, with the stand-in engine, and what is left afterwards."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from standin_engine import SEGMENT

from bench import supervise

ROOT = Path(__file__).resolve().parents[2]
REVISION = "0123456789" * 4
PATIENCE_S = 300.0  # until something counts as never happening; machines can be busy
MODELS = f"""
[speed]
input_tokens = 8
output_tokens = 4
prompts = 3
request_rates = [50.0, inf]
sessions = 1
repeats = 3
seed = 14
[quality]
documents = 4
[[hardware]]
id = "cpu"
name = "Here"
engine = "cpu"
runner = ["x"]
gpus = 0
[[family]]
name = "Stand-in"
baseline = "A"
[[variant]]
name = "A"
family = "Stand-in"
repo = "stand-in/a"
revision = "{REVISION}"
[[variant]]
name = "B"
family = "Stand-in"
repo = "stand-in/b"
revision = "{REVISION}"
"""
STAGES = ("a/speed", "a/quality", "b/speed", "b/quality")


@dataclass
class Place:
    """A folder with everything one test's runs use: models, results, cache, weights."""

    folder: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    segments: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        (self.folder / "models.toml").write_text(MODELS)
        (self.folder / "standin").mkdir()
        (self.folder / "tmp").mkdir()
        for name in "ab":
            snapshot = self.folder / f"hf/hub/models--stand-in--{name}/snapshots/{REVISION}"
            snapshot.mkdir(parents=True)
            (snapshot / "config.json").write_text("{}")
            (snapshot / "model.safetensors").write_bytes(b"weights")
        self.environment = {
            **os.environ,
            "BENCH_ENGINE_PYTHON": str(self.python),
            "BENCH_CACHE": str(self.folder / "cache"),
            "HF_HOME": str(self.folder / "hf"),
            "HF_HUB_OFFLINE": "1",
            "VLLM_STANDIN": str(self.folder / "standin"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(ROOT),
        }

    @property
    def results(self) -> Path:
        """The store."""
        return self.folder / "results"

    def argv(self, *more: str) -> list[str]:
        """The command line of `bench run`."""
        argv = [sys.executable, "-m", "bench", "run", "--models", str(self.folder / "models.toml")]
        return [*argv, "--results", str(self.results), "--logs", str(self.folder / "logs"), *more]

    def start(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a run in the background."""
        return subprocess.Popen(
            self.argv(*more),
            env={**self.environment, **environment},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *more: str, **environment: str) -> tuple[int, str]:
        """A whole run: its exit status and what it said."""
        process = self.start(*more, **environment)
        _, said = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said

    def moments(self) -> list[tuple[str, int]]:
        """What the stand-in's processes went through, each with its process id."""
        path = self.folder / "standin" / "moments"
        rows = path.read_text().splitlines() if path.exists() else []
        return [(row.split()[0], int(row.split()[1])) for row in rows]

    def hold(self, *moments: str) -> None:
        """From now on the stand-in stays in these moments, until `release`."""
        for moment in moments:
            (self.folder / "standin" / f"hold-{moment}").touch()

    def release(self) -> None:
        """Lets every moment pass, and forgets those that were."""
        self.segments |= self.made()
        for path in (self.folder / "standin").iterdir():
            path.unlink()

    def pid(self, moment: str) -> int:
        """The process that reached this moment last."""
        return next(pid for name, pid in reversed(self.moments()) if name == moment)

    def wait_for(self, moment: str, times: int = 1) -> int:
        """The process that reached this moment, as soon as it was so many times.

        A server's shared memory is then known to its supervisor.
        """
        wait_until(
            lambda: [name for name, _ in self.moments()].count(moment) >= times, self.moments
        )
        if any(path.exists() for path in self.made()):
            wait_for_a_look(*self.supervisors())
        return self.pid(moment)

    def finished(self) -> dict[str, bytes]:
        """The finished records: "variant/stage" and the bytes of its file."""
        found = {}
        for path in self.results.glob("*/*/*-*.json"):
            data = path.read_bytes()
            if json.loads(data)["status"] == "ok":
                found[f"{path.parent.name}/{path.name.split('-')[0]}"] = data
        return found

    def living(self) -> dict[int, str]:
        """All processes that any run here started, tools included, with their command lines."""
        mark = f"VLLM_STANDIN={self.folder / 'standin'}".encode()
        return {
            pid: _read(pid, "cmdline").replace(b"\0", b" ").decode()
            for pid in supervise.processes()
            if mark in _read(pid, "environ").split(b"\0")
        }

    def made(self) -> set[Path]:
        """The shared memory that the stand-in's servers made, as far as they are not forgotten."""
        started = [pid for name, pid in self.moments() if name == "start"]
        return {Path(f"/dev/shm/{SEGMENT}{pid}") for pid in started}

    def supervisors(self) -> list[int]:
        """Those of them that supervise others."""
        return [pid for pid, command in self.living().items() if "supervise.py" in command]

    def check_no_process(self) -> None:
        """Every process has ended."""
        wait_until(lambda: not self.living(), what=self.living)

    def remove_what_is_left(self) -> None:
        """Shared memory and temporary folders of runs that were killed with their supervisors."""
        for path in self.made():
            path.unlink(missing_ok=True)
        for path in (self.folder / "tmp").iterdir():
            shutil.rmtree(path)

    def check_nothing_left(self) -> None:
        """No process, no shared memory, no temporary folder."""
        self.check_no_process()
        assert not [path for path in self.segments | self.made() if path.exists()]
        assert list((self.folder / "tmp").iterdir()) == []


def _read(pid: int, name: str) -> bytes:
    """A file of a process; nothing of one that has ended, be it reaped or not."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def wait_until(done: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    """Waits for something that must happen."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def wait_for_a_look(*supervisors: int) -> None:
    """Waits until each has looked at shared memory that is there by now.

    A supervisor sleeps between two looks, and the kernel counts how often a process went to sleep:
    once it has done so five times more, a whole look lies between. (A look itself may wait.)
    """
    enough = {pid: _sleeps(pid) + 5 for pid in supervisors}
    wait_until(lambda: all(_sleeps(pid) >= count for pid, count in enough.items()))


def _sleeps(pid: int) -> float:
    """How often a process went to sleep; one that has ended looks no more."""
    status = _read(pid, "status").decode()
    if not status or "\nState:\tZ" in status:
        return math.inf
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def kill(*pids: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signals processes, one right after the other."""
    for pid in pids:
        os.kill(pid, number)


def is_free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
