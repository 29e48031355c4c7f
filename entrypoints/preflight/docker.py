"""What a container needs from its host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from entrypoints.preflight.inspection import Inspection
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Host(NamedTuple):
    """Device nodes, and the paths to mount read-only at the same place as on the host."""

    devices: list[str]
    mounts: list[str]


def host(facts: Mapping[str, Any], numbers: Iterable[int], multi_node: bool = True) -> Host:
    """The part of a host that the NPUs with these numbers need; `facts` is env/preflight.yaml.

    `multi_node`: they communicate with those of other nodes.
    """
    devices = [f"/dev/davinci{n}" for n in numbers]
    devices += [f"/dev/{name}" for name in facts["control_nodes"]]
    unneeded = () if multi_node else (facts["fabric"]["file"],)
    return Host(devices, [mount for mount in facts["mounts"] if mount not in unneeded])


def options(here: Inspection, existing: bool = False) -> list[str]:
    """--device and -v options: for the platform, or for what exists on this very host."""
    platform = here.needs.platform
    if platform and not platform.devices:
        return []
    count = platform.devices if platform else here.needs.devices
    devices, mounts = host(here.facts, here.nodes if existing else range(count))
    if existing:
        devices = [node for node in devices if here.machine.exists(node)]
        mounts = [mount for mount in mounts if here.machine.exists(mount)]
    return [
        *(f"--device {node}" for node in devices),
        *(f"-v {mount}:{mount}:ro" for mount in mounts),
    ]
