"""Nodes: their devices, addresses and images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address

from clusters.checks.facts import Check, Facts, Found
from clusters.compile.locate import owner
from clusters.deployment import Container
from clusters.model import Cluster, Node, Path
from clusters.ranges import compact
from common.errors import ERROR, WARNING
from entrypoints.inputs import data
from entrypoints.launch.topology import RAY
from images import matrix

_LOCAL = ("lo", "docker0")
_RELEASE = re.compile(r"v\d+\.\d+\.\d+(rc\d+|\.post\d+)?")


def names(facts: Facts) -> Iterator[Found]:
    """`a` twice and `a-0` once have names in common."""
    seen: dict[str, Container] = {}
    for container in facts.deployment.containers:
        other = seen.setdefault(container.name, container)
        if other is not container:
            yield Found(
                owner(container),
                f"its container {container.name} is named as one of {other.instance}",
                "give one of the two instances another name",
            )


def devices(facts: Facts) -> Iterator[Found]:
    """Where containers share a node, the first take theirs, and the last go without."""
    for name, containers in facts.hosts.items():
        for container in containers:
            place = container.launch.place if container.launch else None
            if place is None or len(container.devices) >= place.devices:
                continue
            taken = [
                f"{other.instance} has {compact(other.devices)}"
                for other in containers
                if other is not container and other.devices
            ]
            if not taken:
                continue
            yield Found(
                facts.given((*owner(container), "devices"), (*owner(container), "nodes")),
                f"{container.name} needs {place.devices} devices of {name} and gets"
                f" {len(container.devices)}: {', '.join(taken)}",
                "give the instances devices of their own, smaller sizes or another node",
            )


def addresses(facts: Facts) -> Iterator[Found]:
    """Addresses by which no other node can be reached."""
    for node in _nodes(facts):
        if not _reachable(node, facts):
            yield Found(
                facts.given(("nodes", node.name, "address"), ("nodes", node.name)),
                f"{node.address} is no address by which other nodes reach {node.name}",
                "give the address that `ip addr` shows for its interface",
            )


def _reachable(node: Node, facts: Facts) -> bool:
    address = IPv4Address(node.address or "0.0.0.0")
    if address.is_loopback:
        return len(facts.cluster.nodes) == 1
    return not (address.is_unspecified or address.is_multicast or address.is_reserved)


def networks(facts: Facts) -> Iterator[Found]:
    """One node apart from all the others is mostly a slip of the finger."""
    nodes = [node for node in _nodes(facts) if _reachable(node, facts)]
    networks = Counter(_network(node) for node in nodes)
    if len(networks) < 2:
        return
    most, count = networks.most_common(1)[0]
    for node in nodes:
        network = _network(node)
        if network != most and networks[network] == 1 and (count > 1 or len(nodes) == 2):
            yield Found(
                facts.given(("nodes", node.name, "address"), ("nodes", node.name)),
                f"{node.address} is outside of {most}.0.0/16, where the others are",
                "give its address in their network, if it has one",
            )


def interfaces(facts: Facts) -> Iterator[Found]:
    """Interfaces of the machine itself."""
    several = len(facts.cluster.nodes) > 1
    for node in facts.cluster.nodes.values():
        if several and node.nic in _LOCAL:
            yield Found(
                facts.given(("nodes", node.name, "nic"), ("nic",)),
                f"{node.nic} does not lead to other nodes",
                "give the interface that has the node's address, or leave nic: out",
            )


def some_without(facts: Facts) -> Iterator[Found]:
    for group in facts.deployment.groups:
        nodes = [container.node for container in group.containers]
        without = [node.name for node in nodes if not node.nic]
        if without and len(without) < len(nodes):
            yield Found(
                ("nodes", without[0]),
                f"{', '.join(dict.fromkeys(without))} has no nic, and other nodes of"
                f" {group.name} have one",
                "give every node its nic, or none: it is then found by the address",
            )


def _nodes(facts: Facts) -> list[Node]:
    return [node for node in facts.cluster.nodes.values() if node.address and not node.placed]


def _network(node: Node) -> str:
    return (node.address or "").rpartition(".")[0].rpartition(".")[0]


def image_release(facts: Facts) -> Iterator[Found]:
    for container in _first_by_platform(facts):
        path, tag = _tag(facts.cluster, container)
        release = _RELEASE.match(tag)
        if release and release[0] != facts.cluster.release:
            yield Found(
                path,
                f"the image has {release[0]} in its tag, and the release is"
                f" {facts.cluster.release}",
                "give both the same: commands and checks are those of release",
            )


def image_platform(facts: Facts) -> Iterator[Found]:
    for container in _first_by_platform(facts):
        path, tag = _tag(facts.cluster, container)
        release = _RELEASE.match(tag)
        if not release:
            continue
        known = {one.tag_suffix: name for name, one in matrix.load().platforms.items()}
        words = tag[release.end() :].split("-")[1:]
        meant = next((known[f"-{word}"] for word in words if f"-{word}" in known), known.get(""))
        if meant and meant != container.node.platform:
            yield Found(
                path,
                f"the image's tag {tag} is that of {meant}, and {container.node.name} is"
                f" {container.node.platform}",
                "give the image of the node's platform, or a repository without a tag",
            )


def _first_by_platform(facts: Facts) -> list[Container]:
    found: dict[str, Container] = {}
    for container in facts.deployment.containers:
        if container.node.platform:
            found.setdefault(container.node.platform, container)
    return list(found.values())


def _tag(cluster: Cluster, container: Container) -> tuple[Path, str]:
    """Where an image is given, and its tag; empty where it has none."""
    path = ("image",) if isinstance(cluster.image, str) else ("image", container.node.platform)
    name = container.image.partition("@")[0]
    _, colon, tag = name.rpartition("/")[2].partition(":")
    return path, tag if colon else ""


def shared_memory(facts: Facts) -> Iterator[Found]:
    advised = data.read(data.path_of("preflight.yaml"))["shared_memory"]
    if facts.cluster.run.shm_gib * 1024 < advised["advised"]:
        yield Found(
            ("run", "shm"),
            f"{facts.cluster.run.shm_gib} GiB of shared memory can be too little for the workers"
            " of one node: they hang",
            f"give {advised['advised'] // 1024}g or more",
            advised["source"],
        )


def mounted(facts: Facts) -> Iterator[Found]:
    """A folder of weights that no container can see."""
    cluster = facts.cluster
    if any(word.startswith(("-v", "--volume", "--mount")) for word in cluster.options):
        return
    if "volumes" in cluster.kubernetes.pod:
        return
    mounts = [volume.mount.rstrip("/") for volume in cluster.volumes]
    for serving in facts.serving:
        model = serving.first.model
        if model.startswith("/") and not any(f"{model}/".startswith(f"{m}/") for m in mounts):
            yield Found(
                facts.given(("model",), ("recipe",)),
                f"the model {model} is a folder, and nothing is mounted there",
                "give weights: with that folder or one above it",
            )


def idle(facts: Facts) -> Iterator[Found]:
    """Ray packs the workers onto as few nodes as hold them."""
    for serving in facts.serving:
        place, each = serving.first.place, len(serving.first.container.devices)
        if place.layout != RAY or not each:
            continue
        used = -(-place.world // each)
        if used < place.nodes:
            own_path = owner(serving.first.container)
            yield Found(
                facts.given((*own_path, "sizes"), own_path),
                f"{place.world} workers fill {used} of {place.nodes} nodes with {each} NPUs each:"
                " Ray packs them, and the others do nothing",
                f"raise tensor or pipeline parallel, or give it {used} of the nodes",
            )


CHECKS = (
    Check(
        "ray-node-idle",
        WARNING,
        "nodes of a Ray cluster that get no worker",
        "vllm v0.13.0: vllm/v1/executor/ray_utils.py:431",
        idle,
    ),
    Check(
        "same-container",
        ERROR,
        "two containers of one name",
        "Docker and Kubernetes: names are unique",
        names,
    ),
    Check(
        "devices-taken",
        ERROR,
        "containers on one node that need more devices than are left",
        "vllm-ascend#4725, #405",
        devices,
    ),
    Check(
        "unreachable-address",
        ERROR,
        "an address by which other nodes cannot reach a node",
        "vllm#42023",
        addresses,
    ),
    Check(
        "local-interface",
        ERROR,
        "an interface that does not lead to other nodes",
        "vllm#42023",
        interfaces,
    ),
    Check(
        "other-network",
        WARNING,
        "one node whose address is outside of the others' network",
        "vllm#42023",
        networks,
    ),
    Check(
        "missing-nic",
        WARNING,
        "some nodes of a server with an interface, and others without",
        "vllm#42023",
        some_without,
    ),
    Check(
        "image-release",
        WARNING,
        "an image whose tag has another release",
        "vllm-ascend docs: the release is the begin of a tag",
        image_release,
    ),
    Check(
        "image-platform",
        WARNING,
        "an image whose tag is that of another platform",
        "vllm-ascend#5599, #6676, #11160",
        image_platform,
    ),
    Check(
        "small-shm",
        WARNING,
        "little shared memory",
        "vllm-ascend PR #8693, #5087",
        shared_memory,
    ),
    Check(
        "weights-not-mounted",
        WARNING,
        "a model that is a folder, and no volume that has it",
        "docs/clusters.md",
        mounted,
    ),
)
