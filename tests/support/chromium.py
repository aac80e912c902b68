"""A Chromium for the browser tests: the machine's own, else one that is installed first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_APT = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]


def executable() -> str | None:
    """Its path, or None for the browser that Playwright keeps itself.

    Where there is none it is installed: by Debian's package manager where that may be used (a
    container, a CI machine), else by Playwright, which needs no rights but its download host.
    """
    found = _find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*_APT, "update"], check=True, env=quiet, stdout=subprocess.DEVNULL)
        argv = [*_APT, "install", "--yes", "--no-install-recommends", "chromium"]
        subprocess.run(argv, check=True, env=quiet, stdout=subprocess.DEVNULL)
        found = _find()
    if found is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)
    return found


def _find() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)
