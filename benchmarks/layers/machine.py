"""Measure how busy the machine is, and wait until it is idle."""

from __future__ import annotations

import time
from pathlib import Path

WINDOW = 3.0  # seconds over which the processors are watched


def busy(window: float = WINDOW) -> float:
    """The share of CPU time that all processes use over `window` seconds."""
    total, idle = ticks()
    time.sleep(window)
    total_after, idle_after = ticks()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def wait_until_calm(limit: float, patience: float) -> float:
    """Wait up to `patience` seconds until CPU usage is at most `limit`; return the usage."""
    end = time.monotonic() + patience
    while (share := busy()) > limit and time.monotonic() < end:
        pass
    return share


def ticks() -> tuple[int, int]:
    """The total and the idle CPU time since boot, in ticks."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]
