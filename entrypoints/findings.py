"""Findings of the run side: their type, their exception, and the templates that they are made from.

Exit codes follow sysexits(3).
"""

from __future__ import annotations

from collections.abc import Iterable

from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

USAGE = 64  # a wrong or missing variable or argument
DATA = 65  # a wrong recipe
PEER = 69  # a peer is not reachable in time
MACHINE = 78  # the machine or the image does not fit

ERROR, WARNING, OK, SKIPPED = "error", "warning", "ok", "skipped"


class Finding(NamedTuple):
    """One result of a check. `where`: a variable, an argument, or a file with a key.

    `severity`: error, warning; for checks of the machine also ok and skipped. `source`: the issue
    or `tag:path` behind it. `exit_code` counts for errors only.
    """

    code: str
    where: str
    message: str
    fix: str = ""
    source: str = ""
    severity: str = ERROR
    exit_code: int = USAGE

    def line(self) -> str:
        """`where: message; fix [code, source]` on one line, without empty parts."""
        where = f"{self.where}: " if self.where else ""
        fix = f"; {self.fix}" if self.fix else ""
        tail = f"{self.code}, {self.source}" if self.source else self.code
        return one_line(f"{where}{self.message}{fix} [{tail}]")


class Message(NamedTuple):
    """A template for findings, with placeholders as in str.format."""

    text: str
    fix: str = ""
    where: str = ""
    code: str = ""
    source: str = ""
    severity: str = ERROR
    exit_code: int = USAGE

    def __call__(
        self, where: str = "", /, fix: str = "", source: str = "", **values: Any
    ) -> Finding:
        """The finding for these values. `where`, `fix` and `source` replace the message's own."""
        texts = {
            "where": where or self.where.format(**values),
            "message": self.text.format(**values),
            "fix": fix or self.fix.format(**values),
            "source": source or self.source.format(**values),
        }
        return Finding(self.code, **texts, severity=self.severity, exit_code=self.exit_code)


class Refused(Exception):
    """Raised with every finding so far; keeps the errors. The smallest exit code wins."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = errors(findings)
        self.exit_code = min(one.exit_code for one in self.findings)
        super().__init__("\n".join(one.line() for one in self.findings))


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The errors among findings."""
    return tuple(one for one in findings if one.severity == ERROR)


def one_line(text: str) -> str:
    """The text with everything that is not printable escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The fix for an unknown name: the nearest known name, if any, and all known names."""
    import difflib  # needed only when something is wrong

    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


def near(word: str, known: Iterable[str], cutoff: float = 0.75) -> str:
    """`did you mean …?` with up to three names, empty when nothing is near."""
    import difflib  # needed only when something is wrong

    found = difflib.get_close_matches(word, sorted(known), n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(found)}?" if found else ""
