"""What a check says: an outcome for each thing that was outcome_of at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import EX_UNAVAILABLE, Finding, UserError


@dataclass(frozen=True)
class Outcome:
    """One thing that was outcome_of at, and what is wrong with it."""

    name: str
    problems: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Report:
    """An image, by the digest that was outcome_of at, and every outcome."""

    image: str
    digest: str
    outcomes: tuple[Outcome, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(problem for one in self.outcomes for problem in one.problems)


def outcome_of(name: str, problems: Iterable[Finding]) -> Outcome:
    """The outcome of a look, where data that cannot be read is one more problem.

    Raises UserError (69) when something did not answer: that says nothing of the image.
    """
    found: list[Finding] = []
    try:
        found.extend(problems)
    except UserError as error:
        if error.exit_code == EX_UNAVAILABLE:
            raise
        found += [Finding(f"{name}: {one.where}", one.message, one.fix) for one in error.findings]
    return Outcome(name, tuple(found))


def merged(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """One outcome a name, no problem twice."""
    return tuple(
        Outcome(
            name, tuple(dict.fromkeys(p for o in outcomes if o.name == name for p in o.problems))
        )
        for name in dict.fromkeys(one.name for one in outcomes)
    )
