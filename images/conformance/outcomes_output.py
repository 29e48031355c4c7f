"""What `invoke conformance` prints."""

from __future__ import annotations

from typing import Any

from common.text import table
from images.conformance.model import Report


def report_data(report: Report) -> dict[str, Any]:
    return {
        "image": report.image,
        "digest": report.digest,
        "ok": not report.problems,
        "checks": [
            {
                "name": one.name,
                "ok": one.ok,
                "problems": [
                    {"where": problem.where, "what": problem.message, "fix": problem.fix}
                    for problem in one.problems
                ],
            }
            for one in report.outcomes
        ],
    }


def report_text(report: Report) -> str:
    rows = [
        (f"  {one.name}", "ok" if one.ok else _count(len(one.problems))) for one in report.outcomes
    ]
    return "\n".join([report.image, f"  {report.digest}", table(rows)])


def _count(problems: int) -> str:
    return f"{problems} problem{'s' if problems > 1 else ''}"
