"""Reads the files under env/ and recipes that the operator mounts: YAML, and generated JSON.

Importing PyYAML takes as long as everything else before the start. So a document under env/ is
cached as JSON in `__pycache__` beside its file, like Python's byte code, and valid while the file
has the same size and time. `python -m entrypoints.inputs.data` writes all caches.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from entrypoints import files
from entrypoints.findings import DATA, Message, Refused
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

_UNREADABLE = Message(
    "{why}", "give a readable YAML file in UTF-8", code="unreadable-file", exit_code=DATA
)
_NOT_A_DOCUMENT = Message(
    "{why}", "give one document of JSON or YAML", code="unreadable-text", exit_code=DATA
)
_HERE = os.path.abspath(__file__)
ENV_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))), "env")


# What `cached` made, within CachedReads; None outside of it, because a start makes one plan.
_cache: dict[tuple[str, ...], Any] | None = None


class CachedReads:
    """`with CachedReads():` reads each file once, for code that makes many plans."""

    def __enter__(self) -> None:
        global _cache
        self.before = _cache
        _cache = {} if _cache is None else _cache

    def __exit__(self, *_: object) -> None:
        global _cache
        _cache = self.before


def cached(key: tuple[str, ...], make: Callable[[], T]) -> T:
    """The result of `make`. Within CachedReads it is shared by key, so do not change it."""
    if _cache is None:
        return make()
    if key not in _cache:
        _cache[key] = make()
    made: T = _cache[key]
    return made


def read(path: str) -> Any:
    """The document in a YAML or JSON file.

    Raises Refused (65) when the file cannot be read, is not UTF-8, or is not one document.
    """
    return cached(("read", path), lambda: _read(path))


def _read(path: str) -> Any:
    try:
        if path.endswith(".json"):
            return json.loads(_text(path))
        document = _read_json_cache(path) if path.startswith(ENV_DIR) else None
        return _parse(path) if document is None else document
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"not UTF-8 at byte {error.start}"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise Refused([_UNREADABLE(path, why=why)])


def parse(text: str, where: str) -> Any:
    """The document in a text, JSON or YAML. `where` names the text in the finding.

    Raises Refused (65) when it is not one document.
    """
    try:
        if text.startswith("{"):
            try:
                return json.loads(text)
            except ValueError:
                pass  # YAML uses braces, too
        from entrypoints.inputs import yaml12

        return yaml12.parse(text)
    except (ValueError, RecursionError) as error:
        raise Refused([_NOT_A_DOCUMENT(where, why=error)]) from None


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8-sig")


def _parse(path: str) -> Any:
    from entrypoints.inputs.yaml12 import parse

    document = parse(_text(path))
    if path.startswith(ENV_DIR) and not sys.dont_write_bytecode:
        _write_json_cache(path, document)
    return document


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


def path_of(*parts: str) -> str:
    """The path of a file under env/."""
    return os.path.join(ENV_DIR, *parts)


def names(kind: str) -> list[str]:
    """The names of every YAML file under env/<kind>/, at any depth, without `.yaml`."""
    return cached(("names", kind), lambda: _names(kind))


def _names(kind: str) -> list[str]:
    root = path_of(kind)
    found = []
    for folder, _, those in os.walk(root):
        for file in those:
            if file.endswith(".yaml"):
                path = os.path.relpath(os.path.join(folder, file), root)
                found.append(path[: -len(".yaml")].replace(os.sep, "/"))
    return sorted(found)


def is_file(path: str) -> bool:
    """Whether the path is something other than a directory."""
    return os.path.exists(path) and not os.path.isdir(path)


def main() -> None:
    """Cache every document under env/, for a quick start."""
    sys.dont_write_bytecode = False
    for name in names(""):
        _parse(path_of(f"{name}.yaml"))


if __name__ == "__main__":
    main()
