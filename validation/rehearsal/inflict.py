"""Doing it: each deed of faults.yaml, while requests go on and until the cluster serves again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from docker import APIClient
from docker.errors import DockerException

from clusters.deployment import Deployment
from clusters.live.parallel import each
from clusters.live.view import View, row
from clusters.model import Node
from validation.rehearsal.cast import NIC
from validation.rehearsal.faults import Fault
from validation.rehearsal.load import Load
from validation.rehearsal.outcome import Outcome, again, outcome
from validation.rehearsal.stage import Stage

BEFORE = 10  # requests before the fault: what is usual
INTERVAL = 0.5  # seconds between two looks

# Sends what is for an address to a hardware address that nobody has. It leaves the node, and no
# answer comes, as with a cable cut on the way: no error tells the sender, and the device stays.
_SEVER = """
import fcntl, socket, struct, sys, time
seconds, device, *addresses = sys.argv[1:]
set_entry, delete_entry, complete, permanent = 0x8955, 0x8953, 2, 4  # linux/sockios.h, if_arp.h
nobody = struct.pack("=H6s8x", 1, bytes.fromhex("020000000001"))
rest = struct.pack("=i16x16s", complete | permanent, device.encode())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    def tell(deed):
        for address in addresses:
            where = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(any, deed, where + nobody + rest)
    tell(set_entry)
    time.sleep(float(seconds))
    tell(delete_entry)
"""


def inflict(fault: Fault, stage: Stage, load: Load, deployment: Deployment, view: View) -> Outcome:
    """Do it while requests go on, and wait until the cluster serves again and is healthy."""
    with load:
        time.sleep(BEFORE * stage.runs.every)
        begun = time.monotonic()
        DEEDS[fault.kind.does](stage, fault)
        helped = _watch(stage, load, begun, deployment, view)
    return outcome(fault.name, fault.kind.name, fault.whom, load.seen(), begun, helped)


def _kill(stage: Stage, fault: Fault) -> None:
    """As a crash: everything but the container's first process, which then ends by itself.

    `docker kill` would tell the engine that the end was wanted, and no restart policy would act.
    """
    _signal(stage.api, fault.container.name, "KILL")


def _stop(stage: Stage, fault: Fault) -> None:
    """As for maintenance: asked to end with its drain, and started again.

    No restart policy brings back what was stopped, nor what ended with 0.
    """
    engine = stage.engine()
    seen = engine.container(fault.container.name)
    if seen:
        engine.stop(seen.id, seen.stop_timeout)
        engine.start(seen.id)


def _freeze(stage: Stage, fault: Fault) -> None:
    """As a server that is stuck: its ports accept, and nobody answers."""
    _signal(stage.api, fault.container.name, "STOP")
    try:
        time.sleep(fault.kind.seconds)
    finally:
        _signal(stage.api, fault.container.name, "CONT")


def _signal(api: APIClient, name: str, signal: str) -> None:
    made = api.exec_create(name, ["sh", "-c", f"kill -{signal} -1"], user="root")
    with suppress(DockerException):  # at its end the shell may be gone as well
        api.exec_start(made["Id"])


def _cut(stage: Stage, fault: Fault) -> None:
    """A node from everyone, this machine and its clients included."""
    here = fault.container.node
    there = [node for node in stage.placed if node != here]
    _severed(stage, {here: [*there, None], **{node: [here] for node in there}}, fault.kind.seconds)


def _sever(stage: Stage, fault: Fault) -> None:
    """Both ways between two nodes, which everyone else still reaches."""
    here, there = fault.container.node, fault.other
    assert there is not None
    _severed(stage, {here: [there], there: [here]}, fault.kind.seconds)


def _severed(stage: Stage, ways: Mapping[Node, Sequence[Node | None]], seconds: float) -> None:
    """`ways`: node → to whom it sends in vain; None: to this machine. Raises DockerException when a
    node cannot do it."""

    def run(node: Node) -> str:
        far = [str(one.address if one else stage.network[1]) for one in ways[node]]
        name = stage.node(node.name)
        command = ["python3", "-c", _SEVER, str(seconds), NIC, *far]
        made = stage.api.exec_create(name, command, user="root", privileged=True)
        said = stage.api.exec_start(made["Id"]).decode(errors="replace")
        failed = stage.api.exec_inspect(made["Id"])["ExitCode"]
        return f"{name}: {said.strip().rpartition(chr(10))[2]}" if failed else ""

    failed = [why for why in each(run, list(ways)) if why]
    if failed:
        raise DockerException(f"no way to sever: {'; '.join(failed)}")


DEEDS: Mapping[str, Callable[[Stage, Fault], None]] = {
    "kill": _kill,
    "stop": _stop,
    "freeze": _freeze,
    "cut": _cut,
    "sever": _sever,
}


def _watch(stage: Stage, load: Load, since: float, deployment: Deployment, view: View) -> list[str]:
    """Show every container until all are healthy and answers are steady again, or too late.

    What has ended for good is started by hand; returns what that was.
    """
    helped: list[str] = []
    engine, end = stage.engine(), time.monotonic() + stage.runs.patience
    while time.monotonic() < end:
        seen = {one.name: engine.container(one.name) for one in deployment.containers}
        view.show([row(one.node.name, one.name, seen[one.name]) for one in deployment.containers])
        for name, state in seen.items():
            if state and state.state == "exited":
                helped.append(name)
                view.say(f"{name}: has ended for good, and is started by hand")
                engine.start(state.id)
        ready = all(state and state.ready for state in seen.values())
        if ready and again(load.seen(), since, load.under_way()) is not None:
            break
        time.sleep(INTERVAL)
    return helped
