"""Weights from a Hub on this machine, with the real client library in between."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_runs import PATIENCE_S
from hub_server import Content, Hub, Repo, serve_client

from bench.config import Variant
from bench.errors import BenchError, MachineError, WeightsError
from bench.weights import snapshot as weights
from bench.weights.checkpoint import Checkpoint
from bench.weights.hub import RemoteFile, UnreachableError

pytestmark = pytest.mark.process

# Longer than two of the client's pieces (10 MiB), so that there is something to resume.
BLOB = random.Random(0).randbytes(24_000_000)  # noqa: S311 - any bytes
CONFIG = {"model_type": "llama", "quantization_config": {"quant_method": "awq", "bits": 4}}
TOKENIZER: dict[str, Any] = {"tokenizer.json": {}, "tokenizer_config.json": {}}


def variant(**keys: Any) -> Variant:
    return Variant(**({"name": "A", "family": "F", "repo": "acme/tiny"} | keys))


def model(**files: Any) -> Repo:
    return Repo.of({"config.json": CONFIG, "model.safetensors": BLOB} | TOKENIZER | files)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_client({"acme/tiny": model()}, monkeypatch, tmp_path) as server:
        yield server


def names(snapshot: Checkpoint) -> list[str]:
    return [file.name for file in snapshot.facts.files]


# -- what is downloaded ------------------------------------------------------------------------


def test_a_snapshot_is_pinned_verified_and_holds_only_what_is_served(
    hub: Hub, tmp_path: Path
) -> None:
    hub.repos["acme/tiny"] = model(
        **{
            "README.md": "# model",
            "consolidated.safetensors": BLOB,
            "modeling_tiny.py": "import os",
            "onnx/model.json": {},
            "original/model.safetensors": BLOB,
            "pytorch_model.bin": b"pickle",
            "pytorch_model.bin.index.json": {},
            "training_args.pt": b"pickle",
            "chat_template.jinja": "{{ messages }}",
            "merges.txt": "a b",
            "notes.txt": "no",
        }
    )
    snapshot = weights.resolve(variant(), tmp_path)
    assert names(snapshot) == [
        "chat_template.jinja",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sorted(path.name for path in snapshot.path.iterdir()) == names(snapshot)
    assert snapshot.facts.revision == hub.repos["acme/tiny"].commit
    assert snapshot.facts.quantization_config == CONFIG["quantization_config"]
    assert snapshot.facts.license == "apache-2.0"
    assert (snapshot.path / "model.safetensors").read_bytes() == BLOB
    for file in snapshot.facts.files:
        content = hub.repos["acme/tiny"].files[file.name]
        assert (file.size_bytes, file.sha256) == (content.size, content.sha256)


def test_what_a_configuration_says_of_quantization_is_read_without_weights(
    hub: Hub, tmp_path: Path
) -> None:
    hub.repos["acme/plain"] = model(**{"config.json": {"model_type": "llama"}})
    read = weights.read_quantization
    assert read(variant(), tmp_path) == CONFIG["quantization_config"]
    assert read(variant(repo="acme/plain"), tmp_path) == {}
    assert read(variant(repo="acme/gguf", file="x.gguf", tokenizer="acme/tiny"), tmp_path) == {}
    assert not hub.asked("model.safetensors")
    hub.repos.clear()
    with pytest.raises(WeightsError):
        read(variant(), tmp_path / "other")


def test_a_second_time_nothing_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    first = weights.resolve(variant(), tmp_path)
    hub.requests.clear()
    assert weights.resolve(variant(), tmp_path) == first
    assert not hub.asked("/resolve/")


def test_of_shards_only_those_the_index_names(hub: Hub, tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    files = {"model.safetensors.index.json": index, "config.json": CONFIG}
    shards = dict.fromkeys(("model-1.safetensors", "model-2.safetensors", "old.safetensors"), b"x")
    hub.repos["acme/tiny"] = Repo.of(files | shards)
    assert names(weights.resolve(variant(), tmp_path)) == [
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
    ]


def test_one_gguf_file_with_its_tokenizer_repository(hub: Hub, tmp_path: Path) -> None:
    hub.repos["acme/gguf"] = Repo.of({"big-Q4_K_M.gguf": b"GGUF4", "big-Q8_0.gguf": b"GGUF8"})
    hub.repos["acme/tiny"].branches = ("v1",)
    keys = {"file": "big-Q4_K_M.gguf", "tokenizer": "acme/tiny", "tokenizer_revision": "v1"}
    snapshot = weights.resolve(variant(repo="acme/gguf", **keys), tmp_path)
    assert names(snapshot) == ["big-Q4_K_M.gguf"]
    assert snapshot.path.read_bytes() == b"GGUF4"
    assert snapshot.facts.tokenizer == "acme/tiny"
    assert snapshot.facts.tokenizer_revision == hub.repos["acme/tiny"].commit
    assert sorted(path.name for path in snapshot.tokenizer.iterdir()) == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_all_parts_of_a_split_gguf() -> None:
    parts = [RemoteFile(f"q/m-0000{n}-of-00003.gguf", 1, None, None) for n in (3, 1, 2)]
    chosen = weights.choose("a/b", "q/m-00001-of-00003.gguf", parts, tuple)
    assert [file.name[-19:-14] for file in chosen] == ["00001", "00002", "00003"]


def test_for_random_weights_none_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    snapshot = weights.resolve(variant(serve={"load_format": "dummy"}), tmp_path)
    assert names(snapshot) == ["config.json", "tokenizer.json", "tokenizer_config.json"]


def test_a_branch_is_resolved_and_a_commit_kept(hub: Hub, tmp_path: Path) -> None:
    repo = hub.repos["acme/tiny"]
    repo.branches = ("main", "v1.0")
    assert weights.resolve(variant(revision="v1.0"), tmp_path).facts.revision == repo.commit
    assert weights.resolve(variant(revision=repo.commit), tmp_path).facts.revision == repo.commit


def test_progress_is_reported_in_bytes_with_a_rate(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    weights.resolve(variant(), tmp_path, lambda *now: seen.append(now))
    assert seen[-1][:2] == (len(BLOB), len(BLOB))
    assert all(rate > 0 for _, _, rate in seen)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


# -- interrupted and corrupted downloads -------------------------------------------------------


def test_a_cut_connection_is_resumed_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.faults.cut_after["model.safetensors"] = [12_000_000]
    snapshot = weights.resolve(variant(), tmp_path)
    assert (snapshot.path / "model.safetensors").read_bytes() == BLOB
    assert [r[2] for r in hub.asked("/cdn/")] == [None, "bytes=10485760-"]


def test_a_killed_download_is_resumed_by_the_next_run(hub: Hub, tmp_path: Path) -> None:
    hub.faults.stall_after["model.safetensors"] = 12_000_000
    code = (
        "import sys; from pathlib import Path; from bench.config import Variant; "
        "from bench.weights import snapshot; "
        "snapshot.resolve(Variant(name='A', family='F', repo='acme/tiny'), Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path.cwd())}) as process:
        assert hub.stalled.wait(PATIENCE_S)
        partial = next(iter(tmp_path.glob("models--acme--tiny/blobs/*.partial")))
        while partial.stat().st_size == 0:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = partial.stat().st_size
    hub.faults.stall_after.clear()
    hub.requests.clear()
    snapshot = weights.resolve(variant(), tmp_path)
    assert (snapshot.path / "model.safetensors").read_bytes() == BLOB
    assert [r[2] for r in hub.asked("/cdn/")] == [f"bytes={kept}-"]
    assert not list(tmp_path.glob("models--acme--tiny/blobs/*.partial"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_corrupted_file_is_removed_and_the_next_run_mends_it(
    name: str, hub: Hub, tmp_path: Path
) -> None:
    hub.faults.corrupt.add(name)
    with pytest.raises(WeightsError, match=f"{name} was corrupted.*\n.*run again"):
        weights.resolve(variant(), tmp_path)
    blobs = tmp_path / "models--acme--tiny" / "blobs"
    digests = [blob.name for blob in blobs.iterdir() if blob.is_file()]
    assert hub.repos["acme/tiny"].files[name].sha256 not in digests
    assert hub.repos["acme/tiny"].files[name].git_sha1 not in digests
    hub.faults.corrupt.clear()
    assert "model.safetensors" in names(weights.resolve(variant(), tmp_path))


def test_a_partial_file_that_is_not_of_this_file_is_found_out(hub: Hub, tmp_path: Path) -> None:
    sha256 = hub.repos["acme/tiny"].files["model.safetensors"].sha256
    partial = tmp_path / "models--acme--tiny" / "blobs" / f"{sha256}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"\0" * 1000)
    with pytest.raises(WeightsError, match="was corrupted"):
        weights.resolve(variant(), tmp_path)
    assert not partial.exists()
    partial.write_bytes(b"\0" * (len(BLOB) + 1))
    assert weights.resolve(variant(), tmp_path).facts.files


def test_too_little_disk_is_said_before_anything_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.truncate(8 * 2**40)
    hub.repos["acme/huge"] = Repo({"huge.gguf": Content(path=path, stated_sha256="0" * 64)})
    with pytest.raises(MachineError, match=r"needs 8192\.0 GiB and .* GiB free") as caught:
        weights.resolve(variant(repo="acme/huge", file="huge.gguf"), tmp_path)
    assert caught.value.exit_code == 3
    assert not hub.asked("/cdn/")


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MachineError, match=r"cache.*: .*\n.*HF_HOME"):
        weights.resolve(variant(revision=hub.repos["acme/tiny"].commit), tmp_path / "cache")


# -- refusals ----------------------------------------------------------------------------------


def refusal(**keys: Any) -> BenchError:
    with pytest.raises(WeightsError) as caught:
        weights.resolve(variant(**keys), keys.pop("cache", Path("unused")))
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    assert caught.value.fix
    return caught.value


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_a_missing_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(repo="acme/none")
    nothing = "there is no repository acme/none"
    assert error.message == f"{nothing}, or it is private and HF_TOKEN is not set"
    hub.tokens.add("hf_good")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert refusal(repo="acme/none").message == nothing


@pytest.mark.usefixtures("here")
def test_a_gated_repository_without_and_with_a_token(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo = hub.repos["acme/tiny"]
    repo.gated, repo.members = True, frozenset({"hf_member"})
    assert refusal().message == "acme/tiny is gated and does not let in anyone without a token"
    hub.tokens |= {"hf_stranger", "hf_member"}
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    error = refusal()
    assert error.message == "acme/tiny is gated and does not let in the account of this token"
    assert f"{hub.url}/acme/tiny" in error.fix
    monkeypatch.setenv("HF_TOKEN", "hf_member")
    assert weights.resolve(variant(), tmp_path).facts.files


def test_the_token_never_leaves_the_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.tokens.add("hf_good")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    weights.resolve(variant(), tmp_path)
    assert all(with_token for *_, with_token in hub.asked("/api/models/"))
    assert not any(with_token for *_, with_token in hub.asked("/cdn/"))


@pytest.mark.usefixtures("here")
def test_an_expired_and_a_wrong_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.expired.add("hf_old")
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    error = refusal()
    assert error.message == 'the Hub refuses the token (User Access Token "bench" is expired)'
    assert "settings/tokens" in error.fix
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "Invalid credentials" in refusal().message


@pytest.mark.usefixtures("here", "hub")
def test_a_revision_that_is_not_there() -> None:
    assert refusal(revision="v9").message == "acme/tiny has no revision 'v9'"


@pytest.mark.usefixtures("here")
def test_a_wrong_file_name_gets_the_near_ones(hub: Hub) -> None:
    hub.repos["acme/tiny"] = Repo.of({"tiny-Q4_K_M.gguf": b"1", "tiny-IQ2_S.gguf": b"2"})
    error = refusal(file="tiny-Q4_KM.gguf")
    assert error.message == "acme/tiny has no file tiny-Q4_KM.gguf"
    assert error.fix.startswith("did you mean tiny-Q4_K_M.gguf")
    usual = "tiny-Q4_K_M.gguf"
    assert refusal().fix == (
        f'name one: `bench add acme/tiny:{usual}`, or file = "{usual}" in models.toml'
    )


@pytest.mark.usefixtures("here")
def test_the_type_of_a_gguf_file_finds_the_files_of_that_type(hub: Hub) -> None:
    parts = {f"BF16/tiny-BF16-0000{n}-of-00002.gguf": b"1" for n in (1, 2)}
    names = ("tiny-IQ4_XS.gguf", "tiny-Q4_K_M.gguf", "tiny-Q4_K_S.gguf", "mmproj-Q4_K_M.gguf")
    hub.repos["acme/tiny"] = Repo.of(parts | dict.fromkeys(names, b"2"))
    assert refusal(file="Q4_K_M.gguf").fix == "did you mean tiny-Q4_K_M.gguf?"
    assert refusal(file="BF16.gguf").fix == "did you mean BF16/tiny-BF16-00001-of-00002.gguf?"
    late = refusal(file="BF16/tiny-BF16-00002-of-00002.gguf")
    assert late.message == "BF16/tiny-BF16-00002-of-00002.gguf is part 2 of 2"
    assert late.fix == "name BF16/tiny-BF16-00001-of-00002.gguf"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": {}, "pytorch_model.bin": b"x"}, "only .bin files, which can run code"),
        ({"config.json": {}}, "has no safetensors weights on this branch"),
        ({"README.md": "see the branches"}, "has no safetensors weights on this branch"),
        ({"model.safetensors": b"x"}, "has no config.json"),
        (
            {"params.json": {}, "consolidated.safetensors": b"x", "tekken.json": {}},
            "is in Mistral's own format (params.json, consolidated.safetensors)",
        ),
        (
            {"config.json": {}, "consolidated.safetensors": b"x"},
            "under names that vLLM does not load (consolidated.safetensors)",
        ),
        (
            {"adapter_config.json": {}, "adapter_model.safetensors": b"x"},
            "is an adapter (LoRA), not a model",
        ),
        ({"model_index.json": {}, "unet/a.safetensors": b"x"}, "makes pictures"),
        ({"model.safetensors.index.json": {"weight_map": {}}}, "has no weight_map"),
        ({"model.safetensors.index.json": "]"}, "is not a JSON object"),
        ({"model.safetensors.index.json": {"weight_map": {"a": "../x.py"}}}, "lacks ../x.py"),
        ({"model.safetensors": b"x", "config.json": "[]"}, "config.json is not a JSON object"),
        ({"model.safetensors": b"x", "config.json": "{" * 10**5}, "is not a JSON object"),
    ],
)
def test_repositories_that_cannot_be_served(files: Any, message: str, hub: Hub) -> None:
    hub.repos["acme/tiny"] = Repo.of(files)
    assert message in refusal().message


@pytest.mark.usefixtures("here")
def test_a_hub_that_is_down_and_no_hub_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults.down = True
    assert refusal().message == "the Hub answers 503 for acme/tiny"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = refusal()
    assert isinstance(error, UnreachableError)
    assert error.message.startswith("http://127.0.0.1:9 does not answer (")


@pytest.mark.usefixtures("here")
def test_a_server_that_is_no_hub(hub: Hub) -> None:
    class NotARepo(Repo):
        commit = "none"

    hub.repos["acme/tiny"] = NotARepo({})
    assert refusal().message == f"{hub.url} does not answer as a Hub does"


@pytest.mark.usefixtures("here", "hub")
def test_a_name_the_hub_would_not_take() -> None:
    assert refusal(repo="acme/a--b").message == "acme/a--b is not a repository name"


@pytest.mark.parametrize("odd", [None, "awq", [4], 4])
def test_a_quantization_config_that_is_no_table_is_not_recorded(
    odd: Any, hub: Hub, tmp_path: Path
) -> None:
    hub.repos["acme/tiny"] = model(**{"config.json": {"quantization_config": odd}})
    assert weights.resolve(variant(), tmp_path).facts.quantization_config is None


# -- offline -----------------------------------------------------------------------------------


def test_offline_the_cache_will_do(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    online = weights.resolve(variant(tokenizer="acme/tiny"), tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    offline = weights.resolve(variant(tokenizer="acme/tiny"), tmp_path)
    assert not hub.requests
    assert (offline.path, offline.facts.files) == (online.path, online.facts.files)
    assert offline.facts.revision == offline.facts.tokenizer_revision == online.facts.revision


@pytest.mark.usefixtures("here", "hub")
def test_offline_with_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refusal().message == "acme/tiny at main is not in the cache"
    assert refusal(revision="0" * 40).message == f"acme/tiny at {'0' * 40} is not in the cache"


def test_offline_with_half_a_model_in_the_cache(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    hub.repos["acme/tiny"] = Repo.of(
        {"model.safetensors.index.json": index, "model-1.safetensors": b"1"}
        | {"model-2.safetensors": b"2", "config.json": {}}
    )
    (weights.resolve(variant(), tmp_path).path / "model-2.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"lacks model-2\.safetensors"):
        weights.resolve(variant(), tmp_path)


def test_without_a_network_a_pinned_revision_comes_from_the_cache(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    online = weights.resolve(variant(), tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    again = weights.resolve(variant(revision=online.facts.revision), tmp_path)
    assert again.facts.files == online.facts.files
    with pytest.raises(UnreachableError):  # what "main" is today, the cache cannot know
        weights.resolve(variant(), tmp_path)
    with pytest.raises(UnreachableError):  # nor does it have this one
        weights.resolve(variant(revision="0" * 40), tmp_path)


def test_without_a_network_the_tokenizer_has_to_be_pinned_too(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.repos["acme/gguf"] = Repo.of({"big.gguf": b"GGUF"})
    keys = {"repo": "acme/gguf", "file": "big.gguf", "tokenizer": "acme/tiny"}
    keys["revision"] = hub.repos["acme/gguf"].commit
    pinned = variant(**keys, tokenizer_revision=hub.repos["acme/tiny"].commit)
    online = weights.resolve(pinned, tmp_path)
    weights.resolve(variant(**keys), tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    offline = weights.resolve(pinned, tmp_path)
    assert offline.facts.tokenizer_revision == online.facts.tokenizer_revision
    with pytest.raises(UnreachableError):
        weights.resolve(variant(**keys), tmp_path)


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", [lambda data: data[:10], flip], ids=["cut", "flipped"])
def test_offline_a_damaged_file_is_not_recorded_as_the_original(
    name: str, damage: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blob = (weights.resolve(variant(), tmp_path).path / name).resolve()
    blob.write_bytes(damage(blob.read_bytes()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=f"{name} was corrupted.*\n.*run again with the Hub"):
        weights.resolve(variant(), tmp_path)
    assert not blob.exists()
    if name == "model.safetensors":
        with pytest.raises(
            WeightsError, match=r"as far as it is in the cache, .*\n.*HF_HUB_OFFLINE"
        ):
            weights.resolve(variant(), tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    mended = weights.resolve(variant(), tmp_path)
    assert (mended.path / name).read_bytes() == hub.repos["acme/tiny"].files[name].data


@pytest.mark.parametrize("offline", ["", "1"])
def test_what_another_program_downloaded_is_hashed_once_before_it_is_believed(
    offline: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = weights.resolve(variant(), tmp_path)
    (note,) = tmp_path.glob("models--acme--tiny/blobs/*.verified")
    note.unlink()  # as if it had been another program
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    assert weights.resolve(variant(), tmp_path).facts.files == first.facts.files
    assert note.exists()
    note.unlink()
    blob = (first.path / "model.safetensors").resolve()
    blob.write_bytes(flip(BLOB))
    hub.requests.clear()
    with pytest.raises(WeightsError, match="was corrupted"):
        weights.resolve(variant(), tmp_path)
    assert not note.exists()


@pytest.mark.parametrize("pinned", [False, True])
def test_what_is_in_the_cache_is_read_without_a_lock(
    pinned: bool, hub: Hub, tmp_path: Path
) -> None:
    """A complete cache on a volume that only reads serves too."""
    first = weights.resolve(variant(), tmp_path)
    asked = variant(revision=first.facts.revision) if pinned else variant()
    shutil.rmtree(tmp_path / ".locks")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    hub.requests.clear()
    assert weights.resolve(asked, tmp_path).path == first.path
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert not hub.asked("/resolve/")


# -- in a job, whose cache other jobs write to ---------------------------------------------------


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A job's own folder, and a cache beside it that another job has filled."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "job"))
    return tmp_path / "job"


def other_bytes(path: Path) -> None:
    """Other bytes of the same size, and the note that was written of the right ones, of these."""
    blob = path.resolve()
    blob.write_bytes(flip(blob.read_bytes()))
    status = blob.stat()
    blob.with_name(f"{blob.name}.verified").write_text(f"{status.st_size} {status.st_mtime_ns}")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_note_that_another_job_wrote_is_not_believed(
    name: str, hub: Hub, job: Path, tmp_path: Path
) -> None:
    first = weights.resolve(variant(), tmp_path / "cache")
    shutil.rmtree(job)  # as a runner does
    other_bytes(first.path / name)
    with pytest.raises(WeightsError, match=f"{name} was corrupted"):
        weights.resolve(variant(), tmp_path / "cache")
    again = weights.resolve(variant(), tmp_path / "cache")
    assert (again.path / name).read_bytes() == hub.repos["acme/tiny"].files[name].data
    assert again.facts.files == first.facts.files


def test_a_job_hashes_a_large_file_once(hub: Hub, job: Path, tmp_path: Path) -> None:
    """Its own notes lie in its own folder, and it writes none where others would read them."""
    first = weights.resolve(variant(), tmp_path / "cache")
    (note,) = tmp_path.rglob("*.verified")
    assert note.is_relative_to(job)
    written = note.stat().st_mtime_ns
    assert weights.resolve(variant(), tmp_path / "cache").facts == first.facts
    assert note.stat().st_mtime_ns == written


def test_a_blob_of_another_name_is_not_what_the_hub_names(
    hub: Hub, job: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cache names files by their hash; another job can name its own file as it is."""
    pinned = variant(revision=weights.resolve(variant(), tmp_path / "cache").facts.revision)
    folder = weights.resolve(pinned, tmp_path / "cache").path
    forged = flip(BLOB)
    blob = (folder / "model.safetensors").resolve().with_name(hashlib.sha256(forged).hexdigest())
    blob.write_bytes(forged)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(blob)
    shutil.rmtree(job)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError):  # where a person's cache would do
        weights.resolve(pinned, tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(WeightsError, match=r"model\.safetensors was corrupted"):
        weights.resolve(pinned, tmp_path / "cache")


def test_files_that_the_repository_does_not_have_are_removed(
    hub: Hub, job: Path, tmp_path: Path
) -> None:
    hub.repos["acme/tiny"] = model(**{"consolidated.safetensors": BLOB, "other.gguf": BLOB})
    folder = weights.resolve(variant(), tmp_path / "cache").path
    (folder / "model-2.safetensors").write_bytes(BLOB)
    (folder / "more").symlink_to(tmp_path)
    (folder / "gone.json").symlink_to(tmp_path / "nowhere")
    (folder / "other.gguf").write_bytes(b"read where it is named")
    weights.resolve(variant(), tmp_path / "cache")
    left = {path.name for path in folder.iterdir()}
    assert left == {*TOKENIZER, "config.json", "model.safetensors", "other.gguf"}
    (folder / "consolidated.safetensors").write_bytes(flip(BLOB))  # an engine may read it too
    with pytest.raises(WeightsError, match=r"consolidated\.safetensors was corrupted"):
        weights.resolve(variant(), tmp_path / "cache")
    assert not (folder / "consolidated.safetensors").exists()
