"""Findings, and the exception that ends a command with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

EX_USAGE = 64  # sysexits(3): a wrong option
EX_DATAERR = 65  # wrong data: the matrix, a lock, an installer's checksum
EX_UNAVAILABLE = 69  # an engine, a registry or an index does not answer
EX_SOFTWARE = 70  # a build that ran and failed

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or risky: where, what, what to do, and who says so.

    `where` is an option, a key (`instances.decode`) or a name. `file` and `line` (from 1) are set
    for a finding in a file that the user wrote. `code` names the check, and
    `source` the issue or `tag:path` behind it.
    """

    where: str
    message: str
    fix: str = ""
    code: str = ""
    source: str = ""
    severity: str = ERROR
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """`file:line: severity: where: message; fix [code, source]`, without empty parts."""
        place = f"{self.file}:{self.line}: {self.severity}: " if self.file else ""
        if not self.code:
            tail = f" ({self.fix})" if self.fix else ""
            return one_line(f"{place}{self.where}: {self.message}{tail}")
        tail = f"{self.code}, {self.source}" if self.source else self.code
        return one_line(f"{place}{self.where}: {self.message}; {self.fix} [{tail}]")

    def __lt__(self, other: Finding) -> bool:
        """Order by place in the file, errors first."""
        return self._order < other._order

    @property
    def _order(self) -> tuple[object, ...]:
        return (self.file, self.line, self.severity, self.code, *astuple(self))


class UserError(Exception):
    """Ends a command with all of its findings, printed one a line; `exit_code` is the status."""

    def __init__(self, findings: Iterable[Finding], exit_code: int = EX_USAGE) -> None:
        self.findings = tuple(findings)
        self.exit_code = exit_code
        super().__init__("\n".join(map(str, self.errors)))

    @property
    def errors(self) -> list[Finding]:
        """The findings without the warnings."""
        return [one for one in self.findings if one.severity == ERROR]


def user_error(where: str, message: str, fix: str = "", exit_code: int = EX_USAGE) -> UserError:
    """A `UserError` of one finding."""
    return UserError([Finding(where, message, fix)], exit_code)


def merged(errors: Sequence[UserError]) -> UserError:
    """One error with the findings of all, each once, and the highest of their exit codes."""
    findings = dict.fromkeys(finding for error in errors for finding in error.findings)
    return UserError(findings, max(error.exit_code for error in errors))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the closest of `known`, or list all when none is close."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names)}"


def one_line(text: str) -> str:
    """Escape everything that is not printable."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
