"""What a record says of a failure: the reason, and nothing of whose machine it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import ServerError
from bench.measure.run import describe_failure


@pytest.mark.parametrize("name", ["RUN", "CACHE", "HOME"])
def test_no_folder_of_the_machine_is_published(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "somebody"
    places = {"RUN": home / "runs" / "1", "CACHE": home / ".cache" / "quantbench", "HOME": home}
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BENCH_CACHE", str(places["CACHE"]))
    place = places[name]
    told = describe_failure(ServerError(f"no {place}/x, nor {place}/y"), places["RUN"])
    assert (told.kind, told.message) == ("ServerError", f"no {name}/x, nor {name}/y")
