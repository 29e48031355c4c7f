"""What is wrong, said once and for all problems together.

Exit codes follow sysexits: 64 a wrong or missing variable or argument, 65 a wrong recipe,
69 a peer that is not reachable in time, 78 a machine or image that does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable

from entrypoints.record import NamedTuple

USAGE = 64
DATA = 65
PEER = 69
MACHINE = 78


class Problem(NamedTuple):
    """One reason not to start. `where` is a variable, an argument, or a file with a key."""

    code: str
    where: str
    message: str
    fix: str
    source: str = ""
    exit_code: int = USAGE

    def line(self) -> str:
        """`where: message; fix [code, source]` on one line, whatever the texts contain."""
        tail = f"{self.code}, {self.source}" if self.source else self.code
        return one_line(f"{self.where}: {self.message}; {self.fix} [{tail}]")


class Advice(NamedTuple):
    """Something that works and deserves a warning; `source` says who found out."""

    code: str
    message: str
    fix: str
    source: str

    def line(self) -> str:
        """`message; fix [code, source]` on one line, whatever the texts contain."""
        return one_line(f"{self.message}; {self.fix} [{self.code}, {self.source}]")


class Refused(Exception):
    """Raised with every problem found so far; the smallest exit code of them wins."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        self.exit_code = min(p.exit_code for p in self.problems)
        super().__init__("\n".join(p.line() for p in self.problems))


def one_line(text: str) -> str:
    """The text with everything that is not printable escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def choose(word: str, known: Iterable[str]) -> str:
    """The advice for a name that is not known: the nearest one first, then all of them."""
    import difflib  # only ever needed on the way out

    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
