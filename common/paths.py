"""Where the project's own files are: in a checkout, or beside the installed packages."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
ENV = ROOT / "env"
WORK = ROOT / "build"  # what commands keep between runs; git ignores it
