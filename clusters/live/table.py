"""Where every container is: a table that is redrawn on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from clusters.deployment import Deployment
from clusters.live.engine import ContainerState, parse_time
from common.terminal import Live

if TYPE_CHECKING:
    from rich.table import Table

# Seconds after which lines say again what is not ready yet.
REMINDER = 30.0
MISSING = "missing"
WAITING = "waiting"
UNREACHABLE = "unreachable"
COLOURS = {"healthy": "green", "unhealthy": "red", "exited": "red", "restarting": "red"}


@dataclass(frozen=True)
class Row:
    """`since`: the engine's time of its last start or end. `reason`: why it counts as failed."""

    node: str
    container: str
    state: str
    health: str = ""
    since: str = ""
    restarts: int = 0
    ready: bool = False
    reason: str = ""
    log: str = ""

    def cells(self) -> tuple[str, ...]:
        age = _age(self.since)
        health, restarts = self.health or "-", str(self.restarts)
        told = self.reason or self.log
        return self.node, self.container, self.state, health, age, restarts, told


TITLES = ("NODE", "CONTAINER", "STATE", "HEALTH", "SINCE", "RESTARTS", "LAST LINE")


def row(node: str, name: str, seen: ContainerState | None, log: str = "", reason: str = "") -> Row:
    if seen is None:
        return Row(node, name, MISSING, reason=reason)
    since = seen.started if seen.state == "running" else seen.finished or seen.created
    return Row(node, name, seen.state, seen.health, since, seen.restarts, seen.ready, reason, log)


def text(rows: Sequence[Row]) -> str:
    """The rows below their titles."""
    cells = [TITLES, *(one.cells() for one in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(TITLES) - 1)]
    return "\n".join(
        "  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip() for line in cells
    )


def as_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(one) for one in rows]


def summary(deployment: Deployment, rows: Sequence[Row]) -> str:
    """How many run and are ready, and where requests go."""
    ready = sum(one.ready for one in rows)
    where = " ".join(f"http://{host}:{port}" for host, port in _request_addresses(deployment))
    counts = f"{deployment.cluster.name}: {len(rows)} run, {ready} ready"
    return f"{counts}; requests go to {where}" if where else counts


def _request_addresses(deployment: Deployment) -> list[tuple[str, int]]:
    proxy = deployment.proxy
    if proxy is None:
        return [one for group in deployment.groups for one in group.endpoints]
    ports = proxy.launch.ports if proxy.launch else {}
    return [(str(proxy.node.address), port) for port in [ports.get("api")] if isinstance(port, int)]


class Progress:
    """Feed it all rows each time; it shows what is new of them, on stderr."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._live = Live() if out.isatty() else None
        self._said: dict[str, str] = {}
        self._at = clock()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live:
            self._live.print(text)
        else:
            self._out.write(f"{text}\n")
            self._out.flush()

    def show(self, rows: Sequence[Row]) -> None:
        if self._live:
            self._live.show(_table(rows))
            return
        rows = [one for one in rows if one.state != WAITING]
        for one in rows:
            state = f"{one.state}, {one.health}" if one.health else one.state
            if self._said.get(one.container) != state:
                self._said[one.container] = state
                self.say(f"{one.node}: {one.container}: {state}")
        if self._clock() - self._at >= REMINDER:
            self._at = self._clock()
            for one in rows:
                if not one.ready:
                    said = self._said[one.container]
                    self.say(f"{one.node}: {one.container}: {said}: {one.log}")


def _table(rows: Sequence[Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in TITLES:
        last = title == TITLES[-1]
        table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=1 if last else None)
    for one in rows:
        cells = (Text(cell, style=COLOURS.get(cell, "")) for cell in one.cells())
        table.add_row(*cells)
    return table


def _age(since: str) -> str:
    """`42s`, `7m`, `3h`, `2d`."""
    if not since:
        return "-"
    seconds = max(0, int((datetime.now(timezone.utc) - parse_time(since)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
