"""A rehearsal's report as one page that needs nothing else: topology, timeline, checks, faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clusters.show import picture, topology
from common.files import put
from validation.endpoint.verify import FAILED
from validation.rehearsal.outcome import Outcome, by_hand, recovery
from validation.rehearsal.rehearse import CHECKS, Event, Report

# What a container's state is drawn as; everything else is on its way.
GOOD, BAD, COMING = "good", "bad", "coming"
_KINDS = {"running healthy": GOOD, "running": GOOD}
_ENDS = ("exited", "dead", "restarting", "missing", "running unhealthy")


@dataclass(frozen=True)
class Span:
    """A state of a container. `left` and `width` in percent of the whole time."""

    kind: str
    title: str
    left: float
    width: float


@dataclass(frozen=True)
class Lane:
    """One container over time, or the requests."""

    name: str
    spans: tuple[Span, ...]


def write(report: Report, path: Path) -> Path:
    """Write the page. Raises UserError (69) when it cannot be written."""
    return put(path, html(report), parents=True)


def html(report: Report) -> str:
    """The page. The same report gives the same bytes."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined)
    drawn = ""
    if report.deployment:
        drawn = picture.svg(topology.topology(report.deployment))
    return environment.get_template("page.html.j2").render(
        report=report,
        lanes=list(lanes(report)),
        moments=[one for one in report.events if not one.who],
        recovery=recovery,
        by_hand=by_hand,
        picture=Markup(drawn),
    )


def lanes(report: Report) -> Iterator[Lane]:
    """A lane for each container with events, one for the checks, one for the faults, with how long
    they were felt, and one for the requests sent during them."""
    whole = max(report.seconds, 0.001)
    by_name: dict[str, list[tuple[float, str]]] = {}
    for event in report.events:
        if event.who and event.who != CHECKS:
            by_name.setdefault(event.who, []).append((event.at, event.what))
    for name, events in by_name.items():
        states = [one for one in events if _is_state(one[1])]
        ends = [at for at, _ in states[1:]] + [whole]
        yield Lane(
            name,
            tuple(
                Span(
                    _kind(what), f"{what} from {at:.1f} s", _part(at, whole), _part(end - at, whole)
                )
                for (at, what), end in zip(states, ends, strict=True)
            ),
        )
    asked = [one for one in report.events if one.who == CHECKS]
    if asked:
        yield Lane(CHECKS, tuple(_asked(one, whole) for one in asked))
    if report.outcomes:
        yield Lane("faults", tuple(_felt(one, report.begun, whole) for one in report.outcomes))
    sent = [one for outcome in report.outcomes for one in outcome.requests]
    if sent:
        yield Lane(
            "requests",
            tuple(
                Span(
                    GOOD if one.ok else BAD,
                    f"{one.at - report.begun:.1f} s: {'answered' if one.ok else one.said}",
                    _part(one.at - report.begun, whole),
                    _part(max(one.seconds, whole / 500), whole),
                )
                for one in sent
            ),
        )


def _asked(event: Event, whole: float) -> Span:
    begun = event.at - event.seconds
    kind = BAD if event.what.startswith(FAILED) else GOOD
    width = _part(max(event.seconds, whole / 500), whole)
    return Span(kind, f"{begun:.1f} s: {event.what}", _part(begun, whole), width)


def _felt(outcome: Outcome, begun: float, whole: float) -> Span:
    at = outcome.begun - begun
    end = whole - at if outcome.after is None else max(outcome.after, whole / 500)
    title = f"{at:.1f} s: {outcome.fault}, {recovery(outcome)}"
    return Span(
        COMING if outcome.good else BAD, title, _part(at, whole), _part(min(end, whole - at), whole)
    )


def _is_state(what: str) -> bool:
    return what.partition(" ")[0] in ("created", "running", "exited", "dead", "restarting")


def _kind(what: str) -> str:
    return _KINDS.get(what) or (BAD if what.startswith(_ENDS) else COMING)


def _part(seconds: float, whole: float) -> float:
    return round(100 * max(seconds, 0.0) / whole, 3)
