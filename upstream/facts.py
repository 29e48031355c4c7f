"""Facts derived from a release's sources, each with its source."""

from __future__ import annotations

from collections.abc import Iterable
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


def join_citations(sources: Iterable[str]) -> str:
    """Join citations: `vllm-ascend v0.18.0: Dockerfile:36, 89, requirements.txt:5; vllm …`."""
    trees: dict[str, dict[str, list[str]]] = {}
    for source in (one for cited in sources for one in cited.split("; ")):
        tree, _, place = source.partition(": ")
        file, colon, line = place.rpartition(":")
        numbers = trees.setdefault(tree, {}).setdefault(file if colon else place, [])
        if colon and line not in numbers:
            numbers.append(line)
    return "; ".join(_citation(tree, files) for tree, files in trees.items())


def _citation(tree: str, files: dict[str, list[str]]) -> str:
    places = [
        f"{file}:{', '.join(numbers)}" if numbers else file for file, numbers in files.items()
    ]
    return ": ".join(filter(None, (tree, ", ".join(places))))
