"""The HTML report of a rehearsal: topology, timeline, checks and faults on one standalone page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from clusters.show import picture, topology
from common.files import write_output
from validation.endpoint.verify import FAILED
from validation.html import render
from validation.rehearsal.rehearsal_report import CHECKS, RehearsalReport

# How a container's state is drawn; any other state is PENDING.
GOOD, BAD, PENDING = "good", "bad", "pending"
_KINDS = {"running healthy": GOOD, "running": GOOD}
_STATES = ("created", "running", "exited", "dead", "restarting")
_ENDS = ("exited", "dead", "restarting", "missing", "running unhealthy")


@dataclass(frozen=True)
class Span:
    """A state of a container. `left` and `width` are in percent of the total time."""

    kind: str
    title: str
    left: float
    width: float


@dataclass(frozen=True)
class Lane:
    """A container over time, or all requests."""

    name: str
    spans: tuple[Span, ...]


def write(report: RehearsalReport, path: Path) -> Path:
    """Write the page. Raises UserError (69) when it cannot be written."""
    return write_output(path, html(report), parents=True)


def html(report: RehearsalReport) -> str:
    """The page. Equal reports give equal bytes."""
    drawn = picture.svg(topology.topology(report.deployment)) if report.deployment else ""
    return render(
        "rehearsal",
        report=report,
        lanes=list(lanes(report)),
        moments=[one for one in report.events if not one.who],
        picture=Markup(drawn),
    )


def lanes(report: RehearsalReport) -> Iterator[Lane]:
    """A lane for each container, and for checks, faults (until recovery) and requests."""
    total = max(report.seconds, 0.001)

    def span(kind: str, title: str, begun: float, seconds: float) -> Span:
        return Span(kind, title, _percent(begun, total), _percent(seconds, total))

    def wide(seconds: float) -> float:
        """At least wide enough to be seen."""
        return max(seconds, total / 500)

    states: dict[str, list[tuple[float, str]]] = {}
    checks = []
    for event in report.events:
        if event.who == CHECKS:
            kind = BAD if event.what.startswith(FAILED) else GOOD
            begun = event.at - event.seconds
            checks.append(span(kind, f"{begun:.1f} s: {event.what}", begun, wide(event.seconds)))
        elif event.who and event.what.partition(" ")[0] in _STATES:
            states.setdefault(event.who, []).append((event.at, event.what))
    for name, events in states.items():
        ends = [at for at, _ in events[1:]] + [total]
        spans = (
            span(_kind(what), f"{what} from {at:.1f} s", at, end - at)
            for (at, what), end in zip(events, ends, strict=True)
        )
        yield Lane(name, tuple(spans))
    faults, requests = [], []
    for one in report.outcomes:
        at = one.begun - report.begun
        seconds = total - at if one.after is None else min(wide(one.after), total - at)
        title = f"{at:.1f} s: {one.fault}, {one.recovery}"
        faults.append(span(PENDING if one.good else BAD, title, at, seconds))
        for sent in one.requests:
            at = sent.at - report.begun
            title = f"{at:.1f} s: {'answered' if sent.ok else sent.said}"
            requests.append(span(GOOD if sent.ok else BAD, title, at, wide(sent.seconds)))
    for name, found in ((CHECKS, checks), ("faults", faults), ("requests", requests)):
        if found:
            yield Lane(name, tuple(found))


def _kind(what: str) -> str:
    return _KINDS.get(what) or (BAD if what.startswith(_ENDS) else PENDING)


def _percent(seconds: float, total: float) -> float:
    return round(100 * max(seconds, 0.0) / total, 3)
