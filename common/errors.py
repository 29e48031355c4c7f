"""The two ways a command can fail: the user's input is wrong, or the machinery broke."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

EX_USAGE = 64  # sysexits(3): a wrong option
EX_DATAERR = 65  # wrong data: the matrix, a lock, an installer's checksum
EX_UNAVAILABLE = 69  # an engine, a registry or an index does not answer
EX_SOFTWARE = 70  # a build that ran and failed


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and what to do about it."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.fix})" if self.fix else "")


class UserError(Exception):
    """Every problem found, to be shown one a line and to end the command with `exit_code`."""

    def __init__(self, problems: Iterable[Problem], exit_code: int = EX_USAGE) -> None:
        self.problems = tuple(problems)
        self.exit_code = exit_code
        super().__init__("\n".join(map(str, self.problems)))


def fail(where: str, what: str, fix: str = "", exit_code: int = EX_USAGE) -> UserError:
    """A `UserError` of one problem."""
    return UserError([Problem(where, what, fix)], exit_code)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of `known`, or all of them when nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names)}"
