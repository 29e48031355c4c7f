"""Files that are there as a whole or as they were before."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from common.errors import EX_UNAVAILABLE, user_error


def put(path: Path, text: str, parents: bool = False) -> Path:
    """Write a file in place of one that is there, and return it; `parents`: with its directories.

    Raises UserError (69) when it cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        message = f"{path} cannot be written: {error.strerror}"
        raise user_error("--out", message, "give another file", EX_UNAVAILABLE) from None
    return path
