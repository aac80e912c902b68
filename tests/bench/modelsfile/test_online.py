"""`bench validate --online`: what the Hub says about each key, on its line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_headers import TENSOR, gguf, safetensors
from checkpoint_shapes import LLAMA, SHAPES, Shape
from hub_server import Content, Hub, Repo, serve_client

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
WEIGHTS = safetensors({"a": TENSOR}) + bytes(16)
GOOD = {"config.json": {}, "tokenizer.json": {}, "model.safetensors": WEIGHTS}
INDEX = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
SHARDS: dict[str, Any] = {
    "config.json": {},
    "model.safetensors.index.json": INDEX,
    "model-1.safetensors": WEIGHTS,
    "model-2.safetensors": WEIGHTS,
}
DUMMY = 'stages = ["speed"]\nserve = { load_format = "dummy" }'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_client(
        {
            "acme/good": Repo.of(GOOD),
            "acme/gguf": Repo.of(
                {
                    "a-Q4_0.gguf": gguf({"general.architecture": "llama"}),
                    "b-Q4_0.gguf": gguf({"general.architecture": "bert"}),
                }
            ),
            "acme/shards": Repo.of(SHARDS | {"original/consolidated.safetensors": b"x"}),
            "acme/gap": Repo.of({name: SHARDS[name] for name in SHARDS if "2" not in name}),
            "acme/pickled": Repo.of({"config.json": {}, "tokenizer.json": {}, "a.bin": b"x"}),
            "acme/bare": Repo.of({"config.json": {}, "model.safetensors": WEIGHTS}),
            "acme/odd": Repo.of(GOOD | {"config.json": "[]"}),
        },
        monkeypatch,
        tmp_path,
    ) as server:
        yield server


def problems_of(variant: str, tmp_path: Path, gpus: int = 1) -> list[tuple[int, str, str]]:
    """Line within the variant's table, key and message of each problem."""
    path = tmp_path / "models.toml"
    head = HEAD.replace('runner = ["l40"]', f'runner = ["l40"]\ngpus = {gpus}')
    path.write_text(f'{head}[[variant]]\nname = "A"\nfamily = "Tiny"\n{variant}\n')
    tomllib.loads(path.read_text())
    found = online.check(problems.load_experiment(path), path.read_text(), tmp_path / "cache")
    before = head.count("\n")
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
    ranges = [byte_range for _, _, byte_range, _ in hub.asked("/cdn/")]
    assert ranges
    assert set(ranges) == {"bytes=0-99999"}  # headers
    assert {path.rpartition("/")[2] for _, path, *_ in hub.asked("/resolve/")} <= {
        "config.json",
        "model.safetensors.index.json",
        "model.safetensors",
        "model-1.safetensors",
        "model-2.safetensors",
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


# -- the checkpoint against the engine -----------------------------------------------------------


def of_shape(shape: Shape) -> Repo:
    """A repository with the configuration and one linear layer of a shape."""
    header = {"model.layers.0.mlp.up_proj.weight": {**TENSOR, "dtype": shape.stored}}
    files = {"config.json": shape.config, "tokenizer.json": {}} | shape.sidecars
    return Repo.of(files | {"model.safetensors": safetensors(header) + bytes(16)})


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_engine_s_methods_decide_what_is_refused(
    shape: Shape, hub: Hub, tmp_path: Path
) -> None:
    hub.repos["acme/x"] = of_shape(shape)
    found = problems_of('repo = "acme/x"', tmp_path)
    if "quantize_config.json" in shape.sidecars:
        assert [message for _, _, message in found] == [
            "acme/x says only in quantize_config.json that it is quantized with gptq, and vLLM "
            "does not look there by itself"
        ]
        assert not problems_of('repo = "acme/x"\nserve = { quantization = "gptq" }', tmp_path)
    elif shape.method is None or shape.engine:
        assert not found
    else:
        ((line, key, message),) = found
        assert (line, key) == (4, "variant[0].repo")
        assert f"is quantized with {shape.method} (" in message
        assert message.endswith("which vLLM 0.32.0 (cuda) does not have")


@pytest.mark.parametrize(
    ("shape", "serve", "expected"),
    [
        ("Gemma-3, in text_config", 'quantization = "fp8"',
         "is quantized with gptq (INT4 weight-only, groups of 128), and not with fp8"),
        ("Gemma-3, in text_config", 'quantization = "gguf"', "and not with gguf"),
        ("Gemma-3, in text_config", 'quantization = "gptq_marlin"', None),
        ("Qwen AWQ", 'quantization = "awq_marlin"', None),
        ("nvidia FP8, in config.json", 'quantization = "modelopt"', None),
        ("nvidia FP8, in config.json", 'quantization = "gptq"', "and not with gptq"),
        ("Qwen3-Next, hybrid", 'quantization = "fp8"', None),
        ("Qwen3-Next, hybrid", 'quantization = "awq"',
         "'awq' reads a checkpoint that is quantized already, and acme/x is in BF16"),
        ("Qwen AWQ", "max_model_len = 4097",
         "4097 tokens are more than the 4096 of acme/x, and vLLM 0.32.0 (cuda) does not start"),
        ("Qwen AWQ", "max_model_len = 4096", None),
        ("Qwen AWQ", "tensor_parallel_size = 3",
         "the 8 attention heads of acme/x cannot be shared by 3 GPUs"),
        ("Qwen AWQ", "tensor_parallel_size = 4", None),
    ],
)  # fmt: skip
def test_options_are_held_against_the_checkpoint(
    shape: str, serve: str, expected: str | None, hub: Hub, tmp_path: Path
) -> None:
    hub.repos["acme/x"] = of_shape(SHAPES[shape])
    variant = f'repo = "acme/x"\n[variant.serve]\n{serve}'
    found = problems_of(variant, tmp_path, gpus=4 if "parallel" in serve else 1)
    if expected is None:
        assert found == []
    else:
        ((line, key, message),) = found
        assert (line, key) == (6, f"variant[0].serve.{serve.partition(' ')[0]}")
        assert expected in message


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("BertForSequenceClassification", "answers with vectors or labels and writes no text"),
        ("BambaForCausalLM", "which vLLM had up to 0.23.0 and vLLM 0.32.0 (cuda) has not"),
    ],
)
def test_models_that_write_no_text_or_went(
    architecture: str, said: str, hub: Hub, tmp_path: Path
) -> None:
    config = LLAMA | {"architectures": [architecture]}
    hub.repos["acme/x"] = Repo.of(GOOD | {"config.json": config})
    ((_, key, message),) = problems_of('repo = "acme/x"', tmp_path)
    assert key == "variant[0].repo"
    assert message.endswith(said)


def test_weights_that_contradict_the_configuration(hub: Hub, tmp_path: Path) -> None:
    hub.repos["acme/x"] = of_shape(Shape(LLAMA, "U8", "unknown", None, None))
    ((_, key, message),) = problems_of('repo = "acme/x"', tmp_path)
    assert key == "variant[0].repo"
    assert message == (
        "acme/x contradicts itself: it says nothing of quantization, and holds quantized weights "
        "(1 in U8)"
    )


def test_a_projector_is_no_model(hub: Hub, tmp_path: Path) -> None:
    hub.repos["acme/gguf"].files["b-Q4_0.gguf"] = Content(
        data=gguf({"general.architecture": "clip"})
    )
    variant = 'repo = "acme/gguf"\nfile = "b-Q4_0.gguf"\ntokenizer = "acme/good"'
    ((line, key, message),) = problems_of(variant, tmp_path)
    assert (line, key) == (5, "variant[0].file")
    assert message.startswith("b-Q4_0.gguf is a projector (mmproj)")
