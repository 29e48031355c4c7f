"""The state of containers as a table, redrawn on a terminal, or as lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from clusters.deployment import Deployment
from clusters.live.engine import ContainerInfo, parse_time
from common.terminal import Live
from common.text import table

if TYPE_CHECKING:
    from rich.table import Table

# Seconds after which lines repeat what is not ready yet.
REMINDER = 30.0
MISSING = "missing"
WAITING = "waiting"
UNREACHABLE = "unreachable"
COLOURS = {"healthy": "green", "unhealthy": "red", "exited": "red", "restarting": "red"}


@dataclass(frozen=True)
class Row:
    """`since`: the engine's time of its last start or exit. `reason`: why it counts as failed."""

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
        last = self.reason or self.log
        return self.node, self.container, self.state, health, age, restarts, last


TITLES = ("NODE", "CONTAINER", "STATE", "HEALTH", "SINCE", "RESTARTS", "LAST LINE")


def row(node: str, name: str, info: ContainerInfo | None, log: str = "", reason: str = "") -> Row:
    if info is None:
        return Row(node, name, MISSING, reason=reason)
    since = info.started if info.state == "running" else info.finished or info.created
    return Row(node, name, info.state, info.health, since, info.restarts, info.ready, reason, log)


def text(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    return table([TITLES, *(one.cells() for one in rows)])


def as_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(one) for one in rows]


def summary(deployment: Deployment, rows: Sequence[Row]) -> str:
    """The number of running and ready containers, and the addresses for requests."""
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
    """Shows rows while they change: a live table on a terminal, else a line for each change."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._live = Live() if out.isatty() else None
        self._shown: dict[str, str] = {}
        self._at = clock()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
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
            if self._shown.get(one.container) != state:
                self._shown[one.container] = state
                self.say(f"{one.node}: {one.container}: {state}")
        if self._clock() - self._at >= REMINDER:
            self._at = self._clock()
            for one in rows:
                if not one.ready:
                    shown = self._shown[one.container]
                    self.say(f"{one.node}: {one.container}: {shown}: {one.log}")


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
