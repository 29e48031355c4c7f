"""Ask the images of a cluster file whether upstream's own code would start each of its nodes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clusters.deployment import Container, Deployment
from common import docker
from common.errors import EX_UNAVAILABLE, user_error
from entrypoints.launch.topology import NODES

# Variables that may differ between equal nodes: their values do not change upstream's answer.
_PLACE = (
    "DP_RANK",
    "DP_RPC_PORT",
    "ENGINE_ID",
    "KV_PORT",
    "LEADER_IP",
    "LOCAL_IP",
    "NIC",
    "PORT",
)
SECRET = "secret"


def run(deployment: Deployment, image: str, options: Sequence[str]) -> list[dict[str, Any]]:
    """The reports of the file's distinct nodes, in the form of `entrypoints.dryrun.report`.

    `image`: replaces all images of the file; empty keeps them. Runs a container without network
    for each image. Raises UserError (69) if the engine lacks an image or its dry run fails.
    """
    found: list[dict[str, Any]] = []
    for own in sorted({one.image for one in deployment.containers}):
        nodes = distinct([one for one in deployment.containers if one.image == own])
        found += _ask(image or own, nodes, options)
    return found


def _ask(
    image: str, nodes: Mapping[str, Container], options: Sequence[str]
) -> list[dict[str, Any]]:
    if not docker.image_id(image):
        fix = f"docker pull {image}, or give another by --image"
        raise user_error(image, "is not in this engine", fix, EX_UNAVAILABLE)
    asked = [
        {"name": name, "variables": _variables(one), "arguments": list(one.arguments)}
        for name, one in nodes.items()
    ]
    words = ["run", "--interactive", "--rm", "--network", "none", *_mounts(nodes.values())]
    answer = subprocess.run(
        ["docker", *words, image, "dryrun", "--nodes", "--format", "json", *options],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        reports: list[dict[str, Any]] = json.loads(answer.stdout)
    except ValueError:
        said = answer.stderr.strip().splitlines()[-1:] or [f"ended with {answer.returncode}"]
        fix = "see docs/dryrun.md for what an image needs"
        raise user_error(image, said[0], fix, EX_UNAVAILABLE) from None
    return reports


def _mounts(containers: Iterable[Container]) -> list[str]:
    """Mounts of the model folders that this machine has, at the same paths."""
    named = {launch.argv[2] for one in containers if (launch := one.launch) and launch.serves}
    folders = [one for one in sorted(named) if one.startswith("/") and Path(one).is_dir()]
    mounts = (f"type=bind,src={one},dst={one},readonly" for one in folders)
    return [word for mount in mounts for word in ("--mount", mount)]


def distinct(containers: Sequence[Container]) -> dict[str, Container]:
    """One container of each kind by name; the name says how many others are equal."""
    found: dict[str, list[Container]] = {}
    for one in containers:
        if not one.command:
            found.setdefault(_kind(one), []).append(one)
    return {
        f"{some[0].name}{f' and {len(some) - 1} equal' if some[1:] else ''}": some[0]
        for some in found.values()
    }


def _kind(container: Container) -> str:
    launch = container.launch
    by_rank = launch is not None and launch.place is not None and launch.place.layout == NODES
    ignored = _PLACE if by_rank else (*_PLACE, "NODE_RANK")
    variables = {name: one for name, one in container.env.items() if name not in ignored}
    return json.dumps([variables, container.arguments, container.node.platform], sort_keys=True)


def _variables(container: Container) -> dict[str, str]:
    return {**container.env, **dict.fromkeys(container.secrets, SECRET)}
