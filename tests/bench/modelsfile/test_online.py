"""`bench validate --online`: what the Hub says about each key, on its line."""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, Repo, serve_client

from bench.modelsfile import online, problems
from bench.weights.hub import UnreachableError

HEAD = """\
[[hardware]]
id = "l40"
name = "NVIDIA L40"
engine = "cuda"
runner = ["l40"]
gpu_memory_gib = 44.5

[[family]]
name = "Tiny"
baseline = "A"

"""
GOOD = {"config.json": {}, "tokenizer.json": {}, "model.safetensors": b"x"}
INDEX = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
SHARDS: dict[str, Any] = {
    "config.json": {},
    "model.safetensors.index.json": INDEX,
    "model-1.safetensors": b"1",
    "model-2.safetensors": b"2",
}
DUMMY = 'stages = ["speed"]\nserve = { load_format = "dummy" }'


def gguf(architecture: str) -> bytes:
    """A GGUF file that states its architecture and holds nothing."""
    words = [
        struct.pack("<Q", len(w)) + w for w in (b"general.architecture", architecture.encode())
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + words[0] + struct.pack("<I", 8) + words[1]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_client(
        {
            "acme/good": Repo.of(GOOD),
            "acme/gguf": Repo.of({"a-Q4_0.gguf": gguf("llama"), "b-Q4_0.gguf": gguf("bert")}),
            "acme/shards": Repo.of(SHARDS | {"original/consolidated.safetensors": b"x"}),
            "acme/gap": Repo.of({name: SHARDS[name] for name in SHARDS if "2" not in name}),
            "acme/pickled": Repo.of({"config.json": {}, "tokenizer.json": {}, "a.bin": b"x"}),
            "acme/bare": Repo.of({"config.json": {}, "model.safetensors": b"x"}),
            "acme/odd": Repo.of(GOOD | {"config.json": "[]"}),
        },
        monkeypatch,
        tmp_path,
    ) as server:
        yield server


def problems_of(variant: str, tmp_path: Path) -> list[tuple[int, str, str]]:
    """Line within the variant's table, key and message of each problem."""
    path = tmp_path / "models.toml"
    path.write_text(f'{HEAD}[[variant]]\nname = "A"\nfamily = "Tiny"\n{variant}\n')
    tomllib.loads(path.read_text())
    found = online.check(problems.load_experiment(path), path.read_text(), tmp_path / "cache")
    before = HEAD.count("\n")
    return [(problem.line - before, problem.key, problem.message) for problem in found]


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ('repo = "acme/good"', []),
        ('bundled = "smollm2-135m-bf16"', []),
        ('repo = "acme/gguf"\nfile = "a-Q4_0.gguf"\ntokenizer = "acme/good"', []),
        (
            'repo = "acme/none"',
            [
                (
                    4,
                    "variant[0].repo",
                    "there is no repository acme/none, or it is private and HF_TOKEN is not set",
                )
            ],
        ),
        (
            'repo = "acme/good"\nrevision = "v2"',
            [(5, "variant[0].revision", "acme/good has no revision 'v2'")],
        ),
        (
            'repo = "acme/gguf"\nfile = "a-Q8_0.gguf"\ntokenizer = "acme/gguf"',
            [
                (5, "variant[0].file", "acme/gguf has no file a-Q8_0.gguf"),
                (6, "variant[0].tokenizer", "acme/gguf has no tokenizer files"),
            ],
        ),
        (
            'repo = "acme/gguf"\nfile = "a-Q4_0.gguf"\ntokenizer = "acme/good"\n'
            'tokenizer_revision = "v2"',
            [(7, "variant[0].tokenizer_revision", "acme/good has no revision 'v2'")],
        ),
        (
            'repo = "acme/gguf"\nfile = "b-Q4_0.gguf"\ntokenizer = "acme/good"',
            [
                (
                    5,
                    "variant[0].file",
                    "b-Q4_0.gguf: whether the engine loads GGUF files of the architecture 'bert' "
                    "rightly was not checked; gemma3, llama, phi3, qwen2, qwen3 were",
                )
            ],
        ),
        ('repo = "acme/gguf"', [(4, "variant[0].repo", "acme/gguf holds GGUF files")]),
        ('repo = "acme/shards"', []),
        (
            'repo = "acme/gap"',
            [
                (
                    4,
                    "variant[0].repo",
                    "acme/gap lacks model-2.safetensors, which its index names",
                )
            ],
        ),
        (f'repo = "acme/pickled"\n{DUMMY}', []),
        (
            f'repo = "acme/bare"\n{DUMMY}',
            [(4, "variant[0].repo", "acme/bare has no tokenizer files")],
        ),
        ('repo = "acme/odd"', [(4, "variant[0].repo", "config.json is not a JSON object")]),
    ],
)
@pytest.mark.usefixtures("hub")
def test_each_problem_names_its_line_and_key(
    variant: str, expected: list[tuple[int, str, str]], tmp_path: Path
) -> None:
    assert problems_of(variant, tmp_path) == expected


def test_an_unknown_licence_is_a_problem(hub: Hub, tmp_path: Path) -> None:
    hub.repos["acme/good"].card = {}
    message = "acme/good states no licence"
    assert problems_of('repo = "acme/good"', tmp_path) == [(4, "variant[0].repo", message)]
    hub.repos["acme/good"].card = {"license": "other", "license_name": "acme-1.0"}
    assert problems_of('repo = "acme/good"', tmp_path) == []


def test_a_gated_repository_is_a_problem_for_who_may_not_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["acme/good"].gated = True
    message = "acme/good is gated and does not let in anyone without a token"
    assert problems_of('repo = "acme/good"', tmp_path) == [(4, "variant[0].repo", message)]
    hub.repos["acme/good"].members = frozenset({"hf_member"})
    hub.tokens.add("hf_member")
    monkeypatch.setenv("HF_TOKEN", "hf_member")
    assert problems_of('repo = "acme/good"', tmp_path) == []


@pytest.mark.parametrize("repo", ["good", "shards"])
def test_no_weights_are_downloaded(repo: str, hub: Hub, tmp_path: Path) -> None:
    problems_of(f'repo = "acme/{repo}"', tmp_path)
    assert not hub.asked("/cdn/")
    assert {path.rpartition("/")[2] for _, path, *_ in hub.asked("/resolve/")} <= {
        "config.json",
        "model.safetensors.index.json",
    }


def test_no_network_is_no_verdict(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.down = True
    with pytest.raises(UnreachableError):
        problems_of('repo = "acme/good"', tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError):
        problems_of('repo = "acme/good"', tmp_path)


@pytest.mark.usefixtures("hub")
def test_a_forbidden_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read at its import
    with pytest.raises(UnreachableError, match="HF_HUB_OFFLINE forbids"):
        problems_of('repo = "acme/good"', tmp_path)


def test_the_command_asks_the_hub_too(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    path = tmp_path / "models.toml"
    path.write_text(f'{HEAD}[[variant]]\nname = "A"\nfamily = "Tiny"\nrepo = "acme/shards"\n')
    assert bench("validate", path, "--online").code == 0
    del hub.repos["acme/shards"].files["model-1.safetensors"]
    ran = bench("validate", path, "--online")
    assert ran.code == 2
    assert "variant[0].repo: acme/shards lacks model-1.safetensors" in ran.err
