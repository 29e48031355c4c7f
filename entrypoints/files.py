"""Writing files."""

from __future__ import annotations

import os


def write(path: str, text: str) -> None:
    """Replace a file atomically, and make its folder. Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(fresh, path)
