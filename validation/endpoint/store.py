"""Results on disk: one JSON file a run, never overwritten."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, user_error


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def made(directory: Path) -> Path:
    """The directory, made where it is missing. Raises UserError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise user_error(
            "--out", f"{directory}: {error.strerror}", "give another directory"
        ) from None
    return directory


def fresh(directory: Path, *names: str) -> Path:
    """A new directory for the files of a run, for nobody else to read. Raises UserError."""
    path = directory / "-".join([re.sub(r"[-:]", "", now()), *names])
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise user_error("--out", f"{path}: {error.strerror}", "give another directory") from None
    return path.resolve()


def write(directory: Path, record: Mapping[str, Any], *names: str) -> Path:
    """Write a record into a file named by its date and `names`; returns its path."""
    date = re.sub(r"[-:]", "", str(record["date"]))
    stem = "-".join([date, *(_slug(name) for name in names if name)])
    content = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    for number in range(1, 1000):
        path = directory / f"{stem}{f'-{number}' if number > 1 else ''}.json"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            continue
        except OSError as error:
            raise user_error(
                "--out", f"{path}: {error.strerror}", "give another directory"
            ) from None
        return path
    raise user_error(
        "--out", f"{directory}: a thousand runs within one second", exit_code=EX_DATAERR
    )


def read(path: Path) -> dict[str, Any]:
    """A record. Raises UserError (65) for what is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise user_error(
            str(path), f"cannot be read: {error.strerror}", exit_code=EX_DATAERR
        ) from None
    except ValueError as error:
        raise user_error(str(path), f"is no JSON: {error}", exit_code=EX_DATAERR) from None
    if not isinstance(record, dict):
        raise user_error(str(path), "is no result of a trial", exit_code=EX_DATAERR)
    return record


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[:80].strip("-.")
