"""What `invoke import` prints: the written files, the role of each script, the open values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from clusters.importing.compare import CLUSTER, RECIPE
from clusters.importing.layout import Group
from clusters.importing.run import Imported, texts
from clusters.importing.shell import Note
from clusters.show.output import HEAD, PLAIN, Line
from common.errors import ERROR

_MAX_ROWS = 12  # of one kind


def lines(imported: Sequence[Imported]) -> Iterator[Line]:
    """The summary as text."""
    for i, one in enumerate(imported):
        if i:
            yield Line("")
        yield from _deployment(one)


def _deployment(one: Imported) -> Iterator[Line]:
    where = one.folder / CLUSTER if one.folder else CLUSTER
    result = one.comparison
    yield Line(f"{where}, and {RECIPE} beside it:", style=HEAD)
    for group in one.layout.groups:
        rows = (_member_line(one, group, rank) for rank in range(len(group.members)))
        yield from (Line(row, 1) for row in dict.fromkeys(rows))
    for guess in one.guesses:
        yield Line(guess, 1)
    yield from _section(
        "to fill in", [f"{item.where}: {item.name}, now {item.stands}" for item in one.open]
    )
    yield from _section("corrected while reading", _notes(one.doubts), "yellow")
    yield from _section("not read", _notes(one.skipped))
    added = [f"{at}: {' '.join(flags)}" for at, flags in result.added.items()]
    yield from _section("in the plan, but not in the script", added)
    # The errors of the plan; `invoke cluster.check` shows its warnings.
    errors = [str(finding) for finding in result.findings if finding.severity == ERROR]
    yield from _section("errors of the plan", errors, "yellow")
    yield from _section("lost", one.lost, "red")
    count = f"{result.flags} flags and {result.variables} variables"
    yield Line(f"{count}, {len(one.lost) or 'none'} lost", 1)


def _member_line(one: Imported, group: Group, rank: int) -> str:
    """The role of a script; the same text for all external ranks of one script and node."""
    member = group.members[rank]
    if member.server is None:
        return f"{group.name} on {member.machine.name}: no script is given"
    what = "headless" if member.server.headless else group.role
    if member.server.worker:
        what = "ray-worker"
    if _as_command(one, group.name, rank):
        what = "with the script's own command"
    place = f"{member.server.script.at}: {group.name} on {member.machine.name}, {what}"
    if group.external:
        return f"{place}, {group.local} of {len(group.members)} external ranks"
    return f"{place}, node {rank} of {len(group.members)}" if len(group.members) > 1 else place


def _as_command(one: Imported, group: str, rank: int) -> bool:
    return bool({group, f"{group}-{rank}"} & set(one.comparison.commands))


def _notes(notes: Sequence[Note]) -> list[str]:
    return list(map(str, dict.fromkeys(notes)))


def _section(title: str, rows: Sequence[str], style: str = PLAIN) -> Iterator[Line]:
    if rows:
        yield Line(f"{title}:", 1, style)
        for row in rows[:_MAX_ROWS]:
            yield Line(row, 2, style)
        if len(rows) > _MAX_ROWS:
            yield Line(f"and {len(rows) - _MAX_ROWS} more: --format json shows all", 2, style)


def data(imported: Sequence[Imported]) -> list[dict[str, Any]]:
    """The summary as data."""
    return [
        {
            "name": one.name,
            "folder": str(one.folder) if one.folder else None,
            "files": texts(one),
            "guesses": list(one.guesses),
            "scripts": [
                {
                    "script": member.server.script.at if member.server else None,
                    "instance": group.name,
                    "node": member.machine.name,
                    "role": group.role,
                    "rank": rank,
                    "command": _as_command(one, group.name, rank),
                }
                for group in one.layout.groups
                for rank, member in enumerate(group.members)
            ],
            "open": [asdict(item) for item in one.open],
            "read_as_meant": _notes(one.doubts),
            "not_read": _notes(one.skipped),
            "added": {at: list(flags) for at, flags in one.comparison.added.items()},
            "findings": [asdict(finding) for finding in one.comparison.findings],
            "lost": one.lost,
            "flags": one.comparison.flags,
            "variables": one.comparison.variables,
        }
        for one in imported
    ]
