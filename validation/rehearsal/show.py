"""A rehearsal's report as text and as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from validation.rehearsal.outcome import Outcome, told
from validation.rehearsal.rehearse import Report


def report_data(report: Report) -> dict[str, Any]:
    """The report for programs."""
    return {
        "name": report.name,
        "passed": report.passed,
        "failure": report.failure,
        "seconds": round(report.seconds, 1),
        "ready": None if report.ready is None else round(report.ready, 1),
        "changes": list(report.changes),
        "checks": [asdict(one) for one in report.checks],
        "faults": [_outcome(one, report.begun) for one in report.outcomes],
        "events": [asdict(one) for one in report.events],
    }


def report_text(report: Report) -> str:
    """What was otherwise than in the file, what failed, and how long it took."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"rehearsal of {report.name}"
    yield from (f"  {change}" for change in report.changes)
    for one in report.checks:
        yield f"{one.state:8} {one.name}: {one.message}"
    for outcome in report.outcomes:
        yield f"{'ok' if outcome.good else 'failed':8} {outcome.fault}: {told(outcome)}"
    if report.failure:
        yield f"failed   {report.failure}"
    ready = "" if report.ready is None else f", ready after {report.ready:.0f} s"
    yield f"{'passed' if report.passed else 'failed'} in {report.seconds:.0f} s{ready}"


def _outcome(outcome: Outcome, since: float) -> dict[str, Any]:
    """Times in seconds since the rehearsal's beginning."""
    requests = [{**asdict(one), "at": round(one.at - since, 3)} for one in outcome.requests]
    about = {**asdict(outcome), "begun": round(outcome.begun - since, 3), "requests": requests}
    return {**about, "good": outcome.good}
