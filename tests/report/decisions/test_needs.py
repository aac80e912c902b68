"""What a decision needs: from what was seen, or a guess told as one; a baseline the most."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import synthetic
from folders import ROOT
from models_texts import VALID
from synthetic import BF16, FP8, MARLIN, START

from bench.config import Experiment
from bench.modelsfile.problems import load_experiment
from bench.plan import duration
from bench.records import store
from report.decisions.needs import GUESSED_FLIPS, GUESSED_SCORE, GUESSED_SPREAD, needs
from report.differences.families import Verdicts
from report.rows.results import load
from report.stats import recovery
from report.stats.planning import Design, sessions_needed

ALONE = VALID.partition('[[variant]]\nname = "B"')[0]
MODELS = f"""{ALONE}
[[variant]]
name = "Qwen3-8B FP8"
family = "Qwen3-8B"
repo = "Qwen/Qwen3-8B-FP8"
[[variant]]
name = "Qwen3-8B AWQ, Marlin"
family = "Qwen3-8B"
repo = "Qwen/Qwen3-8B-AWQ"
stages = ["quality"]
"""
BASE, OTHER, THIRD = "qwen3-8b-bf16", "qwen3-8b-fp8", "qwen3-8b-awq-marlin"


def experiment(text: str = MODELS) -> Experiment:
    return Experiment.model_validate_json(json.dumps(tomllib.loads(text)))


def nothing(root: Path) -> Verdicts:
    return Verdicts(load(root, None))


def test_before_anything_is_measured_the_guess_is_told_as_one(tmp_path: Path) -> None:
    found = needs(experiment(), nothing(tmp_path))
    sessions = sessions_needed(Design(GUESSED_SPREAD, 2, 3), 1.05)
    documents = recovery.documents_needed(GUESSED_FLIPS / GUESSED_SCORE**2, 0.01)
    assert {key: (need.count, need.guessed) for key, need in found.items()} == {
        **{("l40", each, "speed"): (sessions, True) for each in (BASE, OTHER)},
        **{("l40", each, "quality"): (documents, True) for each in (BASE, OTHER, THIRD)},
    }


def test_the_committed_suite_asks_as_much_as_the_guess_needs() -> None:
    """Each task has one weight in the mean, so of n documents it brings the variance 1 / n."""
    committed = load_experiment(ROOT / "models.toml")
    [hardware] = committed.hardware
    needed = recovery.documents_needed(GUESSED_FLIPS / GUESSED_SCORE**2, 0.01)
    for variant in committed.variant:
        asked = committed.quality_options(variant, hardware).asked()
        sizes = [
            duration.TASKS[table.name].documents if table.documents == "all" else table.documents
            for table in asked
        ]
        alike = len(sizes) ** 2 / math.fsum(1 / size for size in sizes if size)
        published = next(table for table in asked if table.name == "hellaswag")
        assert (published.num_fewshot, published.documents) == (0, 400)
        assert published.selection == "first"
        assert (alike >= needed) == (variant.family == "Qwen3-8B"), variant.name


def test_a_margin_in_points_and_another_difference_are_planned_for(tmp_path: Path) -> None:
    own = experiment(MODELS + "[decision]\npoints = 2\nspeed_difference = 0.2\n")
    found = needs(own, nothing(tmp_path))
    documents = recovery.documents_needed(GUESSED_FLIPS, 0.02)
    assert found["l40", OTHER, "quality"].count == documents
    assert found["l40", OTHER, "speed"].count == sessions_needed(Design(GUESSED_SPREAD, 2, 3), 1.2)


def test_a_variant_alone_needs_nothing(tmp_path: Path) -> None:
    alone = MODELS.split('[[variant]]\nname = "Qwen3-8B FP8"', maxsplit=1)[0]
    assert needs(experiment(alone), nothing(tmp_path)) == {}


def test_what_was_seen_takes_the_place_of_the_guess(tmp_path: Path) -> None:
    """Sessions 1 % apart need fewer; documents are those there are and those still missing."""
    for number in range(3):
        for variant in (BF16, FP8):
            time = START + timedelta(hours=number)
            made = synthetic.speed_record(variant, finished=time, seed=number, noise=0.01)
            store.write(tmp_path, *made)
    for variant in (BF16, FP8, replace(MARLIN, accuracy=0.3)):
        store.write(tmp_path, *synthetic.quality_record(variant, documents=400, flips=0.04))
    verdicts = nothing(tmp_path)
    found = needs(experiment(), verdicts)
    [machine] = verdicts.results.machines.values()
    judged = machine.judged["Qwen3-8B"]
    spread = max(math.sqrt(machine.pools[measure].variance) for measure in judged)
    speed = found["l40", OTHER, "speed"]
    assert (speed.count, speed.guessed) == (sessions_needed(Design(spread, 2, 3), 1.05), False)
    quality = found["l40", OTHER, "quality"]
    [row] = {row.who: row for row in verdicts.results.quality if row.variant == OTHER}.values()
    decided = verdicts.decision(row.who)
    assert decided is not None and decided.decision.outcome == "undecided"
    assert decided.decision.more_documents is not None
    assert quality.count == 400 + decided.decision.more_documents
    assert not quality.guessed
    assert found["l40", THIRD, "quality"].count == 400  # it loses: decided already
    assert found["l40", BASE, "quality"] == quality  # the neediest of its variants'


@pytest.mark.parametrize("stage", ["speed", "quality"])
def test_another_machines_sessions_and_answers_are_no_measure(tmp_path: Path, stage: str) -> None:
    elsewhere = replace(synthetic.L40, id="other")
    for number in range(2):
        for variant in (BF16, FP8):
            time = START + timedelta(hours=number)
            made = synthetic.speed_record(variant, elsewhere, finished=time, seed=number)
            store.write(tmp_path, *made)
            store.write(tmp_path, *synthetic.quality_record(variant, elsewhere, finished=time))
    assert needs(experiment(), nothing(tmp_path))["l40", OTHER, stage].guessed
