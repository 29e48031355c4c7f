"""What a container gets of its host: NPUs, the driver's files, directories of the cluster file."""

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
    """Devices and mounts of a container; a volume at the place of a driver's file replaces it.

    `npus`: false leaves NPUs and driver out. A proxy has none, and reads no weights.
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
    """Whether its NPUs talk to others'; taken for granted where its launch is not known."""
    return container.launch.multi_node if container.launch else container.role != "single"
