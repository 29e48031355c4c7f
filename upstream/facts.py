"""Facts derived from a release's sources, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fact:
    """`key`: dotted, as in the file that holds it (`cann`, `features.mlapo.default`).

    `source`: `vllm-ascend v0.18.0: Dockerfile.a3:18`.
    """

    key: str
    value: Any
    source: str


@dataclass(frozen=True)
class Contradiction:
    """Places that disagree. `claims`: (value, source) of each. `taken`: the first value."""

    key: str
    claims: tuple[tuple[Any, str], ...]
    taken: Any


@dataclass(frozen=True)
class Decision:
    """A question that sources do not answer. `taken`: the value until a person decides."""

    key: str
    question: str
    taken: Any = None


@dataclass(frozen=True)
class Derived:
    """The facts of a file, with contradictions and the decisions that people must make."""

    facts: tuple[Fact, ...]
    contradictions: tuple[Contradiction, ...] = ()
    decisions: tuple[Decision, ...] = ()
