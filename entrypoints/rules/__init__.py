"""Rules that find what cannot work, and what works but deserves a warning.

A rule is a small function over Facts that yields findings. The facts of a release, with their
sources, are in env/stack.yaml and env/releases.
"""

from __future__ import annotations

from entrypoints.findings import Check, Finding
from entrypoints.launch.facts import Facts
from entrypoints.rules import batches, experts, machine, memory, parallel, ports, transfer

CHECKS: tuple[Check, ...] = (
    *parallel.CHECKS,
    *ports.CHECKS,
    *transfer.CHECKS,
    *experts.CHECKS,
    *batches.CHECKS,
    *memory.CHECKS,
    *machine.CHECKS,
)


def check(facts: Facts) -> list[Finding]:
    """Every error and warning, in the order of CHECKS."""
    return [finding for one in CHECKS for finding in one(facts)]
