"""What cannot work, and what works but deserves a warning.

A rule is a small function over Facts that yields what it found. The facts it goes by, and their
sources, are in env/stack.yaml and env/releases; a rule holds only the words, which
docs/reference/checks.md shows.
"""

from __future__ import annotations

from entrypoints.problems import Advice, Problem
from entrypoints.rules import batches, experts, machine, memory, parallel, ports, transfer
from entrypoints.rules.facts import ERROR, Check, Facts

__all__ = ["CHECKS", "Check", "Facts", "check"]

CHECKS: tuple[Check, ...] = (
    *parallel.CHECKS,
    *ports.CHECKS,
    *transfer.CHECKS,
    *experts.CHECKS,
    *batches.CHECKS,
    *memory.CHECKS,
    *machine.CHECKS,
)


def check(facts: Facts, problems: list[Problem]) -> tuple[Advice, ...]:
    """Every warning, in the order of CHECKS; errors are added to `problems`."""
    advice: list[Advice] = []
    for one in CHECKS:
        for message, fix, where, source in one.rule(facts):
            source = source or one.source
            if one.severity == ERROR:
                problems.append(Problem(one.code, where, message, fix, source))
            else:
                advice.append(Advice(one.code, message, fix, source))
    return tuple(advice)
