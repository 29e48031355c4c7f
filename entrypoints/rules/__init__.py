"""Rules that find what cannot work, and what works but deserves a warning.

A rule is a small function over Facts that yields findings. The facts of a release, with their
sources, are in env/stack.yaml and env/releases; what the rules report, in
env/messages/launch.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entrypoints.findings import Finding
from entrypoints.launch.facts import Facts
from entrypoints.rules import (
    additional_config,
    batches,
    experts,
    known_issues,
    machine,
    memory,
    parallel,
    ports,
    transfer,
)

RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    *parallel.RULES,
    *ports.RULES,
    *transfer.RULES,
    *additional_config.RULES,
    *experts.RULES,
    *batches.RULES,
    *memory.RULES,
    *machine.RULES,
    *known_issues.RULES,
)


def check(facts: Facts) -> list[Finding]:
    """Every error and warning, in the order of RULES."""
    return [finding for rule in RULES for finding in rule(facts)]
