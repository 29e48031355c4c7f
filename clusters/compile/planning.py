"""Plans a container as its entrypoint will on the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from clusters.compile.ports import VARIABLES
from clusters.deployment import Container
from clusters.model import Cluster
from clusters.ranges import Span, spans
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.launch.network import Host
from entrypoints.plan import draft

# In place of an interface that the entrypoint finds by the node's address.
UNKNOWN_NIC = "nic-of-the-node"
SECRET = "***"


@dataclass(frozen=True)
class Planned:
    """A container with its launch, the errors of its entrypoint, and its ports by name."""

    container: Container
    address: str
    findings: tuple[LaunchFinding, ...]
    ports: Mapping[str, Span]

    @property
    def host(self) -> str:
        """The host whose ports it uses."""
        return self.container.node.name or self.container.name


def plan(cluster: Cluster, container: Container) -> Planned:
    """Run the entrypoint's planning; a container with its own command has none."""
    address = container.node.address or ""
    if container.command:
        stated = {name: int(container.env.get(one, 0)) for name, one in VARIABLES.items()}
        listens = spans({name: port for name, port in stated.items() if port})
        return Planned(container, address, (), listens)
    environ = {
        **container.env,
        **{name: SECRET for name in container.secrets},
        "JEMALLOC": "0",  # the image has it or not, whatever this machine has
        "VLLM_ASCEND_RELEASE": cluster.release,
        **({"ASCEND_PLATFORM": container.node.platform} if container.node.platform else {}),
    }
    host = Host(lambda: [(UNKNOWN_NIC, address)], lambda _: address or None)
    launch, findings = draft(environ, container.arguments, host)
    container = replace(container, launch=launch)
    return Planned(container, address, findings, container.ports)
