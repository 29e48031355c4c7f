"""What happens to clients when a container dies or a node is cut off, and for how long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from docker import APIClient
from docker.errors import DockerException

from clusters.deployment import Container, Deployment
from clusters.live.engine import Engine
from rehearsal.load import EMPTY, Load, Seen
from rehearsal.stage import Stage

STEADY = 4  # answers in a row after which the cluster serves again
CUT = 8.0  # seconds that a node is off the network
PATIENCE = 120.0  # seconds to wait until it serves again

KILL = "killed"
CUT_OFF = f"its node off the network for {CUT:g} s"


@dataclass(frozen=True)
class Fault:
    """One thing that is done to one container."""

    container: Container
    kind: str

    @property
    def name(self) -> str:
        return f"{self.container.name} ({self.container.role}) {self.kind}"


@dataclass(frozen=True)
class Outcome:
    """What clients saw. `after`: seconds until it served again, None when it did not.

    `statuses`: status → number of failed requests; `hung`: those beyond their deadline; `empty`:
    those with 200 and no answer. `longest`: seconds of the slowest request. `helped`: what had to
    be started by hand.
    """

    fault: str
    sent: int
    failed: int
    statuses: Mapping[str, int]
    hung: int
    empty: int
    longest: float
    after: float | None
    helped: tuple[str, ...] = ()
    requests: tuple[Seen, ...] = field(default=(), repr=False)

    @property
    def good(self) -> bool:
        """Nothing hung, nothing was empty, and it serves again without a hand."""
        return self.after is not None and not (self.hung or self.empty or self.helped)


def faults(deployment: Deployment) -> Iterator[Fault]:
    """One of each: leaders and followers of every instance, proxy, and a node of each side."""
    known: set[tuple[str, bool]] = set()
    cut: set[str] = set()
    for container in deployment.containers:
        kind = (container.instance, container.rank > 0)
        if kind not in known:
            known.add(kind)
            yield Fault(container, KILL)
        if container.instance not in cut and container.role != "proxy":
            cut.add(container.instance)
            yield Fault(container, CUT_OFF)


def inflict(
    fault: Fault, stage: Stage, load: Load, deployment: Deployment, say: Callable[[str], None]
) -> Outcome:
    """Do it while requests go on, and wait until the cluster serves again and is healthy."""
    begun = time.monotonic()
    if fault.kind == KILL:
        _kill(stage.api, fault.container.name)
    else:
        node = fault.container.node
        stage.cut(node.name)
        time.sleep(CUT)
        stage.mend(node)
    after = _served(load, begun)
    helped = _healthy(stage.engine(), deployment, say)
    if after is None:
        after = _served(load, begun)
    seen = load.seen(begun)
    bad = [one for one in seen if not one.ok]
    return Outcome(
        fault=fault.name,
        sent=len(seen),
        failed=len(bad),
        statuses=Counter(_status(one) for one in bad),
        hung=sum(one.status == -1 for one in bad),
        empty=sum(one.said == EMPTY for one in bad),
        longest=max((one.seconds for one in seen), default=0.0),
        after=after,
        helped=tuple(helped),
        requests=tuple(seen),
    )


def _kill(api: APIClient, name: str) -> None:
    """As a crash: everything but the container's first process, which then ends by itself.

    `docker kill` would tell the engine that the end was wanted, and no restart policy would act.
    """
    made = api.exec_create(name, ["sh", "-c", "kill -KILL -1"], user="root")
    try:
        api.exec_start(made["Id"])
    except DockerException:
        return  # the shell is gone as well


def _served(load: Load, since: float) -> float | None:
    """Seconds from `since` to the end of the last failure, once answers are steady again."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        seen = sorted(load.seen(since), key=lambda one: one.at)
        if len(seen) >= STEADY and all(one.ok for one in seen[-STEADY:]):
            failed = [one for one in seen if not one.ok]
            return failed[-1].at + failed[-1].seconds - since if failed else 0.0
        time.sleep(0.2)
    return None


def _healthy(engine: Engine, deployment: Deployment, say: Callable[[str], None]) -> list[str]:
    """Wait until every container is; start by hand what stays down. Returns what that was."""
    helped: list[str] = []
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        states = {one.name: engine.container(one.name) for one in deployment.containers}
        down = [name for name, seen in states.items() if seen and seen.state == "exited"]
        for name in down:
            helped.append(name)
            say(f"{name}: stays down, started by hand")
            seen = states[name]
            assert seen is not None
            engine.start(seen.id)
        if not down and all(seen and seen.ready for seen in states.values()):
            break
        time.sleep(0.5)
    return helped


def _status(seen: Seen) -> str:
    return {0: "no connection", -1: "deadline"}.get(seen.status, str(seen.status))
