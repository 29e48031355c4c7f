"""Print a bump: its differences, contradictions, decisions and remaining steps."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from common.text import table
from upstream.bump.bump_release import BumpResult, Step
from upstream.bump.release_diff import Change, Section
from upstream.facts import Contradiction, Decision

WIDTH = 100  # columns
FILES = 3  # to list for a step
HOWS = ("new", "gone", "renamed", "changed")


def text(bumped: BumpResult) -> str:
    """The result for people."""
    parts = [f"{bumped.release}, compared with {bumped.previous}"]
    parts += [_section(one) for one in bumped.changes if one.changes]
    if bumped.effects:
        parts.append(f"recipes of {bumped.previous}\n" + "\n".join(_effects(bumped)))
    if bumped.kept:
        rows = [("  " + line.key, str(line.value), line.note) for line in bumped.kept]
        parts.append("kept, set by hand\n" + table(rows))
    if bumped.contradictions:
        lines = [line for one in bumped.contradictions for line in _contradiction(one)]
        parts.append("contradictions in upstream (* is used)\n" + "\n".join(lines))
    if bumped.decisions:
        numbered = enumerate(bumped.decisions, 1)
        lines = [line for number, one in numbered for line in _decision(number, one)]
        parts.append("decisions to make\n" + "\n".join(lines))
    parts.append("files\n" + table([_step(one) for one in bumped.steps]))
    remaining = [line for one in bumped.steps for line in _remaining(one)]
    if remaining:
        parts.append("remaining\n" + "\n".join(remaining))
    return "\n\n".join(parts)


def data(bumped: BumpResult) -> dict[str, Any]:
    """The result as JSON data."""
    return {
        "release": bumped.release,
        "previous": bumped.previous,
        "changes": {
            one.title: [dataclasses.asdict(change) for change in one.changes]
            for one in bumped.changes
        },
        "recipes": [dataclasses.asdict(one) for one in bumped.effects],
        "kept": [
            {"key": line.key, "value": _plain(line.value), "note": line.note}
            for line in bumped.kept
        ],
        "contradictions": [
            {
                "key": one.key,
                "taken": _plain(one.taken),
                "said": [{"value": _plain(v), "source": source} for v, source in one.claims],
            }
            for one in bumped.contradictions
        ],
        "decisions": [
            {"key": one.key, "question": one.question, "taken": _plain(one.taken)}
            for one in bumped.decisions
        ],
        "steps": [dataclasses.asdict(one) for one in bumped.steps],
    }


def _section(section: Section) -> str:
    if section.table:
        rows = [(f"  {one.name}", _change(one), one.source) for one in section.changes]
        return f"{section.title}\n{table(rows)}"
    lines = [line for how in HOWS for line in _changes(how, section.changes)]
    return "\n".join([section.title, *lines])


def _change(one: Change) -> str:
    if one.before is None and one.after is None:
        return one.how
    return f"{_value_text(one.before)} → {_value_text(one.after)}"


def _changes(how: str, every: Iterable[Change]) -> Iterator[str]:
    found = [one for one in every if one.how == how]
    if not found:
        return
    if how in ("new", "gone"):
        words = ", ".join(one.name for one in found)
        start = f"  {how + ':':9}"
        yield textwrap.fill(
            words,
            WIDTH,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_on_hyphens=False,
        )
    elif how == "renamed":
        yield from (f"  renamed: {one.name} → {one.after} (similar name)" for one in found)
    else:
        yield from (
            f"  other:   {o.name}: {_value_text(o.before)} → {_value_text(o.after)}" for o in found
        )


def _effects(bumped: BumpResult) -> Iterator[str]:
    """Each effect, with the recipes that have it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in bumped.effects:
        groups.setdefault((one.what, one.source), []).append(one.recipe)
    for (what, source), names in groups.items():
        yield f"  {what} ({source})"
        yield textwrap.fill(
            ", ".join(names), WIDTH, initial_indent="    ", subsequent_indent="    "
        )


def _contradiction(one: Contradiction) -> Iterator[str]:
    yield f"  {one.key}"
    rows = []
    for number, (value, source) in enumerate(one.claims):
        rows.append((f"    {'*' if number == 0 else ' '}", _value_text(value), source))
    yield table(rows)


def _decision(number: int, one: Decision) -> Iterator[str]:
    start = f"  {number}. "
    until = "" if one.taken is None else f" Until then: {_value_text(one.taken)}."
    yield textwrap.fill(
        f"{one.key}: {one.question}{until}",
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _step(step: Step) -> tuple[str, str, str]:
    shown, more = step.paths[:FILES], len(step.paths) - FILES
    rest = f" and {more} more" if more > 0 else ""
    return f"  {step.name}", step.outcome, ", ".join(shown) + rest


def _remaining(step: Step) -> Iterator[str]:
    if step.outcome in ("remains", "failed"):
        detail = f": {step.detail}" if step.detail else ""
        yield f"  {step.name}{detail}\n    {step.command}"


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return '""' if value == "" else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
