"""Ranges of numbers: devices (`0-7,9`), ranks and ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Span = tuple[int, int]  # first and last


def parse(raw: Any) -> tuple[int, ...] | None:
    """The numbers in `0-7`, `0,2,4-5`, a number or a list; None for None.

    Keeps order and repetition. A range whose end is before its start is empty.
    """
    if raw is None:
        return None
    if isinstance(raw, str):
        return tuple(number for part in raw.split(",") for number in _range(part))
    return tuple(int(number) for number in (raw if isinstance(raw, list) else [raw]))


def _range(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


def compact(numbers: Iterable[int]) -> str:
    """`0-7,9` for 0 to 7 and 9."""
    found: list[Span] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return ",".join(map(span_text, found))


def span_text(span: Span) -> str:
    """`9000-9015`, or the number alone when first and last are the same."""
    first, last = span
    return str(first) if first == last else f"{first}-{last}"


def spans(ports: Mapping[str, int | list[int]]) -> dict[str, Span]:
    """Each port of a plan as a span."""
    return {
        name: (port[0], port[1]) if isinstance(port, list) else (port, port)
        for name, port in ports.items()
    }


def overlap(one: Span, other: Span) -> bool:
    """Whether both spans have a number in common."""
    return one[0] <= other[1] and one[1] >= other[0]
