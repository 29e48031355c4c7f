"""Where a build's time went: `python -m benchmarks.layers.steps FILE...` of BuildKit's rawjson.

Prints each step that took time, and below it what BuildKit did inside (exporting layers, unpacking,
pushing), in order of their start; times are seconds since the first event.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

LEAST = 0.05  # seconds worth a line


def events(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file that may hold other lines between them."""
    decoder, position = json.JSONDecoder(), 0
    while (position := text.find("{", position)) >= 0:
        try:
            event, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            position += 1
            continue
        yield event


def spans(text: str) -> list[tuple[datetime, datetime, str]]:
    """(start, end, what) of every step and of every part of a step that took time."""
    found: dict[tuple[str, str], tuple[datetime, datetime, str]] = {}
    for event in events(text):
        for item in event.get("vertexes") or ():
            _add(found, (item["digest"], item.get("started", "")), item, item["name"])
        for item in event.get("statuses") or ():
            _add(found, (item["vertex"], item["id"]), item, f"    {item['id']}")
    return sorted(found.values())


def _add(
    found: dict[tuple[str, str], tuple[datetime, datetime, str]],
    key: tuple[str, str],
    item: dict[str, Any],
    name: str,
) -> None:
    if item.get("started") and item.get("completed"):
        found[key] = _time(item["started"]), _time(item["completed"]), name


def _time(value: str) -> datetime:
    whole, _, fraction = value.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")


def main() -> None:
    for path in sys.argv[1:]:
        found = spans(Path(path).read_text(errors="replace"))
        print(path)
        for start, end, name in found:
            seconds = (end - start).total_seconds()
            if seconds >= LEAST:
                since = (start - found[0][0]).total_seconds()
                print(f"{since:8.2f} {seconds:8.2f}  {' '.join(name.split())[:110]}")


if __name__ == "__main__":
    main()
