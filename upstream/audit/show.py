"""An audit's statements as data, and for people: what is wrong first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from upstream.audit.statement import CONFIRMED, FAILING, UNCHECKED, VERDICTS, Statement

SHOWN = 6  # keys of one reason, unless all are asked for


def data(statements: Iterable[Statement]) -> dict[str, Any]:
    ordered = _ordered(statements)
    counts = Counter(one.verdict for one in ordered)
    return {
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "statements": [{**one.__dict__, "value": _plain(one.value)} for one in ordered],
    }


def _plain(value: Any) -> Any:
    """As JSON has it; a day is a text."""
    return json.loads(json.dumps(value, default=str))


def text(statements: Iterable[Statement], every: bool = False) -> str:
    """`every`: each confirmed statement with its place, not their number alone."""
    ordered = _ordered(statements)
    counts = Counter(one.verdict for one in ordered)
    lines = [", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)]
    for verdict in VERDICTS:
        those = [one for one in ordered if one.verdict == verdict]
        if those:
            lines += ["", f"{verdict} ({len(those)})"]
            lines += _group(verdict, those, every)
    return "\n".join(lines)


def _group(verdict: str, those: list[Statement], every: bool) -> Iterator[str]:
    if verdict in FAILING:
        for one in those:
            yield f"  {one.file}: {one.key}" + ("" if one.value is None else f" is {one.value!r}")
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
    elif verdict == CONFIRMED:
        for file, number in sorted(Counter(one.file for one in those).items()):
            yield f"  {file}: {number}"


def _ordered(statements: Iterable[Statement]) -> list[Statement]:
    return sorted(statements, key=lambda one: (VERDICTS.index(one.verdict), one.file))
