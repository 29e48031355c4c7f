"""What one check has to say."""

from __future__ import annotations

from collections.abc import Sequence

from entrypoints.problems import MACHINE, Problem, one_line
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


class Finding(NamedTuple):
    """`state` is ok, warning, failed or skipped; `what` is what was looked at."""

    code: str
    state: str
    what: str
    message: str
    fix: str = ""
    source: str = ""

    def line(self) -> str:
        """`what: message; fix [code, source]` on one line."""
        text = f"{self.what}: {self.message}{'; ' + self.fix if self.fix else ''}"
        return one_line(f"{text} [{self.code}{', ' + self.source if self.source else ''}]")

    def problem(self) -> Problem:
        """The finding as a reason not to start (78)."""
        return Problem(self.code, self.what, self.message, self.fix, self.source, MACHINE)


def failed(findings: Sequence[Finding]) -> bool:
    """Whether any check failed."""
    return any(finding.state == FAILED for finding in findings)


def text(findings: Sequence[Finding]) -> str:
    """One line for each finding, its state first, and a count of the states."""
    lines = [f"{finding.state:<8} {_brief(finding)}" for finding in findings]
    states = [finding.state for finding in findings]
    counts = [f"{states.count(state)} {state}" for state in (OK, WARNING, FAILED, SKIPPED)]
    return "\n".join([*lines, ", ".join(counts)]) + "\n"


def _brief(finding: Finding) -> str:
    if finding.state in (WARNING, FAILED):
        return finding.line()
    return one_line(f"{finding.what}: {finding.message}")


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for JSON: `{"failed": bool, "findings": [{code, state, …}]}`."""
    return {"failed": failed(findings), "findings": [finding._asdict() for finding in findings]}
