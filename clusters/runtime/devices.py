"""The NPUs, driver files and directories that a container gets from its host."""

from __future__ import annotations

from dataclasses import dataclass

from clusters.deployment import Container
from clusters.model import Volume
from entrypoints.inputs import data
from entrypoints.preflight import docker


@dataclass(frozen=True)
class Mount:
    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class HostResources:
    devices: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()


def host_resources(
    container: Container, volumes: tuple[Volume, ...], npus: bool = True
) -> HostResources:
    """Devices and mounts of a container; a volume replaces a driver file with the same target.

    `npus`: false leaves out NPUs and driver. A proxy needs neither, nor weights.
    """
    if container.role == "proxy":
        return HostResources()
    mounts = {one.mount: Mount(one.path, one.mount, one.read_only) for one in volumes}
    if not npus:
        return HostResources(mounts=tuple(mounts.values()))
    facts = data.read(data.path_of("preflight.yaml"))
    host = docker.host(facts, container.devices, multi_node(container))
    driver = {path: Mount(path, path) for path in host.mounts}
    return HostResources(tuple(host.devices), tuple((driver | mounts).values()))


def multi_node(container: Container) -> bool:
    """Whether its NPUs communicate with other nodes; assumed when its launch is unknown."""
    return container.launch.multi_node if container.launch else container.role != "single"
