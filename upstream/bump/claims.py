"""What several places say of one thing: the first that speaks holds, the others may contradict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from upstream.model import Contradiction, Decision, Derived, Fact

Claim = tuple[Any, str]  # a value, and where it stands


@dataclass
class Findings:
    """A file's worth of facts while it is gathered."""

    facts: list[Fact] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def settle(
        self, key: str, claims: Iterable[Claim], same: Callable[[Any, Any], bool] | None = None
    ) -> Any:
        """Note the first claim as a fact, and who says otherwise; None where nobody speaks."""
        said = list(claims)
        if not said:
            return None
        taken, source = said[0]
        self.facts.append(Fact(key, taken, source))
        self.dispute(key, taken, said, same)
        return taken

    def dispute(
        self,
        key: str,
        taken: Any,
        said: Iterable[Claim],
        same: Callable[[Any, Any], bool] | None = None,
    ) -> None:
        """Note a contradiction where some claim is not what was taken."""
        agree = same or (lambda one, other: bool(one == other))
        claims = tuple(said)
        others = tuple(claim for claim in claims if not agree(claim[0], taken))
        if others:
            who = tuple(claim for claim in claims if agree(claim[0], taken))[:1]
            self.contradictions.append(Contradiction(key, (*who, *others), taken))

    def ask(self, key: str, question: str, taken: Any = None) -> None:
        self.decisions.append(Decision(key, question, taken))

    def derived(self) -> Derived:
        return Derived(tuple(self.facts), tuple(self.contradictions), tuple(self.decisions))


def merged(parts: Iterable[Derived]) -> Derived:
    """Several into one, in order."""
    every = list(parts)
    return Derived(
        tuple(fact for part in every for fact in part.facts),
        tuple(one for part in every for one in part.contradictions),
        tuple(one for part in every for one in part.decisions),
    )


def lines(sources: Iterable[str]) -> str:
    """Citations in one: `vllm-ascend v0.18.0: Dockerfile:36, 89, requirements.txt:5; vllm …`."""
    trees: dict[str, dict[str, list[str]]] = {}
    for source in (one for cited in sources for one in cited.split("; ")):
        tree, _, place = source.partition(": ")
        file, colon, line = place.rpartition(":")
        numbers = trees.setdefault(tree, {}).setdefault(file if colon else place, [])
        if colon and line not in numbers:
            numbers.append(line)
    return "; ".join(_cited(tree, files) for tree, files in trees.items())


def _cited(tree: str, files: dict[str, list[str]]) -> str:
    places = [
        f"{file}:{', '.join(numbers)}" if numbers else file for file, numbers in files.items()
    ]
    return ": ".join(filter(None, (tree, ", ".join(places))))
