"""What runs inside vLLM for GGUF files, as far as it needs neither vLLM nor torch."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from types import ModuleType

import numpy as np
import pytest

from bench.engine import installed
from bench.weights import gguf


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    found = importlib.util.spec_from_file_location(
        "plugin", installed.PLUGIN / "quantbench_gguf.py"
    )
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_vllm_finds_it_where_the_path_names_its_folder(plugin: ModuleType) -> None:
    [found] = metadata.distributions(path=[str(installed.PLUGIN)])
    [entry] = found.entry_points
    assert (entry.group, entry.value) == ("vllm.general_plugins", "quantbench_gguf:register")
    assert callable(plugin.register)
    assert found.version == installed.plugin_version()


def test_it_puts_back_the_rows_of_the_architectures_that_the_table_says(plugin: ModuleType) -> None:
    assert {
        name for name, found in gguf.ARCHITECTURES.items() if found.put_back
    } == plugin.INTERLEAVED


def test_it_was_checked_with_the_plugin_that_the_lock_pins(plugin: ModuleType) -> None:
    assert installed.gguf_versions("cuda")["vllm-gguf-plugin"] in plugin.CHECKED


@pytest.mark.parametrize("columns", [(), (5,)], ids=["bias", "weight"])
@pytest.mark.parametrize("heads", [1, 3])
def test_neighbours_become_halves_again(
    plugin: ModuleType, heads: int, columns: tuple[int, ...]
) -> None:
    """llama.cpp's order of a head with 8 rows: the first of each half, then the second of each."""
    rows = np.arange(heads * 8)
    stored = np.concatenate(
        [head * 8 + np.array([0, 4, 1, 5, 2, 6, 3, 7]) for head in range(heads)]
    )
    shape = (-1, *(1 for _ in columns))
    weight = np.broadcast_to(stored.reshape(shape), (len(rows), *columns))
    put_back = plugin.put_back(weight, heads)
    assert put_back.shape == weight.shape
    assert (put_back == rows.reshape(shape)).all()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("model.layers.3.self_attn.q_proj.qweight", "q"),
        ("model.layers.11.self_attn.k_proj.weight", "k"),
        ("model.layers.0.self_attn.k_proj.bias", "k"),
        ("model.layers.3.self_attn.q_proj.qweight_type", None),
        ("model.layers.3.self_attn.v_proj.qweight", None),
        ("model.layers.3.self_attn.q_norm.weight", None),
        ("model.layers.3.mlp.up_proj.qweight", None),
    ],
)
def test_only_what_is_rotated_moves(plugin: ModuleType, name: str, head: str | None) -> None:
    found = plugin._ROTATED.search(name)
    assert (found and found[1]) == head
