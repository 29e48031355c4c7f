"""Write files atomically: each has all of its new content or all of the old, never a part."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from common.errors import EX_UNAVAILABLE, user_error


def write_atomically(path: Path, content: str | bytes, parents: bool = False) -> Path:
    """Write or replace a file, and return its path; `parents`: create missing directories.

    Raises OSError, and leaves the old file as it was.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
        scratch.replace(path)
    except OSError:
        with suppress(OSError):
            scratch.unlink()
        raise
    return path


def write_output(path: Path, text: str, parents: bool = False) -> Path:
    """`write_atomically` for a file that the user names with --out.

    Raises UserError (69) when it cannot be written.
    """
    try:
        return write_atomically(path, text, parents)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise user_error("--out", message, "give another file", EX_UNAVAILABLE) from None


def write_directory(out: Path, files: Mapping[str, str]) -> list[Path]:
    """Write a set of files that belong together, scripts executable: all of them, or none.

    Raises UserError (69) when one cannot be written.
    """
    fresh: dict[Path, Path] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if (out / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{name} is a directory")
            scratch = fresh[out / name] = out / f".{name}.{os.getpid()}"
            scratch.write_text(content, encoding="utf-8")
            scratch.chmod(0o755 if content.startswith("#!") else 0o644)
        for path, scratch in fresh.items():
            scratch.replace(path)
    except OSError as error:
        for scratch in fresh.values():
            with suppress(OSError):
                scratch.unlink()
        message = f"{out} cannot be written: {error.strerror}"
        raise user_error("--out", message, "give another directory", EX_UNAVAILABLE) from None
    return list(fresh)
