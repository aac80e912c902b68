"""The documents' own text: how it is put together, what is kept, and what a failure costs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import local_server
import pytest
from bench_runs import Place
from engines import engine_python

from bench.errors import MeasurementError
from bench.measure import texts, worker
from bench.measure.prompts import AbsurdError
from bench.records import store
from bench.records.record import QualityResult

__all__ = ["engine_python"]  # a fixture
CHOICES = ["red", "blue"]


def task(kind: str, target: Any, *, text: Any = "What?", multiple_input: int = 0) -> Any:
    """As much of an lm-eval task as a text is made from."""
    return SimpleNamespace(
        OUTPUT_TYPE=kind,
        multiple_input=multiple_input,
        config=SimpleNamespace(target_delimiter=" "),
        doc_to_text=lambda _: text,
        doc_to_target=lambda _: target,
        doc_to_choice=lambda _: CHOICES,
    )


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (task("multiple_choice", 1), "What? blue"),
        (task("multiple_choice", "1"), "What? blue"),
        (task("multiple_choice", "blue"), "What? blue"),
        (task("multiple_choice", [1, 0]), "What? blue"),
        (task("multiple_choice", "is it.", text=1, multiple_input=2), "blue is it."),
        (task("generate_until", "42"), "What? 42"),
        (task("generate_until", ["Paris", "City of Light"]), "What? Paris"),
        (task("loglikelihood", " dough", text="She mixes the"), "She mixes the dough"),
        (task("loglikelihood_rolling", "A page.", text=""), "A page."),
    ],
)
def test_a_text_is_the_question_with_its_right_answer(asked: Any, text: str) -> None:
    assert worker._text(asked, {}) == text
    assert worker._texts(asked, [{}, {}], lambda said: [len(said)]) == {"tokens": [[len(text)]] * 2}


@pytest.mark.parametrize("target", [7, [], None])
def test_a_task_that_has_no_right_answer_has_no_texts(target: Any) -> None:
    found = worker._texts(task("multiple_choice", target), [{}], lambda said: [len(said)])
    assert list(found) == ["lacking"]
    assert "Error: " in found["lacking"]


@contextmanager
def expecting(top: dict[str, float], own: float = -9.0) -> Iterator[tuple[str, list[list[int]]]]:
    """A server that expects the same at every place of a text; and the texts."""
    read: list[list[int]] = []

    class Handler(local_server.Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            tokens = asked["prompt"]
            read.append(tokens)
            given = [
                {
                    str(token): {"logprob": own, "rank": 99},
                    **{t: {"logprob": value, "rank": 1} for t, value in top.items()},
                }
                for token in tokens[1:]
            ]
            choice = {"prompt_token_ids": tokens, "prompt_logprobs": [None, *given]}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with local_server.serving(Handler) as url:
        yield url, read


TOP = {"-1": math.log(0.5), "-2": math.log(0.25)}


def test_a_text_is_kept_as_numbers() -> None:
    tokens = list(range(100, 140))
    with expecting(TOP) as (url, read):
        [text, none, again] = texts.measure(url, "model", [tokens, [5], tokens], 1024)
    assert none is None, "nothing stands before its one token"
    assert text == again, "labels are drawn from the text alone"
    assert read == [tokens, tokens]
    assert text is not None
    assert text.tokens == 39
    assert text.logprob == pytest.approx(-9.0 * 39)
    assert len(text.top) == texts.PLACES
    for top in text.top.values():
        assert sorted(top.values()) == pytest.approx([TOP["-2"], TOP["-1"]], abs=1e-4)
    labels = {label for top in text.top.values() for label in top}
    assert len(labels) > texts.PLACES, "a token has another label at another place"
    assert not labels & {"-1", "-2"}
    row = text.row()
    assert (row["tokens"], row["logprob"], len(str(row["sha256"]))) == (39, -351.0, 16)


@pytest.mark.parametrize(("longest", "read"), [(10_000, texts.TOKENS), (300, 299)])
def test_a_long_text_is_read_from_its_start(longest: int, read: int) -> None:
    tokens = list(range(2_000))
    with expecting(TOP) as (url, asked):
        [text] = texts.measure(url, "model", [tokens], longest)
    assert asked == [tokens[:read]]
    assert text is not None and text.tokens == read - 1


def test_tokens_of_one_label_are_one() -> None:
    top = {str(token): math.log(1 / 20_000) for token in range(20_000)}
    found = texts._labelled("salt", top)
    assert len(found) <= 4096
    assert math.fsum(map(math.exp, found.values())) == pytest.approx(1, abs=1e-3)


def test_numbers_that_are_none_are_absurd() -> None:
    with expecting({"-1": math.nan}) as (url, _), pytest.raises(AbsurdError):
        texts.measure(url, "model", [[1, 2, 3]], 1024)


def test_a_server_that_tells_of_no_place_gave_none() -> None:
    with pytest.raises(MeasurementError, match="none at any position"):
        texts._text([1, 2], [])


# -- the stage with the stand-in engine ----------------------------------------------------------


def stage(place: Place, mode: str = "") -> tuple[str, QualityResult, list[dict[str, Any]]]:
    """`bench run` of one quality stage: what was said, its newest result and rows."""
    asked = ("--variants", "A", "--stages", "quality")
    status, said = place.run(*asked, VLLM_STANDIN_MODE=mode)
    assert status == 0, said
    path, record = sorted(store.records(place.results))[-1]
    assert record.quality is not None
    return said, record.quality, store.read_sidecar(path, record.quality.tasks[0].samples)


def test_a_stage_reads_its_documents_texts(engine_python: Path, tmp_path: Path) -> None:
    _, result, rows = stage(Place(tmp_path, engine_python))
    assert result.tasks[0].texts == len(rows) == 4
    for row in rows:
        words = [1 + row["doc"] % length for length in range(1, 9)]
        words += map(len, ["one", "two words", "three of them", "four"][row["doc"] % 4].split())
        assert row["text"]["tokens"] == len(words) - 1
        assert row["text"]["logprob"] == pytest.approx(-0.5 * sum(words[1:]))
    assert len({row["text"]["sha256"] for row in rows}) == 4


def test_without_logprobs_what_lm_eval_measured_stands(engine_python: Path, tmp_path: Path) -> None:
    said, result, rows = stage(Place(tmp_path, engine_python), "no-logprobs")
    assert "a: recorded without the documents' own text: the server gave no log-prob" in said
    assert result.tasks[0].texts is None
    assert result.tasks[0].documents_effective == len(rows) == 4
    assert not any("text" in row for row in rows)


def test_more_documents_add_their_texts_and_read_none_again(
    engine_python: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path, engine_python)
    _, _, before = stage(place)
    models = place.folder / "models.toml"
    models.write_text(models.read_text().replace("documents = 4", "documents = 7"))
    _, result, rows = stage(place)
    with_text = [row["doc"] for row in rows if "text" in row]
    assert result.tasks[0].texts == result.tasks[0].documents_effective == len(with_text) == 3
    assert not {row["doc"] for row in before} & set(with_text)
