"""What `docker run` must take from a host."""

from __future__ import annotations

from entrypoints.preflight.look import Look


def options(look: Look, existing: bool = False) -> list[str]:
    """--device and -v options: for the platform, or for what exists on this very host."""
    platform = look.needs.platform
    count = platform.devices if platform else look.needs.devices
    numbers = look.nodes if existing else tuple(range(count))
    nodes = [f"/dev/davinci{n}" for n in numbers]
    nodes += [f"/dev/{name}" for name in look.facts["control_nodes"]]
    mounts = list(look.facts["mounts"])
    if existing:
        nodes = [node for node in nodes if look.machine.exists(node)]
        mounts = [mount for mount in mounts if look.machine.exists(mount)]
    return [
        *(f"--device {node}" for node in nodes),
        *(f"-v {mount}:{mount}:ro" for mount in mounts),
    ]
