"""The next variant's weights come while nothing is measured, and once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_runs import MODELS, PATIENCE_S, REVISION, STAGES, Place, kill, wait_until
from engines import engine_python
from hub_server import Hub, Repo, serve

from bench.config import ServeOptions, Variant
from bench.weights import prefetch

pytestmark = pytest.mark.process

__all__ = ["engine_python"]  # a fixture
SIZE, FIRST = 30_000_000, 15_000_000  # bytes; the client library takes pieces of 10 MiB


@pytest.fixture
def place(tmp_path: Path, engine_python: Path) -> Iterator[Place]:
    """One where nothing is in the cache and nothing is pinned."""
    place = Place(tmp_path, engine_python)
    (tmp_path / "models.toml").write_text(MODELS.replace(f'revision = "{REVISION}"\n', ""))
    place.environment |= {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": ""}
    place.environment |= {"NO_PROXY": "127.0.0.1,localhost", "HF_TOKEN": ""}
    yield place
    kill(*place.living())  # of a test that failed


@pytest.fixture
def hub(place: Place) -> Iterator[Hub]:
    """A Hub that has both variants; B's weights are large."""
    repos = {
        "stand-in/a": Repo.of({"config.json": {"a": 1}, "model.safetensors": b"weights"}),
        "stand-in/b": Repo.of({"config.json": {"b": 1}, "b.safetensors": b"w" * SIZE}),
    }
    with serve(repos) as hub:
        place.environment["HF_ENDPOINT"] = hub.url
        yield hub


def downloading(place: Place) -> bool:
    return any("bench.weights.prefetch" in command for command in place.living().values())


def let_pass(place: Place, moment: str) -> None:
    (place.folder / "standin" / f"hold-{moment}").unlink()


def test_weights_come_while_a_server_loads_and_in_quality_but_never_in_speed(
    place: Place, hub: Hub
) -> None:
    hub.faults.stall_after["b.safetensors"] = FIRST
    for moment in ("start-1", "speed-1", "quality-1"):
        place.hold(moment)
    process = place.start()
    place.wait_for("start")
    assert hub.stalled.wait(PATIENCE_S)  # in the middle of B's weights
    assert downloading(place)
    let_pass(place, "start-1")
    place.wait_for("speed")
    assert not downloading(place)
    [partial] = (place.folder / "empty").rglob("*.partial")
    kept = partial.stat().st_size
    assert 0 < kept <= FIRST
    hub.faults.stall_after.clear()
    let_pass(place, "speed-1")
    place.wait_for("quality")
    wait_until(lambda: not partial.exists() and not downloading(place))
    let_pass(place, "quality-1")
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert set(place.finished()) == set(STAGES)
    sha256 = hub.repos["stand-in/b"].files["b.safetensors"].sha256
    ranges = [asked[2] for asked in hub.asked(f"/cdn/{sha256}") if asked[0] == "GET"]
    assert ranges == [None, f"bytes={kept}-"]
    place.check_nothing_left()


def test_a_failed_download_is_told_in_its_own_turn_and_once(place: Place, hub: Hub) -> None:
    del hub.repos["stand-in/b"]
    status, said = place.run()
    assert status == 4, said
    assert said.count("error: ") == 1
    assert "error: there is no repository stand-in/b" in said
    assert said.index("A: quality ok") < said.index("there is no repository stand-in/b")
    assert set(place.finished()) == {"a/speed", "a/quality"}
    place.check_nothing_left()


def test_a_run_that_is_stopped_stops_it_too(place: Place, hub: Hub) -> None:
    hub.faults.stall_after["b.safetensors"] = FIRST
    place.hold("start")
    process = place.start()
    assert hub.stalled.wait(PATIENCE_S)
    kill(process.pid)
    process.communicate(timeout=PATIENCE_S)
    place.check_nothing_left()


def test_which_weights_are_next() -> None:
    def variant(name: str, repo: str | None, **more: str) -> Variant:
        return Variant.model_validate({"name": name, "family": "F", "repo": repo, **more})

    now = variant("A", "x/a")
    kernel = now.model_copy(update={"name": "B", "serve": ServeOptions(linear_backend="marlin")})
    bundled = variant("C", None, bundled="smollm2-135m-bf16")
    pinned = variant("D", "x/a", revision="v1")
    assert prefetch.following(now, [kernel, bundled, pinned]) == pinned
    assert prefetch.following(now, [kernel, bundled]) is None
