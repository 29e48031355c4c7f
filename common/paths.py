"""Where the project's own files are, in a checkout or installed, and where commands keep theirs."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENV = ROOT / "env"
CHECKOUT = (ROOT / "pyproject.toml").is_file()


def _work() -> Path:
    """What commands keep between runs: build/ in a checkout, which git ignores; else a cache."""
    if CHECKOUT:
        return ROOT / "build"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "ascend-images"


WORK = _work()
