"""Where the tests find the repository and the data they are held against."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
# What a person reads, the README first.
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SUPPORT = TESTS / "support"
GOLDEN = TESTS / "golden"
RECORDED = TESTS / "recorded"
# The published experiment, as it was committed once: a copy of this repository may have none of it.
PUBLISHED_MODELS = RECORDED / "l40.toml"
REFERENCE = RECORDED / "reference"
MEASURED = RECORDED / "results"
