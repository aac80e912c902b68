"""The speed stage against a recorded `vllm bench serve` and a server that counts as vLLM does.

The recording is one run of vLLM 0.32.0 (CPU): 6 prompts, 16 tokens in, 8 out, 4 requests/s, with
the counters of `/metrics` before and after it.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from folders import RECORDED
from hypothesis import given
from hypothesis import strategies as st

from bench.config import SpeedOptions
from bench.engine import arguments, facts
from bench.engine.installed import Engine
from bench.engine.server import Server
from bench.errors import BenchError, MeasurementError
from bench.measure import speed, telemetry
from bench.measure.client import Client, Target
from bench.process import Supervised
from bench.records import store
from bench.records.pace import Pace, paces
from bench.records.record import ModelFacts, Repeat, SpeedResult
from bench.weights.checkpoint import Checkpoint

BENCH_SERVE = RECORDED / "vllm-0.32.0-cpu-bench-serve.json"
RECORDING: dict[str, Any] = json.loads(BENCH_SERVE.read_text())
RESULT: dict[str, Any] = RECORDING["result"]
OPTIONS = SpeedOptions(
    input_tokens=16,
    output_tokens=8,
    prompts=6,
    request_rates=(4.0, math.inf),
    repeats=3,
    warmup_prompts=2,
    seed=40,
)
CHECKPOINT = Checkpoint(
    Path("/home/me/model"), Path("/home/me/model"), ModelFacts(source="hub", repo="a/model")
)
# Stands for `worker.py` in the engine's environment: the same protocol, the recorded answer.
WORKER = """#!{python}
import json, sys
log = open({log!r}, "w", buffering=1)
for line in sys.stdin:
    request = json.loads(line)
    log.write(json.dumps(request["argv"]) + "\\n")
    print(json.dumps({{"ok": json.load(open({result!r}))}}), flush=True)
"""


@contextmanager
def counting(drop_after: int | None) -> Iterator[str]:
    """A server whose counters grow as the recorded ones did, between each two readings.

    Args:
        drop_after: readings after which one output token is lost in each run.
    """
    readings = 0
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal readings
            if self.path == "/health":
                self.send_response(200)
                self.end_headers()
                return
            with lock:
                readings += 1
                runs = readings // 2
                lost = runs if drop_after is not None and readings > drop_after else 0
            assert self.path == "/metrics"
            grown = {"prompt_tokens": 32 + 96 * runs, "generation_tokens": 16 + 48 * runs - lost}
            text = RECORDING["before"]
            for name, value in grown.items():
                text = re.sub(rf"(?m)^(vllm:{name}_total\{{.*\}}) .*$", rf"\1 {value}.0", text)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def measure(
    tmp_path: Path,
    result: dict[str, Any] = RESULT,
    drop_after: int | None = None,
    session: int = 1,
    offered: tuple[Pace, ...] = paces(OPTIONS),
    options: SpeedOptions = OPTIONS,
) -> tuple[SpeedResult, bytes, BenchError | None]:
    """The whole stage; its command lines are in `asked(tmp_path)`."""
    answer = tmp_path / "result.json"
    answer.write_text(json.dumps(result))
    python = tmp_path / "python"
    python.write_text(
        WORKER.format(python=sys.executable, log=str(tmp_path / "asked"), result=str(answer))
    )
    python.chmod(0o755)
    engine = Engine("cpu", python, "0.32.0", "0.4.13", "0" * 64)
    waiting = Supervised(
        ["sleep", "60"],
        environment={},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with counting(drop_after) as url, Client(engine, {}, tmp_path / "client.log") as client:
            server = Server(url, ("vllm", "serve"), tmp_path / "server.log", waiting)
            server._look_at = math.inf  # else what a slow worker's wait asks counts as a reading
            return speed.measure(
                client,
                Target(server, "served", CHECKPOINT),
                options,
                session=session,
                paces=offered,
                watch=partial(telemetry.watch, waiting.pid),
                note=lambda _: None,
            )
    finally:
        waiting.stop()


def asked(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]


def value(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_the_stage_keeps_what_vllm_said(tmp_path: Path) -> None:
    result, data, error = measure(tmp_path)
    assert error is None
    assert [load.request_rate_rps for load in result.loads] == [4.0, "inf"]
    for load in result.loads:  # what is recorded names no place of this machine
        assert value(list(load.argv), "--tokenizer") == "a/model"
        assert "/home" not in " ".join(load.argv)
    repeats = [repeat for load in result.loads for repeat in load.repeats]
    assert [repeat.seed for repeat in repeats] == [41, 42, 43, 44, 45, 46]
    for repeat in repeats:
        assert repeat.duration_s == RESULT["duration"]
        assert (repeat.asked, repeat.completed, repeat.failed) == (6, 6, 0)
        assert (repeat.input_tokens, repeat.output_tokens) == (96, 48)
        assert (repeat.server_input_tokens, repeat.server_output_tokens) == (96, 48)
        assert (repeat.prefix_cache_queries, repeat.prefix_cache_hits) == (0, 0)
        assert repeat.request_throughput_rps == RESULT["request_throughput"]
        assert repeat.output_throughput_tps == RESULT["output_throughput"]
        assert repeat.total_throughput_tps == RESULT["total_token_throughput"]
        for name, summary in (
            ("ttft", repeat.ttft_ms),
            ("tpot", repeat.tpot_ms),
            ("itl", repeat.itl_ms),
            ("e2el", repeat.e2e_ms),
        ):
            assert summary.model_dump() == {
                statistic: RESULT[f"{statistic}_{name}_ms"]
                for statistic in ("mean", "median", "std", "p50", "p90", "p99")
            }
    assert result.workload.model_dump() == {
        "dataset": "random",
        "input_tokens": 16,
        "output_tokens": 8,
        "prompts": 6,
        "temperature": 0.0,
        "ignore_eos": True,
        "warmup_prompts": 2,
        "warmup_seed": 40,
        "prefix_caching": False,
        "random_weights": False,
    }
    path = tmp_path / "record.json"
    path.with_name(result.requests.file).write_bytes(data)
    rows = store.read_sidecar(path, result.requests)
    assert [(row["request_rate_rps"], row["seed"]) for row in rows] == [
        (load.request_rate_rps, repeat.seed) for load in result.loads for repeat in load.repeats
    ]
    assert all(row.keys() - {"request_rate_rps", "seed"} == speed._latencies(RESULT).keys()
               for row in rows)  # fmt: skip


def test_the_warm_up_comes_first_and_no_prompt_is_sent_twice(tmp_path: Path) -> None:
    measure(tmp_path)
    runs = asked(tmp_path)
    assert [value(argv, "--seed") for argv in runs] == ["40", "41", "42", "43", "44", "45", "46"]
    assert [value(argv, "--num-prompts") for argv in runs] == ["2", *["6"] * 6]
    assert [value(argv, "--request-rate") for argv in runs] == ["inf", *["4.0"] * 3, *["inf"] * 3]
    for argv in runs:
        assert arguments.check_argv("bench serve", argv, "cpu") == []
        assert "--ignore-eos" in argv
        assert value(argv, "--temperature") == "0"
        assert value(argv, "--num-warmups") == value(argv, "--ready-check-timeout-sec") == "0"


def test_a_later_session_sends_other_prompts_and_measures_what_it_is_asked_to(
    tmp_path: Path,
) -> None:
    """The load that is left out leaves the others' seeds as they are."""
    result, _, error = measure(tmp_path, session=3, offered=(Pace(),))
    assert error is None
    assert [load.request_rate_rps for load in result.loads] == ["inf"]
    assert [repeat.seed for repeat in result.loads[0].repeats] == [20_044, 20_045, 20_046]
    assert result.workload.warmup_seed == 20_040
    runs = asked(tmp_path)
    assert [value(argv, "--seed") for argv in runs] == ["20040", "20044", "20045", "20046"]
    assert {value(argv, "--request-rate") for argv in runs} == {"inf"}


def test_a_closed_loop_keeps_so_many_under_way(tmp_path: Path) -> None:
    """Each place in it sends `prompts_each` requests, whatever the rates send."""
    options = OPTIONS.model_copy(
        update={"request_rates": (), "concurrency": (2,), "prompts_each": 3, "prompts": 99}
    )
    result, data, error = measure(tmp_path, offered=paces(options), options=options)
    assert error is None
    [load] = result.loads
    assert (load.request_rate_rps, load.concurrency) == ("inf", 2)
    assert [repeat.asked for repeat in load.repeats] == [6, 6, 6]
    _, *runs = asked(tmp_path)
    for argv in (*runs, list(load.argv[3:])):
        assert arguments.check_argv("bench serve", argv, "cpu") == []
        assert value(argv, "--max-concurrency") == "2"
        assert value(argv, "--request-rate") == "inf"
        assert value(argv, "--num-prompts") == "6"
    path = tmp_path / "record.json"
    path.with_name(result.requests.file).write_bytes(data)
    rows = store.read_sidecar(path, result.requests)
    assert [(row["concurrency"], row["seed"]) for row in rows] == [(2, 41), (2, 42), (2, 43)]


def test_what_was_measured_before_a_failure_is_kept(tmp_path: Path) -> None:
    """Tokens are lost from the second rate on: the first rate stays, with the reason."""
    result, data, error = measure(tmp_path, drop_after=6)
    assert [load.request_rate_rps for load in result.loads] == [4.0]
    assert result.requests.rows == 3
    assert store.pack_sidecar([])[1] != data
    assert isinstance(error, MeasurementError)
    assert error.message.startswith("speed, seed 44: output tokens counted by the server: ")
    assert error.message.endswith(", not 48")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"completed": 5, "failed": 1}, "completed requests: 5, not 6"),
        ({"failed": 1}, "failed requests: 1, not 0"),
        ({"total_output_tokens": 47}, "output tokens counted by the client: 47, not 48"),
        ({"total_input_tokens": 90}, "input tokens counted by the server: 96, not 90"),
    ],
)
def test_nothing_is_kept_of_a_first_run_that_was_not_as_asked(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MeasurementError) as failed:
        measure(tmp_path, {**RESULT, **changes})
    assert failed.value.message == f"speed, seed 41: {message}"
    assert "max_model_len" in failed.value.fix


def repeat(**changes: int) -> Repeat:
    summary = dict.fromkeys(("mean", "median", "std", "p50", "p90", "p99"), 1.0)
    raw: dict[str, Any] = {
        "seed": 1, "started_at": "2026-01-01T00:00:00Z", "duration_s": 1.0, "asked": 6,
        "completed": 6, "failed": 0, "input_tokens": 96, "output_tokens": 48,
        "server_input_tokens": 96, "server_output_tokens": 48, "request_throughput_rps": 1.0,
        "output_throughput_tps": 1.0, "total_throughput_tps": 1.0, "ttft_ms": summary,
        "tpot_ms": summary, "itl_ms": summary, "e2e_ms": summary,
    }  # fmt: skip
    return Repeat.model_validate_json(json.dumps(raw | changes))


@pytest.mark.parametrize(
    "name",
    [
        "completed", "failed", "input_tokens", "output_tokens", "server_input_tokens",
        "server_output_tokens", "prefix_cache_hits",
    ],
)  # fmt: skip
@given(found=st.integers(0, 200))
def test_any_count_that_is_not_as_asked_fails_the_stage(name: str, found: int) -> None:
    speed.check(repeat(), OPTIONS)
    right = {"failed": 0, "prefix_cache_hits": 0}.get(name, getattr(repeat(), name))
    if found == right:
        speed.check(repeat(**{name: found}), OPTIONS)
    else:
        with pytest.raises(MeasurementError, match=f"{found}, not|, not {found}"):
            speed.check(repeat(**{name: found}), OPTIONS)


def test_each_requests_latencies_are_vllms_own() -> None:
    """Its means and its own end-to-end times, from the raw times it saved."""
    found = speed._latencies(RESULT)
    for ours, theirs in (("ttft_ms", "ttft"), ("tpot_ms", "tpot"), ("e2e_ms", "e2el")):
        assert len(found[ours]) == 6
        assert statistics.fmean(found[ours]) == pytest.approx(RESULT[f"mean_{theirs}_ms"], abs=1e-4)
        assert statistics.median(found[ours]) == pytest.approx(
            RESULT[f"median_{theirs}_ms"], abs=1e-4
        )
    assert found["e2e_ms"] == pytest.approx([1000 * s for s in RESULT["latencies"]], abs=1e-4)


@given(
    st.builds(
        SpeedOptions,
        request_rates=st.lists(
            st.floats(0.1, 100) | st.just(math.inf), min_size=1, max_size=32, unique=True
        ).map(tuple),
        concurrency=st.lists(st.integers(1, 4096), max_size=4, unique=True).map(tuple),
        repeats=st.integers(1, 100),
        seed=st.integers(0, 2**31 - 1),
    ),
    st.sets(st.integers(1, 100_000), min_size=1, max_size=3),
)  # fmt: skip
def test_every_repeat_has_a_seed_of_its_own_that_numpy_takes(
    options: SpeedOptions, sessions: set[int]
) -> None:
    used = []
    for session in sessions:
        by_rate = speed.seeds(options, session)
        assert [pace for pace, _ in by_rate] == list(paces(options))
        assert {len(seeds) for _, seeds in by_rate} == {options.repeats}
        used += [seed for _, seeds in by_rate for seed in seeds]
        used.append(speed.warmup_seed(options, session))
    assert len(set(used)) == len(used), "all differ, also from the warm-ups'"
    assert all(0 <= seed < 2**32 for seed in used)


def test_the_first_sessions_seeds_are_those_of_records_that_count_none() -> None:
    options = SpeedOptions(repeats=3, seed=0)
    assert speed.warmup_seed(options, 1) == 0
    assert speed.seeds(options, 1) == [(Pace(10.0), [1, 2, 3]), (Pace(), [4, 5, 6])]


def histograms(count: int) -> facts.Metrics:
    """As a server that answered so many requests has them: 2 ms queue, 20 ms each decode."""
    text = "".join(
        f"# TYPE vllm:{name} histogram\n"
        f'vllm:{name}_bucket{{le="+Inf"}} {times}\nvllm:{name}_sum {total}\n'
        f"vllm:{name}_count {times}\n"
        for name, total, times in (
            ("request_queue_time_seconds", 0.002 * count, count),
            ("request_decode_time_seconds", 0.02 * count, count),
            ("iteration_tokens_total", 30 * count, 4 * count),
        )
    )
    return facts.from_metrics(text)


def test_the_servers_own_times_are_what_its_histograms_grew_by() -> None:
    found = speed._server_times(histograms(3), histograms(8), 5)
    assert found
    assert found.queue_ms == pytest.approx(2)
    assert found.decode_ms == pytest.approx(20)
    assert found.prefill_ms is None
    assert (found.iterations, found.tokens_per_iteration) == (20, 7.5)
    first = speed._server_times(facts.from_metrics(""), histograms(5), 5)
    assert first
    assert first.decode_ms == pytest.approx(20)


def test_times_of_other_requests_too_are_not_told() -> None:
    found = speed._server_times(histograms(3), histograms(9), 5)
    assert found
    assert (found.queue_ms, found.decode_ms, found.iterations) == (None, None, 24)
    assert speed._server_times(facts.from_metrics(""), facts.from_metrics(""), 5) is None


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [(None, None, None), (3, None, None), (None, 3, 3), (3, 5, 2), (0, 0, 0)],
)
def test_a_counter_that_appears_meanwhile_began_at_zero(
    before: int | None, after: int | None, grown: int | None
) -> None:
    assert speed._grown(before, after) == grown
