"""The nodes of a rehearsal: one private network, and for each node a container that is its address.

What runs on a node runs in that container's network, so that it shares its ports as on a host,
and a node is cut off by taking its container from the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound
from docker.types import EndpointConfig, IPAMConfig, IPAMPool, NetworkingConfig

from clusters.live.engine import Engine
from clusters.model import Node
from clusters.render.spec import NODE
from common.errors import EX_UNAVAILABLE, fail

STAGE = "ascend.rehearsal"  # label of everything that belongs to a rehearsal
# Nanoseconds between two looks at a container's health; the rest of the probe is the image's.
PROBE = {"StartInterval": 1_000_000_000, "Interval": 5_000_000_000}
# Private networks (RFC 1918) that are tried in turn.
POOLS = tuple(IPv4Network(f"10.{second}.0.0/20") for second in range(211, 251))


@dataclass(frozen=True)
class Mount:
    """A file or directory of this machine in every container, read only."""

    source: Path
    target: str


class Stage:
    """The network and its nodes, as long as they are there."""

    def __init__(self, api: APIClient, name: str, network: IPv4Network, mounts: Sequence[Mount]):
        self.api, self.name, self.network, self.mounts = api, name, network, mounts

    def engine(self, context: str = "") -> Engine:
        """The local engine, which puts every container onto its node."""
        return _Engine(self)

    def node(self, name: str) -> str:
        """The container that is a node's address."""
        return f"{self.name}-node-{name}"

    def place(self, node: Node, image: str) -> None:
        """Bring a node up: its address, and nothing that runs."""
        endpoint = EndpointConfig(self.api.api_version, ipv4_address=node.address)
        made = self.api.create_container_from_config(
            {
                "Image": image,
                "Entrypoint": ["sleep", "infinity"],
                "Cmd": [],
                "Hostname": node.name,
                "Labels": {STAGE: self.name},
                "Healthcheck": {"Test": ["NONE"]},
                "StopSignal": "SIGKILL",
                "HostConfig": {"NetworkMode": self.name},
                "NetworkingConfig": NetworkingConfig({self.name: endpoint}),
            },
            self.node(node.name),
        )
        self.api.start(made["Id"])

    def cut(self, node: str) -> None:
        """Take a node off the network."""
        self.api.disconnect_container_from_network(self.node(node), self.name, force=True)

    def mend(self, node: Node) -> None:
        """Bring it back with its address."""
        self.api.connect_container_to_network(
            self.node(node.name), self.name, ipv4_address=node.address
        )


class _Engine(Engine):
    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.api)
        self._stage = stage

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        host = {
            **body["HostConfig"],
            "NetworkMode": f"container:{self._stage.node(body['Labels'][NODE])}",
            "Mounts": [
                *body["HostConfig"]["Mounts"],
                *(
                    {"Type": "bind", "Source": str(m.source), "Target": m.target, "ReadOnly": True}
                    for m in self._stage.mounts
                ),
            ],
        }
        # An image on a stand-in for CANN refuses to serve, which here is not CANN's to do.
        env = [*body["Env"], "CANN_STANDIN=0"]
        changed = {"HostConfig": host, "Env": env, "Healthcheck": PROBE}
        labels = {**body["Labels"], STAGE: self._stage.name}
        return super().create(name, {**body, **changed, "Labels": labels})


@contextmanager
def stage(
    api: APIClient, name: str, mounts: Sequence[Mount] = (), keep: bool = False
) -> Iterator[Stage]:
    """A private network for one rehearsal; everything on it goes at the end, unless kept.

    What an earlier rehearsal of the name has left goes first. Raises UserError (69) when the engine
    gives no network.
    """
    _clear(api, name)
    network = _network(api, name)
    try:
        yield Stage(api, name, network, mounts)
    finally:
        if not keep:
            _clear(api, name)


def _network(api: APIClient, name: str) -> IPv4Network:
    why = "no private network is free"
    for pool in POOLS:
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=str(pool), gateway=str(pool[1]))])
        try:
            api.create_network(name, driver="bridge", ipam=ipam, labels={STAGE: name})
        except APIError as error:
            why = str(error.explanation)
            if "overlap" not in why:
                break
        else:
            return pool
    raise fail("the Docker engine", why, "see `docker network ls`", EX_UNAVAILABLE)


def _clear(api: APIClient, name: str) -> None:
    for one in api.containers(all=True, filters={"label": f"{STAGE}={name}"}):
        with suppress(NotFound, APIError):
            api.remove_container(one["Id"], force=True)
    with suppress(NotFound, DockerException):
        api.remove_network(name)
