"""A compiled cluster file: containers, and the groups in which they serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clusters.model import Cluster, Node, Path
from clusters.ranges import Span, spans
from common.errors import Finding
from entrypoints.launch.model import Launch


@dataclass(frozen=True)
class Container:
    """One container on one node.

    `env`: variables of the entrypoint and of the operator. `arguments`: follow the image.
    `command`: replaces role and arguments. `devices`: numbers of its NPUs.
    `whole`: it has all devices of its node. `secrets`: names of variables given by reference.
    `rank`: its number in its group. `after`: names of containers that must start first.
    `origins`: the path in the file that a variable comes from.
    `launch`: what its entrypoint will run, None when it refuses.
    """

    name: str
    node: Node
    instance: str
    replica: int
    rank: int
    role: str
    image: str
    env: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    devices: tuple[int, ...] = ()
    whole: bool = True
    secrets: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    origins: Mapping[str, Path] | None = None
    launch: Launch | None = None

    @property
    def ports(self) -> dict[str, Span]:
        """Name -> the ports on which it listens; empty without a launch."""
        return spans(self.launch.ports) if self.launch else {}


@dataclass(frozen=True)
class Group:
    """One replica of an instance: the containers that form one server.

    With external data parallel, each container is a server. `endpoints`: host and port of each API.
    """

    name: str
    instance: str
    replica: int
    role: str
    containers: tuple[Container, ...]
    endpoints: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Deployment:
    """A compiled cluster. `findings`: of the compiler and of every container's entrypoint."""

    cluster: Cluster
    groups: tuple[Group, ...]
    proxy: Container | None
    findings: tuple[Finding, ...]

    @property
    def containers(self) -> tuple[Container, ...]:
        """All containers, the proxy last."""
        served = tuple(one for group in self.groups for one in group.containers)
        return (*served, self.proxy) if self.proxy else served
