"""One vLLM server: start it, wait until it is healthy, watch it, stop it."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2

from bench import supervise
from bench.engine import facts
from bench.errors import BenchError, ServerError
from bench.process import GRACE_S, Supervised
from bench.progress import Step, step

HOST = "127.0.0.1"
# Asks the server itself, whatever proxy this machine reaches others by, and keeps no connection: a
# server that is to stop waits for those it has.
_HTTP = httpx2.Client(trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))
# What a server gets of this program's environment. It parses strangers' weights and is offline, so
# it gets what programs, compilers, GPUs and its libraries are found and tuned by, nothing else.
_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_[A-Z]+|TZ|TMPDIR|XDG_(CACHE_HOME|RUNTIME_DIR)|CC|CXX"
    r"|LD_(LIBRARY_PATH|PRELOAD)|LIBRARY_PATH|CPATH|C(PLUS)?_INCLUDE_PATH|PYTHON[A-Z]+|HF_HOME"
    r"|(VLLM|CUDA|NVIDIA|NCCL|CUBLAS|CUDNN|CUTLASS|FLASHINFER|FLASH_ATTN|TRITON|TORCH|TORCHINDUCTOR"
    r"|PYTORCH|OMP|GOMP|KMP|MKL|OPENBLAS|NUMBA|TOKENIZERS|TRANSFORMERS|MALLOC|TCMALLOC|GLIBC)_\w+"
)
_SECRET = re.compile(r"KEY|TOKEN(?!IZERS_)|SECRET|PASSW|CREDENTIAL|AUTH")
# What the log says while the server starts, in the order it happens, in words for a person.
_PHASES = (
    ("Starting to load model", "loading weights"),
    ("Loading weights took", "weights loaded"),
    ("for vLLM's torch.compile", "compiling"),
    ("Warming up model for the compilation", "compiling"),  # on CPU
    ("Capturing CUDA graph", "capturing graphs"),
    ("init engine", "engine ready"),
    ("Starting vLLM server", "opening the port"),
)
# Which process said a line, how loudly, when and where.
_PREFIX = re.compile(r"(?:\([\w-]+ pid=\d+\) ?)?(?:(?P<level>[A-Z]+) \S+ \S+ \[[^\]]*\] ?)?")
# Lines that carry no reason: progress bars, tracebacks' frames (indented), deprecations.
_NOISE = re.compile(r"^\s*$|it/s|^\s{2,}|^Dumping |Traceback|Warning:|\d+%\|")
# pydantic's: the exception, perhaps a field's name, and indented what is wrong with it.
_RAISED = re.compile(r"(?:\w+\.)*\w*Error: \d+ validation errors? for \w")
_BETWEEN = re.compile(r"[A-Za-z_][\w.\[\]]*$| {4}For further")
_TOLD_BELOW = re.compile(r" {2}(?! )(?!For further)(.*?\S.*?)(?: \[type=.*)?$")
_REASON = re.compile(r"[Ee]rror|Exception|[Kk]illed|out of memory|not supported|invalid|[Ff]ail")


@dataclass
class Server:
    """A healthy server.

    Attributes:
        argv: the command line that started it.
        startup_s: from start to the first healthy answer.
        ask_every_s: how often `check` asks for /health, and how long it waits for the answer: so
            seldom that a speed run does not notice, so long that a busy server is not suspected.
        silence_limit_s: how long the server may leave that unanswered.
        idle_limit_s: how long it may count no token while it has requests; /metrics is asked no
            more often. (vLLM answers /health however its engine hangs, and gives a worker 300 s.)
    """

    url: str
    argv: tuple[str, ...]
    log: Path
    process: Supervised
    startup_s: float = 0.0
    ask_every_s: float = 30.0
    silence_limit_s: float = 120.0
    idle_limit_s: float = 600.0
    output: IO[bytes] | None = None  # the log, open: it can be read when its name is gone
    _ask_at: float = field(default=0.0, init=False)
    _look_at: float = field(default=0.0, init=False)
    _work: facts.Metrics = field(default=facts.Metrics(), init=False)
    _silent_since: float | None = field(default=None, init=False)

    def get(self, path: str) -> str:
        """The body of a GET request to the server.

        Raises:
            ServerError: the server died or did not answer.
        """
        try:
            return ask(self.url + path, timeout_s=30)
        except httpx2.HTTPError as error:
            reason = f"the server did not answer {path}: {first_line(error)}"
            raise self.explain(ServerError(reason, _see(self.log))) from error

    def read_log(self) -> str:
        """What the server has said so far, also if somebody has removed the file."""
        if self.output is None:
            return self.log.read_text(errors="replace")
        number = self.output.fileno()
        return os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")

    def check(self) -> None:
        """Does nothing while the server runs, answers and gets on; asks it as seldom as stated.

        Raises:
            ServerError: it died or hangs.
        """
        self.check_process()
        now = time.monotonic()
        if now >= self._ask_at:
            self._check_answer(now)
            self._ask_at = time.monotonic() + self.ask_every_s
        if now >= self._look_at and self._silent_since is None:
            self._check_work()
            self._look_at = now + self.idle_limit_s

    def _check_answer(self, now: float) -> None:
        if _is_healthy(self.url, self.ask_every_s):
            self._silent_since = None
            return
        self._silent_since = self._silent_since or now
        silent_s = time.monotonic() - self._silent_since
        if silent_s > self.silence_limit_s and self.process.status() is None:
            message = f"the vLLM server runs and has not answered /health for {silent_s:.0f} s"
            raise ServerError(message, _see(self.log))

    def _check_work(self) -> None:
        try:
            told = ask(self.url + "/metrics", self.ask_every_s)
        except httpx2.HTTPError:
            return  # it answered /health just now: too busy to count
        before, self._work = self._work, facts.from_metrics(told)
        if self._work.requests_running and self._work == before:
            raise ServerError(
                f"the vLLM server has {self._work.requests_running} requests and has worked on "
                f"none of them for {self.idle_limit_s:.0f} s: its engine hangs",
                _see(self.log),
            )

    def check_process(self) -> None:
        """Does nothing while the server runs, healthy or not.

        Raises:
            ServerError: it died; says why, as far as its log tells.
        """
        if (status := self.process.status()) is not None:
            raise self._ended(status)

    def explain(self, error: BenchError) -> BenchError:
        """The server's death, if that is what is behind a client's error; else the error."""
        deadline = time.monotonic() + 2 * GRACE_S  # until what is left of a dead one has ended
        while not _is_healthy(self.url):
            if (status := self.process.status()) is not None:
                return self._ended(status)
            if time.monotonic() > deadline:
                if isinstance(error, ServerError):
                    return error
                return ServerError(
                    f"the vLLM server runs and does not answer; before that: {error.message}",
                    _see(self.log),
                )
            time.sleep(0.1)
        return error

    def _ended(self, status: int) -> ServerError:
        words = "\n    ".join(last_words(self.read_log()))
        ended = f"by signal {status - 128}" if status > 128 else f"with status {status}"
        return ServerError(f"the vLLM server ended {ended}:\n    {words}", _see(self.log))


def kept(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of this program's environment variables that a server gets: no token, no secret."""
    return {
        name: value
        for name, value in variables.items()
        if _KEPT.fullmatch(name) and not _SECRET.search(name)
    }


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def check_port(port: int) -> None:
    """Raises ServerError if somebody listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServerError(
                f"port {port} of {HOST} is taken: {error.strerror}",
                "leave --port out and a free one is chosen, or stop the program that listens there",
            ) from error


@contextmanager
def serving(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    port: int | None = None,
    limit_s: float,
    title: str,
) -> Iterator[Server]:
    """Runs a server for the length of the block; it is healthy when the block begins.

    Args:
        command: `vllm serve MODEL …` without host and port.
        environment: what to set for it; of this program's own it gets what is `kept`.
        folder: for its log.
        port: the port to listen on; a free one by default.
        limit_s: how long it may take to become healthy.

    Raises:
        ServerError: the port is taken, or it died or was not healthy within the limit.
    """
    if port is not None:
        check_port(port)
    port = port or free_port()
    argv = (*command, "--host", HOST, "--port", str(port))
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    began = time.monotonic()
    with log.open("w+b") as output:  # what is read from the log is said of this server
        process = Supervised(
            argv,
            environment=environment,
            inherited=kept(os.environ),
            cwd=folder,
            stdout=output,
            stderr=output,
        )
        server = Server(f"http://{HOST}:{port}", argv, log, process, output=output)
        try:
            with step(title) as current:
                _wait_until_healthy(server, limit_s, current)
                _check_answers_itself(server, port)
            server.startup_s = time.monotonic() - began
            yield server
        finally:
            process.stop()


def _check_answers_itself(server: Server, port: int) -> None:
    """Raises ServerError if it is another program that answers on the port.

    One that took it meanwhile answers before the server finds that it cannot, and vLLM shares its
    port with whoever of this user asks to.
    """
    if not supervise.listens(
        [server.process.pid, *supervise.descendants(server.process.pid)], port
    ):
        server.check_process()
        raise ServerError(
            f"port {port} of {HOST} is answered by another program than the server",
            "leave --port out and a free one is chosen, or stop the program that listens there",
        )


def _wait_until_healthy(server: Server, limit_s: float, current: Step) -> None:
    while not _is_healthy(server.url):
        server.check_process()
        if current.elapsed_s > limit_s:
            words = "\n    ".join(last_words(server.read_log()))
            raise ServerError(
                f"the vLLM server was not healthy after {limit_s:.0f} s; last words:\n    {words}",
                f"allow it longer with --server-timeout, or {_see(server.log)}",
            )
        current.note(phase(server.read_log()))
        time.sleep(0.1)


def _is_healthy(url: str, timeout_s: float = 5) -> bool:
    try:
        ask(url + "/health", timeout_s)
    except httpx2.HTTPError:
        return False
    return True


def ask(url: str, timeout_s: float, body: Any = None) -> str:
    """What a server answers to GET, or to POST with a JSON body.

    Raises:
        httpx2.HTTPError: it refuses, is too late, cuts the answer off, or answers with an error.
    """
    method = "GET" if body is None else "POST"
    answer = _HTTP.request(method, url, json=body, timeout=timeout_s)
    return answer.raise_for_status().text


def first_line(error: Exception) -> str:
    """What an error says, without advice on where to read more."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def phase(log: str) -> str:
    """What a starting server is doing, from its log."""
    reached = [words for mark, words in _PHASES if mark in log]
    return reached[-1] if reached else "importing"


def last_words(log: str, count: int = 6) -> list[str]:
    """The last different lines of a log that say something, preferring those with a reason.

    A failing vLLM says what went wrong first and then, process by process, that it did. The reason
    of a refused configuration stands below the exception's own line, indented as a frame is.
    """
    lines: dict[str, bool] = {}
    raised = False
    for line in log.splitlines():
        prefix = _PREFIX.match(line)
        assert prefix  # both its parts may be missing
        text = line[prefix.end() :]
        if raised and (told := _TOLD_BELOW.match(text)):
            lines.setdefault(told[1].strip(), True)
            continue
        raised = bool(_RAISED.match(text)) or (raised and bool(_BETWEEN.match(text)))
        if not _NOISE.search(text):
            calm = prefix["level"] in ("DEBUG", "INFO", "WARNING")
            lines.setdefault(text.strip(), not calm and bool(_REASON.search(text)))
    reasons = [line for line, is_reason in lines.items() if is_reason]
    return (reasons or list(lines) or ["it said nothing"])[-count:]


def _see(log: Path) -> str:
    return f"read the whole log: {log}"
