"""A private network for a rehearsal, with a container for each node that holds its address.

Containers of a node join that container's network, so they share its ports as on a host.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import APIError, DockerException
from docker.types import EndpointConfig, IPAMConfig, IPAMPool, NetworkingConfig
from requests.exceptions import RequestException

from clusters.live import engine
from clusters.live.parallel import each
from clusters.model import Node
from clusters.runtime.spec import NODE
from common.errors import EX_UNAVAILABLE, user_error
from common.paths import WORK
from validation.rehearsal.engine import Engine
from validation.rehearsal.log_lines import TAIL, last_informative

LABEL = "ascend.rehearsal"  # of everything that a rehearsal creates
NANOSECONDS = 1_000_000_000  # in a second
PROBE_INTERVAL = 5 * NANOSECONDS  # of a healthy container
# Private networks (RFC 1918) to try, in this order.
POOLS = tuple(IPv4Network(f"10.{second}.0.0/20") for second in range(211, 251))


class RehearsalNetwork:
    """The network of a rehearsal and the nodes on it."""

    def __init__(self, api: APIClient, name: str, subnet: IPv4Network, engine: Engine):
        self.api, self.name, self.subnet, self.engine = api, name, subnet, engine
        self.nodes: list[Node] = []

    def docker(self, context: str = "") -> engine.Engine:
        """The local Docker engine, which starts every container on its node."""
        return _NodeEngine(self)

    def node_container(self, name: str) -> str:
        """The container that holds a node's address."""
        return f"{self.name}-node-{name}"

    def add(self, node: Node) -> None:
        """Start the container that holds the node's address."""
        endpoint = EndpointConfig(self.api.api_version, ipv4_address=node.address)
        created = self.api.create_container_from_config(
            {
                "Image": self.engine.image,
                "Entrypoint": ["sleep", "infinity"],
                "Cmd": [],
                "Hostname": node.name,
                "Labels": {LABEL: self.name},
                "Healthcheck": {"Test": ["NONE"]},
                "StopSignal": "SIGKILL",
                "HostConfig": {"NetworkMode": self.name},
                "NetworkingConfig": NetworkingConfig({self.name: endpoint}),
            },
            self.node_container(node.name),
        )
        self.api.start(created["Id"])
        self.nodes.append(node)


class _NodeEngine(engine.Engine):
    def __init__(self, network: RehearsalNetwork) -> None:
        super().__init__(network.api)
        self._network = network

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        engine = self._network.engine
        host = {
            **body["HostConfig"],
            "NetworkMode": f"container:{self._network.node_container(body['Labels'][NODE])}",
            "Mounts": [
                *body["HostConfig"]["Mounts"],
                *(
                    {"Type": "bind", "Source": str(m.source), "Target": m.target, "ReadOnly": True}
                    for m in engine.mounts
                ),
            ],
        }
        env = [*body["Env"], *(f"{name}={value}" for name, value in engine.env.items())]
        start_interval = int(engine.health_interval * NANOSECONDS)
        probe = {"StartInterval": start_interval, "Interval": PROBE_INTERVAL}
        changed = {"HostConfig": host, "Env": env, "Healthcheck": probe}
        labels = {**body["Labels"], LABEL: self._network.name}
        return super().create(name, {**body, **changed, "Labels": labels})

    def log(self, id: str, lines: int) -> list[str]:
        """The last lines; if only one is asked for, the last informative one."""
        return last_informative(super().log(id, TAIL)) if lines == 1 else super().log(id, lines)


@contextmanager
def rehearsal_network(
    api: APIClient, name: str, engine: Engine, keep: bool = False
) -> Iterator[RehearsalNetwork]:
    """Create the private network of a rehearsal; unless `keep`, remove all of it at the end.

    First removes what an earlier rehearsal of this name left. Raises UserError (69) if Docker
    cannot create a network, or a rehearsal of this name is running.
    """
    with exclusive(name):
        _remove_all(api, name)
        subnet = _create_network(api, name)
        try:
            yield RehearsalNetwork(api, name, subnet, engine)
        finally:
            if not keep:
                _remove_all(api, name)


@contextmanager
def exclusive(name: str, folder: Path = WORK / "rehearsal") -> Iterator[None]:
    """Lock the name, so that no second rehearsal removes what the first one uses.

    Raises UserError (69) while another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait for it to end, or rename one of the clusters"
            raise user_error(name, "is being rehearsed already", fix, EX_UNAVAILABLE) from None
        yield


def _create_network(api: APIClient, name: str) -> IPv4Network:
    why = "no private network is free"
    for pool in POOLS:
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=str(pool), gateway=str(pool[1]))])
        try:
            api.create_network(name, driver="bridge", ipam=ipam, labels={LABEL: name})
        except APIError as error:
            why = str(error.explanation)
            if "overlap" not in why:
                break
        else:
            return pool
    raise user_error("the Docker engine", why, "see `docker network ls`", EX_UNAVAILABLE)


def _remove_all(api: APIClient, name: str) -> None:
    """Remove the containers and the network; the next rehearsal removes what Docker does not."""

    def remove(one: Mapping[str, Any]) -> None:
        with suppress(APIError, RequestException):
            api.remove_container(one["Id"], force=True)

    each(remove, api.containers(all=True, filters={"label": f"{LABEL}={name}"}))
    with suppress(DockerException, RequestException):
        api.remove_network(name)
