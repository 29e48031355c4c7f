"""The result of comparing a value of the project with upstream's sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONFIRMED = "confirmed"
READ = "as read"
CONTRADICTED = "contradicted"
UNSOURCED = "without a source"
UNCHECKED = "not checkable"
FAILING = (CONTRADICTED, UNSOURCED)
VERDICTS = (CONTRADICTED, UNSOURCED, UNCHECKED, READ, CONFIRMED)


@dataclass(frozen=True)
class AuditResult:
    """`file`, `key`: where the project states the value. `source`: file:line that decides.

    `why`: what the source says instead, or why it cannot be checked. `line`: of the key in `file`,
    0 until it is looked up. The field names are the keys of `--format json`.
    """

    file: str
    key: str
    value: Any
    verdict: str
    source: str = ""
    why: str = ""
    line: int = 0


def confirmed(file: str, key: str, value: Any, source: str) -> AuditResult:
    return AuditResult(file, key, value, CONFIRMED, source)


def contradicted(file: str, key: str, value: Any, source: str, why: str) -> AuditResult:
    return AuditResult(file, key, value, CONTRADICTED, source, why)


def unchecked(file: str, key: str, value: Any, why: str, source: str = "") -> AuditResult:
    return AuditResult(file, key, value, UNCHECKED, source, why)


def unsourced(file: str, key: str, value: Any) -> AuditResult:
    return AuditResult(file, key, value, UNSOURCED, why="has no `source`")


def compared(file: str, key: str, value: Any, upstream: Any, source: str) -> AuditResult:
    """Confirmed if upstream has the same value, else contradicted."""
    if value == upstream:
        return confirmed(file, key, value, source)
    return contradicted(file, key, value, source, f"is {upstream!r} there")


def found(
    file: str, key: str, value: Any, place: str | None, searched: str, why: str
) -> AuditResult:
    """Confirmed if there is a place with the value, else contradicted by what was searched."""
    if place:
        return confirmed(file, key, value, place)
    return contradicted(file, key, value, searched, why)


def flat(document: Mapping[str, Any], whole: tuple[str, ...] = ("add",)) -> dict[str, Any]:
    """Dotted key → value of each leaf; lists, empty mappings and mappings in `whole` are leaves."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and value and name not in whole:
            found |= {f"{name}.{key}": one for key, one in flat(value, whole).items()}
        else:
            found[str(name)] = value
    return found
