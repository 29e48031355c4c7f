"""The variables and arguments of each container, and where in the file each comes from."""

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
    """Variables with where they come from; the first to name one wins."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.origins: dict[str, Path] = {}

    def set(self, name: str, value: object, origin: Path) -> None:
        if value not in (None, "") and name not in self.values:
            self.values[name] = str(value)
            self.origins[name] = origin


def serving_container(
    cluster: Cluster, seat: Placement, text: str, ports: Mapping[str, int] | None = None
) -> Container:
    """A serving container that is not planned yet. `ports`: those that had to move, by name."""
    instance, node = seat.instance, seat.node
    at: Path = ("instances", instance.name)
    override = instance.overrides.get(node.name)
    made = _Variables()
    if override:
        for name, value in override.env.items():
            made.set(name, value, (*at, "overrides", node.name, "env", name))
    follows = seat.rank > 0 and not instance.external
    ray = seat.role == "ray-head"
    role = ("ray-worker" if ray else "headless") if follows else seat.role
    made.set("ROLE", role, (*at, "role"))
    made.set("RECIPE", text, ("recipe",))
    made.set("MODEL", cluster.model if cluster.recipe is not None else "", ("model",))
    made.set("SERVED_MODEL_NAME", cluster.served_model_name, ("served_model_name",))
    if ROLES[seat.role].networked:
        made.set("LOCAL_IP", node.address, ("nodes", node.name))
        made.set("NIC", node.nic, ("nodes", node.name, "nic"))
        made.set("NODES", instance.each, (*at, "nodes"))
    if follows:
        made.set("LEADER_IP", seat.leader.address, ("nodes", seat.leader.name))
        if not ray:
            made.set("NODE_RANK", seat.rank, (*at, "nodes"))
            made.set("GROUP", seat.role, (*at, "role"))
    if instance.external:
        made.set("DP_RANK", seat.rank, (*at, "external"))
        if seat.rank:
            made.set("LEADER_IP", seat.leader.address, ("nodes", seat.leader.name))
    made.origins["ASCEND_PLATFORM"] = ("nodes", node.name, "platform")
    for name, variable in VARIABLES.items():
        if ports and name in ports:
            port, origin = ports[name], (*at, "nodes")
        elif name in instance.ports:
            port, origin = instance.ports[name], (*at, "ports", name)
        elif name in cluster.ports:
            port, origin = cluster.ports[name], ("ports", name)
        else:
            continue
        made.set(variable, port + seat.local if name == "api" else port, origin)
    if seat.groups > 1 and seat.role in SIDES:
        made.set("ENGINE_ID", f"{instance.name}-{seat.replica}", at)
    if not seat.whole and seat.devices:
        numbers = ",".join(map(str, range(len(seat.devices))))
        made.set("ASCEND_RT_VISIBLE_DEVICES", numbers, (*at, "devices"))
    _set_run_options(cluster, made)
    suffix = f"-{seat.replica}" if instance.replicas > 1 else ""
    base = f"{cluster.name}-{instance.name}{suffix}"
    own = override.arguments if override else ()
    master = instance.ports.get("master") or cluster.ports.get("master")
    spread = instance.each > 1 and not ray and not instance.external
    first = ("--master-port", str(master)) if master and spread else ()
    arguments = (*first, *instance.arguments, *own)
    return Container(
        name=f"{base}-{seat.rank}",
        node=node,
        instance=instance.name,
        replica=seat.replica,
        rank=seat.rank,
        role=role,
        image=image(cluster, node),
        env=made.values,
        arguments=() if ray and follows else arguments,
        command=instance.command,
        devices=seat.devices,
        whole=seat.whole,
        secrets=tuple(secret.variable for secret in cluster.secrets),
        after=(f"{base}-0",) if follows else (),
        origins=made.origins,
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
    made = _Variables()
    for name, value in proxy.env.items():
        made.set(name, value, ("proxy", "env", name))
    made.set("ROLE", "proxy", ("proxy",))
    sides = {side: [group for group in groups if group.role == side] for side in SIDES}
    for side, those in sides.items():
        ends = ",".join(f"{host}:{port}" for group in those for host, port in group.endpoints)
        made.set(f"{side.upper()}_ENDPOINTS", ends, ("instances",))
    if sides["prefill"]:
        made.set("RECIPE", texts[sides["prefill"][0].instance], ("recipe",))
    made.set("PROXY", proxy.kind if proxy.kind != "vllm-router" else "", ("proxy", "kind"))
    port = (ports or {}).get("api") or proxy.port or cluster.ports.get("proxy")
    made.set("PORT", port if port != PROXY_PORT else "", ("proxy", "port"))
    _set_run_options(cluster, made)
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
        env=made.values,
        arguments=(*first, *proxy.arguments),
        whole=False,
        secrets=tuple(secret.variable for secret in cluster.secrets),
        after=tuple(group.containers[0].name for those in sides.values() for group in those),
        origins=made.origins,
    )


def _set_run_options(cluster: Cluster, made: _Variables) -> None:
    run = cluster.run
    made.set("PREFLIGHT", run.preflight, ("run", "preflight"))
    made.set("SUPERVISE", "1" if run.supervise else "", ("run", "supervise"))
    made.set("DRAIN_TIMEOUT", run.drain_timeout, ("run", "drain_timeout"))
    made.set("WAIT_TIMEOUT", run.wait_timeout, ("run", "wait_timeout"))


def image(cluster: Cluster, node: Node) -> str:
    """The image of a node: as written, or the repository with the tag of its platform."""
    if not isinstance(cluster.image, str):
        return cluster.image.get(node.platform, "")
    repository = cluster.image or REPOSITORY
    if "@" in repository or ":" in repository.rpartition("/")[2]:
        return repository
    return f"{repository}:{cluster.release}{_tag_suffix(node.platform, cluster.os)}"


@cache
def _tag_suffix(platform: str, os: str) -> str:
    """The end of the tag that images of a platform and an OS have."""
    made = matrix.load()
    suffixes = (made.platforms.get(platform), made.oses.get(os))
    return "".join(one.tag_suffix for one in suffixes if one)
