"""What the project states, and what came of holding it against the sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONFIRMED = "confirmed"
CONTRADICTED = "contradicted"
UNSOURCED = "without a source"
UNCHECKED = "not checkable"
FAILING = (CONTRADICTED, UNSOURCED)
VERDICTS = (CONTRADICTED, UNSOURCED, UNCHECKED, CONFIRMED)


@dataclass(frozen=True)
class Statement:
    """`file`, `key`: where it is stated. `source`: file:line that confirms or contradicts it.

    `why`: what the source says instead, or why nothing can be held against it.
    """

    file: str
    key: str
    value: Any
    verdict: str
    source: str = ""
    why: str = ""


def confirmed(file: str, key: str, value: Any, source: str) -> Statement:
    return Statement(file, key, value, CONFIRMED, source)


def contradicted(file: str, key: str, value: Any, source: str, why: str) -> Statement:
    return Statement(file, key, value, CONTRADICTED, source, why)


def unchecked(file: str, key: str, value: Any, why: str, source: str = "") -> Statement:
    return Statement(file, key, value, UNCHECKED, source, why)


def unsourced(file: str, key: str, value: Any) -> Statement:
    return Statement(file, key, value, UNSOURCED, why="say where it comes from: source")


def flat(document: Mapping[str, Any], whole: tuple[str, ...] = ("add",)) -> dict[str, Any]:
    """Dotted key -> value of the leaves; lists, empty mappings and those of `whole` are leaves."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and value and name not in whole:
            found |= {f"{name}.{key}": one for key, one in flat(value, whole).items()}
        else:
            found[str(name)] = value
    return found
