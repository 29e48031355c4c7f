"""Collect facts from several places: the first claim is taken, later ones may contradict it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from upstream.facts import Contradiction, Decision, Derived, Fact

Claim = tuple[Any, str]  # a value and its source


@dataclass
class FactCollector:
    """Collects the facts, contradictions and decisions of a file."""

    facts: list[Fact] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def settle(
        self, key: str, claims: Iterable[Claim], same: Callable[[Any, Any], bool] | None = None
    ) -> Any:
        """Record the first claim as a fact, and others as contradictions; None without claims."""
        given = list(claims)
        if not given:
            return None
        taken, source = given[0]
        self.facts.append(Fact(key, taken, source))
        self.dispute(key, taken, given, same)
        return taken

    def dispute(
        self,
        key: str,
        taken: Any,
        claims: Iterable[Claim],
        same: Callable[[Any, Any], bool] | None = None,
    ) -> None:
        """Record a contradiction if a claim differs from the value taken."""
        agree = same or (lambda one, other: bool(one == other))
        given = tuple(claims)
        others = tuple(claim for claim in given if not agree(claim[0], taken))
        if others:
            agreeing = tuple(claim for claim in given if agree(claim[0], taken))[:1]
            self.contradictions.append(Contradiction(key, (*agreeing, *others), taken))

    def ask(self, key: str, question: str, taken: Any = None) -> None:
        """Record a decision that a person must make."""
        self.decisions.append(Decision(key, question, taken))

    def derived(self) -> Derived:
        return Derived(tuple(self.facts), tuple(self.contradictions), tuple(self.decisions))


def merge(parts: Iterable[Derived]) -> Derived:
    """Concatenate the parts."""
    every = list(parts)
    return Derived(
        tuple(fact for part in every for fact in part.facts),
        tuple(one for part in every for one in part.contradictions),
        tuple(one for part in every for one in part.decisions),
    )
