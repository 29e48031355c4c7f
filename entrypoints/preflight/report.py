"""The results of the checks, as text and as data."""

from __future__ import annotations

from collections.abc import Sequence

from entrypoints.findings import ERROR, OK, SKIPPED, WARNING, Finding, one_line
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# What the result of a check is called, by its severity.
STATES = {OK: "ok", WARNING: "warning", ERROR: "failed", SKIPPED: "skipped"}


def failed(findings: Sequence[Finding]) -> bool:
    """Whether any check failed."""
    return any(finding.severity == ERROR for finding in findings)


def text(findings: Sequence[Finding]) -> str:
    """One line for each finding, its state first, and a count of the states."""
    lines = [f"{STATES[finding.severity]:<8} {_brief(finding)}" for finding in findings]
    severities = [finding.severity for finding in findings]
    counts = [f"{severities.count(one)} {state}" for one, state in STATES.items()]
    return "\n".join([*lines, ", ".join(counts)]) + "\n"


def _brief(finding: Finding) -> str:
    if finding.severity in (WARNING, ERROR):
        return finding.line()
    return one_line(f"{finding.where}: {finding.message}")


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings for JSON: `{"failed": bool, "findings": [{code, state, what, …}]}`."""
    return {"failed": failed(findings), "findings": [_data(finding) for finding in findings]}


def _data(finding: Finding) -> dict[str, str]:
    code, what, message, fix, source, severity, _ = finding
    state = STATES[severity]
    return dict(code=code, state=state, what=what, message=message, fix=fix, source=source)
