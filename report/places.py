"""Where the report keeps what it is made with."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
ASSETS = _HERE / "assets"
REFERENCE = _HERE / "reference"
TEMPLATES = _HERE / "templates"
