"""What happens to clients when a container dies or a node is cut off, and for how long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from docker import APIClient
from docker.errors import DockerException

from clusters.deployment import Container, Deployment
from clusters.live.engine import Engine
from clusters.live.view import View, row
from rehearsal.load import EMPTY, Load, Seen
from rehearsal.stage import Stage

STEADY = 4  # answers in a row after which the cluster serves again
CUT = 8.0  # seconds that a node is off the network
INTERVAL = 0.5  # seconds between two looks
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


def inflict(fault: Fault, stage: Stage, load: Load, deployment: Deployment, view: View) -> Outcome:
    """Do it while requests go on, and wait until the cluster serves again and is healthy."""
    begun = time.monotonic()
    if fault.kind == KILL:
        _kill(stage.api, fault.container.name)
    else:
        stage.cut(fault.container.node.name)
        time.sleep(CUT)
        stage.mend(fault.container.node)
    helped = _watch(stage.engine(), load, begun, deployment, view)
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
        after=_again(seen, begun),
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


def _watch(
    engine: Engine, load: Load, since: float, deployment: Deployment, view: View
) -> list[str]:
    """Show every container until all are healthy and answers are steady again.

    What has ended for good is started by hand; returns what that was.
    """
    helped: list[str] = []
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        seen = {one.name: engine.container(one.name) for one in deployment.containers}
        view.show([row(one.node.name, one.name, seen[one.name]) for one in deployment.containers])
        for name, state in seen.items():
            if state and state.state == "exited":
                helped.append(name)
                view.say(f"{name}: has ended for good, and is started by hand")
                engine.start(state.id)
        ready = all(state and state.ready for state in seen.values())
        if ready and _again(load.seen(since), since) is not None:
            break
        time.sleep(INTERVAL)
    return helped


def _again(seen: Sequence[Seen], since: float) -> float | None:
    """Seconds from `since` to the end of the last failure, once answers are steady."""
    in_order = sorted(seen, key=lambda one: one.at)
    if len(in_order) < STEADY or not all(one.ok for one in in_order[-STEADY:]):
        return None
    return max((one.at + one.seconds - since for one in seen if not one.ok), default=0.0)


def _status(seen: Seen) -> str:
    return {0: "no connection", -1: "deadline"}.get(seen.status, str(seen.status))
