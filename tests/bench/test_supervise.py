"""What is left of programs, however they and those above them end: real processes and signals."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_runs import PATIENCE_S, wait_for_a_look, wait_until
from folders import ROOT, SUPPORT

from bench import process, supervise
from bench.errors import MachineError
from bench.measure import machine
from bench.process import Supervised

pytestmark = pytest.mark.process

GRACE_S = 0.3  # for programs that do not end by themselves
# Starts a child, both say their process ids in the file `pids`, and neither ends by itself.
FAMILY = """
    import os, signal, subprocess, sys, time
    def say(): open("pids", "a").write(f"{os.getpid()}\\n")
    def child(code, **more): subprocess.Popen([sys.executable, "-c", code], **more)
    sleep = "import os, time; open('pids', 'a').write(f'{os.getpid()}\\\\n'); time.sleep(600)"
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + sleep
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the programs run; what still lives there after a failed test is killed."""
    folder = tmp_path / "programs"
    folder.mkdir()
    yield folder
    for pid in living(folder):
        os.kill(pid, signal.SIGKILL)


def start(folder: Path, code: str, grace_s: float = PATIENCE_S) -> Supervised:
    """A supervised Python program that runs this code after `FAMILY`."""
    program = textwrap.dedent(FAMILY) + textwrap.dedent(code)
    with (folder / "program.log").open("wb") as log:
        return Supervised(
            [sys.executable, "-c", program],
            environment={},
            cwd=folder,
            stdout=log,
            stderr=log,
            grace_s=grace_s,
        )


def pids(folder: Path, count: int) -> list[int]:
    """The process ids of so many members of the family, once all have said theirs."""
    path = folder / "pids"
    wait_until(lambda: path.exists() and path.read_text().count("\n") == count)
    return [int(line) for line in path.read_text().split()]


def living(folder: Path) -> list[int]:
    """The processes that run in the folder; one that waits to be reaped has no folder."""
    return [pid for pid in supervise.processes() if _folder_of(pid) == folder]


def _folder_of(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(7)", 7),
        ("print('fine')", 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)", 128 + signal.SIGTERM),
        ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)", 128 + signal.SIGKILL),
    ],
)
def test_the_exit_status_is_the_programs(folder: Path, code: str, status: int) -> None:
    program = start(folder, code)
    wait_until(lambda: program.status() is not None)
    program.stop()
    assert program.status() == status
    assert living(folder) == []


def test_a_program_that_is_not_there(folder: Path) -> None:
    done, said = process.run([str(folder / "nothing")], cwd=folder)
    assert done == 1
    assert said[-1].startswith("FileNotFoundError")


def test_what_the_program_left_ends_with_it(folder: Path) -> None:
    program = start(folder, "child(sleep); child(sleep, start_new_session=True); sys.exit(3)")
    wait_until(lambda: program.status() is not None)
    assert living(folder) == []
    program.stop()
    assert program.status() == 3


def test_the_deaf_are_killed_after_the_time_they_are_given(folder: Path) -> None:
    program = start(
        folder,
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child(deaf); child(deaf, start_new_session=True); say(); time.sleep(600)
        """,
        GRACE_S,
    )
    pids(folder, 3)
    began = time.monotonic()
    program.stop()
    assert time.monotonic() - began >= GRACE_S
    assert living(folder) == []


def test_a_halted_program_is_woken_to_end_by_its_own_way(folder: Path) -> None:
    program = start(
        folder,
        """
        def stop(*_): open("stop", "w").close(); sys.exit(0)
        signal.signal(signal.SIGTERM, stop); say(); time.sleep(600)
        """,
    )
    (halted,) = pids(folder, 1)
    os.kill(halted, signal.SIGSTOP)
    program.stop()
    assert (folder / "stop").exists()
    assert living(folder) == []


def test_a_program_that_stops_its_own_is_left_to_it(folder: Path) -> None:
    """The child ends when its parent says so, by its own way, and was never asked by anybody."""
    program = start(
        folder,
        """
        def stop(*_):
            open("stop", "w").close()
            family.wait(); sys.exit(0)
        watch = "import os, signal, time\\n"
        watch += "def asked(*_): open('asked', 'w').close(); os._exit(1)\\n"
        watch += "signal.signal(signal.SIGTERM, asked)\\n"
        watch += "open('pids', 'a').write(f'{os.getpid()}\\\\n')\\n"
        watch += "while not os.path.exists('stop'): time.sleep(0.01)\\n"
        family = subprocess.Popen([sys.executable, "-c", watch])
        signal.signal(signal.SIGTERM, stop); say(); time.sleep(600)
        """,
    )
    pids(folder, 2)
    program.stop()
    assert (folder / "stop").exists()
    assert not (folder / "asked").exists()
    assert living(folder) == []


def test_processes_that_appear_while_others_are_stopped(folder: Path) -> None:
    program = start(
        folder,
        """
        def stop(*_): child(deaf); child(sleep, start_new_session=True); os._exit(0)
        signal.signal(signal.SIGTERM, stop); say(); time.sleep(600)
        """,
        3,
    )
    pids(folder, 1)
    program.stop()
    assert living(folder) == []


def test_stopping_twice_is_stopping_once(folder: Path) -> None:
    program = start(folder, "say(); time.sleep(600)")
    pids(folder, 1)
    program.stop()
    status = program.status()
    program.stop()
    assert program.status() == status


def test_signals_are_at_their_defaults_in_the_program(folder: Path) -> None:
    """Also where the tool runs under `nohup`: else the hang-up could not end the program."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        program = start(
            folder,
            """
            numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
            defaults = (signal.SIG_DFL, signal.default_int_handler)
            sys.exit(sum(signal.getsignal(number) not in defaults for number in numbers))
            """,
        )
        assert program.popen.wait() == 0
        program.stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_neither_another_python_nor_modules_of_that_folder_are_run(folder: Path) -> None:
    (folder / "select.py").write_text("raise SystemExit('the wrong module')")
    done, said = process.run(
        [sys.executable, "-c", "print('fine')"], cwd=folder, environment={"PYTHONHOME": "/nowhere"}
    )
    assert said[-1] != "the wrong module"
    assert done != 0  # the program itself does get the environment
    assert any("/nowhere" in line for line in said)


def test_the_programs_temporary_folder_is_its_own_and_removed(folder: Path) -> None:
    code = "import os, tempfile; print(tempfile.mkdtemp()); print(os.environ['TMPDIR'])"
    done, said = process.run([sys.executable, "-c", code], cwd=folder)
    assert done == 0
    made, temporary = map(Path, said)
    assert made.parent == temporary
    assert temporary.name.startswith(supervise.TEMPORARY)
    assert not temporary.exists()


SEGMENT = """
    import mmap
    def map(name):
        with open(f"/dev/shm/{name}", "a+b") as file:
            file.truncate(4096)
            return mmap.mmap(file.fileno(), 4096)
"""


@pytest.fixture
def segment() -> Iterator[Path]:
    """A segment that is not the program's."""
    path = supervise.SHARED_MEMORY / f"psm_standin_of_{os.getpid()}"
    path.write_bytes(bytes(4096))
    yield path
    path.unlink()


def test_shared_memory_goes_with_a_killed_program_except_what_was_there(
    folder: Path, segment: Path
) -> None:
    own = segment.with_name(segment.name + "_own")
    program = start(
        folder,
        textwrap.dedent(SEGMENT)
        + f"theirs, ours = map({segment.name!r}), map({own.name!r})\nsay()\ntime.sleep(600)",
    )
    [pid] = pids(folder, 1)
    wait_for_a_look(program.pid)
    os.kill(pid, signal.SIGKILL)
    program.stop()
    assert not own.exists()
    assert segment.exists()


def test_shared_memory_named_after_a_process_goes_though_nobody_maps_it(folder: Path) -> None:
    """Such as the semaphores of joblib in vLLM's workers when these are killed."""
    program = start(
        folder,
        """
        name = f"/dev/shm/sem.loky-{os.getpid()}-x"
        open(name, "wb").close(); say(); time.sleep(600)
        """,
    )
    [pid] = pids(folder, 1)
    segment = supervise.SHARED_MEMORY / f"sem.loky-{pid}-x"
    wait_for_a_look(program.pid)
    os.kill(pid, signal.SIGKILL)
    program.stop()
    assert not segment.exists()


def test_shared_memory_that_another_program_maps_stays(folder: Path) -> None:
    own = supervise.SHARED_MEMORY / f"psm_standin_of_{os.getpid()}"
    code = textwrap.dedent(SEGMENT) + f"kept = map({own.name!r})\nsay()\ntime.sleep(600)"
    program = start(folder, code)
    pids(folder, 1)
    with own.open("r+b") as file, mmap.mmap(file.fileno(), 4096):
        program.stop()
        assert own.exists()
    own.unlink()


# -- above them ----------------------------------------------------------------------------------

TOOL = """
    import sys, time
    sys.path[:0] = [{root!r}, {support!r}, {tests!r}]
    from pathlib import Path
    import test_supervise
    program = test_supervise.start(Path({folder!r}), {code!r}, test_supervise.GRACE_S)
    time.sleep(600)
"""


def tool(folder: Path, code: str) -> subprocess.Popen[bytes]:
    """A process that supervises a program, as the tool does."""
    places = {
        "root": str(ROOT),
        "support": str(SUPPORT),
        "tests": str(Path(__file__).parent),
        "folder": str(folder),
    }
    script = textwrap.dedent(TOOL).format(**places, code=textwrap.dedent(code))
    return subprocess.Popen([sys.executable, "-c", script])


def test_the_program_ends_with_the_tool(folder: Path) -> None:
    with tool(folder, "child(deaf, start_new_session=True); say(); time.sleep(600)") as running:
        pids(folder, 2)
        running.kill()
    wait_until(lambda: living(folder) == [])


def test_no_other_process_holds_the_lifeline(folder: Path) -> None:
    """A program started meanwhile must not keep the first one's alive."""
    first = start(folder, "say(); time.sleep(600)")
    pids(folder, 1)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        first.stop()
        assert living(folder) == []
    finally:
        bystander.kill()
        bystander.wait()


def test_the_whole_group_ends_when_tool_and_supervisor_are_killed(folder: Path) -> None:
    """At once, by the kernel; vLLM's engine process is such a grandchild."""
    with tool(folder, "child(deaf); say(); time.sleep(600)") as running:
        family = pids(folder, 2)
        program = next(pid for pid in family if supervise.parent(pid) not in family)
        supervisor = supervise.parent(program)
        running.kill()
        os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: living(folder) == [])


# -- the tool's own signals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_only_the_first_signal_counts(number: int, raised: type[BaseException]) -> None:
    cleaned = False
    before = signal.getsignal(number)
    with pytest.raises(raised) as ended, process.stoppable():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            cleaned = True
    assert cleaned
    assert signal.getsignal(number) is before
    if isinstance(ended.value, SystemExit):
        assert ended.value.code == 128 + number


def test_lines_are_passed_on_as_they_come(folder: Path) -> None:
    code = "import sys; print('one', flush=True); sys.stderr.buffer.write(b'tw\\xff\\n'); exit(4)"
    noted: list[str] = []
    done = process.run([sys.executable, "-c", code], cwd=folder, note=noted.append)
    assert done == (4, ["one", "tw\N{REPLACEMENT CHARACTER}"])
    assert noted == done[1]


def test_nothing_is_left_of_a_program_whose_reader_fails(folder: Path) -> None:
    code = "import time; print('ready', flush=True); time.sleep(600)"

    def fail(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.run([sys.executable, "-c", code], cwd=folder, note=fail)
    assert living(folder) == []


def test_who_listens_on_a_port(tmp_path: Path) -> None:
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        assert not supervise.listens([os.getpid()], port), "it is bound and does not listen yet"
        ours.listen()
        assert supervise.listens([os.getpid()], port)
        assert supervise.listens([os.getpid(), 1], port)
        assert not supervise.listens([os.getppid()], port)
        assert not supervise.listens([], port)


def test_a_machine_without_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are started and stopped there as elsewhere; nothing is measured."""
    monkeypatch.setattr(supervise, "SHARED_MEMORY", tmp_path / "none")
    segments = supervise._Segments()
    segments.look(now=True)
    segments.remove()
    with pytest.raises(MachineError, match="none is not there or not writable") as missing:
        machine.check("cpu")
    assert missing.value.exit_code == 3
