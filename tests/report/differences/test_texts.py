"""The documents' own text from records to pages, exports and take-aways."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import synthetic
from scipy.special import rel_entr
from synthetic import BF16
from synthetic_parts import TEXTS, Variant

from bench.records import store
from bench.records.record import Record, canonical_json
from report.decisions import compare
from report.differences.families import Verdicts
from report.differences.texts import OwnText
from report.exports.verdicts import verdict_rows
from report.findings.takeaways import findings
from report.pages import quality
from report.rows.results import Results, load
from report.stats import probabilities

Rows = list[dict[str, Any]]
OTHER = replace(BF16, name="Other", baseline=False)


def results_of(root: Path, *variants: Variant, **options: Any) -> Results:
    """One quality record of each variant, in which no answer flips."""
    for variant in variants:
        store.write(root, *synthetic.quality_record(variant, **{"flips": 0.0, **options}))
    return load(root, None)


def told(results: Results, variant: Variant = OTHER) -> OwnText | None:
    [who] = {row.who for row in results.quality if row.variant_name == variant.name}
    return Verdicts(results).own_text(who)


def texts_of(root: Path, variant: str) -> dict[str, dict[str, Any]]:
    """The texts in a variant's sidecar, as they are written."""
    [(path, record)] = [each for each in store.records(root) if each[1].variant == variant]
    assert record.quality is not None
    rows = store.read_sidecar(path, record.quality.tasks[0].samples)
    return {row["text"]["sha256"]: row["text"] for row in rows if "text" in row}


def changed(record: Record, packed: list[bytes], change: Callable[[Rows], object]) -> Any:
    """A record of one task with other rows."""
    rows: Rows = json.loads(gzip.decompress(packed[0]))
    change(rows)
    sidecar, data = store.pack_sidecar(rows)
    raw = record.model_dump(mode="json")
    task = raw["quality"]["tasks"][0]
    task |= {
        "samples": sidecar.model_dump(mode="json"),
        "texts": sum("text" in row for row in rows) or None,
    }
    return Record.model_validate_json(canonical_json(raw)), [data]


def test_the_change_is_clustered_by_document_and_the_divergence_a_lower_bound(
    tmp_path: Path,
) -> None:
    found = told(results_of(tmp_path, BF16, replace(OTHER, text_loss=0.02)))
    one, other = texts_of(tmp_path, "other"), texts_of(tmp_path, "qwen3-8b-bf16")
    assert found is not None
    assert found.documents == len(one) == TEXTS
    tokens = np.array([text["tokens"] for text in one.values()])
    moved = np.array([text["logprob"] - other[sha]["logprob"] for sha, text in one.items()])
    fit = sm.WLS(moved / tokens, np.ones(TEXTS), weights=tokens).fit(cov_type="HC1", use_t=True)
    ends = found.logprob.estimate.interval
    assert ends is not None
    assert found.logprob.estimate.value == pytest.approx(moved.sum() / tokens.sum())
    assert (ends.low, ends.high) == pytest.approx(tuple(fit.conf_int()[0]))
    assert found.logprob.p == pytest.approx(fit.pvalues[0])
    assert found.logprob.outcome == "lower"
    assert found.tells
    apart = []
    for sha, text in one.items():
        for place, top in text["top"].items():
            p, q = (np.exp(list(each.values())) for each in (other[sha]["top"][place], top))
            apart.append(rel_entr([*p, 1 - p.sum()], [*q, 1 - q.sum()]).sum())
    assert found.divergence.estimate.value == pytest.approx(np.mean(apart), rel=1e-6)
    kl = found.divergence.estimate.interval
    assert kl is not None
    assert 0 < kl.low < found.divergence.estimate.value < kl.high


def test_a_text_is_paired_by_what_it_is_over_all_tasks(tmp_path: Path) -> None:
    tasks = ("hellaswag", "piqa")
    found = told(results_of(tmp_path, BF16, OTHER, tasks=tasks, document_seed=7))
    assert found is not None
    assert found.documents == TEXTS, "two tasks of the same texts are one"


@pytest.mark.parametrize(("changes", "stays"), [(BF16, OTHER), (OTHER, BF16)])
@pytest.mark.parametrize("more", [-1, 1])
def test_what_only_one_has_read_or_has_read_otherwise_is_no_pair(
    changes: Variant, stays: Variant, more: int, tmp_path: Path
) -> None:
    store.write(tmp_path, *synthetic.quality_record(stays))
    record, packed = synthetic.quality_record(changes)

    def change(rows: Rows) -> None:
        rows[0]["text"]["sha256"] = "f" * 16
        rows[1]["text"]["tokens"] += more
        rows[2]["text"]["top"] = dict([*rows[2]["text"]["top"].items()][:1])
        rows[3].pop("text")

    store.write(tmp_path, *changed(record, packed, change))
    found = told(load(tmp_path, None))
    assert found is not None
    assert found.documents == TEXTS - 4


@pytest.mark.parametrize("left", [0, 1])
def test_of_fewer_than_two_texts_nothing_is_told(left: int, tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.quality_record(BF16))

    def change(rows: Rows) -> None:
        for row in rows[left:]:
            row.pop("text", None)

    store.write(tmp_path, *changed(*synthetic.quality_record(OTHER), change))
    results = load(tmp_path, None)
    assert told(results) is None
    assert quality.own_texts(results.quality, Verdicts(results)) == []


def test_where_nothing_differs_there_is_no_interval(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.quality_record(BF16))
    rows: Rows = json.loads(gzip.decompress(synthetic.quality_record(BF16)[1][0]))

    def change(of_other: Rows) -> None:
        for row, same in zip(of_other, rows, strict=True):
            if "text" in same:
                row["text"] = same["text"]

    store.write(tmp_path, *changed(*synthetic.quality_record(OTHER), change))
    results = load(tmp_path, None)
    found = told(results)
    assert found is not None
    assert (found.logprob.estimate.value, found.logprob.estimate.interval) == (0.0, None)
    assert not found.tells
    [table] = quality.own_texts(results.quality, Verdicts(results))
    assert [row.cells[0].word for row in table.rows] == ["not tested"]


def test_the_page_the_export_and_compare_say_the_same(tmp_path: Path) -> None:
    results = results_of(tmp_path, BF16, replace(OTHER, text_loss=0.02))
    verdicts = Verdicts(results)
    found = told(results)
    assert found is not None
    change, apart = found.logprob.estimate, found.divergence.estimate
    assert change.interval is not None and apart.interval is not None
    [table] = quality.own_texts(results.quality, verdicts)
    [row] = table.rows
    assert row.head.text == "Other"
    assert row.cells[0].value == change.value
    assert row.cells[0].text.startswith("−0.0")
    assert row.cells[0].word == "less expected"
    assert row.cells[2].text.startswith("≥ 0.0")
    exported = [each for each in verdict_rows(results) if each.stage == "quality"]
    assert exported
    for each in exported:
        assert each.text_documents == TEXTS
        assert (each.text_logprob, each.text_logprob_p) == (change.value, found.logprob.p)
        low, high = each.text_logprob_low, each.text_logprob_high
        assert (low, high) == (change.interval.low, change.interval.high)
        assert each.text_divergence == apart.value
        assert each.text_divergence_high == apart.interval.high
    compared = json.loads(compare.as_json(compare.compare(results, "qwen3-8b-bf16", ["other"])))
    of_quality = [each["own_text"] for each in compared if each["stage"] == "quality"]
    assert of_quality == [
        {
            "documents": TEXTS,
            "logprob": change.value,
            "logprob_low": change.interval.low,
            "logprob_high": change.interval.high,
            "divergence": apart.value,
            "divergence_low": apart.interval.low,
            "divergence_high": apart.interval.high,
            "logprob_p": found.logprob.p,
            "logprob_outcome": "lower",
        }
    ] * len(of_quality)
    back = json.loads(compare.as_json(compare.compare(results, "other", ["qwen3-8b-bf16"])))
    turned = [each["own_text"] for each in back if each["stage"] == "quality"]
    assert turned[0]["logprob"] == pytest.approx(-change.value)
    assert turned[0]["logprob_outcome"] == "higher"


# -- the take-away: only where the answers do not decide and the text tells ----------------------


def sensitive(results: Results) -> list[str]:
    return [each.headline for each in findings(Verdicts(results)) if each.kind == "sensitive"]


@pytest.mark.parametrize(("loss", "side"), [(0.02, "less"), (-0.02, "more")])
def test_a_text_that_tells_where_answers_do_not_is_a_finding(
    loss: float, side: str, tmp_path: Path
) -> None:
    variant = replace(OTHER, text_loss=loss)
    results = results_of(tmp_path, BF16, variant, flips=0.04)
    [headline] = [each for each in sensitive(results) if "text" in each]
    assert headline.startswith(f"Other expects the documents' own text {side} than Qwen3-8B BF16: ")
    assert headline.endswith(" nats per token")
    [found] = [each for each in findings(Verdicts(results)) if each.headline == headline]
    assert f"over {TEXTS} documents" in found.detail
    assert "Whether Other keeps quality is undecided" in found.detail
    assert found.certainty == "interval"


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        (replace(OTHER, text_loss=0.0), {"flips": 0.04}),  # nothing moved
        (replace(OTHER, text_loss=None), {"flips": 0.04}),  # nothing was read
        (replace(OTHER, text_loss=0.02), {"documents": 4000}),  # the answers say that it keeps
        (replace(OTHER, text_loss=0.02, accuracy=0.3), {"documents": 4000}),  # that it loses
    ],
)
def test_elsewhere_it_is_none(variant: Variant, options: dict[str, Any], tmp_path: Path) -> None:
    results = results_of(tmp_path, BF16, variant, **options)
    assert not [each for each in sensitive(results) if "text" in each]


def test_a_change_is_told_as_often_as_its_interval_allows() -> None:
    """Coverage where texts differ much in length and documents in how far they moved."""
    random, covered, told_wrongly = np.random.default_rng(3), 0, 0
    for _ in range(400):
        tokens = random.integers(5, 500, 64)
        drift = random.normal(-0.01, 0.02, 64)
        found = probabilities.compare_logprobs(drift * tokens, np.zeros(64), tokens)
        still = probabilities.compare_logprobs((drift + 0.01) * tokens, np.zeros(64), tokens)
        assert found is not None and found.estimate.interval is not None and still is not None
        covered += -0.01 in found.estimate.interval
        told_wrongly += still.outcome != "no difference found"
    assert math.isclose(covered / 400, 0.95, abs_tol=0.03)
    assert told_wrongly / 400 <= 0.075
