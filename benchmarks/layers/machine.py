"""The machine's own state: how busy it is, and a wait until it is not."""

from __future__ import annotations

import time
from pathlib import Path

WINDOW = 3.0  # seconds over which the processors are watched


def busy(window: float = WINDOW) -> float:
    """Share of the processors' time that is in use, by anybody, over `window` seconds."""
    total, idle = ticks()
    time.sleep(window)
    total_after, idle_after = ticks()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def wait_until_calm(limit: float, patience: float) -> float:
    """Wait, `patience` seconds at most, until less than `limit` is in use; returns the share."""
    end = time.monotonic() + patience
    while (share := busy()) > limit and time.monotonic() < end:
        pass
    return share


def ticks() -> tuple[int, int]:
    """All of the processors' time since the machine started, and the idle part of it."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]
