"""The measuring programs, warm: one `worker` process of the engine's environment, asked by line.

See `worker` for the requests. Starting it early lets the imports overlap the server's start.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import supervise
from bench.engine.installed import Engine
from bench.engine.server import Server, last_words
from bench.errors import MeasurementError
from bench.process import Supervised
from bench.weights.checkpoint import Checkpoint

_WORKER = Path(__file__).with_name("worker.py")
_LOOK_S = 1.0
_BUSY_SHARE = 0.001  # of the time that it computes: with less a process stands still


class TaskRefusedError(MeasurementError):
    """The worker knows why it cannot do what it was asked."""


@dataclass(frozen=True)
class Target:
    """What a client is pointed at: a server, and the checkpoint that it serves under a name."""

    server: Server
    served_name: str
    checkpoint: Checkpoint


class Client:
    """A worker process and its log; a context manager that ends it.

    Args:
        engine: whose environment it runs in.
        environment: what to set for it.
        log: where the libraries' own output goes.
        idle_limit_s: how long it may do nothing, with an answer to give: a request that the server
            works on for so long is none that it was asked.
    """

    def __init__(
        self,
        engine: Engine,
        environment: Mapping[str, str],
        log: Path,
        idle_limit_s: float = 1800.0,
    ) -> None:
        self.log = log
        self._idle_limit_s = idle_limit_s
        self._waiting = ""
        self._last_said = ""
        self._said = 0  # bytes of the log before what was asked last
        log.parent.mkdir(parents=True, exist_ok=True)
        self._output = log.open("a+b")  # it can be read when its name is gone
        self._process = Supervised(
            # -P: the folder of worker.py must not shadow the engine's modules.
            [str(engine.python), "-P", str(_WORKER)],
            environment=environment,
            cwd=log.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def usable(self) -> bool:
        """Whether it lives; it does not if waiting for an answer was given up."""
        return self._process.status() is None

    def send(self, command: str, **request: Any) -> None:
        """Asks without waiting; `receive` brings the answer. One request at a time.

        Raises:
            MeasurementError: the worker has died.
        """
        assert not self._waiting, f"{self._waiting} is not answered yet"
        assert self._process.popen.stdin
        if not self.usable:
            raise self._died(command)
        self._said = os.fstat(self._output.fileno()).st_size
        try:
            self._process.popen.stdin.write(json.dumps({"do": command, **request}) + "\n")
            self._process.popen.stdin.flush()
        except BrokenPipeError as error:
            raise self._died(command) from error
        self._waiting = command

    def receive(self, meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """The answer to what was sent; calls `meanwhile` every second, which may raise.

        Whatever ends the waiting early ends the worker.

        Raises:
            MeasurementError: the command failed, or the worker died or stopped.
        """
        stdout = self._process.popen.stdout
        assert stdout
        assert self._waiting, "nothing was asked"
        command, self._waiting = self._waiting, ""
        try:
            look_at, used_s = time.monotonic() + self._idle_limit_s, self._used_s()
            with selectors.DefaultSelector() as selector:
                selector.register(stdout, selectors.EVENT_READ)
                while not selector.select(_LOOK_S):
                    meanwhile()
                    if time.monotonic() < look_at:
                        continue
                    if self._used_s() - used_s < _BUSY_SHARE * self._idle_limit_s:
                        raise MeasurementError(
                            f"{command}: the measuring process has done nothing for "
                            f"{self._idle_limit_s:.0f} s:\n    {self._words(4)}",
                            f"read the whole log: {self.log}",
                        )
                    look_at, used_s = time.monotonic() + self._idle_limit_s, self._used_s()
            line = stdout.readline()
        except BaseException:
            # An answer that comes late must not be taken for the next one's, and a server that is
            # asked to stop waits for as long as somebody is connected to it.
            self.stop()
            raise
        if not line.endswith("\n"):  # nothing, or only a part
            raise self._died(command)
        reply = json.loads(line)
        if "refused" in reply:
            raise TaskRefusedError(reply["refused"], "ask another task in models.toml")
        if "error" in reply:
            raise MeasurementError(
                f"{command}: {reply['error']}\n    {self._words(4)}",
                f"read the whole log: {self.log}",
            )
        answer: dict[str, Any] = reply["ok"]
        return answer

    def settle(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Waits until nothing runs in the worker; a pending answer is dropped.

        Raises:
            MeasurementError: what was asked failed, or the worker died.
        """
        if self._waiting:
            self.receive(meanwhile)

    def stop(self) -> None:
        """Ends the worker."""
        self._process.stop()
        if not self._output.closed:
            self._last_said = self._read()
            self._output.close()

    def _used_s(self) -> float:
        """Processor time that the worker and what it started have used."""
        return supervise.cpu_seconds(supervise.descendants(self._process.pid))

    def _died(self, command: str) -> MeasurementError:
        self.stop()  # its supervisor needs a moment longer; until then it would seem usable
        return MeasurementError(
            f"{command}: the measuring process ended:\n    {self._words(6)}",
            f"read the whole log: {self.log}",
        )

    def _words(self, count: int) -> str:
        """What the log says of the last request: an earlier one's failure is not this one's."""
        text = self._last_said if self._output.closed else self._read()
        return "\n    ".join(last_words(text, count))

    def _read(self) -> str:
        """The log since what was asked last."""
        number = self._output.fileno()
        size = os.fstat(number).st_size
        return os.pread(number, size - self._said, self._said).decode(errors="replace")
