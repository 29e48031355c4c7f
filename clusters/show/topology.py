"""The topology of a cluster: machines, containers and links; clusters/show/picture.py draws it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from clusters.deployment import Container, Deployment
from clusters.model import Node
from clusters.ranges import Span, compact
from clusters.show.containers import address, ranks

CLIENTS = "clients"  # an end of a link outside of the cluster

# Kinds of links, and the ports of a leader for the last two.
REQUESTS = "requests"
KV = "KV transfer"
LEADER = "joins leader"
RAY = "joins Ray"
_JOINS = {"dp_rpc": LEADER, "master": LEADER, "ray": RAY}


@dataclass(frozen=True)
class Box:
    """A container. `ranks`: its share of its group. `count`: of the similar ones it represents."""

    name: str
    instance: str
    role: str
    ranks: str
    devices: str
    ports: Mapping[str, Span]
    count: int = 1


@dataclass(frozen=True)
class Machine:
    """A node with its containers, or several similar nodes."""

    names: tuple[str, ...]
    address: str
    platform: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class End:
    """An end of a link: a box, and the port on which it listens."""

    box: str
    port: Span | None = None


@dataclass(frozen=True)
class Link:
    """Each of `sources` sends to each of `targets`.

    A KV transfer leads from prefill to decode, with the ports of its source.
    """

    kind: str
    sources: tuple[End, ...]
    targets: tuple[End, ...]


@dataclass(frozen=True)
class Topology:
    """The machines of a cluster from top to bottom, and the links between their containers."""

    name: str
    release: str
    instances: tuple[str, ...]
    machines: tuple[Machine, ...]
    links: tuple[Link, ...]


def topology(deployment: Deployment) -> Topology:
    """The topology of a deployment; a refused container has no ports and no links."""
    cluster = deployment.cluster
    containers = deployment.containers
    held: dict[str, list[Container]] = defaultdict(list)
    for one in containers:
        held[one.node.name].append(one)
    nodes = {one.node.name: one.node for one in containers} | dict(cluster.nodes)
    order = sorted(held, key=lambda name: held[name] != [deployment.proxy])  # its own node first
    order += [name for name in nodes if name not in held]
    machines = [_machine(nodes[name], held[name], deployment) for name in order]
    return Topology(
        name=cluster.name,
        release=cluster.release,
        instances=tuple(cluster.instances),
        machines=tuple(machines),
        links=tuple(_links(containers, deployment.proxy)),
    )


def _machine(node: Node, held: Iterable[Container], deployment: Deployment) -> Machine:
    first = sorted(held, key=lambda one: one is not deployment.proxy)
    proxy = deployment.cluster.proxy
    boxes = [_box(one, proxy.replicas if proxy and one is deployment.proxy else 1) for one in first]
    where = "placed by Kubernetes" if node.placed else address(node)
    return Machine((node.name or "any node",), where, node.platform, tuple(boxes))


def _box(container: Container, count: int) -> Box:
    place = container.launch.place if container.launch else None
    shown = ranks(place)
    if container.command:
        shown = "its own command"
    elif container.launch is None:
        shown = "refused: see cluster.check"
    return Box(
        name=container.name,
        instance=container.instance,
        role=container.role,
        ranks=shown,
        devices=compact(container.devices),
        ports=container.ports,
        count=count,
    )


def _links(containers: Sequence[Container], proxy: Container | None) -> Iterable[Link]:
    launches = {one.name: one.launch for one in containers if one.launch}
    apis: dict[tuple[str | None, int], End] = {}
    leaders: dict[tuple[str | None, int], tuple[str, End]] = {}
    for one in containers:
        for name, span in one.ports.items() if one.name in launches else ():
            at = one.node.address, span[0]
            if name == "api":
                apis[at] = End(one.name, span)
            elif name in _JOINS:
                leaders[at] = _JOINS[name], End(one.name, span)
    peers = {
        name: [(one.host, one.port) for one in launch.peers] for name, launch in launches.items()
    }
    servers = peers.pop(proxy.name, []) if proxy else []
    behind = [apis.pop(at) for at in servers if at in apis]
    if apis:
        yield Link(REQUESTS, (End(CLIENTS),), tuple(apis.values()))
    if proxy and behind:
        yield Link(REQUESTS, (End(proxy.name),), tuple(behind))
    if transfer := _transfer(containers):
        yield transfer
    members: dict[tuple[str, End], list[End]] = defaultdict(list)
    for name, addresses in peers.items():
        for at in addresses:
            if at in leaders:
                members[leaders[at]].append(End(name))
    for (kind, leader), sources in members.items():
        yield Link(kind, tuple(sources), (leader,))


def _transfer(containers: Iterable[Container]) -> Link | None:
    sides: dict[str, list[End]] = {"kv_producer": [], "kv_consumer": []}
    for one in containers:
        if one.launch and one.launch.place and one.launch.place.group.kv_role:
            sides[one.launch.place.group.kv_role].append(End(one.name, one.ports.get("kv")))
    producers, consumers = (tuple(ends) for ends in sides.values())
    return Link(KV, producers, consumers) if producers and consumers else None


# ---- many nodes ----------------------------------------------------------------------------------


def collapse(whole: Topology, most: int) -> Topology:
    """Merge machines with the same kinds of containers.

    Containers of different instances are of one kind when more than `most` machines remain.
    """
    alike = _group_alike(whole.machines, lambda box: (box.instance, box.role, *box.ports))
    if len(alike) > most:
        alike = _group_alike(whole.machines, lambda box: (box.role, *box.ports))
    into: dict[str, Box] = {}
    machines = []
    for several in alike:
        boxes = []
        for column in zip(*(one.boxes for one in several), strict=True):
            boxes.append(_one_box(column))
            into.update({box.name: boxes[-1] for box in column})
        machines.append(
            Machine(
                names=tuple(name for one in several for name in one.names),
                address=_range([one.address for one in several]),
                platform=several[0].platform,
                boxes=tuple(boxes),
            )
        )
    links = {
        (link.kind, *(_names(ends) for ends in sides)): Link(link.kind, *sides)
        for link in whole.links
        for sides in [(_one_end(link.sources, into), _one_end(link.targets, into))]
    }
    return replace(whole, machines=tuple(machines), links=tuple(links.values()))


def _group_alike(
    machines: Iterable[Machine], kind: Callable[[Box], tuple[str, ...]]
) -> list[list[Machine]]:
    found: dict[object, list[Machine]] = defaultdict(list)
    for one in machines:
        found[one.platform, tuple(map(kind, one.boxes))].append(one)
    return list(found.values())


def _names(ends: Iterable[End]) -> tuple[str, ...]:
    return tuple(end.box for end in ends)


def _one_box(alike: Sequence[Box]) -> Box:
    spans = {name: _enclosing_span(box.ports[name] for box in alike) for name in alike[0].ports}
    return replace(
        alike[0],
        name=_range([box.name for box in alike]),
        ranks=_range([box.ranks for box in alike]),
        devices=_range([box.devices for box in alike]),
        ports=spans,
        count=sum(box.count for box in alike),
    )


def _one_end(ends: Iterable[End], into: Mapping[str, Box]) -> tuple[End, ...]:
    found: dict[str, list[Span]] = {}
    for end in ends:
        name = into[end.box].name if end.box in into else end.box
        found.setdefault(name, []).extend([end.port] if end.port else [])
    return tuple(End(name, _enclosing_span(met) if met else None) for name, met in found.items())


def _enclosing_span(met: Iterable[Span]) -> Span:
    firsts, lasts = zip(*met, strict=True)
    return min(firsts), max(lasts)


def _range(texts: Sequence[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} … {texts[-1]}"
