"""Replace facts about this machine that the serving machine does not share."""

from __future__ import annotations

import collections

import psutil  # type: ignore[import-untyped]

# vLLM refuses a swap space beyond the memory of the host, and warns beyond 40 % of it.
MEMORY = 2 << 40  # bytes, as boards of the platforms have


def replace() -> None:
    """Give this process the memory of a large host."""
    memory = collections.namedtuple("memory", ("total", "available", "percent", "used", "free"))
    answer = memory(MEMORY, MEMORY, 0.0, 0, MEMORY)
    psutil.virtual_memory = lambda: answer
