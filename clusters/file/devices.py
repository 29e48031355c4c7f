"""Lists of devices: `0-7`, `0,2,4-5`, or numbers."""

from __future__ import annotations

from typing import Any


def numbers(raw: Any) -> tuple[int, ...] | None:
    """The devices that are named, None for none; in the order and as often as they are named."""
    if raw is None:
        return None
    if isinstance(raw, str):
        return tuple(number for part in raw.split(",") for number in _range(part))
    return tuple(int(number) for number in (raw if isinstance(raw, list) else [raw]))


def _range(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)
