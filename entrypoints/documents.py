"""Read YAML and JSON documents.

Importing PyYAML takes as long as everything else before the start. Documents under env/ are
therefore cached as JSON in `__pycache__` beside their files, like Python's byte code. A cached
document is valid while its file keeps its size and time.
"""

from __future__ import annotations

import json
import os
import sys

from entrypoints import files
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

ENV_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "env")


def path_of(*parts: str) -> str:
    """The path of a file under env/."""
    return os.path.join(ENV_DIR, *parts)


def load(path: str) -> Any:
    """The document in a YAML or JSON file. Raises OSError, ValueError or RecursionError."""
    if path.endswith(".json"):
        return json.loads(_text(path))
    document = _read_json_cache(path) if path.startswith(ENV_DIR) else None
    return parse_file(path) if document is None else document


def parse_file(path: str) -> Any:
    """The document in a YAML file, which is cached if it is under env/."""
    from entrypoints import yaml12

    document = yaml12.parse(_text(path))
    if path.startswith(ENV_DIR) and not sys.dont_write_bytecode:
        _write_json_cache(path, document)
    return document


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8-sig")


def _cache_path(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, "__pycache__", f"{name}.json")


def _size_and_time(path: str) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns]


def _read_json_cache(path: str) -> Any:
    """The cached document; None when there is none for the file as it is now."""
    try:
        with open(_cache_path(path), "rb") as file:
            cache = json.loads(file.read())
        return cache["document"] if cache["state"] == _size_and_time(path) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write_json_cache(path: str, document: Any) -> None:
    """Cache a document that JSON can hold exactly. Failing to write is no error."""
    try:
        text = json.dumps({"state": _size_and_time(path), "document": document})
        if json.loads(text)["document"] == document:
            files.write(_cache_path(path), text)
    except (OSError, TypeError, ValueError):
        pass
