"""The containers with their variables and arguments, and the path each variable comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from clusters.compile.placement import Placement
from clusters.compile.ports import VARIABLES
from clusters.deployment import Container, Group
from clusters.model import Cluster, Node, Path
from entrypoints.inputs.recipes import SIDES
from entrypoints.inputs.roles import ROLES
from entrypoints.launch.proxy import PORT as PROXY_PORT
from images import matrix
from images.names import REPOSITORY


class _Variables:
    """Variables with the paths they come from; the first value of a name wins."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.origins: dict[str, Path] = {}

    def set(self, name: str, value: object, origin: Path) -> None:
        if value not in (None, "") and name not in self.values:
            self.values[name] = str(value)
            self.origins[name] = origin


def serving_container(
    cluster: Cluster, placement: Placement, text: str, ports: Mapping[str, int] | None = None
) -> Container:
    """A container of an instance, not planned yet. `ports`: reassigned ones, by name."""
    instance, node = placement.instance, placement.node
    at: Path = ("instances", instance.name)
    override = instance.overrides.get(node.name)
    variables = _Variables()
    if override:
        for name, value in override.env.items():
            variables.set(name, value, (*at, "overrides", node.name, "env", name))
    worker = placement.rank > 0 and not instance.external
    ray = placement.role == "ray-head"
    role = ("ray-worker" if ray else "headless") if worker else placement.role
    variables.set("ROLE", role, (*at, "role"))
    variables.set("RECIPE", text, ("recipe",))
    variables.set("MODEL", cluster.model if cluster.recipe is not None else "", ("model",))
    variables.set("SERVED_MODEL_NAME", cluster.served_model_name, ("served_model_name",))
    if ROLES[placement.role].networked:
        variables.set("LOCAL_IP", node.address, ("nodes", node.name))
        variables.set("NIC", node.nic, ("nodes", node.name, "nic"))
        variables.set("NODES", instance.each, (*at, "nodes"))
    if worker:
        variables.set("LEADER_IP", placement.leader.address, ("nodes", placement.leader.name))
        if not ray:
            variables.set("NODE_RANK", placement.rank, (*at, "nodes"))
            variables.set("GROUP", placement.role, (*at, "role"))
    if instance.external:
        variables.set("DP_RANK", placement.rank, (*at, "external"))
        if placement.rank:
            variables.set("LEADER_IP", placement.leader.address, ("nodes", placement.leader.name))
    variables.origins["ASCEND_PLATFORM"] = ("nodes", node.name, "platform")
    for name, variable in VARIABLES.items():
        if ports and name in ports:
            port, origin = ports[name], (*at, "nodes")
        elif name in instance.ports:
            port, origin = instance.ports[name], (*at, "ports", name)
        elif name in cluster.ports:
            port, origin = cluster.ports[name], ("ports", name)
        else:
            continue
        variables.set(variable, port + placement.local if name == "api" else port, origin)
    if placement.groups > 1 and placement.role in SIDES:
        variables.set("ENGINE_ID", f"{instance.name}-{placement.replica}", at)
    if not placement.whole and placement.devices:
        numbers = ",".join(map(str, range(len(placement.devices))))
        variables.set("ASCEND_RT_VISIBLE_DEVICES", numbers, (*at, "devices"))
    _set_run_options(cluster, variables)
    suffix = f"-{placement.replica}" if instance.replicas > 1 else ""
    base = f"{cluster.name}-{instance.name}{suffix}"
    own = override.arguments if override else ()
    master = instance.ports.get("master") or cluster.ports.get("master")
    spread = instance.each > 1 and not ray and not instance.external
    first = ("--master-port", str(master)) if master and spread else ()
    arguments = (*first, *instance.arguments, *own)
    return Container(
        name=f"{base}-{placement.rank}",
        node=node,
        instance=instance.name,
        replica=placement.replica,
        rank=placement.rank,
        role=role,
        image=image(cluster, node),
        env=variables.values,
        arguments=() if ray and worker else arguments,
        command=instance.command,
        devices=placement.devices,
        whole=placement.whole,
        secrets=tuple(secret.variable for secret in cluster.secrets),
        after=(f"{base}-0",) if worker else (),
        origins=variables.origins,
    )


def proxy_container(
    cluster: Cluster,
    groups: Sequence[Group],
    texts: Mapping[str, str],
    ports: Mapping[str, int] | None = None,
) -> Container:
    """The proxy's container, not planned yet."""
    proxy = cluster.proxy
    assert proxy is not None
    variables = _Variables()
    for name, value in proxy.env.items():
        variables.set(name, value, ("proxy", "env", name))
    variables.set("ROLE", "proxy", ("proxy",))
    sides = {side: [group for group in groups if group.role == side] for side in SIDES}
    for side, serving in sides.items():
        endpoints = ",".join(
            f"{host}:{port}" for group in serving for host, port in group.endpoints
        )
        variables.set(f"{side.upper()}_ENDPOINTS", endpoints, ("instances",))
    if sides["prefill"]:
        variables.set("RECIPE", texts[sides["prefill"][0].instance], ("recipe",))
    variables.set("PROXY", proxy.kind if proxy.kind != "vllm-router" else "", ("proxy", "kind"))
    port = (ports or {}).get("api") or proxy.port or cluster.ports.get("proxy")
    variables.set("PORT", port if port != PROXY_PORT else "", ("proxy", "port"))
    _set_run_options(cluster, variables)
    metrics = cluster.ports.get("metrics") if proxy.kind == "vllm-router" else None
    first = ("--prometheus-port", str(metrics)) if metrics else ()
    node = cluster.nodes.get(proxy.node) or Node(proxy.node, None, None, "", placed=True)
    return Container(
        name=f"{cluster.name}-proxy",
        node=node,
        instance="proxy",
        replica=0,
        rank=0,
        role="proxy",
        image=image(cluster, node if node.platform else next(iter(cluster.nodes.values()))),
        env=variables.values,
        arguments=(*first, *proxy.arguments),
        whole=False,
        secrets=tuple(secret.variable for secret in cluster.secrets),
        after=tuple(group.containers[0].name for serving in sides.values() for group in serving),
        origins=variables.origins,
    )


def _set_run_options(cluster: Cluster, variables: _Variables) -> None:
    run = cluster.run
    variables.set("PREFLIGHT", run.preflight, ("run", "preflight"))
    variables.set("SUPERVISE", "1" if run.supervise else "", ("run", "supervise"))
    variables.set("DRAIN_TIMEOUT", run.drain_timeout, ("run", "drain_timeout"))
    variables.set("WAIT_TIMEOUT", run.wait_timeout, ("run", "wait_timeout"))


def image(cluster: Cluster, node: Node) -> str:
    """The image of a node: as the file gives it, or the repository with the tag of its platform."""
    if not isinstance(cluster.image, str):
        return cluster.image.get(node.platform, "")
    repository = cluster.image or REPOSITORY
    if "@" in repository or ":" in repository.rpartition("/")[2]:
        return repository
    known = image_matrix()
    variant = (known.platforms.get(node.platform), known.oses.get(cluster.os))
    suffix = "".join(one.tag_suffix for one in variant if one)
    return f"{repository}:{cluster.release}{suffix}"


@cache
def image_matrix() -> matrix.Matrix:
    """The matrix of images, read once."""
    return matrix.load()
