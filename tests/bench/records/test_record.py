"""The record: its schema as published, and what its key is made of."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from folders import GOLDEN, ROOT
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import canonical_json, spec_key

RECORDS = sorted(GOLDEN.glob("record-*.json"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path"),
    [("models", ROOT / "bench/models.schema.json"), ("record", GOLDEN / "record.schema.json")],
)
def test_the_schema_is_the_published_one(name: str, path: Path, bench: Any) -> None:
    """A change of what is read or kept shows here: `bench schema NAME > …`."""
    ran = bench("schema", name)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == path.read_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(ran.out))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_records_written_before_are_read_and_mean_the_same(path: Path) -> None:
    record = store.read(path)
    # Keys that came later are unset, and their defaults mean what was done then.
    assert canonical_json(record.model_dump(mode="json", exclude_unset=True)) == path.read_text()
    assert spec_key(record.spec) == record.key
    schema = json.loads((GOLDEN / "record.schema.json").read_text())
    jsonschema.validate(json.loads(path.read_text()), schema)


def test_there_are_golden_records_of_both_stages() -> None:
    assert [path.stem for path in RECORDS] == ["record-quality", "record-speed"]


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in _leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for n, item in enumerate(value) for leaf in _leaves(item, (*path, n))]
    return [path]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_no_part_of_a_record_takes_another_type(path: Path) -> None:
    raw = json.loads(path.read_text())
    for leaf in _leaves({key: raw[key] for key in raw if key != "spec"}):
        changed = copy.deepcopy(raw)
        node = changed
        for part in leaf[:-1]:
            node = node[part]
        node[leaf[-1]] = ["another type"]
        with pytest.raises(ConfigError):
            store.parse(json.dumps(changed), path)


@given(JSON)
def test_canonical_json_reads_back_the_same_and_is_a_fixed_point(value: Any) -> None:
    text = canonical_json(value)
    assert text.endswith("\n")
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_canonical_json_has_no_word_for_what_is_not_a_number(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": value})


@given(st.dictionaries(st.text(max_size=5), JSON), st.randoms(use_true_random=False))
def test_the_key_does_not_depend_on_the_order_of_the_spec(
    spec: dict[str, Any], random: Any
) -> None:
    items = list(spec.items())
    random.shuffle(items)
    assert spec_key(dict(items)) == spec_key(spec)


@given(st.dictionaries(st.text(max_size=5), JSON, min_size=1), st.data())
def test_the_key_changes_with_anything_in_the_spec(
    spec: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(spec)))
    other = data.draw(JSON)
    changed = {**spec, name: other}
    assert (spec_key(changed) == spec_key(spec)) == (
        canonical_json(other) == canonical_json(spec[name])
    )
    assert spec_key({key: spec[key] for key in spec if key != name}) != spec_key(spec)
