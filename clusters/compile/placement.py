"""Places the containers of every replica: their nodes, ranks and devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clusters.model import Cluster, Instance, Node
from entrypoints.findings import Refused
from entrypoints.inputs import data, recipes
from entrypoints.inputs.recipes import Block


@dataclass(frozen=True)
class Placement:
    """The place of a container. `rank`: in its group. `leader`: the node of rank 0.

    `local`: its number among the containers of its group on its node.
    `devices`: its NPUs; `whole`: all devices of its node.
    `groups`: the number of replicas with this role, over all instances.
    """

    instance: Instance
    role: str
    replica: int
    rank: int
    local: int
    node: Node
    leader: Node
    devices: tuple[int, ...]
    whole: bool
    groups: int


def placements(
    cluster: Cluster, roles: Mapping[str, str], texts: Mapping[str, str]
) -> Iterator[list[Placement]]:
    """The placements of each replica, in the order of the file."""
    blocks = {name: _block(texts[name], role) for name, role in roles.items()}
    groups = Counter(
        roles[one.name] for one in cluster.instances.values() for _ in range(one.replicas)
    )
    pools = _DevicePools(cluster, blocks)
    for instance in cluster.instances.values():
        here = _containers_per_node(instance, blocks[instance.name])
        for replica in range(instance.replicas):
            names = instance.nodes[replica * instance.each : (replica + 1) * instance.each]
            nodes = [cluster.nodes[name] for name in names for _ in range(here)]
            result = []
            for rank, node in enumerate(nodes):
                devices = pools.take(node, instance)
                placement = Placement(
                    instance=instance,
                    role=roles[instance.name],
                    replica=replica,
                    rank=rank,
                    local=rank % here,
                    node=node,
                    leader=nodes[0],
                    devices=devices,
                    whole=len(devices) == len(_platform_devices(node)),
                    groups=groups[roles[instance.name]],
                )
                result.append(placement)
            yield result


class _DevicePools:
    """The free NPUs of every node; a container alone on its node gets all of them."""

    def __init__(self, cluster: Cluster, blocks: Mapping[str, Block]) -> None:
        self._blocks = blocks
        self._free = {name: _usable_devices(node) for name, node in cluster.nodes.items()}
        self._shares = Counter(
            node
            for one in cluster.instances.values()
            for node in one.nodes
            for _ in range(_containers_per_node(one, blocks[one.name]))
        )

    def take(self, node: Node, instance: Instance) -> tuple[int, ...]:
        allowed = instance.devices or _usable_devices(node)
        if self._shares[node.name] == 1:
            return allowed
        free = self._free[node.name]
        count = _devices_per_container(self._blocks[instance.name], instance)
        taken = tuple(one for one in free if one in allowed)[:count]
        self._free[node.name] = tuple(one for one in free if one not in taken)
        return taken


def _block(text: str, role: str) -> Block:
    """The role's settings in a recipe; errors in it are reported elsewhere."""
    try:
        return recipes.load(text).groups.get(role, Block())
    except Refused:
        return Block()


def _local_ranks(block: Block, nodes: int) -> int:
    """The number of data parallel ranks on one node."""
    return block.sizes.dp_local or max((block.sizes.dp or 1) // nodes, 1)


def _containers_per_node(instance: Instance, block: Block) -> int:
    """The number of containers of a replica on each of its nodes."""
    return _local_ranks(block, instance.each) if instance.external else 1


def _devices_per_container(block: Block, instance: Instance) -> int:
    """The number of devices of one container."""
    sizes = block.sizes
    each = (sizes.tp or 1) * (sizes.pp or 1) * (sizes.pcp or 1)
    if instance.external:
        return each
    return max(each * (sizes.dp or 1) // instance.each, 1)


def _platform_devices(node: Node) -> tuple[int, ...]:
    path = data.path_of("platforms", f"{node.platform}.yaml")
    return tuple(range(data.read(path)["devices"] if data.is_file(path) else 0))


def _usable_devices(node: Node) -> tuple[int, ...]:
    return _platform_devices(node) if node.devices is None else node.devices
