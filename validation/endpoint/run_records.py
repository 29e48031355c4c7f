"""Run records on disk: one JSON file for each run, never overwritten."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, UserError, user_error


def utc_now() -> str:
    """The time in UTC, as in 2025-11-24T09:08:07Z."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def create_directory(directory: Path) -> Path:
    """Create the directory if it is missing, and return it. Raises UserError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(directory, error) from None
    return directory


def create_run_directory(directory: Path, *names: str) -> Path:
    """Create a private directory for the files of a run. Raises UserError."""
    path = directory / "-".join([_compact(utc_now()), *names])
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise _unwritable(path, error) from None
    return path.resolve()


def write(directory: Path, record: Mapping[str, Any], *names: str) -> Path:
    """Write a record to a file named after its date and `names`, and return the path."""
    stem = "-".join([_compact(str(record["date"])), *(_slug(name) for name in names if name)])
    content = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    for number in range(1, 1000):
        path = directory / f"{stem}{f'-{number}' if number > 1 else ''}.json"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(path, error) from None
        return path
    raise user_error("--out", f"{directory}: too many runs within a second", exit_code=EX_DATAERR)


def read(path: Path) -> dict[str, Any]:
    """Read a record. Raises UserError (65) if the file is not one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise user_error(str(path), what, exit_code=EX_DATAERR) from None
    except ValueError as error:
        raise user_error(str(path), f"is not JSON: {error}", exit_code=EX_DATAERR) from None
    if not isinstance(record, dict):
        raise user_error(str(path), "is not a run record", exit_code=EX_DATAERR)
    return record


def _unwritable(path: Path, error: OSError) -> UserError:
    return user_error("--out", f"{path}: {error.strerror}", "give another directory")


def _compact(date: str) -> str:
    return re.sub(r"[-:]", "", date)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[:80].strip("-.")
