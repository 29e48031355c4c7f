"""Inject the faults of faults.yaml, and wait until the cluster serves again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from docker import APIClient
from docker.errors import DockerException

from clusters.deployment import Deployment
from clusters.live.parallel import each
from clusters.live.table import Progress, row
from clusters.model import Node
from validation.rehearsal.deployment import NIC
from validation.rehearsal.fault_outcome import FaultOutcome, assess, recovery_time
from validation.rehearsal.faults import Fault
from validation.rehearsal.load_generator import LoadGenerator
from validation.rehearsal.network import RehearsalNetwork

BASELINE = 10  # requests before the fault
INTERVAL = 0.5  # seconds between two polls

# Maps addresses to a hardware address that does not exist. Packets leave the node and get no
# answer, as with a cut cable: the sender sees no error, and the device stays up.
_BLACKHOLE = """
import fcntl, socket, struct, sys, time
seconds, device, *addresses = sys.argv[1:]
set_entry, delete_entry, complete, permanent = 0x8955, 0x8953, 2, 4  # linux/sockios.h, if_arp.h
nobody = struct.pack("=H6s8x", 1, bytes.fromhex("020000000001"))
rest = struct.pack("=i16x16s", complete | permanent, device.encode())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    def control(request):
        for address in addresses:
            where = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(any, request, where + nobody + rest)
    control(set_entry)
    time.sleep(float(seconds))
    control(delete_entry)
"""


def inject(
    fault: Fault,
    network: RehearsalNetwork,
    load: LoadGenerator,
    deployment: Deployment,
    view: Progress,
) -> FaultOutcome:
    """Inject the fault under load, and wait until the cluster serves again and is healthy."""
    with load:
        time.sleep(BASELINE * network.engine.request_interval)
        begun = time.monotonic()
        INJECTIONS[fault.kind.action](network, fault)
        restarted = _wait(network, load, begun, deployment, view)
    return assess(fault.name, fault.kind.name, fault.targets, load.results(), begun, restarted)


def _kill(network: RehearsalNetwork, fault: Fault) -> None:
    """Crash: kill everything but the container's first process, which then ends by itself.

    After `docker kill` Docker would not apply the restart policy.
    """
    _signal(network.api, fault.container.name, "KILL")


def _stop(network: RehearsalNetwork, fault: Fault) -> None:
    """Maintenance: stop with the container's drain, and start again.

    No restart policy starts a container that was stopped, or that ended with 0.
    """
    docker = network.docker()
    found = docker.container(fault.container.name)
    if found:
        docker.stop(found.id, found.stop_timeout)
        docker.start(found.id)


def _freeze(network: RehearsalNetwork, fault: Fault) -> None:
    """A stuck server: its ports accept connections, and nothing answers."""
    _signal(network.api, fault.container.name, "STOP")
    try:
        time.sleep(fault.kind.seconds)
    finally:
        _signal(network.api, fault.container.name, "CONT")


def _signal(api: APIClient, name: str, signal: str) -> None:
    created = api.exec_create(name, ["sh", "-c", f"kill -{signal} -1"], user="root")
    with suppress(DockerException):  # the signal may end the shell as well
        api.exec_start(created["Id"])


def _isolate(network: RehearsalNetwork, fault: Fault) -> None:
    """Cut a node off from all others, and from this machine and its clients."""
    node = fault.container.node
    others = [one for one in network.nodes if one != node]
    links: dict[Node, list[Node | None]] = {node: [*others, None]}
    links |= {one: [node] for one in others}
    _drop_packets(network, links, fault.kind.seconds)


def _sever(network: RehearsalNetwork, fault: Fault) -> None:
    """Cut both directions between two nodes, which all others still reach."""
    node, other = fault.container.node, fault.other
    assert other is not None
    _drop_packets(network, {node: [other], other: [node]}, fault.kind.seconds)


def _drop_packets(
    network: RehearsalNetwork, links: Mapping[Node, Sequence[Node | None]], seconds: float
) -> None:
    """Drop what each node sends to its destinations in `links`; None is this machine.

    Raises DockerException if a node cannot.
    """

    def run(node: Node) -> str:
        far = [str(one.address if one else network.subnet[1]) for one in links[node]]
        name = network.node_container(node.name)
        command = ["python3", "-c", _BLACKHOLE, str(seconds), NIC, *far]
        created = network.api.exec_create(name, command, user="root", privileged=True)
        output = network.api.exec_start(created["Id"]).decode(errors="replace")
        failed = network.api.exec_inspect(created["Id"])["ExitCode"]
        return f"{name}: {output.strip().rpartition(chr(10))[2]}" if failed else ""

    failed = [why for why in each(run, list(links)) if why]
    if failed:
        raise DockerException(f"cannot drop packets: {'; '.join(failed)}")


INJECTIONS: Mapping[str, Callable[[RehearsalNetwork, Fault], None]] = {
    "kill": _kill,
    "stop": _stop,
    "freeze": _freeze,
    "isolate": _isolate,
    "sever": _sever,
}


def _wait(
    network: RehearsalNetwork,
    load: LoadGenerator,
    since: float,
    deployment: Deployment,
    view: Progress,
) -> list[str]:
    """Wait until all containers are healthy and requests succeed steadily, or the time is up.

    Starts containers that have ended for good, and returns their names.
    """
    restarted: list[str] = []
    docker, end = network.docker(), time.monotonic() + network.engine.recovery_timeout
    while time.monotonic() < end:
        states = {one.name: docker.container(one.name) for one in deployment.containers}
        view.show([row(one.node.name, one.name, states[one.name]) for one in deployment.containers])
        for name, state in states.items():
            if state and state.state == "exited":
                restarted.append(name)
                view.say(f"{name}: has ended for good; starting it by hand")
                docker.start(state.id)
        ready = all(state and state.ready for state in states.values())
        if ready and recovery_time(load.results(), since, load.pending()) is not None:
            break
        time.sleep(INTERVAL)
    return restarted
