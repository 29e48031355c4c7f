"""Waiting until a Ray cluster is complete."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from entrypoints.messages import refused

_NPUS = re.compile(r"^\s*[\d.]+/([\d.]+) NPU\s*$", re.MULTILINE)


def npus(status: str) -> int:
    """How many NPUs the cluster has, from the text of `ray status`."""
    return sum(int(float(number)) for number in _NPUS.findall(status))


def status(env: Mapping[str, str]) -> str:
    """The text of `ray status`."""
    import subprocess

    return subprocess.run(["ray", "status"], env=dict(env), capture_output=True, text=True).stdout


def wait(
    needed: int,
    timeout: float,
    status: Callable[[], str],
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once the cluster has `needed` NPUs. Raises Refused (69) after `timeout` seconds."""
    start, have, reported = clock(), -1, 0.0
    while True:
        now, before = clock() - start, have
        have = npus(status())
        if have >= needed:
            say(f"ray: {have} NPUs are available")
            return
        if now >= timeout:
            raise refused("ray-incomplete", have=have, needed=needed, timeout=timeout)
        if have != before or now - reported >= 30:
            say(f"ray: {have} of {needed} NPUs, {timeout - now:.0f} s left")
            reported = now
        sleep(2)
