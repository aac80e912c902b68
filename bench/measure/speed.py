"""The speed stage: `vllm bench serve` against a running server, one session of it.

What makes its numbers worth reading: a fixed rate *and* an unthrottled run (at a fixed rate
throughput cannot exceed the offered load), or closed loops; the server's own clock beside the
client's (with many requests at once its front end may be the limit); a different seed for every
repeat and every session, so that no prompt is sent twice; a warm-up with prompts of its own; greedy
decoding of exactly the asked length; and a stage that fails unless every request completed and the
server counted the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from bench.config import SpeedOptions
from bench.engine import facts
from bench.errors import BenchError, MeasurementError, ServerError
from bench.measure.client import Client, Target
from bench.measure.telemetry import Watch
from bench.records import store
from bench.records.pace import Pace, paces, prompts
from bench.records.record import Load, Repeat, ServerTimes, SpeedResult, Summary, Workload

_METRICS = ("ttft", "tpot", "itl", "e2el")
_MS = 1000.0
_APART = 10_000  # the first seeds of two sessions: more than one session has loads and repeats


def arguments(
    target: Target, options: SpeedOptions, pace: Pace, seed: int, prompts: int
) -> list[str]:
    """The arguments after `vllm bench serve` for one run of the workload."""
    return [
        *("--backend", "openai", "--base-url", target.server.url, "--endpoint", "/v1/completions"),
        *("--model", target.served_name, "--tokenizer", str(target.checkpoint.tokenizer)),
        *("--dataset-name", "random", "--random-input-len", str(options.input_tokens)),
        *("--random-output-len", str(options.output_tokens), "--num-prompts", str(prompts)),
        *("--request-rate", str(pace.rate_rps)),
        *(("--max-concurrency", str(pace.concurrency)) if pace.is_closed else ()),
        *("--seed", str(seed), "--temperature", "0", "--ignore-eos"),
        *("--percentile-metrics", ",".join(_METRICS), "--metric-percentiles", "50,90,99"),
        # Both the ready check and vLLM's own warm-up would send the first measured prompt.
        *("--ready-check-timeout-sec", "0", "--num-warmups", "0"),
        *("--save-detailed", "--disable-tqdm"),
    ]


def warmup_seed(options: SpeedOptions, session: int) -> int:
    """The seed of a session's warm-up; that of the first is the one that is asked for."""
    return options.seed + (session - 1) * _APART


def seeds(options: SpeedOptions, session: int) -> list[tuple[Pace, list[int]]]:
    """For every load the seeds of its repeats; all differ, and none is a warm-up's."""
    first = warmup_seed(options, session) + 1
    return [
        (pace, [first + n * options.repeats + r for r in range(options.repeats)])
        for n, pace in enumerate(paces(options))
    ]


def measure(
    client: Client,
    target: Target,
    options: SpeedOptions,
    *,
    session: int,
    paces: Collection[Pace],
    watch: Callable[[], AbstractContextManager[Watch]],
    note: Callable[[str], None],
) -> tuple[SpeedResult, bytes, BenchError | None]:
    """Runs the whole stage; what was measured before a failure is kept.

    Args:
        client: a worker that has been asked to `prepare_speed`.
        session: which one it is, from 1: each sends other prompts.
        paces: the loads to measure, of the options' own.
        watch: starts the telemetry of one load.
        note: is told what runs now.

    Returns:
        The result, the bytes of its sidecar with every request's latencies, and the error that
        kept the remaining loads from being measured, if there was one.

    Raises:
        MeasurementError: nothing could be measured: a request failed, or tokens were not as asked.
        ServerError: the server died before the first load was measured.
    """
    note("warm-up")
    first = warmup_seed(options, session)
    warmup = arguments(target, options, Pace(), first, options.warmup_prompts)
    _run(client, target, warmup)
    loads: list[Load] = []
    raw: list[dict[str, Any]] = []
    failure: BenchError | None = None
    for pace, own_seeds in seeds(options, session):
        if pace not in paces:
            continue
        try:
            load, requests = _load(client, target, options, pace, own_seeds, watch, note)
        except (MeasurementError, ServerError) as error:
            if not loads:
                raise
            failure = target.server.explain(error)
            break
        loads.append(load)
        raw += requests
    sidecar, data = store.pack_sidecar(raw)
    workload = Workload(
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
        prompts=options.prompts,
        warmup_prompts=options.warmup_prompts,
        warmup_seed=first,
        random_weights=target.checkpoint.facts.source == "random",
    )
    result = SpeedResult(workload=workload, loads=tuple(loads), requests=sidecar)
    return result, data, failure


def _load(
    client: Client,
    target: Target,
    options: SpeedOptions,
    pace: Pace,
    own_seeds: list[int],
    watch: Callable[[], AbstractContextManager[Watch]],
    note: Callable[[str], None],
) -> tuple[Load, list[dict[str, Any]]]:
    repeats, raw = [], []
    with watch() as watching:
        for number, seed in enumerate(own_seeds, 1):
            note(f"{pace.full}, repeat {number} of {len(own_seeds)}")
            repeat, requests = _repeat(client, target, options, pace, seed)
            repeats.append(repeat)
            raw.append(requests)
    argv = arguments(target, options, pace, own_seeds[0], prompts(options, pace))
    load = Load(
        request_rate_rps=_rate(pace),
        concurrency=int(pace.concurrency) if pace.is_closed else None,
        argv=target.checkpoint.public(("vllm", "bench", "serve", *argv)),
        repeats=tuple(repeats),
        telemetry=watching.result(sum(repeat.output_tokens for repeat in repeats)),
    )
    return load, raw


def _rate(pace: Pace) -> Any:
    return "inf" if math.isinf(pace.rate_rps) else pace.rate_rps


def _run(client: Client, target: Target, argv: list[str]) -> dict[str, Any]:
    client.send("speed", argv=argv)
    return client.receive(meanwhile=target.server.check)


def _repeat(
    client: Client, target: Target, options: SpeedOptions, pace: Pace, seed: int
) -> tuple[Repeat, dict[str, Any]]:
    before = facts.from_metrics(target.server.get("/metrics"))
    started = datetime.now(UTC)
    asked = prompts(options, pace)
    argv = arguments(target, options, pace, seed, asked)
    result = _run(client, target, argv)
    after = facts.from_metrics(target.server.get("/metrics"))
    repeat = Repeat(
        seed=seed,
        started_at=started.replace(microsecond=0),
        duration_s=result["duration"],
        asked=asked,
        completed=result["completed"],
        failed=result["failed"],
        input_tokens=result["total_input_tokens"],
        output_tokens=result["total_output_tokens"],
        server_input_tokens=_grown(before.prompt_tokens, after.prompt_tokens) or 0,
        server_output_tokens=_grown(before.generation_tokens, after.generation_tokens) or 0,
        prefix_cache_queries=_grown(before.prefix_cache_queries, after.prefix_cache_queries),
        prefix_cache_hits=_grown(before.prefix_cache_hits, after.prefix_cache_hits),
        request_throughput_rps=result["request_throughput"],
        output_throughput_tps=result["output_throughput"],
        total_throughput_tps=result["total_token_throughput"],
        ttft_ms=_summary(result, "ttft"),
        tpot_ms=_summary(result, "tpot"),
        itl_ms=_summary(result, "itl"),
        e2e_ms=_summary(result, "e2el"),
        server=_server_times(before, after, asked),
    )
    check(repeat, options)
    loop = {"concurrency": int(pace.concurrency)} if pace.is_closed else {}
    return repeat, {"request_rate_rps": _rate(pace), **loop, "seed": seed, **_latencies(result)}


def _server_times(before: facts.Metrics, after: facts.Metrics, asked: int) -> ServerTimes | None:
    """What the server's histograms grew by; nothing of one that counted other requests too."""

    def mean_ms(name: str) -> float | None:
        grown = after.grown(before, name)
        return grown.sum / grown.count * _MS if grown and grown.count == asked else None

    steps = after.grown(before, "iteration_tokens_total")
    times = ServerTimes(
        queue_ms=mean_ms("request_queue_time_seconds"),
        prefill_ms=mean_ms("request_prefill_time_seconds"),
        decode_ms=mean_ms("request_decode_time_seconds"),
        iterations=steps.count if steps else None,
        tokens_per_iteration=steps.sum / steps.count if steps and steps.count else None,
    )
    return None if times == ServerTimes() else times


def _grown(before: int | None, after: int | None) -> int | None:
    """How much a counter grew; one that appeared meanwhile began at zero."""
    return None if after is None else after - (before or 0)


def _summary(result: dict[str, Any], metric: str) -> Summary:
    return Summary(
        mean=result[f"mean_{metric}_ms"],
        median=result[f"median_{metric}_ms"],
        std=result[f"std_{metric}_ms"],
        p50=result[f"p50_{metric}_ms"],
        p90=result[f"p90_{metric}_ms"],
        p99=result[f"p99_{metric}_ms"],
    )


def _latencies(result: dict[str, Any]) -> dict[str, list[float]]:
    """Each request's latencies in ms, as vLLM defines them: E2E = TTFT + the sum of its ITLs."""
    rows = list(zip(result["ttfts"], result["itls"], result["output_lens"], strict=True))
    decode_s = [sum(itls) for _, itls, _ in rows]
    return {
        "ttft_ms": [round(ttft * _MS, 4) for ttft, _, _ in rows],
        "tpot_ms": [
            round(decode / (tokens - 1) * _MS, 4)
            for decode, (_, _, tokens) in zip(decode_s, rows, strict=True)
        ],
        "e2e_ms": [
            round((ttft + decode) * _MS, 4)
            for decode, (ttft, _, _) in zip(decode_s, rows, strict=True)
        ],
    }


def check(repeat: Repeat, options: SpeedOptions) -> None:
    """Raises MeasurementError unless the server did exactly the work that was asked for."""
    output = repeat.asked * options.output_tokens
    for name, found, wanted in (
        ("completed requests", repeat.completed, repeat.asked),
        ("failed requests", repeat.failed, 0),
        ("output tokens counted by the client", repeat.output_tokens, output),
        ("output tokens counted by the server", repeat.server_output_tokens, output),
        ("input tokens counted by the server", repeat.server_input_tokens, repeat.input_tokens),
        ("input tokens sent", repeat.input_tokens, repeat.asked * options.input_tokens),
        ("prefix cache hits", repeat.prefix_cache_hits or 0, 0),
    ):
        if found != wanted:
            raise MeasurementError(
                f"speed, seed {repeat.seed}: {name}: {found}, not {wanted}",
                "the numbers would not mean what they say; read the server's log, and check that "
                "max_model_len holds input and output together",
            )
