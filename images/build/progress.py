"""BuildKit's progress events, as lines for people and seconds for each stage."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from common.terminal import Live

if TYPE_CHECKING:
    from rich.table import Table

EXPORT = "export"
CANCELLED = "context canceled"
# BuildKit runs a step that two builds share in the session of the first. When that one ends early,
# the other fails with these words, and succeeds when it runs again.
LOST_SESSION = "no active sessions"


@dataclass
class Step:
    """One vertex of the build graph."""

    name: str
    started: datetime | None = None
    completed: datetime | None = None
    cached: bool = False
    error: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        if self.started is None or self.completed is None:
            return 0.0
        return (self.completed - self.started).total_seconds()

    @property
    def stage(self) -> str:
        """`layer-torch` for "[image-… layer-torch 1/1] RUN …", `export` for the steps after it."""
        match = re.match(r"\[(?:\S+ )??(?:linux/\S+ )?(\S+?) +\d+/\d+\]", self.name)
        if match:
            return match[1]
        return (
            EXPORT if re.match(r"(\[\S+\] )?(exporting|pushing)|\[(\S+ )?auth\]", self.name) else ""
        )

    @property
    def title(self) -> str:
        """The name without the mounts of a RUN."""
        return re.sub(r" --(mount|link|from)\S*", "", self.name)

    @property
    def internal(self) -> bool:
        """Whether BuildKit added the step itself; such steps are not shown."""
        return bool(re.match(r"\[(\S+ )?(internal\]|context )", self.name))


class Progress:
    """Shows the events of buildx's rawjson lines, and records every step."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self.out = out
        self.steps: dict[str, Step] = {}
        self.messages: list[str] = []  # lines that are not events: buildx's own errors
        self._partial: list[str] = []
        self._statuses: dict[str, str] = {}
        self._live = Live() if out.isatty() else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def feed(self, line: str) -> None:
        """Take one line: part of an event, which spans from a lone { to a lone }, or a message."""
        if self._partial or line.rstrip() == "{":
            self._partial.append(line)
            if line.rstrip() == "}":
                event = json.loads("".join(self._partial))
                self._partial.clear()
                self._event(event)
        elif line.strip():
            self.messages.append(line.strip())

    def forget_lost_session(self) -> bool:
        """Forget the failures, if another build that shared a step was interrupted."""
        failed = [step for step in self.steps.values() if step.error]
        if not any(LOST_SESSION in step.error for step in failed):
            return False
        for step in failed:
            step.error, step.completed = "", None
        self.messages.clear()
        return True

    def _event(self, event: dict[str, Any]) -> None:
        for vertex in event.get("vertexes") or ():
            self._vertex(vertex)
        for log in event.get("logs") or ():
            text = base64.b64decode(log.get("data", "")).decode(errors="replace")
            step = self.steps.setdefault(log["vertex"], Step("?"))
            step.log += [part for part in re.split(r"[\r\n]+", text) if part.strip()]
        for status in event.get("statuses") or ():
            if status.get("completed") is None and status.get("total"):
                share = 100 * status.get("current", 0) // status["total"]
                self._statuses[status["vertex"]] = f"{status.get('id', '')[:50]} {share}%"
        if self._live:
            self._live.show(_table(self._running()))

    def _vertex(self, vertex: dict[str, Any]) -> None:
        step = self.steps.setdefault(vertex["digest"], Step(vertex["name"]))
        if vertex.get("cached") and step.completed and not step.cached:
            return  # an earlier bake of this build ran it, and this one reuses it
        step.name = vertex["name"]
        step.started = _time(vertex.get("started")) or step.started
        step.cached = step.cached or bool(vertex.get("cached"))
        step.error = vertex.get("error") or step.error
        finished = _time(vertex.get("completed"))
        announced = step.completed is not None
        step.completed = finished or step.completed
        if finished and not announced and not step.internal:
            self._announce(step)

    def _announce(self, step: Step) -> None:
        if CANCELLED in step.error:
            return  # another step failed, or does the same for two targets of a bake
        if step.error:
            line = f"FAILED  {step.title}"
        elif step.cached:
            line = f"cached  {step.title}"
        else:
            line = f"{step.seconds:6.1f}s {step.title}"
        if self._live:
            self._live.print(line)
        else:
            self.out.write(re.sub(r"\s+", " ", line)[:200] + "\n")
            self.out.flush()

    def _running(self) -> Iterator[tuple[str, float, str]]:
        now = datetime.now().astimezone()
        for digest, step in self.steps.items():
            if step.started and not step.completed and not step.internal:
                doing = self._statuses.get(digest) or (step.log[-1] if step.log else "")
                yield step.title, (now - step.started).total_seconds(), doing

    def stage_seconds(self) -> dict[str, float]:
        """Seconds spent in each stage, without cached steps."""
        result: dict[str, float] = {}
        for step in self.steps.values():
            result[step.stage] = result.get(step.stage, 0.0) + (
                0.0 if step.cached else step.seconds
            )
        return result

    def failed(self) -> list[Step]:
        """The steps that failed by themselves, not those cancelled because another failed."""
        return [one for one in self.steps.values() if one.error and CANCELLED not in one.error]

    def cancelled(self) -> list[Step]:
        return [one for one in self.steps.values() if CANCELLED in one.error]


def _table(running: Iterator[tuple[str, float, str]]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="cyan")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
    for name, seconds, doing in running:
        table.add_row(f"{seconds:.0f}s", name.replace("[", "\\["), doing.replace("[", "\\["))
    return table


def _time(value: str | None) -> datetime | None:
    if not value:
        return None
    trimmed = re.sub(r"(\.\d{6})\d+", r"\1", value).replace("Z", "+00:00")
    return datetime.fromisoformat(re.sub(r"\.(\d{1,5})(?=[+-])", lambda m: f".{m[1]:0<6}", trimmed))
