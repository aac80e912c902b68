"""The measuring programs, asked by line: the tool's own worker with the stand-in's libraries."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_runs import wait_until
from engines import engine, engine_python

from bench.config import QualityOptions
from bench.engine.installed import Engine
from bench.errors import MeasurementError, ServerError
from bench.measure.client import Client
from bench.measure.tasks import Tasks
from bench.records import store
from bench.supervise import descendants

pytestmark = pytest.mark.process

__all__ = ["engine", "engine_python"]  # fixtures
# Takes the place of `vllm.benchmarks.serve`: what the worker's `prepare_speed` imports.
LIBRARY = "lib/python*/site-packages/vllm/benchmarks/serve.py"


@pytest.fixture
def client(engine: Engine, tmp_path: Path) -> Iterator[Client]:
    """A worker."""
    with Client(engine, {}, tmp_path / "client.log") as client:
        yield client


@pytest.fixture
def library(engine: Engine, tmp_path: Path) -> Iterator[Any]:
    """Sets the code that runs when the worker is asked to `prepare_speed`."""
    [path] = engine.python.parent.parent.glob(LIBRARY)
    before = path.read_text()
    yield path.write_text
    path.write_text(before)


def worker_of(client: Client) -> int:
    """The process that imports and measures."""
    wait_until(lambda: len(descendants(client._process.pid)) > 0)
    return descendants(client._process.pid)[0]


def ask(client: Client, command: str, **request: Any) -> dict[str, Any]:
    """A request and its answer."""
    client.send(command, **request)
    return client.receive()


def test_requests_are_answered_in_turn(client: Client) -> None:
    assert ask(client, "prepare_speed") == {}
    answer = ask(client, "prepare_quality", tasks={"hellaswag": {}})
    assert answer["hellaswag"]["documents"] == 10_042
    assert answer["hellaswag"]["revision"] == "5" * 40
    assert client.usable


def test_a_pending_answer_is_dropped_once(client: Client) -> None:
    client.send("prepare_speed")
    client.settle()
    client.settle()
    assert "hellaswag" in ask(client, "prepare_quality", tasks={"hellaswag": {}})


def test_an_error_is_told_with_the_libraries_last_words(client: Client, tmp_path: Path) -> None:
    with pytest.raises(MeasurementError) as failed:
        ask(client, "prepare_quality", tasks={"nothing": {}})
    assert failed.value.message == "prepare_quality: KeyError: 'nothing'\n    KeyError: 'nothing'"
    assert failed.value.fix == f"read the whole log: {tmp_path}/client.log"
    assert ask(client, "prepare_speed") == {}  # it goes on


def test_a_failure_does_not_repeat_the_lines_of_an_earlier_one(client: Client) -> None:
    for name in ("first", "second"):
        with pytest.raises(MeasurementError) as failed:
            ask(client, "prepare_quality", tasks={name: {}})
        assert (
            failed.value.message == f"prepare_quality: KeyError: '{name}'\n    KeyError: '{name}'"
        )


def test_arguments_that_are_refused(client: Client) -> None:
    with pytest.raises(MeasurementError) as failed:
        ask(client, "speed", argv=["--no-such-option"])
    assert failed.value.message.startswith("speed: exit 2\n")
    assert "unrecognized arguments: --no-such-option" in failed.value.message


def test_a_command_that_does_not_exist(client: Client) -> None:
    with pytest.raises(MeasurementError, match="dance: KeyError: 'dance'"):
        ask(client, "dance")


def test_what_libraries_print_is_no_answer(client: Client, library: Any) -> None:
    library("import os, subprocess; print('{}'); os.write(1, b'no\\n'); subprocess.run('echo no',"
            " shell=True)")  # fmt: skip
    assert ask(client, "prepare_speed") == {}
    assert "no\n" in client.log.read_text()


def test_an_answer_that_is_not_json_is_an_error(client: Client, library: Any) -> None:
    library("from argparse import ArgumentParser\n"
            "def add_cli_args(parser): ...\ndef main(_): return {'x': object()}")  # fmt: skip
    with pytest.raises(MeasurementError, match="speed: TypeError: Object of type object is not"):
        ask(client, "speed", argv=[])
    assert client.usable


def test_huge_answers(client: Client, library: Any, tmp_path: Path) -> None:
    """Many times what a pipe holds, written once the tool has looked at the server."""
    looked = tmp_path / "looked"
    library("import os, time\ndef add_cli_args(parser): ...\n"
            f"def main(_):\n    while not os.path.exists({str(looked)!r}): time.sleep(0.01)\n"
            "    return {'x': 'é' * 5_000_000}")  # fmt: skip
    client.send("speed", argv=[])
    assert client.receive(looked.touch) == {"x": "é" * 5_000_000}


def test_the_worker_is_killed_while_it_works(client: Client, library: Any) -> None:
    library("import time; print('importing'); time.sleep(600)")
    client.send("prepare_speed")
    wait_until(lambda: "importing" in client.log.read_text())
    threading.Timer(0.2, os.kill, (worker_of(client), signal.SIGKILL)).start()
    with pytest.raises(MeasurementError) as failed:
        client.receive()
    assert failed.value.message.startswith("prepare_speed: the measuring process ended:\n")
    assert not client.usable


def test_the_worker_is_killed_in_the_middle_of_its_answer(client: Client, library: Any) -> None:
    library("import os\ndef add_cli_args(parser): ...\n"
            "def main(_): os.write(3, b'{\"ok\": {\"du'); os.kill(os.getpid(), 9)")  # fmt: skip
    with pytest.raises(MeasurementError, match="speed: the measuring process ended"):
        ask(client, "speed", argv=[])
    assert not client.usable


def test_the_worker_is_killed_before_it_is_asked(client: Client) -> None:
    ask(client, "prepare_speed")
    os.kill(worker_of(client), signal.SIGKILL)
    wait_until(lambda: not client.usable)
    for _ in range(2):
        with pytest.raises(MeasurementError, match="prepare_speed: the measuring process ended"):
            ask(client, "prepare_speed")


def test_what_is_raised_meanwhile_makes_the_answer_nobodys(client: Client, library: Any) -> None:
    """The late answer about one server must not be taken for the next server's."""
    library("import time; time.sleep(600)")
    client.send("prepare_speed")

    def check() -> None:
        raise ServerError("it died")

    worker = worker_of(client)
    with pytest.raises(ServerError):
        client.receive(check)
    assert not client.usable
    assert not Path(f"/proc/{worker}/cwd").exists()


def test_the_worker_ends_with_the_block(engine: Engine, tmp_path: Path) -> None:
    with Client(engine, {}, tmp_path / "client.log") as client:
        worker = worker_of(client)
        client.send("prepare_speed")
    assert not Path(f"/proc/{worker}/cwd").exists()
    assert not client.usable


def test_the_tasks_are_asked_for_once_and_again_when_they_failed(client: Client) -> None:
    tasks = Tasks(client)
    good, bad = QualityOptions(), QualityOptions(tasks=("nothing",))
    assert tasks.wait() == {}
    tasks.load(good)
    assert tasks.wait()["hellaswag"].size == 10_042
    tasks.load(good)
    assert tasks.wait()["hellaswag"].revision == "5" * 40
    for _ in range(2):
        tasks.load(bad)
        with pytest.raises(MeasurementError):
            tasks.wait()
    tasks.load(good)
    assert list(tasks.wait()) == ["hellaswag"]


def test_a_task_of_more_documents_than_a_record_takes_is_refused_once_it_is_loaded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_DOCUMENTS", 10_000)
    tasks = Tasks(client)
    tasks.load(QualityOptions(documents="all"))
    with pytest.raises(MeasurementError, match="hellaswag has 10,042 documents") as refused:
        tasks.wait()
    assert "10,000 or fewer in models.toml" in refused.value.fix
    tasks.load(QualityOptions(documents=9_999))
    assert tasks.wait()["hellaswag"].size == 10_042


def test_a_worker_that_stands_still_is_given_up(engine: Engine, tmp_path: Path) -> None:
    """One that was halted, or waits for itself: it lives, and its answer never comes."""
    with Client(engine, {}, tmp_path / "client.log") as client:
        assert ask(client, "prepare_speed") == {}
        client._idle_limit_s = 2
        os.kill(worker_of(client), signal.SIGSTOP)
        with pytest.raises(MeasurementError, match="has done nothing for 2 s"):
            ask(client, "prepare_speed")
        assert not client.usable


def test_a_worker_that_computes_is_waited_for(engine: Engine, tmp_path: Path, library: Any) -> None:
    library("import time\nuntil = time.process_time() + 4\nwhile time.process_time() < until: ...\n"
            "def add_cli_args(parser): ...")  # fmt: skip
    with Client(engine, {}, tmp_path / "client.log", idle_limit_s=2.5) as client:
        assert ask(client, "prepare_speed") == {}


def test_a_log_that_is_removed_is_read_all_the_same(client: Client, tmp_path: Path) -> None:
    (tmp_path / "client.log").unlink()
    with pytest.raises(MeasurementError, match="KeyError: 'nothing'\n    KeyError: 'nothing'"):
        ask(client, "prepare_quality", tasks={"nothing": {}})
