"""The report of a rehearsal: its data, its text and its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from clusters.deployment import Deployment
from validation.endpoint.verify import FAILED, Result
from validation.rehearsal.fault_outcome import FaultOutcome

CHECKS = "checks"


@dataclass(frozen=True)
class Event:
    """Something that happened `at` seconds after the start, having taken `seconds`.

    `who`: a container, CHECKS, or empty. The field names are the keys of `--format json`.
    """

    at: float
    who: str
    what: str
    seconds: float = 0.0


@dataclass
class RehearsalReport:
    """`begun`: on the clock of the requests (time.monotonic). `ready`: seconds until all containers
    were healthy. `failure`: why the rehearsal ended early."""

    name: str
    begun: float
    changes: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)
    checks: list[Result] = field(default_factory=list)
    outcomes: list[FaultOutcome] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    ready: float | None = None
    failure: str = ""
    deployment: Deployment | None = None

    @property
    def passed(self) -> bool:
        checked = bool(self.checks) and all(one.state != FAILED for one in self.checks)
        return not self.failure and checked and all(one.good for one in self.outcomes)


def report_data(report: RehearsalReport) -> dict[str, Any]:
    """The report as JSON data."""
    return {
        "name": report.name,
        "passed": report.passed,
        "failure": report.failure,
        "seconds": round(report.seconds, 1),
        "ready": None if report.ready is None else round(report.ready, 1),
        "changes": list(report.changes),
        "checks": [asdict(one) for one in report.checks],
        "faults": [_outcome_data(one, report.begun) for one in report.outcomes],
        "events": [asdict(one) for one in report.events],
    }


def report_text(report: RehearsalReport) -> str:
    """The report for people: what differs from the file, the results, and how long it took."""
    return "\n".join(_lines(report))


def _lines(report: RehearsalReport) -> Iterator[str]:
    yield f"rehearsal of {report.name}"
    yield from (f"  {change}" for change in report.changes)
    for one in report.checks:
        yield f"{one.state:8} {one.name}: {one.message}"
    yield from map(outcome_line, report.outcomes)
    if report.failure:
        yield f"failed   {report.failure}"
    ready = "" if report.ready is None else f", ready after {report.ready:.0f} s"
    yield f"{'passed' if report.passed else 'failed'} in {report.seconds:.0f} s{ready}"


def outcome_line(outcome: FaultOutcome) -> str:
    return f"{'ok' if outcome.good else 'failed':8} {outcome.fault}: {outcome}"


def _outcome_data(outcome: FaultOutcome, start: float) -> dict[str, Any]:
    """Times in seconds since the start of the rehearsal."""
    requests = [{**asdict(one), "at": round(one.at - start, 3)} for one in outcome.requests]
    data = {**asdict(outcome), "begun": round(outcome.begun - start, 3), "requests": requests}
    return {**data, "good": outcome.good}
