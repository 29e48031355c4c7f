"""One container as a Docker engine runs it, whether from a script, Compose or the API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass, field, replace

from clusters.deployment import Container, Deployment
from clusters.model import Cluster, Secret, Volume
from common.errors import EX_DATAERR, Finding, UserError, did_you_mean, user_error
from entrypoints.inputs import data
from entrypoints.preflight import docker
from entrypoints.running.supervise import DRAIN

CLUSTER = "ascend.cluster"  # labels of every container
NODE = "ascend.node"
ROLE = "ascend.role"
DIGEST = "ascend.configuration"
# Seconds after the drain until the engine kills a container.
AFTER_DRAIN = 30


@dataclass(frozen=True)
class Mount:
    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class HostResources:
    devices: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A container. `words` follow the image. `after`: containers of its node that start before it.

    `options`: of docker run, unchanged. `shm_gib`: 0 for the engine's default.
    The names of the fields are part of the digest: a new name restarts running containers.
    """

    name: str
    image: str
    env: Mapping[str, str]
    secrets: tuple[Secret, ...]
    taken: HostResources
    shm_gib: int
    restart: str
    stop_timeout: int
    words: tuple[str, ...]
    options: tuple[str, ...]
    after: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


def specs(deployment: Deployment, npus: bool = True) -> dict[str, Spec]:
    """Container's name → spec, in start order.

    Raises UserError (65) for settings that need Kubernetes.
    """
    cluster = deployment.cluster
    findings = list(_kubernetes_only(deployment))
    if findings:
        raise UserError(findings, EX_DATAERR)
    here = {
        name: {one.name for one in containers} for name, containers in by_node(deployment).items()
    }
    with data.CachedReads():
        return {
            one.name: _spec(cluster, one, here.get(one.node.name, set()), npus)
            for one in start_order(deployment)
        }


def by_node(deployment: Deployment) -> dict[str, tuple[Container, ...]]:
    """Node's name → its containers in start order; without empty nodes."""
    result: dict[str, tuple[Container, ...]] = {}
    for one in start_order(deployment):
        result[one.node.name] = (*result.get(one.node.name, ()), one)
    return {name: result[name] for name in deployment.cluster.nodes if name in result}


def start_order(deployment: Deployment) -> tuple[Container, ...]:
    """All containers, each after those that must start before it, else in the order of the file."""
    known = {one.name: one for one in deployment.containers}
    result: dict[str, Container] = {}

    def add(one: Container, waiting: tuple[str, ...] = ()) -> None:
        if one.name in result:
            return
        for name in one.after:
            if name in known and name not in waiting:
                add(known[name], (*waiting, one.name))
        result.setdefault(one.name, one)

    for one in known.values():
        add(one)
    return tuple(result.values())


def on_node(deployment: Deployment, name: str) -> Deployment:
    """The part of a deployment on one node. Raises UserError (64) for a node without containers."""
    if name not in by_node(deployment):
        known = did_you_mean(name, by_node(deployment))
        raise user_error("--node", f"no container is on node '{name}'", known)
    groups = (
        replace(one, containers=tuple(c for c in one.containers if c.node.name == name))
        for one in deployment.groups
    )
    proxy = deployment.proxy
    return replace(
        deployment,
        groups=tuple(one for one in groups if one.containers),
        proxy=proxy if proxy and proxy.node.name == name else None,
    )


def _spec(cluster: Cluster, one: Container, here: Set[str], npus: bool) -> Spec:
    """`here`: names of the containers on its node."""
    run = cluster.run
    drain = DRAIN if run.drain_timeout is None else run.drain_timeout
    spec = Spec(
        name=one.name,
        image=one.image,
        env={name: value for name, value in one.env.items() if name not in one.secrets},
        secrets=tuple(secret for secret in cluster.secrets if secret.variable in one.secrets),
        taken=host_resources(one, cluster.volumes, npus),
        shm_gib=0 if one.role == "proxy" else run.shm_gib,
        restart=run.restart,
        stop_timeout=drain + AFTER_DRAIN,
        words=one.command or one.arguments,
        options=cluster.options,
        after=tuple(name for name in one.after if name in here),
    )
    labels = {
        CLUSTER: cluster.name,
        "ascend.instance": one.instance,
        "ascend.replica": str(one.replica),
        "ascend.rank": str(one.rank),
        ROLE: one.role,
        NODE: one.node.name,
        DIGEST: _digest(spec),
    }
    return replace(spec, labels=labels)


def _digest(spec: Spec) -> str:
    """A digest of what the engine gets; it contains secrets by reference only."""
    text = json.dumps(asdict(replace(spec, after=())), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _kubernetes_only(deployment: Deployment) -> Iterator[Finding]:
    cluster = deployment.cluster
    if any(one.node.placed for one in deployment.containers):
        fix = "name the nodes in the file, or render it with --to lws"
        yield Finding(f"{cluster.file}: nodes", "Kubernetes chooses them", fix)
    for volume in cluster.volumes:
        if volume.claim:
            what = f"'{volume.claim}' at {volume.mount} is a claim, which needs Kubernetes"
            yield Finding(f"{cluster.file}: weights", what, "give the path on the host")
    for secret in cluster.secrets:
        if secret.secret:
            where = f"{cluster.file}: secrets.{secret.variable}"
            what = f"'{secret.secret}' is a Kubernetes Secret"
            yield Finding(where, what, "give `env: NAME` or `file: PATH`")


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
