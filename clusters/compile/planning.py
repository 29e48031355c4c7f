"""What a container's entrypoint will make of its variables, asked here without the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from clusters.compile import ports
from clusters.deployment import Container
from clusters.model import Cluster, Node
from entrypoints.launch.network import Host
from entrypoints.launch.plan import draft
from entrypoints.problems import Problem

# Stands for an interface that the entrypoint finds by the node's address.
UNKNOWN_NIC = "nic-of-the-node"
# Benchmarking addresses (RFC 2544) stand for those that Kubernetes gives: no node has one.
STAND_IN = IPv4Address("198.18.0.0")
SECRET = "***"


@dataclass(frozen=True)
class Planned:
    """A container with its launch, what its entrypoint says against it, and its ports by name."""

    container: Container
    address: str
    problems: tuple[Problem, ...]
    ports: Mapping[str, ports.Span]

    @property
    def host(self) -> str:
        """What it shares its ports with."""
        return self.container.node.name or self.container.name


def addressed(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes, those that Kubernetes places with an address to plan with."""
    made = dict(nodes)
    for at, node in enumerate(one for one in nodes.values() if one.placed):
        made[node.name] = replace(node, address=str(STAND_IN + at + 1))
    return made


def plan(cluster: Cluster, container: Container) -> Planned:
    """Ask the entrypoint. A container with a command of its own is not asked."""
    address = container.node.address or ""
    if container.command:
        stated = {name: int(container.env.get(one, 0)) for name, one in ports.VARIABLES.items()}
        listens = ports.spans({name: port for name, port in stated.items() if port})
        return Planned(container, address, (), listens)
    environ = {
        **container.env,
        **{name: SECRET for name in container.secrets},
        "JEMALLOC": "0",  # whether there is one, the image says and not this machine
        "VLLM_ASCEND_RELEASE": cluster.release,
        **({"ASCEND_PLATFORM": container.node.platform} if container.node.platform else {}),
    }
    host = Host(lambda: [(UNKNOWN_NIC, address)], lambda _: address or None)
    launch, problems = draft(environ, container.arguments, host)
    spans = ports.spans(launch.ports) if launch else {}
    return Planned(replace(container, launch=launch), address, problems, spans)
