"""Which tasks lm-eval has, and what is told of one that cannot be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.config import Generation, TaskOptions
from bench.engine import installed, tasknames
from bench.modelsfile import problems

TABLE = """
[[hardware]]
id = "cpu"
name = "CPU"
engine = "cpu"
runner = ["x"]
[[family]]
name = "F"
baseline = "A"
[[variant]]
name = "A"
family = "F"
repo = "a/b"
"""


def told(**table: object) -> list[tuple[str, str, str]]:
    return list(tasknames.check(TaskOptions.model_validate(table)))


@pytest.mark.parametrize(
    "name",
    ["hellaswag", "gsm8k", "ifeval", "triviaqa", "mmlu", "mmlu_pro",
     "arc_challenge", "truthfulqa_mc2", "gsm8k_cot_llama", "hendrycks_math500", "ai2_arc"],
)  # fmt: skip
def test_what_practitioners_ask_can_be_asked(name: str) -> None:
    assert told(name=name) == []


@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("helaswag", "lm-eval has no task 'helaswag'", "did you mean 'hellaswag'?"),
        ("zzzzzzzzzz", "lm-eval has no task 'zzzzzzzzzz'", "use a name that `lm_eval ls tasks`"),
        ("humaneval", "humaneval runs code that the model wrote", "no model's code is run here"),
        ("mbpp", "mbpp runs code that the model wrote", "no model's code is run here"),
    ],
)
def test_what_cannot_be_asked_is_told(name: str, message: str, fix: str) -> None:
    [(key, said, how)] = told(name=name)
    assert key == "name"
    assert said == message
    assert fix in how


def test_a_package_that_is_missing_is_named() -> None:
    lacking = [name for name, known in tasknames.known().items() if known.lacks]
    assert lacking
    [(_, said, _)] = told(name=lacking[0])
    assert said == f"{lacking[0]} needs the Python package " + ", ".join(
        tasknames.known()[lacking[0]].lacks
    )


def test_a_group_is_refused_for_one_of_its_tasks() -> None:
    unsafe = {name for name, known in tasknames.known().items() if known.unsafe or known.lacks}
    groups = [
        name
        for name, known in tasknames.known().items()
        if known.kind != "task" and unsafe & {*tasknames.members(name)}
    ]
    assert groups
    for name in groups:
        [(key, said, _)] = told(name=name)
        assert key == "name"
        assert f", of {name}, " in said


def test_settings_that_have_no_meaning_are_told() -> None:
    sampled = {"generation": Generation(temperature=0.5)}
    assert told(name="gsm8k", seeds=3, **sampled) == []
    [(key, message, _)] = told(name="gsm8k", seeds=3)
    assert (key, message) == (
        "seeds",
        "sampling without a temperature gives one answer every time",
    )
    assert [key for key, *_ in told(name="hellaswag", seeds=3, **sampled)] == [
        "generation",
        "seeds",
    ]


def test_the_line_is_named() -> None:
    text = 'quality.tasks = ["hellaswag", "helaswag"]\n' + TABLE
    [found] = problems.find_problems(text)
    assert (found.line, found.key, found.fix) == (
        1,
        "quality.tasks[1]",
        "did you mean 'hellaswag'?",
    )
    tables = '[[quality.task]]\nname = "gsm8k"\n\n[[quality.task]]\nname = "gsm9k"\n' + TABLE
    [found] = problems.find_problems(tables)
    assert (found.line, found.key) == (5, "quality.task[1].name")


def test_an_engine_of_the_users_own_knows_its_own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_ENGINE_PYTHON", str(Path("/usr/bin/python3")))
    assert installed.external_python()
    assert told(name="helaswag") == []
