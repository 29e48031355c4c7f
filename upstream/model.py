"""What is read from a release's sources, each with the place where it stands."""

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
    """Places that disagree. `said`: (value, source) of each, what holds first; `taken`: that."""

    key: str
    said: tuple[tuple[Any, str], ...]
    taken: Any


@dataclass(frozen=True)
class Decision:
    """What sources do not settle. `taken`: what stands there until a person has decided."""

    key: str
    question: str
    taken: Any = None


@dataclass(frozen=True)
class Derived:
    """A file's worth of facts, what contradicts itself, and what is left to a person."""

    facts: tuple[Fact, ...]
    contradictions: tuple[Contradiction, ...] = ()
    decisions: tuple[Decision, ...] = ()
