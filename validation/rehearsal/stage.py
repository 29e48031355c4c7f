"""The nodes of a rehearsal: one private network, and for each node a container that is its address.

What runs on a node runs in that container's network, so that it shares its ports as on a host.
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

from clusters.live.engine import Engine
from clusters.live.parallel import each
from clusters.model import Node
from clusters.runtime.spec import NODE
from common.errors import EX_UNAVAILABLE, user_error
from common.paths import WORK
from validation.rehearsal.engines import Engine as Runs
from validation.rehearsal.lines import LOOKED_AT, telling

STAGE = "ascend.rehearsal"  # label of everything that belongs to a rehearsal
# Nanoseconds between two looks at a container's health; the rest of the probe is the image's.
SECOND = 1_000_000_000
INTERVAL = 5 * SECOND
# Private networks (RFC 1918) that are tried in turn.
POOLS = tuple(IPv4Network(f"10.{second}.0.0/20") for second in range(211, 251))


class Stage:
    """The network and its nodes, as long as they are there."""

    def __init__(self, api: APIClient, name: str, network: IPv4Network, runs: Runs):
        self.api, self.name, self.network, self.runs = api, name, network, runs
        self.placed: list[Node] = []

    def engine(self, context: str = "") -> Engine:
        """The local engine, which puts every container onto its node."""
        return _Engine(self)

    def node(self, name: str) -> str:
        """The container that is a node's address."""
        return f"{self.name}-node-{name}"

    def place(self, node: Node) -> None:
        """Bring a node up: its address, and nothing that runs."""
        endpoint = EndpointConfig(self.api.api_version, ipv4_address=node.address)
        made = self.api.create_container_from_config(
            {
                "Image": self.runs.image,
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
        self.placed.append(node)


class _Engine(Engine):
    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.api)
        self._stage = stage

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        runs = self._stage.runs
        host = {
            **body["HostConfig"],
            "NetworkMode": f"container:{self._stage.node(body['Labels'][NODE])}",
            "Mounts": [
                *body["HostConfig"]["Mounts"],
                *(
                    {"Type": "bind", "Source": str(m.source), "Target": m.target, "ReadOnly": True}
                    for m in runs.mounts
                ),
            ],
        }
        env = [*body["Env"], *(f"{name}={value}" for name, value in runs.env.items())]
        probe = {"StartInterval": int(runs.interval * SECOND), "Interval": INTERVAL}
        changed = {"HostConfig": host, "Env": env, "Healthcheck": probe}
        labels = {**body["Labels"], STAGE: self._stage.name}
        return super().create(name, {**body, **changed, "Labels": labels})

    def log(self, id: str, lines: int) -> list[str]:
        """The last lines; for a single one, that which tells most of the last ones."""
        return telling(super().log(id, LOOKED_AT)) if lines == 1 else super().log(id, lines)


@contextmanager
def stage(api: APIClient, name: str, runs: Runs, keep: bool = False) -> Iterator[Stage]:
    """A private network for one rehearsal; everything on it goes at the end, unless kept.

    What an earlier rehearsal of the name has left goes first. Raises UserError (69) when the engine
    gives no network, or another of the name is running.
    """
    with alone(name):
        _clear(api, name)
        network = _network(api, name)
        try:
            yield Stage(api, name, network, runs)
        finally:
            if not keep:
                _clear(api, name)


@contextmanager
def alone(name: str, folder: Path = WORK / "rehearsal") -> Iterator[None]:
    """Holds the name, so that a second rehearsal does not remove what the first one uses.

    Raises UserError (69) while another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait for it, or give the cluster of one of them another name"
            raise user_error(name, "is being rehearsed already", fix, EX_UNAVAILABLE) from None
        yield


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
    raise user_error("the Docker engine", why, "see `docker network ls`", EX_UNAVAILABLE)


def _clear(api: APIClient, name: str) -> None:
    """What an engine does not remove in time stays for the next rehearsal of the name."""

    def remove(one: Mapping[str, Any]) -> None:
        with suppress(APIError, RequestException):
            api.remove_container(one["Id"], force=True)

    each(remove, api.containers(all=True, filters={"label": f"{STAGE}={name}"}))
    with suppress(DockerException, RequestException):
        api.remove_network(name)
