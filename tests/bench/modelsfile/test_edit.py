"""`bench add` and `bench pin` change what they mean to, and not one byte more."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoint_headers import gguf, safetensors
from hub_server import Hub, Repo, serve_client
from published_checkpoints import QWEN3_8B

from bench.errors import ConfigError, WeightsError
from bench.modelsfile import edit, problems
from bench.weights import sizes

# Comments at every place, aligned and not, tables of one array apart from each other.
MODELS = """\
# What we measure.
[speed]
repeats = 3   # three

[[hardware]]
id     = "l40"            # the lab's
name   = "NVIDIA L40"
engine = "cuda"
runner = [
  "self-hosted",          # ours
  "l40",
]
gpu_memory_gib = 44.5

[[variant]]
name   = "Tiny BF16"      # the baseline
family = "Tiny"
repo   = "acme/tiny"      # on the Hub
# what follows is said of this variant

# -- families --
[[family]]
name = "Tiny"
baseline = "Tiny BF16"

[[variant]]
name = "Tiny AWQ INT4"
family = "Tiny"
repo = "acme/tiny-awq"
revision = 'main'         # moves

  [variant.on.l40]
  serve = { linear_backend = "marlin" }   # the fast one

[[variant]]
name = "Bundled"
family = "Tiny"
bundled = "smollm2-135m-bf16"
# the end, without a newline"""
TENSORS = {"a.weight": {"dtype": "BF16", "shape": [512, 1024], "data_offsets": [0, 2**20]}}
WEIGHTS: dict[str, Any] = {
    "model.safetensors": safetensors(TENSORS) + b"x" * 2**20,
    "tokenizer.json": {},
}


def repo(config: dict[str, Any], base: str | None = None, **files: Any) -> Repo:
    card = {"license": "apache-2.0"} | ({"base_model": base} if base else {})
    return Repo.of({"config.json": config} | WEIGHTS | files, card=card)


def quantized(**keys: Any) -> dict[str, Any]:
    return {"quantization_config": keys}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    repos = {
        "acme/tiny": repo({"torch_dtype": "bfloat16"}, "acme/tiny-base"),
        "acme/tiny-awq": repo(quantized(quant_method="awq", bits=4), "acme/tiny"),
        "acme/tiny-fp8": repo(quantized(quant_method="fp8"), "acme/tiny"),
        "acme/tiny-gguf": Repo.of(
            {"tiny-Q4_K_M.gguf": gguf({"general.architecture": "llama"})},
            card={"license": "mit", "base_model": ["acme/tiny"]},
        ),
        "other/Big-7B-Instruct-GPTQ-Int4": repo(quantized(quant_method="gptq", bits=4)),
    }
    with serve_client(repos, monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    path.chmod(0o640)
    return path


def changes(path: Path, before: str = MODELS) -> list[str]:
    """The lines that went (-) and came (+)."""
    pair = before.splitlines(), path.read_bytes().decode().splitlines()
    return [line for line in difflib.ndiff(*pair) if line[0] in "+-"]


# -- add ---------------------------------------------------------------------------------------


def test_a_variant_of_a_known_family_is_five_lines(hub: Hub, models: Path, tmp_path: Path) -> None:
    added = edit.add(models, "acme/tiny-fp8", cache=tmp_path / "cache")
    commit = hub.repos["acme/tiny-fp8"].commit
    assert changes(models) == [
        "+ ",
        "+ [[variant]]",
        '+ name     = "tiny-fp8"',
        '+ family   = "Tiny"',
        '+ repo     = "acme/tiny-fp8"',
        f'+ revision = "{commit}"',
    ]
    assert added.text.count("\n") == 5
    assert (added.name, added.family, added.new_family) == ("tiny-fp8", "Tiny", False)
    assert added.license == "apache-2.0"
    assert added.sizes.download_bytes == pytest.approx(2**20, rel=0.01)
    assert problems.load_experiment(models).variant[-1].revision == commit
    assert models.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_gguf_file_gets_the_tokenizer_of_its_family(
    hub: Hub, models: Path, tmp_path: Path
) -> None:
    edit.add(models, "acme/tiny-gguf", "tiny-Q4_K_M.gguf", cache=tmp_path / "cache")
    assert changes(models)[2:] == [
        '+ name               = "tiny-Q4_K_M"',
        '+ family             = "Tiny"',
        '+ repo               = "acme/tiny-gguf"',
        '+ file               = "tiny-Q4_K_M.gguf"',
        f'+ revision           = "{hub.repos["acme/tiny-gguf"].commit}"',
        '+ tokenizer          = "acme/tiny"',
        f'+ tokenizer_revision = "{hub.repos["acme/tiny"].commit}"',
    ]


def test_a_gguf_file_without_a_readable_tokenizer_asks_for_one(
    hub: Hub, models: Path, tmp_path: Path
) -> None:
    hub.repos["acme/tiny"].gated = True
    del hub.repos["acme/tiny-awq"]
    with pytest.raises(WeightsError, match="--tokenizer"):
        edit.add(models, "acme/tiny-gguf", "tiny-Q4_K_M.gguf", cache=tmp_path / "cache")
    assert models.read_text() == MODELS


def test_a_new_family_comes_with_its_first_variant(hub: Hub, models: Path, tmp_path: Path) -> None:
    added = edit.add(
        models, "other/Big-7B-Instruct-GPTQ-Int4", cache=tmp_path / "cache", hardware=("l40",)
    )
    assert added.new_family
    assert added.text.splitlines() == [
        "[[family]]",
        'name     = "Big-7B-Instruct-GPTQ-Int4"',
        'baseline = "Big-7B-Instruct-GPTQ-Int4"',
        "",
        "[[variant]]",
        'name     = "Big-7B-Instruct-GPTQ-Int4"',
        'family   = "Big-7B-Instruct-GPTQ-Int4"',
        'repo     = "other/Big-7B-Instruct-GPTQ-Int4"',
        f'revision = "{hub.repos["other/Big-7B-Instruct-GPTQ-Int4"].commit}"',
        'hardware = ["l40"]',
    ]


@pytest.mark.parametrize(
    ("config", "base", "family"),
    [
        ({"dtype": "float16"}, "acme/Old-Base", "New"),  # a fine-tune is a model of its own
        ({"quantization_config": None}, "acme/Old", "New"),
        (quantized(quant_method="quark"), "acme/Old", "Old"),
        (quantized(quant_method="quark"), "acme/tiny", "Tiny"),
        (quantized(quant_method="quark"), "acme/<b>", "-b-"),
        (quantized(quant_method="quark"), None, "New"),
    ],
)
def test_the_family_is_that_of_the_model_it_was_quantized_from(
    config: dict[str, Any], base: str | None, family: str, hub: Hub, models: Path, tmp_path: Path
) -> None:
    hub.repos["acme/New"] = repo(config, base)
    if family == "-b-":  # what a card says may be no name at all
        with pytest.raises(ConfigError, match="is unchanged"):
            edit.add(models, "acme/New", cache=tmp_path / "cache")
        return
    added = edit.add(models, "acme/New", cache=tmp_path / "cache")
    assert (added.name, added.family) == ("New", family)


@pytest.mark.parametrize("base", [4, [4], [], {"a": "b"}])
def test_a_base_model_that_is_no_name_is_none(
    base: Any, hub: Hub, models: Path, tmp_path: Path
) -> None:
    hub.repos["acme/New"] = Repo.of(
        {"config.json": quantized(quant_method="gptq", bits=4)} | WEIGHTS, card={"base_model": base}
    )
    assert edit.add(models, "acme/New", cache=tmp_path / "cache").family == "New"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the command keeps sizes, of a project that is no checkout; downloads are near."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bench" / "weights" / "checkpoints.json"


def measurable() -> Repo:
    """A model whose one tensor has a header that can be read."""
    tensor = {"dtype": "BF16", "shape": [2**20, 4], "data_offsets": [0, 2**23]}
    header = json.dumps({"model.layers.0.mlp.weight": tensor}).encode()
    data = len(header).to_bytes(8, "little") + header + b"\0" * 2**23
    return repo(QWEN3_8B.config(None), "acme/tiny", **{"model.safetensors": data})


def test_what_was_added_is_planned_with_its_size_and_whether_it_fits(
    hub: Hub, models: Path, tmp_path: Path, bench: Any, kept: Path
) -> None:
    hub.repos["acme/tiny-new"] = measurable()
    ran = bench("add", "acme/tiny-new", "--name", "New", "--models", models)
    assert (ran.code, ran.err) == (0, "")
    assert list(sizes.read(kept)) == ["acme/tiny-new"]
    assert "next: `bench plan --variant new` says what it takes" in ran.out.splitlines()[-2]
    ran = bench("plan", "--models", models, "--results", tmp_path, "--variants", "new", "--json")
    for row in json.loads(ran.out):
        assert row["fits"] is True
        assert row["weights_gib"] == row["download_gib"] == 0.01


@pytest.mark.parametrize(
    "arguments", [{"name": "Tiny BF16"}, {"name": "a/b"}, {"hardware": ("h100",)}]
)
@pytest.mark.usefixtures("hub")
def test_what_would_not_be_valid_leaves_the_file_alone(
    arguments: dict[str, Any], models: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="unchanged"):
        edit.add(models, "acme/tiny-fp8", cache=tmp_path / "cache", **arguments)
    assert models.read_text() == MODELS


@pytest.mark.usefixtures("hub")
def test_a_missing_repository_leaves_the_file_alone(models: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no repository"):
        edit.add(models, "acme/none", cache=tmp_path / "cache")
    assert models.read_text() == MODELS


@pytest.mark.usefixtures("hub")
def test_windows_line_ends_stay(models: Path, tmp_path: Path) -> None:
    models.write_bytes(MODELS.replace("\n", "\r\n").encode())
    edit.add(models, "acme/tiny-fp8", cache=tmp_path / "cache")
    edit.pin(models)
    assert b"\n" not in models.read_bytes().replace(b"\r\n", b"")


# -- pin ---------------------------------------------------------------------------------------


def test_pin_writes_commits_and_keeps_every_comment(hub: Hub, models: Path) -> None:
    tiny, awq = hub.repos["acme/tiny"].commit, hub.repos["acme/tiny-awq"].commit
    assert edit.pin(models)[0] == [
        edit.Pinned("Tiny BF16", "revision", None, tiny),
        edit.Pinned("Tiny AWQ INT4", "revision", "main", awq),
    ]
    expected = MODELS.replace(
        '"acme/tiny"      # on the Hub\n',
        f'"acme/tiny"      # on the Hub\nrevision = "{tiny}"\n',
    ).replace("'main'", f'"{awq}"')
    assert models.read_text() == expected
    tomllib.loads(expected)


def test_pin_pins_the_tokenizer_too(hub: Hub, models: Path) -> None:
    tiny, gguf = hub.repos["acme/tiny"].commit, hub.repos["acme/tiny-gguf"].commit
    head = (
        MODELS
        + """
[[variant]]
name = "Above"
family = "Tiny"
tokenizer = "acme/tiny"   # before its repo
repo = "acme/tiny-gguf"
file = "tiny-Q4_K_M.gguf"
"""
    )
    models.write_text(
        head
        + """
[[variant]]
name = "Pinned in part"
family = "Tiny"
repo = "acme/tiny-gguf"
file = "tiny-Q4_K_M.gguf"
tokenizer = "acme/tiny"
tokenizer_revision = "main"
"""
    )
    assert edit.pin(models)[0][2:] == [
        edit.Pinned("Above", "tokenizer_revision", None, tiny),
        edit.Pinned("Above", "revision", None, gguf),
        edit.Pinned("Pinned in part", "revision", None, gguf),
        edit.Pinned("Pinned in part", "tokenizer_revision", "main", tiny),
    ]
    above, part = problems.load_experiment(models).variant[-2:]
    assert (above.revision, above.tokenizer_revision) == (gguf, tiny)
    assert (part.revision, part.tokenizer_revision) == (gguf, tiny)
    assert f'# before its repo\ntokenizer_revision = "{tiny}"\nrepo' in models.read_text()
    assert edit.pin(models)[0] == []


def test_pin_keeps_sizes_where_there_is_a_checkpoint(
    hub: Hub, models: Path, bench: Any, kept: Path
) -> None:
    hub.repos |= dict.fromkeys(("acme/tiny", "acme/tiny-awq"), measurable())
    hub.repos["acme/shape"] = Repo.of({"config.json": {}, "tokenizer.json": {}})
    dummy = 'name = "D"\nfamily = "Tiny"\nrepo = "acme/shape"\nstages = ["speed"]\n'
    more = f'\n[[variant]]\n{dummy}serve.load_format = "dummy"\n'
    models.write_text(MODELS + more)
    ran = bench("pin", "--models", models)
    assert (ran.code, ran.err) == (0, "")
    commit = hub.repos["acme/tiny"].commit
    assert ran.out.startswith(f"Tiny BF16: revision newest -> {commit}\n")
    assert list(sizes.read(kept)) == ["acme/tiny", "acme/tiny-awq"]


def test_pin_leaves_commits_where_they_are(hub: Hub, models: Path) -> None:
    edit.pin(models)
    before = models.read_text()
    hub.repos["acme/tiny"].files["config.json"] = hub.repos["acme/tiny-awq"].files["config.json"]
    hub.requests.clear()
    assert edit.pin(models)[0] == []
    assert models.read_text() == before
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_pin_refuses_a_layout_without_lines(models: Path) -> None:
    head, _, _ = MODELS.partition("[[variant]]")
    text = (
        'variant = [{ name = "A", family = "F", repo = "acme/tiny" }]\n'
        + head
        + '[[family]]\nname = "F"\nbaseline = "A"\n'
    )
    models.write_text(text)
    with pytest.raises(ConfigError, match="unchanged") as caught:
        edit.pin(models)
    assert "A: revision = " in caught.value.fix
    assert models.read_text() == text


def test_pin_writes_what_can_be_and_says_what_cannot(hub: Hub, models: Path) -> None:
    hub.repos["acme/tiny-awq"].branches = ("v2",)
    pinned, failed = edit.pin(models)
    assert [row.name for row in pinned] == ["Tiny BF16"]
    assert [error.message for error in failed] == [
        "Tiny AWQ INT4: not pinned: acme/tiny-awq has no revision 'main'"
    ]
    assert changes(models) == [
        f'+ revision = "{hub.repos["acme/tiny"].commit}"',
    ]


# -- what add says and refuses -------------------------------------------------------------------


def test_add_says_how_the_checkpoint_is_stored(hub: Hub, models: Path, tmp_path: Path) -> None:
    added = edit.add(models, "acme/tiny-fp8", cache=tmp_path / "cache")
    assert added.format.name == "FP8 dynamic"
    assert (added.sizes.format, added.checkpoint) == ("FP8 dynamic", "acme/tiny-fp8")
    assert added.base is None  # the family is there


def test_what_no_server_would_serve_is_not_written(hub: Hub, models: Path, tmp_path: Path) -> None:
    hub.repos["acme/tiny-exl3"] = repo(quantized(quant_method="exl3", bits=4.0), "acme/tiny")
    with pytest.raises(WeightsError, match=r"is quantized with exl3 .* does not have") as caught:
        edit.add(models, "acme/tiny-exl3", cache=tmp_path / "cache")
    assert caught.value.fix.startswith("ExLlamaV3 (TabbyAPI) serves it; choose a checkpoint in")
    hub.repos["acme/bare"] = repo({})
    hub.repos["acme/bare"].files.pop("tokenizer.json")
    with pytest.raises(WeightsError, match="acme/bare has no tokenizer files"):
        edit.add(models, "acme/tiny-gguf", GGUF, tokenizer="acme/bare", cache=tmp_path / "cache")
    assert models.read_text() == MODELS


def test_a_second_row_of_a_checkpoint_is_proposed_and_not_written(
    hub: Hub, models: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="acme/tiny is there already: 'Tiny BF16'") as caught:
        edit.add(models, "acme/tiny", cache=tmp_path / "cache")
    assert models.read_text() == MODELS
    _, *tables = caught.value.fix.split("\n\n")
    assert len(tables) == 3
    for table in tables:
        models.write_text(f"{MODELS}\n\n{table}")
        *_, row = problems.load_experiment(models).variant
        assert (row.family, row.repo, row.revision) == (
            "Tiny",
            "acme/tiny",
            hub.repos["acme/tiny"].commit,
        )
        assert row.serve.model_fields_set
        assert row.name.startswith("Tiny BF16, ")


def test_another_branch_is_another_checkpoint_and_its_commit_is_written(
    hub: Hub, models: Path, tmp_path: Path
) -> None:
    asked = hub.repos["acme/tiny-awq"]
    hub.repos["acme/tiny-awq"] = replace(asked, branches=("main", "4bit-32g"))
    cache = tmp_path / "cache"
    with pytest.raises(WeightsError, match="5bit"):
        edit.add(models, "acme/tiny-awq", cache=cache, revision="5bit")
    assert models.read_text() == MODELS
    added = edit.add(models, "acme/tiny-awq", cache=cache, revision="4bit-32g")
    *_, row = problems.load_experiment(models).variant
    assert (added.name, row.revision) == ("tiny-awq 4bit-32g", asked.commit)
    with pytest.raises(ConfigError, match="is there already"):
        edit.add(models, "acme/tiny-awq", cache=cache, revision="4bit-32g")


@pytest.mark.parametrize(
    ("name", "base", "family"),
    [
        ("else/Copy-FP8", "unsloth/Copy", "Tiny"),  # a copy's child: the copy was made of tiny
        ("else/TINY_FP8", None, "Tiny"),  # nothing is stated, its name begins with a known one's
        ("else/Other-FP8", None, "Other-FP8"),
        ("else/Other-FP8", "ACME/Tiny", "Tiny"),
        ("else/Other-FP8", "gone/Base", "Base"),
    ],
)
def test_a_quantized_child_of_a_known_model_gets_no_family_of_its_own(
    name: str, base: str | None, family: str, hub: Hub, models: Path, tmp_path: Path
) -> None:
    hub.repos["unsloth/Copy"] = repo({}, "acme/tiny")
    hub.repos[name] = repo(quantized(quant_method="fp8"), base)
    assert edit.add(models, name, cache=tmp_path / "cache").family == family


def test_a_family_that_a_quantized_model_heads_names_what_it_was_made_from(
    hub: Hub, models: Path, tmp_path: Path
) -> None:
    hub.repos["else/Big-FP8"] = repo(quantized(quant_method="fp8"), "else/Big")
    added = edit.add(models, "else/Big-FP8", cache=tmp_path / "cache")
    assert (added.family, added.new_family, added.base) == ("Big", True, "else/Big")


GGUF = "tiny-Q4_K_M.gguf"
