"""What the site's search finds first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import synthetic

from report.pages.all_pages import NAVIGATION
from report.places import REFERENCE
from report.rows.results import load
from report.site import search


def test_measured_real_models_come_before_toys_and_those_before_published(tmp_path: Path) -> None:
    toy = replace(synthetic.BF16, name="A toy", family="Toy", random_weights=True)
    synthetic.write(tmp_path, (toy, synthetic.BF16, synthetic.FP8))
    texts = [text for text, _ in search.entries(load(tmp_path, REFERENCE))]
    assert texts[: len(NAVIGATION)] == [text for text, _ in NAVIGATION]
    places = [
        2 if "published" in text else 1 if text.startswith("A toy") else 0
        for text in texts[len(NAVIGATION) :]
    ]
    assert places == sorted(places) and set(places) == {0, 1, 2}


def test_of_several_loads_the_first_is_found(tmp_path: Path) -> None:
    synthetic.write(tmp_path, (synthetic.BF16,))
    results = load(tmp_path, None)
    assert len(results.speed) > 1
    found = dict(search.entries(results))
    addresses = [address for address in found.values() if address.startswith("speed.html#")]
    assert addresses == [f"speed.html#{results.speed[0].anchor}"]
