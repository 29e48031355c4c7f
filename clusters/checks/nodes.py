"""Nodes: their devices, addresses, images, shared memory and weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address

from clusters.checks.definitions import check
from clusters.checks.facts import Facts, Found
from clusters.compile.containers import image_matrix
from clusters.compile.locate import owner
from clusters.deployment import Container
from clusters.model import Node, Path
from clusters.ranges import compact
from entrypoints.findings import Message
from entrypoints.inputs import data
from entrypoints.launch.topology import RAY

_LOCAL = ("lo", "docker0")
_RELEASE = re.compile(r"v\d+\.\d+\.\d+(rc\d+|\.post\d+)?")


@check("ray-node-idle")
def idle(facts: Facts, message: Message) -> Found:
    """Ray packs the workers onto as few nodes as can hold them."""
    for serving in facts.serving:
        place, each = serving.first.place, len(serving.first.container.devices)
        if place.layout != RAY or not each:
            continue
        used = -(-place.world // each)
        if used < place.nodes:
            at = owner(serving.first.container)
            found = message(at=place, used=used, each=each)
            yield facts.first_given((*at, "sizes"), at), found


@check("same-container")
def names(facts: Facts, message: Message) -> Found:
    """Replicas of `a` and an instance `a-0` can have the same name."""
    seen: dict[str, Container] = {}
    for container in facts.deployment.containers:
        other = seen.setdefault(container.name, container)
        if other is not container:
            yield owner(container), message(one=other)


@check("devices-taken")
def devices(facts: Facts, message: Message) -> Found:
    """Containers on one node get devices in turn, until none are left."""
    for node, containers in facts.hosts.items():
        for container in containers:
            place = container.launch.place if container.launch else None
            if place is None or len(container.devices) >= place.devices:
                continue
            taken = [
                f"{other.instance} has {compact(other.devices)}"
                for other in containers
                if other is not container and other.devices
            ]
            if taken:
                at, count = owner(container), len(container.devices)
                found = message(
                    name=container.name,
                    needed=place.devices,
                    node=node,
                    count=count,
                    taken=", ".join(taken),
                )
                yield facts.first_given((*at, "devices"), (*at, "nodes")), found


@check("unreachable-address")
def addresses(facts: Facts, message: Message) -> Found:
    for node in _nodes(facts):
        if not _reachable(node, facts):
            yield _address_path(facts, node), message(node=node)


def _nodes(facts: Facts) -> list[Node]:
    return [node for node in facts.cluster.nodes.values() if node.address and not node.placed]


def _reachable(node: Node, facts: Facts) -> bool:
    address = IPv4Address(node.address or "0.0.0.0")
    if address.is_loopback:
        return len(facts.cluster.nodes) == 1
    return not (address.is_unspecified or address.is_multicast or address.is_reserved)


def _address_path(facts: Facts, node: Node) -> Path:
    return facts.first_given(("nodes", node.name, "address"), ("nodes", node.name))


@check("local-interface")
def interfaces(facts: Facts, message: Message) -> Found:
    for node in facts.cluster.nodes.values():
        if len(facts.cluster.nodes) > 1 and node.nic in _LOCAL:
            path = facts.first_given(("nodes", node.name, "nic"), ("nic",))
            yield path, message(nic=node.nic)


@check("other-network")
def networks(facts: Facts, message: Message) -> Found:
    """One node outside of the network of all others is usually a typing mistake."""
    nodes = [node for node in _nodes(facts) if _reachable(node, facts)]
    counts = Counter(map(_network, nodes))
    if len(counts) < 2:
        return
    most, count = counts.most_common(1)[0]
    for node in nodes:
        network = _network(node)
        if network != most and counts[network] == 1 and (count > 1 or len(nodes) == 2):
            yield _address_path(facts, node), message(address=node.address, network=most)


def _network(node: Node) -> str:
    return (node.address or "").rpartition(".")[0].rpartition(".")[0]


@check("missing-nic")
def some_without(facts: Facts, message: Message) -> Found:
    for group in facts.deployment.groups:
        nodes = [container.node for container in group.containers]
        without = [node.name for node in nodes if not node.nic]
        if without and len(without) < len(nodes):
            shown = ", ".join(dict.fromkeys(without))
            yield ("nodes", without[0]), message(without=shown, group=group.name)


@check("image-release")
def image_release(facts: Facts, message: Message) -> Found:
    for _, path, _, release in _tagged(facts):
        if release != facts.cluster.release:
            yield path, message(tagged=release, release=facts.cluster.release)


@check("image-platform")
def image_platform(facts: Facts, message: Message) -> Found:
    for node, path, tag, release in _tagged(facts):
        known = {one.tag_suffix: name for name, one in image_matrix().platforms.items()}
        words = tag.removeprefix(release).split("-")[1:]
        meant = next((known[f"-{word}"] for word in words if f"-{word}" in known), known.get(""))
        if meant and meant != node.platform:
            yield path, message(tag=tag, meant=meant, node=node)


def _tagged(facts: Facts) -> Iterator[tuple[Node, Path, str, str]]:
    """A node of each platform, and its image's path in the file, tag, and release in the tag."""
    containers = [one for one in facts.deployment.containers if one.node.platform]
    for platform, one in {one.node.platform: one for one in reversed(containers)}.items():
        path = ("image",) if isinstance(facts.cluster.image, str) else ("image", platform)
        tag = one.image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        if release := _RELEASE.match(tag):
            yield one.node, path, tag, release[0]


@check("small-shm")
def shared_memory(facts: Facts, message: Message) -> Found:
    rule = data.read(data.path_of("preflight.yaml"))["shared_memory"]
    gib = facts.cluster.run.shm_gib
    if gib * 1024 < rule["advised"]:
        found = message(gib=gib, advised=rule["advised"] // 1024, source=rule["source"])
        yield ("run", "shm"), found


@check("weights-not-mounted")
def mounted(facts: Facts, message: Message) -> Found:
    cluster = facts.cluster
    if any(word.startswith(("-v", "--volume", "--mount")) for word in cluster.options):
        return
    if "volumes" in cluster.kubernetes.pod:
        return
    mounts = [volume.mount.rstrip("/") for volume in cluster.volumes]
    for serving in facts.serving:
        model = serving.first.model
        if model.startswith("/") and not any(f"{model}/".startswith(f"{m}/") for m in mounts):
            yield facts.first_given(("model",), ("recipe",)), message(model=model)
