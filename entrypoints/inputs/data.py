"""Reads the files under env/ and recipes that the operator mounts.

`python -m entrypoints.inputs.data` caches every document under env/ (entrypoints/documents.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from entrypoints import documents
from entrypoints.documents import path_of as path_of
from entrypoints.messages import refused
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

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
        return documents.load(path)
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"not UTF-8 at byte {error.start}"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise refused("unreadable-file", path, why=why)


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
        from entrypoints import yaml12

        return yaml12.parse(text)
    except (ValueError, RecursionError) as error:
        raise refused("unreadable-text", where, why=error) from None


def names(kind: str) -> list[str]:
    """The names of every YAML file under env/<kind>/, at any depth, without `.yaml`."""
    return cached(("names", kind), lambda: _names(kind))


def _names(kind: str) -> list[str]:
    root = path_of(kind, "")
    paths = [os.path.join(at, file) for at, _, files in os.walk(root) for file in files]
    return sorted(one[len(root) : -len(".yaml")] for one in paths if one.endswith(".yaml"))


def is_file(path: str) -> bool:
    """Whether the path is something other than a directory."""
    return os.path.exists(path) and not os.path.isdir(path)


def main() -> None:
    """Cache every document under env/, for a quick start."""
    sys.dont_write_bytecode = False
    for name in names(""):
        documents.parse_file(path_of(f"{name}.yaml"))


if __name__ == "__main__":
    main()
