"""Reads what is under env/ and recipes mounted by the operator: YAML, and JSON where generated.

Importing PyYAML takes as long as everything else before the start, so a document under env/ is kept
as JSON in `__pycache__` beside its file, as Python keeps its byte code: valid while the file has
the same size and time. `python -m entrypoints.inputs.data` writes all of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

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


# What was read or made of it, kept while many plans are made at once; a start makes one.
_kept: dict[tuple[str, ...], Any] | None = None


class Keeping:
    """`with Keeping():` reads every file once and makes of it once what `once` is asked for."""

    def __enter__(self) -> None:
        global _kept
        self.before = _kept
        _kept = {} if _kept is None else _kept

    def __exit__(self, *_: object) -> None:
        global _kept
        _kept = self.before


def once(key: tuple[str, ...], make: Callable[[], T]) -> T:
    """What `make` gives; within Keeping the first one by that key, which nobody may change."""
    if _kept is None:
        return make()
    if key not in _kept:
        _kept[key] = make()
    kept: T = _kept[key]
    return kept


def read(path: str) -> Any:
    """The document in a YAML or JSON file.

    Raises Refused (65) when the file cannot be read, is not UTF-8, or is not one document.
    """
    return once(("read", path), lambda: _read(path))


def _read(path: str) -> Any:
    try:
        if path.endswith(".json"):
            return json.loads(_text(path))
        cached = _cached(path) if path.startswith(ENV_DIR) else None
        return _parse(path) if cached is None else cached
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"not UTF-8 at byte {error.start}"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise Refused([_UNREADABLE(path, why=why)])


def parse(text: str, where: str) -> Any:
    """The document in a text that was given as `where`: JSON or YAML.

    Raises Refused (65) when it is not one document.
    """
    try:
        if text.startswith("{"):
            try:
                return json.loads(text)
            except ValueError:
                pass  # YAML has braces, too
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
        _keep(path, document)
    return document


def _cache_of(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, "__pycache__", f"{name}.json")


def _state(path: str) -> list[int]:
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns]


def _cached(path: str) -> Any:
    """The kept document, None when there is none for the file as it is now."""
    try:
        with open(_cache_of(path), "rb") as file:
            kept = json.loads(file.read())
        return kept["document"] if kept["state"] == _state(path) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _keep(path: str, document: Any) -> None:
    """Writes the cache file, as a whole or not at all; only what JSON can hold exactly."""
    cache = _cache_of(path)
    try:
        kept = json.dumps({"state": _state(path), "document": document})
        if json.loads(kept)["document"] != document:
            return
        os.makedirs(os.path.dirname(cache), exist_ok=True)
        fresh = f"{cache}.{os.getpid()}"
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(kept)
        os.replace(fresh, cache)
    except (OSError, TypeError, ValueError):
        return


def path_of(*parts: str) -> str:
    """The path of a file under env/."""
    return os.path.join(ENV_DIR, *parts)


def names(kind: str) -> list[str]:
    """The names of every YAML file under env/<kind>/, at any depth, without `.yaml`."""
    return once(("names", kind), lambda: _names(kind))


def _names(kind: str) -> list[str]:
    root = path_of(kind)
    found = []
    for folder, _, files in os.walk(root):
        for file in files:
            if file.endswith(".yaml"):
                path = os.path.relpath(os.path.join(folder, file), root)
                found.append(path[: -len(".yaml")].replace(os.sep, "/"))
    return sorted(found)


def is_file(path: str) -> bool:
    """Whether something other than a directory is there to be read."""
    return os.path.exists(path) and not os.path.isdir(path)


def main() -> None:
    """Keep every document under env/ for a quick start."""
    sys.dont_write_bytecode = False
    for name in names(""):
        _parse(path_of(f"{name}.yaml"))


if __name__ == "__main__":
    main()
