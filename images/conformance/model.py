"""The result of a conformance check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import EX_UNAVAILABLE, Finding, UserError


@dataclass(frozen=True)
class Outcome:
    """One check and what it found wrong."""

    name: str
    problems: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Report:
    """Every outcome for an image, with its digest."""

    image: str
    digest: str
    outcomes: tuple[Outcome, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(problem for one in self.outcomes for problem in one.problems)


def outcome_of(name: str, problems: Iterable[Finding]) -> Outcome:
    """The outcome of a check. Data that cannot be read is one more problem.

    Raises UserError (69) if a service did not answer, which says nothing about the image.
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
    """One outcome for each name, without repeated problems."""
    return tuple(
        Outcome(
            name, tuple(dict.fromkeys(p for o in outcomes if o.name == name for p in o.problems))
        )
        for name in dict.fromkeys(one.name for one in outcomes)
    )
