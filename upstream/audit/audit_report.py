"""Print an audit: as JSON data, and as text with the errors first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from upstream.audit.audit_result import (
    CONFIRMED,
    FAILING,
    READ,
    UNCHECKED,
    VERDICTS,
    AuditResult,
)

SHOWN = 6  # keys to list for a reason


def data(results: Iterable[AuditResult]) -> dict[str, Any]:
    """The results as JSON data."""
    ordered = _ordered(results)
    counts = Counter(one.verdict for one in ordered)
    return {
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "statements": [{**one.__dict__, "value": _plain(one.value)} for one in ordered],
    }


def _plain(value: Any) -> Any:
    """The value as JSON data; dates become texts."""
    return json.loads(json.dumps(value, default=str))


def text(results: Iterable[AuditResult], every: bool = False) -> str:
    """The results for people. `every`: list each confirmed value, not just their number."""
    ordered = _ordered(results)
    counts = Counter(one.verdict for one in ordered)
    lines = [", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)]
    for verdict in VERDICTS:
        those = [one for one in ordered if one.verdict == verdict]
        if those:
            lines += ["", f"{verdict} ({len(those)})"]
            lines += _group(verdict, those, every)
    return "\n".join(lines)


def _group(verdict: str, those: list[AuditResult], every: bool) -> Iterator[str]:
    if verdict in FAILING:
        for one in those:
            place = f"{one.file}:{one.line}" if one.line else one.file
            yield f"  {place}: {one.key}" + ("" if one.value is None else f" is {one.value!r}")
            yield f"      {one.source}: {one.why}" if one.source else f"      {one.why}"
    elif every:
        for one in those:
            yield f"  {one.file}: {one.key}: {one.source or one.why}"
    elif verdict == UNCHECKED:
        for why, same in groupby(sorted(those, key=lambda one: one.why), lambda one: one.why):
            keys = [f"{one.file}: {one.key}" for one in same]
            more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            yield f"  {why} ({len(keys)})"
            yield f"      {', '.join(keys[:SHOWN])}{more}"
    elif verdict in (READ, CONFIRMED):
        for file, number in sorted(Counter(one.file for one in those).items()):
            yield f"  {file}: {number}"


def _ordered(results: Iterable[AuditResult]) -> list[AuditResult]:
    return sorted(results, key=lambda one: (VERDICTS.index(one.verdict), one.file))
