"""What Actions shows of problems and plans: one command a problem, sums that say what they lack."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import hostile
import pytest

from bench.github.annotations import annotate, describe_plan, set_outputs
from bench.github.comment import render
from bench.modelsfile.problems import Problem
from bench.plan.commits import Repository
from bench.plan.forecast import Forecast

SHA = "a" * 40


@pytest.mark.parametrize("kind", hostile.TEXTS)
def test_an_annotation_is_one_line_and_one_command(kind: str) -> None:
    text = hostile.TEXTS[kind]
    (line,) = annotate("models.toml", [Problem(3, text, text, text)])
    assert line.splitlines() == [line]
    properties = line.removeprefix("::error ").split("::")[0].split(",")
    assert properties[:2] == ["file=models.toml", "line=3"]
    assert len(properties) == 3


def test_more_annotations_than_are_shown_are_counted() -> None:
    problems = [Problem(i, "k", "m", "f") for i in range(30)]
    lines = annotate("models.toml", problems)
    assert len(lines) == 10
    assert "21 more" in lines[-1]


def test_a_plan_adds_up_what_is_known_and_says_what_is_not() -> None:
    none = dict.fromkeys(field.name for field in fields(Forecast))
    base = {
        **none,
        "repositories": (),
        "needed": True,
        "state": "not measured yet",
        "hardware": "l40",
    }
    speed = {**base, "variant": "a", "stage": "speed", "checkpoint": "x/a", "download_gib": 15.3}

    def one(**known: Any) -> Forecast:
        return Forecast(**{**speed, **known})

    forecasts = [
        one(fits=True, expected_minutes=61.0),
        one(stage="quality", least_minutes=3.5),
        one(hardware="h100"),
        one(needed=False, variant="old", expected_minutes=99.0),
    ]
    document = describe_plan(SHA, forecasts, ["a remark"])
    (table,) = document.tables  # nothing is fetched
    assert [row[-3:] for row in table.rows] == [
        ("yes", "15.3 GiB", "61.0 min"),
        ("unknown", "15.3 GiB", "at least 3.5 min"),
        ("unknown", "15.3 GiB", "unknown"),
        ("", "30.6 GiB", "at least 64.5 min"),
    ]
    assert document.notes[-1] == "a remark"
    unknown = one(checkpoint="x/b", download_gib=None, expected_minutes=1.0)
    (table,) = describe_plan(SHA, [forecasts[0], unknown]).tables
    assert table.rows[-1][-2:] == ("at least 15.3 GiB", "62.0 min")


def test_outputs_are_one_line_each(tmp_path: Any) -> None:
    path = tmp_path / "output"
    set_outputs({"GITHUB_OUTPUT": str(path)}, a="1", b="x y")
    assert path.read_text() == "a=1\nb=x y\n"
    for end in ("\n", "\r", "\r\n"):
        with pytest.raises(ValueError, match="the output b has a line break"):
            set_outputs({"GITHUB_OUTPUT": str(path)}, a="2", b=f"1{end}matrix=[]")
    assert path.read_text() == "a=1\nb=x y\n", "nothing of it"


def test_who_approves_sees_what_is_fetched() -> None:
    none = dict.fromkeys(field.name for field in fields(Forecast))

    def one(*repositories: Repository, **known: Any) -> Forecast:
        words = ("variant", "hardware", "stage", "state")
        told: dict[str, Any] = {**dict.fromkeys(words, "x"), "needed": True}
        told |= {"download_gib": 4.9, "repositories": repositories}
        return Forecast(**{**none, **told, **known})

    commit = "0123456789abcdef0123456789abcdef01234567"
    pinned = Repository("repo", "x/gguf", commit, commit, "m-Q4.gguf")
    moving = Repository("tokenizer", "x/base", None, commit)
    branch, unknown = Repository("repo", "x/b", "v2", commit), Repository("repo", "x/c", "v3", None)
    planned = [one(pinned, moving), one(pinned, moving), one(branch), one(unknown)]
    document = describe_plan(SHA, [*planned, one(branch, needed=False)])
    table = document.tables[1]
    assert table.columns == ("Repository", "Commit", "File", "Download")
    assert table.rows == (
        ("x/gguf", "0123456789ab", "m-Q4.gguf", "4.9 GiB"),
        ("x/base", "0123456789ab (newest)", "all", "a tokenizer"),
        ("x/b", "0123456789ab (v2)", "all", "4.9 GiB"),
        ("x/c", "unknown (v3)", "all", "4.9 GiB"),
    )
    shown = render(document)
    assert "x/gguf" in shown
    assert "0123456789ab (v2)" in shown
