"""One server: started, watched, explained and stopped; it is the stand-in's, in real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_runs import PATIENCE_S, is_free, wait_until
from engines import engine, engine_python
from folders import RECORDED, ROOT, SUPPORT
from hypothesis import given
from hypothesis import strategies as st
from targets import target

from bench.config import SpeedOptions
from bench.engine.installed import Engine
from bench.engine.server import Server, check_port, free_port, kept, last_words, phase, serving
from bench.errors import MeasurementError, ServerError
from bench.measure.client import Client
from bench.measure.speed import arguments
from bench.process import Supervised
from bench.records.pace import Pace
from bench.supervise import descendants

pytestmark = pytest.mark.process

__all__ = ["engine", "engine_python"]  # fixtures
CALM = "(APIServer pid=1) WARNING 11-23 12:00:00 [system_utils.py:255]"
DIED = (RECORDED / "vllm-0.32.0-cpu-died.log").read_text()


def serve(
    engine: Engine, folder: Path, *, limit_s: float = 60, port: int | None = None, mode: str = ""
) -> AbstractContextManager[Server]:
    """The stand-in's server."""
    return serving(
        engine.command("serve", "model", "--served-model-name", "name"),
        environment={"VLLM_STANDIN_MODE": mode},
        folder=folder / "server",
        port=port,
        limit_s=limit_s,
        title="server",
    )


def program_of(server: Server) -> int:
    """The process that the supervisor started."""
    return descendants(server.process.pid)[0]


def test_a_server_is_healthy_inside_the_block_and_gone_after_it(
    engine: Engine, tmp_path: Path
) -> None:
    with serve(engine, tmp_path) as server:
        assert json.loads(server.get("/v1/models"))["data"][0]["id"] == "name"
        assert server.startup_s > 0
        port = int(server.url.rpartition(":")[2])
        assert server.argv[-4:] == ("--host", "127.0.0.1", "--port", str(port))
        server.check()
        assert not is_free(port)
        processes = descendants(server.process.pid)
        assert len(processes) == 2
    assert is_free(port)
    assert not [pid for pid in processes if Path(f"/proc/{pid}/cwd").exists()]
    assert server.log.read_text().startswith("(APIServer")
    assert [path.name for path in server.log.parent.iterdir()] == ["server.log"]


def test_the_block_failing_stops_the_server(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), serve(engine, tmp_path) as server:
        raise KeyboardInterrupt
    assert server.process.status() is not None


def test_the_log_is_of_this_server_alone(engine: Engine, tmp_path: Path) -> None:
    """What is read from the log is recorded as this server's."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "server.log").write_text("Quantizing 0 layers, says an older one\n")
    with serve(engine, tmp_path) as server:
        assert "Quantizing 0 layers" not in server.log.read_text()


def test_a_proxy_is_not_asked(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with serve(engine, tmp_path) as server:
        assert "vllm:" in server.get("/metrics")


SECRETS = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "ACTIONS_RUNTIME_TOKEN"),
    *("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET"),
    *("WANDB_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY", "VLLM_S3_TOKEN", "TORCH_PASSWORD"),
    *("SSH_AUTH_SOCK", "GITHUB_ENV", "GITHUB_PATH", "RUNNER_TEMP", "HTTPS_PROXY", "NETRC"),
)


def test_no_process_of_a_server_has_a_secret_of_its_caller(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "of the caller")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with serve(engine, tmp_path) as server:
        below = descendants(server.process.pid)
        assert len(below) == 2
        for pid in (server.process.pid, *below):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"of the caller" not in environment
            assert b"OMP_NUM_THREADS=2" in environment


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}_?(TOKEN|SECRET|API_KEY|PASSWORD)"), st.text()))
def test_nothing_that_is_called_a_secret_is_kept(variables: dict[str, str]) -> None:
    assert kept(variables) == {}


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "PYTHONPATH"),
        *("NVIDIA_VISIBLE_DEVICES", "VLLM_CPU_KVCACHE_SPACE", "TOKENIZERS_PARALLELISM", "LC_ALL"),
    ],
)
def test_what_an_engine_is_found_and_tuned_by_is_kept(name: str) -> None:
    assert kept({name: "x"}) == {name: "x"}


def test_a_server_that_dies_while_it_starts_says_why(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ServerError) as failed, serve(engine, tmp_path, mode="dies"):
        pass
    assert failed.value.message.startswith("the vLLM server ended with status 1:\n")
    assert "Failed to find a kernel that can implement the WNA16" in failed.value.message
    assert failed.value.fix == f"read the whole log: {tmp_path}/server/server.log"
    assert failed.value.exit_code == 5


def test_a_server_that_is_never_healthy(engine: Engine, tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="was not healthy after 1 s; last words") as failed,
        serve(engine, tmp_path, mode="never-healthy", limit_s=0.6),
    ):
        pass
    assert failed.value.fix.startswith("allow it longer with --server-timeout, or read the whole")


def test_a_program_that_cannot_be_started(engine: Engine, tmp_path: Path) -> None:
    """An interpreter that went away after the environment was looked at."""
    gone = Engine("cpu", tmp_path / "gone", "0", "0", "0" * 64)
    with pytest.raises(ServerError, match="No such file or directory"), serve(gone, tmp_path):
        pass


def test_a_dead_server_is_what_a_failed_client_is_explained_by(
    engine: Engine, tmp_path: Path
) -> None:
    error = MeasurementError("the client failed")
    with serve(engine, tmp_path) as server:
        assert server.explain(error) is error  # it is fine: it was not the server
        os.kill(program_of(server), signal.SIGKILL)
        explained = server.explain(error)  # however early it is asked
        assert isinstance(explained, ServerError)
        assert explained.message.startswith("the vLLM server ended by signal 9:")
        with pytest.raises(ServerError, match="by signal 9"):
            server.check()
        with pytest.raises(ServerError, match="by signal 9"):
            server.get("/metrics")


def test_a_halted_server_is_noticed_and_stopped(engine: Engine, tmp_path: Path) -> None:
    """By whoever waits for a client, whose requests it would leave unanswered for hours."""
    with serve(engine, tmp_path) as server, Client(engine, {}, tmp_path / "client.log") as client:
        server.ask_every_s = 0.2
        server.check()
        server.silence_limit_s = 0.5
        os.kill(program_of(server), signal.SIGSTOP)
        argv = arguments(target(server.url, "name"), SpeedOptions(), Pace(1.0), 0, 1)
        client.send("speed", argv=argv)
        with pytest.raises(ServerError) as failed:
            client.receive(server.check)
        processes = descendants(server.process.pid)
    assert failed.value.exit_code == 5
    assert failed.value.message.startswith("the vLLM server runs and has not answered /health for")
    assert failed.value.fix == f"read the whole log: {tmp_path}/server/server.log"
    assert len(processes) == 2
    assert not [pid for pid in processes if Path(f"/proc/{pid}/cwd").exists()]


def test_a_server_is_asked_seldom_and_may_be_late(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(engine, tmp_path) as server:
        now = time.monotonic()
        clock = SimpleNamespace(monotonic=lambda: now, sleep=time.sleep)
        monkeypatch.setattr("bench.engine.server.time", clock)
        program = program_of(server)
        server.ask_every_s = 0.2
        os.kill(program, signal.SIGSTOP)
        server.check()
        server.silence_limit_s = 0.05
        now += 0.1
        server.check()  # it was asked just now
        now += 0.2
        with pytest.raises(ServerError, match="has not answered /health"):
            server.check()
        os.kill(program, signal.SIGCONT)
        server.ask_every_s = PATIENCE_S
        server.check()
        now += 2 * PATIENCE_S
        server.ask_every_s = 0.2
        os.kill(program, signal.SIGSTOP)
        server.check()  # a silence that ended does not count for the next


@contextmanager
def answering(folder: Path, answers: Iterator[bytes]) -> Iterator[Server]:
    """A server that answers /health well and everything else with the next of these bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            healthy = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            self.wfile.write(healthy if self.path == "/health" else next(answers))

        def log_message(self, *_: object) -> None: ...

    log = folder / "server.log"
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http,
        log.open("wb") as output,
    ):
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        program = [sys.executable, "-c", "import time; time.sleep(600)"]
        process = Supervised(program, environment={}, cwd=folder, stdout=output, stderr=output)
        try:
            yield Server(f"http://127.0.0.1:{http.server_port}", (), log, process)
        finally:
            process.stop()
            http.shutdown()
            thread.join()


def test_a_server_that_lives_and_does_not_answer_explains_a_failed_client(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.engine.server.GRACE_S", 0.1)
    with answering(tmp_path, iter(())) as server:
        server.url = f"http://127.0.0.1:{free_port()}"
        explained = server.explain(MeasurementError("no answer"))
        assert isinstance(explained, ServerError)
        assert explained.message == (
            "the vLLM server runs and does not answer; before that: no answer"
        )
        assert server.explain(explained) is explained  # which says so already


def work(requests: int, tokens: int) -> bytes:
    """An answer to /metrics."""
    text = f'vllm:num_requests_running{{engine="0"}} {requests}.0\n'
    text += f'vllm:generation_tokens_total{{engine="0"}} {tokens}.0\n'
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


@pytest.mark.parametrize(
    ("before", "after", "hangs"),
    [
        (work(3, 100), work(3, 100), True),
        (work(3, 100), work(3, 101), False),
        (work(0, 100), work(0, 100), False),
        (work(3, 100), b"", False),
    ],
)
def test_an_engine_that_hangs_is_noticed_though_its_server_is_healthy(
    before: bytes, after: bytes, hangs: bool, tmp_path: Path
) -> None:
    answers = iter((before, after))
    with answering(tmp_path, answers) as server:
        server.check()
        server.check()  # it was looked at just now
        server._look_at = 0
        if hangs:
            with pytest.raises(ServerError, match="has 3 requests and has worked on none") as end:
                server.check()
            assert end.value.fix == f"read the whole log: {tmp_path}/server.log"
        else:
            server.check()
    assert list(answers) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
            "closed connection without sending complete",
        ),
        (b"no HTTP at all\r\n\r\n", "no HTTP at all"),
    ],
)
def test_answers_that_are_none(engine: Engine, tmp_path: Path, answer: bytes, reason: str) -> None:
    with answering(tmp_path, repeat(answer)) as server, pytest.raises(ServerError) as failed:
        server.get("/metrics")
    assert failed.value.message.startswith("the server did not answer /metrics: ")
    assert reason in failed.value.message


def test_a_port_that_is_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 is taken") as failed:
            check_port(port)
        assert "leave --port out" in failed.value.fix
        assert free_port() != port
    check_port(port)


def test_a_port_taken_by_somebody_on_every_address_is_taken() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", 0))  # noqa: S104
        listener.listen()
        with pytest.raises(ServerError):
            check_port(listener.getsockname()[1])


def test_a_port_that_was_just_left_is_free(engine: Engine, tmp_path: Path) -> None:
    """Connections that linger after a server (TIME_WAIT) keep nobody from its port."""
    with serve(engine, tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        client = socket.create_connection(("127.0.0.1", port))
        wait_until(lambda: len(server.get("/metrics")) > 0)
    client.close()
    with serve(engine, tmp_path, port=port) as server:
        assert server.url.endswith(f":{port}")


def test_a_second_signal_while_the_server_stops_leaves_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    """Even where nothing holds signals back: what stops it is not in this process."""
    code = f"""
import signal, sys
from pathlib import Path
sys.path[:0] = [{str(SUPPORT)!r}, {str(Path(__file__).parent)!r}]
import test_server
from bench.engine.installed import Engine
engine = Engine("cpu", Path({str(engine.python)!r}), "0", "0", "")
with test_server.serve(engine, Path({str(tmp_path)!r})) as server:
    print(*test_server.descendants(server.process.pid), flush=True)
    signal.pause()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as tool:
        assert tool.stdout
        processes = [int(pid) for pid in tool.stdout.readline().split()]
        for _ in range(9):
            tool.send_signal(signal.SIGINT)
            time.sleep(0.01)
        tool.kill()
    assert len(processes) == 2
    wait_until(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in processes))


# -- what a log says -----------------------------------------------------------------------------


def test_the_phases_of_a_recorded_start_come_in_their_order() -> None:
    lines = (RECORDED / "vllm-0.32.0-cpu-compiled.log").read_text().splitlines(keepends=True)
    seen = list(dict.fromkeys(phase("".join(lines[:count])) for count in range(len(lines) + 1)))
    assert seen == ["importing", "loading weights", "weights loaded", "compiling", "engine ready"]


def test_the_reason_is_found_in_a_recorded_death() -> None:
    assert last_words(DIED) == [
        "WorkerProc failed to start.",
        "ValueError: Failed to find a kernel that can implement the WNA16 linear layer. Reasons:",
        "CPUWNA16LinearKernel cannot implement due to: Quant type (uint8b128) not supported by"
        " CPUWNA16, supported types are: (ScalarType.uint4, ScalarType.uint4b8)",
        "EngineCore failed to start.",
        "Exception: WorkerProc initialization failed due to an exception in a background process."
        " See stack trace for root cause.",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core"
        " proc(s): {}",
    ]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ["it said nothing"]),
        ("\n  \nTraceback (most recent call last):\n", ["it said nothing"]),
        ("a\nb\nc\n", ["a", "b", "c"]),
        ("fine\nKilled\nfine too\n", ["Killed"]),
        ("vllm serve: error: argument --dtype: invalid choice: 'x'\n",
         ["vllm serve: error: argument --dtype: invalid choice: 'x'"]),
        (f"{CALM} errors such as `OSError` may come\nthe end\n",
         ["errors such as `OSError` may come", "the end"]),
        ("INFO 11-24 21:56:02 [importing.py:44] no active driver, so runtime errors\nthe end\n",
         ["no active driver, so runtime errors", "the end"]),  # before it names its processes
        ("torch.OutOfMemoryError: CUDA out of memory.\n" * 40,
         ["torch.OutOfMemoryError: CUDA out of memory."]),
        ("ERROR 11-26 00:45:54 [x.py:1] AttributeError: 'cpu_gemm_wna16'\n"
         "ERROR 11-26 00:45:54 [dump.py:1] Dumping scheduler output: Error(\n",
         ["AttributeError: 'cpu_gemm_wna16'"]),
        ("Loading:  50%|#####     | 1/2 [00:01<00:01, 1.0it/s]\nthe end\n", ["the end"]),
    ],
)  # fmt: skip
def test_last_words(log: str, words: list[str]) -> None:
    assert last_words(log) == words


@given(st.text(), st.integers(1, 9))
def test_last_words_of_anything(log: str, count: int) -> None:
    words = last_words(log, count)
    assert 1 <= len(words) <= count
    assert all(word.strip() for word in words)


PREFIX = "(APIServer pid=311) "
REFUSED = (
    "Traceback (most recent call last):\n"
    '  File "/engine/bin/vllm", line 10, in <module>\n'
    "    sys.exit(main())\n"
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
    "  Value error, a context of 65536 is more than 32768. [type=value_error, input_value=X]\n"
    "    For further information visit https://errors.pydantic.dev/2.12/v/value_error\n"
)


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_the_reason_below_an_exception_s_own_line_is_told(prefix: str) -> None:
    log = "".join(f"{prefix}{line}" for line in REFUSED.splitlines(keepends=True))
    assert last_words(log) == [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "Value error, a context of 65536 is more than 32768.",
    ]
    assert last_words(log, 1) == ["Value error, a context of 65536 is more than 32768."]


def test_the_reason_of_one_field_too() -> None:
    log = (
        "pydantic_core.ValidationError: 2 validation errors for CacheConfig\nblock_size\n"
        "  Input should be 16 [type=literal_error]\n"
        "    For further information visit https://errors.pydantic.dev\n"
        "cache_dtype\n  Field required [type=missing]\n"
    )
    assert last_words(log)[1:] == ["Input should be 16", "Field required"]
