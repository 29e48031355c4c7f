"""What `invoke import` says: what was written, what each script became, what is left to do."""

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

_MANY = 12  # lines of one kind that are shown


def lines(made: Sequence[Imported]) -> Iterator[Line]:
    """The report as text."""
    for i, one in enumerate(made):
        if i:
            yield Line("")
        yield from _one(one)


def _one(one: Imported) -> Iterator[Line]:
    where = one.folder / CLUSTER if one.folder else CLUSTER
    checked = one.verified
    yield Line(f"{where}, and {RECIPE} beside it:", style=HEAD)
    for group in one.layout.groups:
        for row in dict.fromkeys(_seat(one, group, rank) for rank in range(len(group.seats))):
            yield Line(row, 1)
    for guess in one.guesses:
        yield Line(guess, 1)
    yield from _some("to be filled in", _open(one))
    yield from _some("read as it was meant", _notes(one.doubts), "yellow")
    yield from _some("not read", _notes(one.skipped))
    added = [f"{at}: {' '.join(flags)}" for at, flags in checked.added.items()]
    yield from _some("in the plan, and not in the script", added)
    yield from _some("what speaks against starting it", _errors(one), "yellow")
    yield from _some("lost", one.lost, "red")
    count = f"{checked.flags} flags and {checked.variables} variables"
    yield Line(f"{count}, {len(one.lost) or 'none'} lost", 1)


def _seat(one: Imported, group: Group, rank: int) -> str:
    """What a script became; of external ranks of one script and node the same for all."""
    seat = group.seats[rank]
    if seat.server is None:
        return f"{group.name} on {seat.machine.name}: no script is given for it"
    what = "headless" if seat.server.headless else group.role
    if seat.server.worker:
        what = "ray-worker"
    if _as_command(one, group.name, rank):
        what = "as the command that the script has"
    place = f"{seat.server.script.at}: {group.name} on {seat.machine.name}, {what}"
    if group.external:
        return f"{place}, {group.local} of {len(group.seats)} external ranks"
    return f"{place}, node {rank} of {len(group.seats)}" if len(group.seats) > 1 else place


def _as_command(one: Imported, group: str, rank: int) -> bool:
    return bool({group, f"{group}-{rank}"} & set(one.verified.commands))


def _open(one: Imported) -> list[str]:
    return [f"{item.where}: {item.name}, {item.stands} stands for it" for item in one.open]


def _notes(notes: Sequence[tuple[str, Note]]) -> list[str]:
    return [f"{file}:{note.line}: {note.text}" for file, note in dict.fromkeys(notes)]


def _errors(one: Imported) -> list[str]:
    """Errors of the plan; its warnings are `invoke cluster.check`'s."""
    return [str(finding) for finding in one.verified.findings if finding.severity == ERROR]


def _some(title: str, rows: Sequence[str], style: str = PLAIN) -> Iterator[Line]:
    if rows:
        yield Line(f"{title}:", 1, style)
        for row in rows[:_MANY]:
            yield Line(row, 2, style)
        if len(rows) > _MANY:
            yield Line(f"and {len(rows) - _MANY} more: --format json has all", 2, style)


def data(made: Sequence[Imported]) -> list[dict[str, Any]]:
    """The report as data."""
    return [
        {
            "name": one.name,
            "folder": str(one.folder) if one.folder else None,
            "files": texts(one),
            "guesses": list(one.guesses),
            "scripts": [
                {
                    "script": seat.server.script.at if seat.server else None,
                    "instance": group.name,
                    "node": seat.machine.name,
                    "role": group.role,
                    "rank": rank,
                    "command": _as_command(one, group.name, rank),
                }
                for group in one.layout.groups
                for rank, seat in enumerate(group.seats)
            ],
            "open": [asdict(item) for item in one.open],
            "read_as_meant": _notes(one.doubts),
            "not_read": _notes(one.skipped),
            "added": {at: list(flags) for at, flags in one.verified.added.items()},
            "findings": [asdict(finding) for finding in one.verified.findings],
            "lost": one.lost,
            "flags": one.verified.flags,
            "variables": one.verified.variables,
        }
        for one in made
    ]
