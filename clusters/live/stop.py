"""Stopping and removing containers: the proxy first, so that nothing is asked of who is leaving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from clusters.live.engine import ContainerState, Engine, Rejected, Unreachable
from clusters.live.parallel import each
from clusters.runtime.spec import ROLE
from common.errors import Finding


@dataclass(frozen=True)
class Target:
    """A container on a node, whether it runs or not."""

    node: str
    engine: Engine
    seen: ContainerState


Report = Callable[[Target, str], None]


def stop_all(those: Sequence[Target], told: Report) -> list[Finding]:
    """Stop each with its own drain and remove it; `told` hears what was done with it.

    Returns what could not be done. An interrupt is passed on once what is left is killed and
    removed.
    """
    problems: list[Finding] = []

    def gently(one: Target) -> None:
        end_one(one, kill=False)

    def at_once(one: Target) -> None:
        end_one(one, kill=True)

    def end_one(one: Target, kill: bool) -> None:
        try:
            running = one.seen.state in ("running", "restarting", "paused")
            if running and not kill:
                one.engine.stop(one.seen.id, one.seen.stop_timeout)
            one.engine.remove(one.seen.id, force=True)
            did = "killed and removed" if kill else "stopped and removed"
            if one.seen.id in left:
                left.discard(one.seen.id)
                told(one, did if running else "removed")
        except (Unreachable, Rejected) as error:
            fix = "remove it there: docker rm -f"
            problems.append(Finding(f"{one.node}: {one.seen.name}", f"not removed: {error}", fix))

    left = {one.seen.id for one in those}
    stages = sorted(those, key=_is_server)
    try:
        for _, stage in groupby(stages, _is_server):
            each(gently, list(stage))
    except KeyboardInterrupt:
        each(at_once, [one for one in stages if one.seen.id in left])
        raise
    return problems


def _is_server(one: Target) -> bool:
    return one.seen.labels.get(ROLE) != "proxy"
